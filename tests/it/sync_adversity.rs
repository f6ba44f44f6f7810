//! The agent's store and uploader against the reference cloud when clocks are off, and when everything goes wrong at
//! random.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use sentrycam::agent::uploader::Uploader;
use sentrycam::board::entropy::Entropy;
use sentrycam::cloud::client::{Call, ClientError, Reply, Transport};
use sentrycam::outbox::quota::Quotas;
use sentrycam::time::{Mono, Wall};
use sentrycam_cloud::faults::{Rule, What};
use sentrycam_cloud::testing::Cloud;

use crate::device::{Device, End, wall};
use crate::dice::Dice;
use crate::sync::{all_arrived, fail};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// A cloud that is never reached; counts how often it was tried.
#[derive(Clone, Default)]
struct Unreached(Arc<AtomicU32>);

impl Transport for Unreached {
    fn edge_id(&self) -> &str {
        "e-unreached"
    }

    async fn send(&self, _: &Call<'_>, _: Wall, _: [u8; 16]) -> Result<Reply, ClientError> {
        self.0.fetch_add(1, Relaxed);
        Err(ClientError::NoAnswer("there is no cloud".into()))
    }
}

/// Twelve failures in a row wait for minutes; a broker that comes back says that the way may be open.
#[tokio::test]
async fn a_broker_that_comes_back_shortens_the_wait_for_a_silent_cloud() {
    let unreached = Unreached::default();
    let mut device = Device::over(
        tempfile::tempdir().unwrap(),
        unreached.clone(),
        Quotas::default(),
    );
    device.start();
    let (away, broker_away) = watch::channel(Some(Mono(0)));
    let stop = CancellationToken::new();
    let uploader = Uploader::new(
        device.db().clone(),
        unreached.clone(),
        device.time().clone(),
        Entropy::default(),
    );
    let uploader = uploader.watching_broker(broker_away).run(
        Arc::<Notify>::default(),
        stop.clone(),
        Duration::ZERO,
    );
    let flips = async {
        let mut beat = tokio::time::interval(Duration::from_millis(10));
        while unreached.0.load(Relaxed) < 12 {
            beat.tick().await;
            away.send_replace(Some(Mono(0)));
            beat.tick().await;
            away.send_replace(None);
        }
    };
    let limit = Duration::from_secs(30);
    let flips = async {
        let tried = tokio::time::timeout(limit, flips).await;
        stop.cancel();
        tried.expect("tried in vain, but at once");
    };
    tokio::join!(uploader, flips);
    device.end(End::InOrder).await;
}

/// A cloud whose clock is off, and a device whose clock is off: the time is learned, and what was recorded before
/// leaves with the right time.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_off_delay_nothing() {
    let year = 365 * 24 * 3600;
    let cloud = Cloud::start().await.unwrap();
    for (cloud_skew, device_step) in [
        (3600, 0),
        (-3600, 0),
        (10 * year, 0),
        (0, -57 * year),
        (0, 10 * year),
        (0, 3600),
        (0, -3600),
    ] {
        cloud.clock().set_skew(cloud_skew);
        let mut device = Device::of(&cloud).await;
        device.clock.rehearse_step(device_step * 1_000_000);
        device.start();
        let mut ids = device.notes(5).await;
        // One answer teaches the time, one carries the records, one look finds nothing.
        assert_eq!(
            device.drain(9).await,
            3,
            "cloud {cloud_skew} device {device_step}"
        );
        let sql =
            "select r.time, r.timequality from edge_records r order by r.received_at desc limit 1";
        let row = &cloud.query(sql).await.unwrap()[0];
        let error = wall(&row["time"]).unix_seconds() - cloud.clock().now(0).as_second();
        assert!(
            error.abs() < 60,
            "{error} s off: cloud {cloud_skew} device {device_step}"
        );
        assert_eq!(row["timequality"], "synced");

        // The cloud's clock is put right while the device runs.
        cloud.clock().set_skew(0);
        ids.extend(device.notes(5).await);
        let passes = device.drain(9).await;
        assert!(
            passes <= 3,
            "{passes} passes: cloud {cloud_skew} device {device_step}"
        );
        // And again over a restart, which starts from the last trusted time.
        device.restart(End::Killed).await;
        ids.extend(device.notes(5).await);
        assert!(device.drain(9).await <= 3);
        all_arrived(&cloud, &device, &ids, &[]).await;
    }
}

/// The cloud was ten years ahead when the device last heard of it: the device comes back all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_time_on_disk_is_corrected_by_the_next_answer() {
    let cloud = Cloud::start().await.unwrap();
    cloud.clock().set_skew(10 * 365 * 24 * 3600);
    let mut device = Device::on_time(&cloud).await;
    device.end(End::InOrder).await;
    cloud.clock().set_skew(0);
    device.clock.rehearse_step(-1_000_000_000_000_000);
    device.start();
    let ids = device.notes(3).await;
    device.drain(9).await;
    all_arrived(&cloud, &device, &ids, &[]).await;
}

/// Faults of every kind at random on a real cloud, the agent killed now and then: each record and each event once.
#[tokio::test(flavor = "multi_thread")]
async fn under_random_faults_every_event_is_in_postgresql_exactly_once() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| uuid::Uuid::now_v7().as_u128() as u64);
    println!("SEED={seed}");
    let mut dice = Dice(seed);
    let cloud = Cloud::start().await.unwrap();
    let mut device = Device::on_time(&cloud).await;
    let faults = [
        What::fail(503),
        What::CutBefore,
        What::CutAfterCommit,
        What::Duplicate,
        What::Reorder,
        What::Garbage200,
        What::Truncated200,
        What::EmptyResults,
        What::RetryAll,
        What::Html502,
        What::Unsigned410,
        What::Skew { seconds: 4000 },
        What::Skew { seconds: -4000 },
        fail(401, "clock-skew"),
        What::fail(409),
        What::fail(415),
        What::fail(422),
    ];
    let rules = faults
        .into_iter()
        .map(|what| Rule::sometimes("/edge", what, 0.06, dice.next()));
    cloud.faults().set(rules.collect());
    let mut events = BTreeSet::new();
    for _ in 0..120 {
        for _ in 0..dice.below(4) {
            events.insert(device.event().await.0);
        }
        device.pass().await;
        if dice.percent(6) {
            let how = if dice.percent(70) {
                End::Killed
            } else {
                End::InOrder
            };
            device.restart(how).await;
        }
    }
    cloud.faults().clear();
    device.drain(100).await;
    assert_eq!(device.dead(), []);
    let rows = cloud
        .query("select event_uid from events where status = 'ended'")
        .await
        .unwrap();
    let there: Vec<uuid::Uuid> = rows
        .iter()
        .map(|row| row["event_uid"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(there.len(), events.len());
    assert_eq!(there.into_iter().collect::<BTreeSet<_>>(), events);
    let doubled =
        "select record->'data'->>'event_id' as e from edge_records where type like '%.motion.%'
        group by type, 1 having count(*) > 1";
    assert_eq!(
        cloud.query(doubled).await.unwrap(),
        Vec::<serde_json::Value>::new()
    );
}
