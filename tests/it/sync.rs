//! The agent's store and uploader against the reference cloud with PostgreSQL, through every answer of the protocol's
//! table and every fault: nothing leaves the outbox before the cloud's COMMIT, every record ends there exactly once.

use std::time::Duration;

use sentrycam::agent::uploader::Pass;
use sentrycam::cloud::Client;
use sentrycam::model::{Class, RecordId};
use sentrycam_cloud::faults::{Rule, What};
use sentrycam_cloud::testing::Cloud;
use serde_json::json;

use crate::device::{Device, End, in_cloud};

const EVENTS: &str = "/edge/v1/events";
const MINUTE: u64 = 60;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn fail(status: u16, code: &str) -> What {
    What::Fail {
        status,
        code: Some(code.into()),
        retry_after: None,
    }
}

fn later(status: u16, retry_after: &str) -> What {
    What::Fail {
        status,
        code: None,
        retry_after: Some(retry_after.into()),
    }
}

/// What the first pass after a fault has to be.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// All records were taken.
    Done,
    /// Again at once.
    More,
    /// Not before, not after; and the state that `status` shows.
    Wait(u64, u64, &'static str),
}

/// The whole table of protocol section 3.4 and every fault, one device each, once.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_deletes_what_the_cloud_has_not_committed() {
    use Then::{Done, More, Wait};
    let backoff = Wait(0, 1, "retrying");
    let hour = 60 * MINUTE;
    // Far enough away for a machine that takes minutes for the rows before it.
    let date = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2000);
    let date = sentrycam_cloud::clock::http_date(date);
    let table = [
        (What::fail(400), More),
        (fail(400, "digest-mismatch"), More),
        (fail(400, "of-a-proxy"), backoff),
        (fail(401, "clock-skew"), More),
        (fail(401, "replayed-nonce"), More),
        (fail(401, "missing-component"), More),
        (fail(401, "unknown-key"), Wait(300, 300, "auth_lost")),
        (fail(401, "invalid-signature"), Wait(300, 300, "auth_lost")),
        (fail(401, "something-new"), backoff),
        (fail(403, "suspended"), Wait(900, 900, "suspended")),
        (fail(403, "license"), Wait(900, 900, "suspended")),
        (What::fail(404), Wait(hour, hour, "misconfigured")),
        (What::fail(405), Wait(hour, hour, "misconfigured")),
        (What::fail(409), Wait(2, 3, "retrying")),
        (later(409, "7"), Wait(7, 8, "retrying")),
        (What::fail(413), More),
        (What::fail(415), More),
        (What::fail(422), backoff),
        (What::fail(426), Wait(hour, hour, "too_old")),
        (What::fail(429), backoff),
        (later(429, "120"), Wait(120, 132, "retrying")),
        (later(502, "0"), backoff),
        (later(503, &date), Wait(1400, 2200, "retrying")),
        (later(503, "never"), backoff),
        (later(504, "99999999"), Wait(hour, hour + 10, "retrying")),
        (What::fail(500), backoff),
        (What::fail(418), backoff),
        (What::fail(302), backoff),
        (What::Hang { seconds: 20.0 }, backoff),
        (What::CutBefore, backoff),
        (What::CutAfterCommit, backoff),
        (What::Garbage200, backoff),
        (What::Html200, backoff),
        (What::Html502, backoff),
        (What::Truncated200, backoff),
        (What::EmptyResults, backoff),
        (What::RetryAll, backoff),
        (What::Unsigned410, backoff),
        (What::Delay { seconds: 0.05 }, Done),
        (What::Duplicate, Done),
        (What::Reorder, Done),
        (What::UnsignedAnswer, Done),
        (What::Skew { seconds: 200 }, Done),
        (What::Skew { seconds: 3600 }, More),
        (What::Skew { seconds: -3600 }, More),
        (
            What::Skew {
                seconds: 315_360_000,
            },
            More,
        ),
    ];
    let cloud = Cloud::start().await.unwrap();
    for (what, then) in table {
        let mut device = Device::on_time(&cloud).await;
        let ids = device.notes(6).await;
        cloud
            .faults()
            .set(vec![Rule::times(EVENTS, what.clone(), 1)]);
        let before = device.time().mono();
        let pass = device.pass().await;
        let after = device.time().mono();
        let left = device.outbox();
        match then {
            Done => assert_eq!((pass, left.len()), (Pass::More, 0), "{what:?}"),
            More => assert_eq!((pass, &left), (Pass::More, &ids), "{what:?}"),
            Wait(least, most, state) => {
                let Pass::Wait(until) = pass else {
                    panic!("{pass:?} after {what:?}")
                };
                // The answer came between the two.
                let (longest, shortest) = (until.since(before), until.since(after));
                assert!(
                    longest >= s(least) && shortest <= s(most + 1),
                    "{what:?}: {shortest:?} to {longest:?}"
                );
                assert_eq!(device.status().state, state, "{what:?}");
                assert_eq!(left, ids, "{what:?}");
            }
        }
        assert_eq!(cloud.faults().hits(), [1], "{what:?}");
        cloud.faults().clear();
        device.drain(20).await;
        all_arrived(&cloud, &device, &ids, &[]).await;
    }
}

/// Every record is in PostgreSQL exactly once, or a dead letter where that was to be.
pub async fn all_arrived(
    cloud: &Cloud,
    device: &Device<Client>,
    ids: &[RecordId],
    dead: &[RecordId],
) {
    let mut there = in_cloud(cloud, device.edge_id()).await;
    there.sort();
    let mut wanted: Vec<_> = ids
        .iter()
        .filter(|id| !dead.contains(id))
        .copied()
        .collect();
    wanted.sort();
    assert_eq!(there, wanted);
    assert_eq!(device.outbox(), []);
    assert_eq!(device.dead(), dead);
}

/// Records that a lost answer leaves behind are sent under the same key, and the cloud answers as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_keeps_its_key_over_lost_answers_and_restarts() {
    let cloud = Cloud::start().await.unwrap();
    let mut device = Device::on_time(&cloud).await;
    let ids = device.notes(20).await;
    for what in [
        What::CutBefore,
        What::CutAfterCommit,
        What::Truncated200,
        What::fail(409),
    ] {
        cloud.faults().set(vec![Rule::times(EVENTS, what, 1)]);
        device.pass_and_wait().await;
        assert_eq!(device.outbox(), ids);
    }
    let keys = cloud
        .query("select key from idempotency_keys")
        .await
        .unwrap();
    assert_eq!(keys.len(), 1);
    cloud.faults().clear();
    assert_eq!(device.pass().await, Pass::More);
    assert_eq!(
        cloud
            .query("select key from idempotency_keys")
            .await
            .unwrap(),
        keys
    );
    all_arrived(&cloud, &device, &ids, &[]).await;

    // Killed between the cloud's commit and its own: the next run sends it again, the cloud knows it.
    let more = device.notes(20).await;
    cloud
        .faults()
        .set(vec![Rule::times(EVENTS, What::CutAfterCommit, 1)]);
    device.pass_and_wait().await;
    device.restart(End::Killed).await;
    assert_eq!(device.outbox(), more);
    device.drain(4).await;
    all_arrived(&cloud, &device, &[ids, more].concat(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_cloud_knows_for_another_body_is_changed() {
    let cloud = Cloud::start().await.unwrap();
    let mut device = Device::on_time(&cloud).await;
    let ids = device.notes(5).await;
    cloud
        .faults()
        .set(vec![Rule::times(EVENTS, What::CutAfterCommit, 1)]);
    device.pass_and_wait().await;
    let other = "update idempotency_keys set body_sha256 = sha256('other')";
    cloud.execute(other).await.unwrap();
    device.pass_and_wait().await;
    assert_eq!(
        device.status().last_error.unwrap(),
        "status 422 idempotency-mismatch"
    );
    device.drain(3).await;
    all_arrived(&cloud, &device, &ids, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_suspended_or_unclaimed_it_waits_and_wipes_nothing() {
    let cloud = Cloud::start().await.unwrap();
    let mut device = Device::on_time(&cloud).await;
    let ids = device.notes(7).await;

    cloud.suspend(true).await.unwrap();
    assert!(device.pass_and_wait().await > s(14 * MINUTE));
    assert_eq!(device.status().state, "suspended");
    cloud.suspend(false).await.unwrap();
    device.drain(3).await;

    let more = device.notes(7).await;
    cloud.revoke(device.edge_id()).await.unwrap();
    for minutes in [5, 10, 20, 40, 60, 60] {
        let pause = device.pass_and_wait().await;
        assert!(pause.abs_diff(s(minutes * MINUTE)) < s(30), "{pause:?}");
        assert_eq!(
            (device.status().state, device.outbox()),
            ("auth_lost", more.clone())
        );
    }
    // A new run starts over at five minutes, with everything still there.
    device.restart(End::InOrder).await;
    assert_eq!(device.pass().await, Pass::More);
    assert!(device.pass_and_wait().await.abs_diff(s(5 * MINUTE)) < s(30));
    assert_eq!(device.outbox(), more);
    let back = "update edge_credentials set state = 'current', retired_at = null";
    cloud.execute(back).await.unwrap();
    device.drain(3).await;
    let ids = [ids, more].concat();
    all_arrived(&cloud, &device, &ids, &[]).await;

    let kept = device.notes(7).await;
    let credentials = device.db_path().with_file_name("edge.json");
    cloud.unclaim(device.edge_id()).await.unwrap();
    assert!(device.pass_and_wait().await > s(59 * MINUTE));
    assert_eq!(
        (device.status().state, device.outbox()),
        ("unclaimed", kept.clone())
    );
    assert!(credentials.exists());
    cloud
        .execute(
            "update devices set status = 'offline', unclaimed_at = null;
             update edge_credentials set state = 'current', retired_at = null",
        )
        .await
        .unwrap();
    device.drain(3).await;
    all_arrived(&cloud, &device, &[ids, kept].concat(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_stays_off_for_a_day_and_a_second_415_is_not_repeated_at_once() {
    let cloud = Cloud::start().await.unwrap();
    let mut device = Device::on_time(&cloud).await;
    let ids = device.notes(200).await;
    cloud
        .faults()
        .set(vec![Rule::times(EVENTS, What::fail(415), 2)]);
    cloud.faults().forget();
    assert_eq!(device.pass().await, Pass::More);
    device.pass_and_wait().await;
    device.drain(3).await;
    let sizes: Vec<usize> = cloud
        .faults()
        .seen()
        .iter()
        .map(|seen| seen.request_bytes)
        .collect();
    assert!(sizes[1] > 4 * sizes[0] && sizes[2] == sizes[1], "{sizes:?}");

    let more = device.notes(200).await;
    device.clock.rehearse_passing(s(24 * 3600));
    cloud.clock().set_skew(24 * 3600);
    cloud.faults().forget();
    device.drain(4).await;
    let packed = cloud.faults().seen().last().unwrap().request_bytes;
    assert!(packed < sizes[1] / 4, "{packed}");
    all_arrived(&cloud, &device, &[ids, more].concat(), &[]).await;
}

/// 413 and time-outs halve the batch; success doubles it again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_too_slow_is_sent_in_smaller_batches() {
    let cloud = Cloud::start().await.unwrap();
    let mut device = Device::on_time(&cloud).await;
    let ids = device.notes(250).await;
    let hang = What::Hang { seconds: 20.0 };
    let rules = vec![
        Rule::times(EVENTS, What::fail(413), 2),
        Rule::times(EVENTS, hang, 1),
    ];
    cloud.faults().set(rules);
    assert_eq!(device.pass().await, Pass::More);
    assert_eq!(device.pass().await, Pass::More);
    device.pass_and_wait().await;
    assert_eq!(device.outbox().len(), 250);
    let mut sent = Vec::new();
    while device.pass().await != Pass::Idle {
        sent.push(250 - device.outbox().len());
    }
    assert_eq!(sent, [31, 31 + 62, 31 + 62 + 124, 250]);
    all_arrived(&cloud, &device, &ids, &[]).await;
}

/// The cloud refuses one record by name: that one is a dead letter, the others arrive.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_cloud_refuses_is_a_dead_letter_alone() {
    let cloud = Cloud::start().await.unwrap();
    let mut device = Device::on_time(&cloud).await;
    let mut ids = device.notes(40).await;
    let wrong = json!({ "event_id": "no uuid" });
    let poison = device.put(Class::Alarm, "motion.started", wrong).await;
    ids.push(poison);
    ids.extend(device.notes(40).await);
    device.drain(3).await;
    all_arrived(&cloud, &device, &ids, &[poison]).await;
    assert_eq!(device.status().rejected, 1);
    // By hand it comes back, and is refused again.
    let revive = device.db().call(sentrycam::db::Urgency::Now, |c, _| {
        sentrycam::db::dead_letter::revive(c, None)
    });
    assert_eq!(revive.await.unwrap(), 1);
    device.drain(3).await;
    all_arrived(&cloud, &device, &ids, &[poison]).await;
}
