//! A device whose clock lies outside the validity of the cloud's certificate: it learns the time from a signed answer
//! and from nothing else, and records travel only over a certificate that is valid by then.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::ToSpan as _;
use sentrycam::agent::time::TimeKeeper;
use sentrycam::agent::uploader::Pass;
use sentrycam::cloud::{Client, Keys, tls};
use sentrycam::outbox::quota::Quotas;
use sentrycam_cloud::cert::DevCert;
use sentrycam_cloud::faults::{Rule, What};
use sentrycam_cloud::testing::Cloud;
use tempfile::TempDir;

use crate::device::{Device, in_cloud};
use crate::sync::all_arrived;

const TIME: &str = "/edge/v1/time";
const YEAR_S: i64 = 365 * 24 * 3600;
/// No clock at all, and one that somebody set wrongly.
const STEPS_S: [i64; 2] = [-57 * YEAR_S, 10 * YEAR_S];

/// A certificate for `name`, valid between these days from today.
fn certificate(name: &str, from: i64, to: i64) -> DevCert {
    let today = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    DevCert::generate_for(&[name], Some((today + from.days(), today + to.days()))).unwrap()
}

async fn cloud(certificate: DevCert) -> Cloud {
    let builder = Cloud::builder().certificate(certificate);
    builder.start().await.unwrap()
}

/// A started device that believes `ca` and checks certificates at its own time, `step_s` off.
async fn device(cloud: &Cloud, ca: &Path, step_s: i64) -> Device<Client> {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("edge.json");
    cloud.write_credentials("box", &file).await.unwrap();
    with_keys(home, ca, step_s)
}

fn with_keys(home: TempDir, ca: &Path, step_s: i64) -> Device<Client> {
    let file = home.path().join("edge.json");
    let keeper: Arc<OnceLock<TimeKeeper>> = Arc::default();
    let source = Arc::clone(&keeper);
    let time = Arc::new(move || source.get().expect("it is started").wall());
    let tls = tls::client_config(Some(ca), time).unwrap();
    let client = Client::new(Keys::load(&file).unwrap(), tls, Duration::from_secs(20)).unwrap();
    let mut device = Device::over(home, client, Quotas::default());
    device.clock.rehearse_step(step_s * 1_000_000);
    device.start();
    assert!(keeper.set(device.time().clone()).is_ok());
    device
}

fn requests(cloud: &Cloud) -> Vec<String> {
    let seen = cloud.faults().seen();
    seen.into_iter().map(|request| request.path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_outside_the_certificate_is_put_right_by_one_signed_answer() {
    let cloud = cloud(certificate("localhost", -1, 30)).await;
    for step_s in STEPS_S {
        let mut device = device(&cloud, &cloud.ca_path(), step_s).await;
        let ids = device.notes(5).await;
        cloud.faults().forget();
        assert_eq!(device.drain(3).await, 3, "{step_s}");
        assert_eq!(requests(&cloud), [TIME, "/edge/v1/events"], "{step_s}");
        let error_s = device.time().wall().unix_seconds() - jiff::Timestamp::now().as_second();
        assert!(error_s.abs() < 60, "{error_s} s off");
        all_arrived(&cloud, &device, &ids, &[]).await;
    }
}

/// Nothing but the cloud's own signed word: the device stays without the time, and with its records.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_teaches_the_time() {
    let own = cloud(certificate("localhost", -1, 30)).await;
    let stranger = tempfile::tempdir().unwrap();
    DevCert::generate().unwrap().write(stranger.path()).unwrap();
    let foreign_ca = stranger.path().join("ca.pem");
    let misnamed = cloud(certificate("elsewhere.example", -1, 30)).await;
    let later = What::AlteredDate {
        seconds: 5 * YEAR_S,
    };
    let cases = [
        ("wrong CA", &own, foreign_ca, None),
        ("wrong name", &misnamed, misnamed.ca_path(), None),
        ("unsigned", &own, own.ca_path(), Some(What::UnsignedAnswer)),
        ("altered", &own, own.ca_path(), Some(later)),
        ("refused", &own, own.ca_path(), Some(What::fail(401))),
        ("portal", &own, own.ca_path(), Some(What::Html200)),
    ];
    for (name, cloud, ca, fault) in cases {
        for step_s in STEPS_S {
            let mut device = device(cloud, &ca, step_s).await;
            let ids = device.notes(2).await;
            let reaches_it = fault.is_some();
            cloud.faults().clear();
            cloud
                .faults()
                .set(fault.iter().map(|f| Rule::always("", f.clone())).collect());
            cloud.faults().forget();
            for _ in 0..2 {
                assert!(matches!(device.pass().await, Pass::Wait(_)), "{name}");
            }
            assert!(!device.time().is_synced(), "{name} {step_s}");
            assert_eq!(device.outbox(), ids, "{name}");
            assert_eq!(in_cloud(cloud, device.edge_id()).await, []);
            let wanted: &[&str] = if reaches_it { &[TIME, TIME] } else { &[] };
            assert_eq!(requests(cloud), wanted, "{name} {step_s}");
        }
    }
}

/// A refusal of the key is no signed word either; the next key's answer is.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_key_can_ask_too() {
    let cloud = cloud(certificate("localhost", -1, 30)).await;
    let home = tempfile::tempdir().unwrap();
    let next = home.path().join("next.json");
    let right = cloud.write_credentials("box", &next).await.unwrap();
    let text = std::fs::read_to_string(&next).unwrap();
    let retired = text.replace(&right.edge_key, "ek_retired");
    std::fs::write(home.path().join("edge.json"), retired).unwrap();
    let mut device = with_keys(home, &cloud.ca_path(), STEPS_S[0]);
    let ids = device.notes(3).await;
    assert_eq!(device.pass().await, Pass::More);
    assert!(!device.time().is_synced(), "the refusal taught the time");
    assert_eq!(device.drain(3).await, 3);
    all_arrived(&cloud, &device, &ids, &[]).await;
    assert!(!device.db_path().with_file_name("next.json").exists());
}

/// The certificate has really expired: the time may be asked, records are not sent.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_carries_no_records() {
    let cloud = cloud(certificate("localhost", -60, -10)).await;
    for step_s in [0, STEPS_S[0]] {
        let mut device = device(&cloud, &cloud.ca_path(), step_s).await;
        let ids = device.notes(2).await;
        cloud.faults().forget();
        assert_eq!(device.pass().await, Pass::More);
        assert!(device.time().is_synced());
        for _ in 0..3 {
            assert!(matches!(device.pass().await, Pass::Wait(_)));
        }
        assert_eq!(device.outbox(), ids);
        assert_eq!(requests(&cloud), [TIME]);
    }
}
