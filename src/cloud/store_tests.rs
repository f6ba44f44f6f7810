use super::*;
use crate::wire::keys::KeySlot;

const PLAIN: &str = r#" {"v":1,"edge_id":"e-1","edge_key":"ek_new","edge_secret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "mqtt":{"host":"broker.example","port":8883,"client_id":"e-1","username":"e-1","password":"p"},
    "api_base":"https://cloud.example","tenant":{"id":"t-1","name":"Acme"},"device_name":"box","stream_hosts":[]}"#;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(&dir.path().join("credentials/current.json"), |_| {});
    store.prepare().unwrap();
    (dir, store)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn key(keys: &Keys) -> &str {
    keys.of(KeySlot::Current).key.key_id()
}

#[test]
fn a_claim_is_pending_and_then_current() {
    let (dir, store) = store();
    assert!(store.keys().unwrap().is_none() && store.pending().unwrap().is_none());
    let by = Some(Wall::from_unix_seconds(1_795_226_400));
    let claim = Uuid::from_u128(7);
    store.write_pending(PLAIN.as_bytes(), claim, by).unwrap();
    let pending = store.pending().unwrap().unwrap();
    assert_eq!((pending.claim, pending.confirm_by), (claim, by));
    assert_eq!(pending.credentials.tenant_id, "t-1");
    assert!(
        store.keys().unwrap().is_none(),
        "not before the cloud's word"
    );
    assert_eq!(mode(&dir.path().join("credentials")), 0o700);
    assert_eq!(mode(&dir.path().join("credentials/pending.json")), 0o600);
    fs::write(dir.path().join("credentials/next.json"), PLAIN).unwrap();
    assert_eq!(key(&store.activate().unwrap()), "ek_new");
    assert_eq!(key(&store.activate().unwrap()), "ek_new", "repeated");
    assert!(store.pending().unwrap().is_none());
    assert!(!store.keys().unwrap().unwrap().has_next());
    store.wipe().unwrap();
    assert!(store.keys().unwrap().is_none());
    store.wipe().unwrap();
}

#[test]
fn a_claim_that_is_discarded_leaves_the_current_key() {
    let (dir, store) = store();
    let current = PLAIN.replace("ek_new", "ek_old");
    fs::write(dir.path().join("credentials/current.json"), current).unwrap();
    store
        .write_pending(PLAIN.as_bytes(), Uuid::nil(), None)
        .unwrap();
    store.discard().unwrap();
    assert_eq!(key(&store.keys().unwrap().unwrap()), "ek_old");
}

#[test]
fn what_is_not_credentials_is_never_written() {
    let (dir, store) = store();
    let claim = r#"{"claim":{"id":"00000000-0000-0000-0000-000000000000"},"v":1,"#;
    for bad in [
        "",
        "{}",
        "[]",
        &PLAIN.replace("\"v\":1", "\"v\":2"),
        &PLAIN.replace("https", "http"),
        &PLAIN.replacen("{\"v\":1,", claim, 1),
        &PLAIN.replace("e-1", "../../x"),
    ] {
        let refused = store.write_pending(bad.as_bytes(), Uuid::nil(), None);
        assert!(refused.is_err(), "{bad}");
    }
    assert!(
        store
            .write_pending(&[0xff, 0xfe], Uuid::nil(), None)
            .is_err()
    );
    let left = fs::read_dir(dir.path().join("credentials"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
}

#[test]
fn a_loose_directory_is_closed_half_written_files_go_and_symlinks_are_refused() {
    let (dir, store) = store();
    let credentials = dir.path().join("credentials");
    fs::set_permissions(&credentials, Permissions::from_mode(0o755)).unwrap();
    fs::write(credentials.join(".pending.json.new"), "half").unwrap();
    store.prepare().unwrap();
    assert_eq!(mode(&credentials), 0o700);
    assert!(!credentials.join(".pending.json.new").exists());
    let elsewhere = dir.path().join("elsewhere.json");
    fs::write(&elsewhere, PLAIN).unwrap();
    for name in ["pending.json", "current.json"] {
        std::os::unix::fs::symlink(&elsewhere, credentials.join(name)).unwrap();
    }
    assert!(store.pending().is_err() && store.keys().is_err());
    // A file in a shared place does not close that place.
    let shared = dir.path().join("etc");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, Permissions::from_mode(0o755)).unwrap();
    Store::new(&shared.join("edge.json"), |_| {})
        .prepare()
        .unwrap();
    assert_eq!(mode(&shared), 0o755);
}

#[test]
fn the_owner_outlives_an_unclaim() {
    let (_dir, store) = store();
    assert_eq!(store.owner(), None);
    store.set_owner("t-1").unwrap();
    store.wipe().unwrap();
    assert_eq!(store.owner().as_deref(), Some("t-1"));
    store.forget_owner().unwrap();
    assert_eq!(store.owner(), None);
}
