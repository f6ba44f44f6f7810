mod corpus;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::camera::Desk;
use super::executor::{Executor, Hands};
use super::inbox::{Bells, Inbox, Verdict};
use super::status::StatusHub;
use super::time::TimeKeeper;
use crate::board::clock::Clock;
use crate::board::logind::Logind;
use crate::cloud::{Keys, SharedKeys};
use crate::command::{Kind, Way};
use crate::config::SpoolConfig;
use crate::db::{Db, IdSource, open, schema};
use crate::model::BootId;
use crate::outbox::quota::Quotas;
use crate::spool::Spool;
use crate::units::ByteSize;
use crate::wire::jws::{Typ, sign};
use crate::wire::signature::SigningKey;

const SECRET: [u8; 32] = [7; 32];

/// A device without cameras that counts how often its twin was asked for.
struct Bench {
    dir: TempDir,
    clock: Clock,
    inbox: Inbox,
    executor: Executor,
    ran: Arc<AtomicUsize>,
}

fn key() -> SigningKey {
    SigningKey::new("ek_1", &SECRET)
}

fn keys(dir: &TempDir) -> SharedKeys {
    use base64::Engine as _;
    let secret = base64::engine::general_purpose::STANDARD.encode(SECRET);
    let path = dir.path().join("current.json");
    let text = json!({ "v": 1, "edge_id": "e-1", "edge_key": "ek_1", "edge_secret": secret,
                       "api_base": "https://cloud.example" });
    std::fs::write(&path, text.to_string()).unwrap();
    Keys::load(&path).unwrap().into()
}

impl Bench {
    fn new(synced: bool) -> Bench {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::default());
        let time = TimeKeeper::new(clock.clone(), clock.build_time());
        if synced {
            time.rehearse_answer(clock.system_wall());
        }
        let ids: IdSource = Arc::new(Uuid::now_v7);
        let options = open::Options {
            dir: dir.path().to_owned(),
            boot: BootId(Uuid::now_v7()),
            clock: time.boot_clock(),
            now: time.wall(),
            quotas: Quotas::default(),
            ids: ids.clone(),
        };
        let (db, _closer, _) = open::open(options, tokio::runtime::Handle::current()).unwrap();
        let (keys, bells) = (keys(&dir), Bells::default());
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        let hands = Hands {
            desk: Desk::default(),
            live: None,
            spool: Spool::new(&SpoolConfig {
                dir: dir.path().join("clips"),
                require_mount: false,
                min_free: ByteSize(0),
            }),
            min_free: ByteSize(0),
            twin: Some(Arc::new(move || {
                counter.fetch_add(1, SeqCst);
            })),
            machine: Logind::at("unix:path=/nonexistent"),
            keys: keys.clone(),
            rotation: None,
            unclaim: None,
            uploads: None,
            status: StatusHub::default(),
            config: Arc::new(|| json!({})),
        };
        let inbox = Inbox::new(
            Db::clone(&db),
            keys,
            time.clone(),
            ids.clone(),
            Kind::ALL.into(),
            &bells,
        );
        let executor = Executor::new(db, time, ids, inbox.clone(), bells, hands);
        Bench {
            dir,
            clock,
            inbox,
            executor,
            ran,
        }
    }

    fn now(&self) -> i64 {
        self.clock.system_wall().unix_seconds()
    }

    fn claims(&self, word: &str, args: Value) -> Value {
        json!({ "iss": "sentrycam-cloud", "aud": "e-1", "jti": Uuid::now_v7(), "n": 1, "iat": self.now(),
                "exp": self.now() + 300, "cmd": { "type": word, "args": args } })
    }

    async fn offer(&self, jws: &str) -> Verdict {
        self.inbox.offer(jws.as_bytes(), Way::Mqtt).await
    }

    async fn work(&self) {
        while self.executor.pass(&CancellationToken::new()).await.unwrap() {}
    }

    fn count(&self, sql: &str) -> i64 {
        let conn = schema::open_reader(&self.dir.path().join(crate::db::FILE_NAME)).unwrap();
        conn.query_row(sql, [], |r| r.get(0)).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let list = std::fs::read_dir(self.dir.path()).unwrap();
        let names = list.map(|e| e.unwrap().path());
        let ours = |p: &PathBuf| {
            let name = p.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("sentrycam.") || name == "current.json"
        };
        names.filter(|p| !ours(p)).collect()
    }
}

fn signed(claims: &Value) -> String {
    sign(claims.to_string().as_bytes(), Typ::Command, &key())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_document_is_refused_with_a_code_and_without_effect() {
    let bench = Bench::new(true);
    let corpus = corpus::of(&bench);
    assert!(corpus.len() >= 500, "only {}", corpus.len());
    let before = bench.files();
    for jws in &corpus {
        let verdict = bench.offer(jws).await;
        let code = match verdict {
            Verdict::Refused(code) | Verdict::Rejected(_, code) => code,
            other => panic!("{other:?}: {}", &jws[..jws.len().min(400)]),
        };
        assert!(!code.is_empty());
    }
    bench.work().await;
    let effects =
        "select count(*) from commands where state <> 'rejected' or rev <> 1 or args <> '{}'";
    assert_eq!(bench.count(effects), 0);
    assert_eq!(bench.ran.load(SeqCst), 0);
    assert_eq!(bench.files(), before);
    // Each row has told the cloud so, once; nothing else was told.
    let rows = bench.count("select count(*) from commands");
    assert_eq!(bench.count("select count(*) from outbox"), rows);
    // After all that, a right one still runs.
    let right = signed(&bench.claims("twin.refresh", json!({})));
    assert!(matches!(bench.offer(&right).await, Verdict::Accepted(_)));
    bench.work().await;
    assert_eq!(bench.ran.load(SeqCst), 1);
    println!(
        "{} hostile documents, {rows} of them told to the cloud",
        corpus.len()
    );
}

/// SplitMix64, so that a failure repeats.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_doubled_reordered_and_stale_commands_run_once_each_or_never() {
    let bench = Bench::new(true);
    let alive: Vec<String> = (0..120)
        .map(|n| {
            let mut claims = bench.claims("twin.refresh", json!({}));
            (claims["n"], claims["exp"]) = (json!(n + 1), json!(bench.now() + 3600));
            signed(&claims)
        })
        .collect();
    let stale: Vec<String> = (0..60)
        .map(|n| {
            let mut claims = bench.claims("twin.refresh", json!({}));
            (claims["n"], claims["iat"]) = (json!(n + 1), json!(bench.now() - 900));
            claims["exp"] = json!(bench.now() - 1 - n);
            signed(&claims)
        })
        .collect();
    let (mut seed, mut accepted, mut doubled) = (7, 0, 0);
    for round in 0..1000 {
        let dice = next(&mut seed);
        let jws = if dice.is_multiple_of(4) {
            &stale[(dice >> 8) as usize % stale.len()]
        } else {
            &alive[(dice >> 8) as usize % alive.len()]
        };
        match bench.offer(jws).await {
            Verdict::Accepted(_) => accepted += 1,
            Verdict::Duplicate(_) => doubled += 1,
            Verdict::Refused("expired") | Verdict::Later("rate" | "busy") => {}
            other => panic!("{other:?} in round {round}"),
        }
        bench.clock.rehearse_passing(Duration::from_millis(200));
        if dice.is_multiple_of(7) {
            bench.work().await;
        }
    }
    // What had to wait comes again, as the poll brings it.
    for jws in &alive {
        while let Verdict::Later(_) = bench.offer(jws).await {
            bench.clock.rehearse_passing(Duration::from_secs(1));
            bench.work().await;
        }
    }
    bench.work().await;
    assert_eq!(
        bench.ran.load(SeqCst),
        alive.len(),
        "each alive one once, no stale one"
    );
    let ended = "select count(*) from commands where state = 'succeeded' and rev = 3";
    assert_eq!(bench.count(ended), alive.len() as i64);
    assert_eq!(
        bench.count("select count(*) from commands"),
        alive.len() as i64
    );
    // Three words each to the cloud: acknowledged, in_progress, succeeded.
    let told = "select count(distinct (body ->> '$.data.command_id') || (body ->> '$.data.state')) from outbox";
    assert_eq!(bench.count(told), 3 * alive.len() as i64);
    assert_eq!(
        bench.count("select count(*) from outbox"),
        3 * alive.len() as i64
    );
    assert!(
        accepted > 50 && doubled > 300,
        "{accepted} accepted, {doubled} doubled"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_before_it_begins_is_canceled() {
    let bench = Bench::new(true);
    let jws = signed(&bench.claims("twin.refresh", json!({})));
    assert!(matches!(bench.offer(&jws).await, Verdict::Accepted(_)));
    bench.clock.rehearse_passing(Duration::from_secs(301));
    bench.work().await;
    assert_eq!(bench.ran.load(SeqCst), 0);
    let canceled = "select count(*) from commands where state = 'canceled' and code = 'expired'";
    assert_eq!(bench.count(canceled), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_time_what_is_short_lived_stays_at_the_cloud() {
    let bench = Bench::new(false);
    let short = signed(&bench.claims("twin.refresh", json!({})));
    assert_eq!(bench.offer(&short).await, Verdict::Later("no-time"));
    let mut claims = bench.claims("twin.refresh", json!({}));
    claims["exp"] = json!(bench.now() + 2 * 86_400);
    assert!(matches!(
        bench.offer(&signed(&claims)).await,
        Verdict::Accepted(_)
    ));
    bench.work().await;
    assert_eq!(
        (
            bench.ran.load(SeqCst),
            bench.count("select count(*) from commands")
        ),
        (1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_logind_says_so_and_restarts_are_few() {
    let bench = Bench::new(true);
    for n in 0..4 {
        let jws = signed(&bench.claims("reboot", json!({})));
        let verdict = bench.offer(&jws).await;
        if n < 3 {
            assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
        } else {
            assert!(
                matches!(verdict, Verdict::Rejected(_, "limit")),
                "{verdict:?}"
            );
        }
        bench.clock.rehearse_passing(Duration::from_secs(1));
    }
    bench.work().await;
    let refused = "select count(*) from commands where state = 'failed' and code = 'refused'";
    assert_eq!(bench.count(refused), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_collected_and_a_picture_without_camera_is_not() {
    let bench = Bench::new(true);
    for (word, args) in [
        ("diag.collect", json!({})),
        (
            "snapshot",
            json!({ "camera_id": "c", "snapshot_id": Uuid::now_v7() }),
        ),
        ("recording.stop", json!({ "recording_id": Uuid::now_v7() })),
        (
            "recording.start",
            json!({ "camera_id": "c", "recording_id": Uuid::now_v7(), "max_duration_s": 9 }),
        ),
    ] {
        assert!(matches!(
            bench.offer(&signed(&bench.claims(word, args))).await,
            Verdict::Accepted(_)
        ));
    }
    bench.work().await;
    let ended = |word: &str| {
        let conn = schema::open_reader(&bench.dir.path().join(crate::db::FILE_NAME)).unwrap();
        let sql = "select state || '/' || coalesce(code, '') from commands where type = ?1";
        conn.query_row(sql, [word], |r| r.get::<_, String>(0))
            .unwrap()
    };
    assert_eq!(ended("diag.collect"), "succeeded/");
    assert_eq!(ended("snapshot"), "failed/no-camera");
    assert_eq!(ended("recording.start"), "failed/no-camera");
    assert_eq!(ended("recording.stop"), "failed/not-found");
    let bundles = std::fs::read_dir(bench.dir.path().join("clips/_diag")).unwrap();
    let bundles: Vec<_> = bundles.map(|e| e.unwrap().path()).collect();
    assert_eq!(bundles.len(), 1);
    let mut text = String::new();
    let file = std::fs::File::open(&bundles[0]).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
    let bundle: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(bundle["db"]["check"], "ok");
    for part in ["status", "config", "log", "db"] {
        assert!(!bundle[part].is_null(), "{part}");
    }
    use base64::Engine as _;
    assert!(!text.contains(&base64::engine::general_purpose::STANDARD.encode(SECRET)));
}
