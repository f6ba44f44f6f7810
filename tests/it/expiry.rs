//! What is deleted for its age, by the health task: dead letters after 30 days, and only at a proven time.

use std::sync::Arc;
use std::time::Duration;

use sentrycam::agent::health::Health;
use sentrycam::agent::journal::journal;
use sentrycam::agent::status::StatusHub;
use sentrycam::cloud::Client;
use sentrycam::config::SpoolConfig;
use sentrycam::model::Class;
use sentrycam::spool::Spool;
use sentrycam::units::ByteSize;
use sentrycam_cloud::testing::Cloud;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::device::Device;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// One round of the health task.
async fn health(device: &Device<Client>) {
    let (journal, _task) = journal(device.db().clone(), Arc::new(Notify::new()));
    let spool = Spool::new(&SpoolConfig {
        dir: device.db_path().with_file_name("clips"),
        require_mount: false,
        min_free: ByteSize(0),
    });
    let status = StatusHub::default();
    let task = Health {
        db: device.db().clone(),
        journal,
        spool,
        time: device.time().clone(),
        ids: Arc::new(Uuid::now_v7),
        status: status.clone(),
        sync: None,
        heartbeat: tokio::sync::watch::channel(None).1,
        beat_now: None,
        live: Vec::new,
        address: || None,
        started: device.time().mono(),
    };
    let stop = CancellationToken::new();
    let shown = async {
        while status.snapshot(device.time().mono()).pid == 0 {
            tokio::task::yield_now().await;
        }
        // The task sees this only at its next round.
        stop.cancel();
    };
    tokio::join!(task.run(stop.clone()), shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_given_up_after_thirty_days_of_proven_time() {
    let cloud = Cloud::start().await.unwrap();
    let mut device = Device::on_time(&cloud).await;
    let wrong = json!({ "event_id": "no uuid" });
    let poison = device.put(Class::Alarm, "motion.started", wrong).await;
    device.drain(3).await;
    assert_eq!(device.dead(), [poison]);

    let clock = device.clock.clone();
    let ntp_works = || clock.rehearse_ntp(clock.system_wall());
    clock.rehearse_passing(31 * DAY);
    cloud.clock().set_skew(31 * 24 * 3600);
    health(&device).await;
    assert_eq!(device.dead(), [poison], "the cloud alone proves no time");
    ntp_works();
    health(&device).await;
    assert_eq!(device.dead(), [poison], "they have not agreed for an hour");
    clock.rehearse_passing(Duration::from_secs(3600));
    ntp_works();
    health(&device).await;
    assert_eq!(device.dead(), []);

    // The cloud hears that something is gone.
    device.drain(5).await;
    let gap = "select record->'data' as data from edge_records where type like '%sync.gap%'";
    let gaps = cloud.query(gap).await.unwrap();
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0]["data"]["reason"], "dead_letter");
    assert_eq!(gaps[0]["data"]["count"], 1);
}
