//! Days in the life of the installed package: owner by the button, motion, upload, commands, a restart by command, and
//! everything that goes wrong, one after the other in one machine.

use sentrycam_cloud::command::Wanted;
use serde_json::json;
use uuid::Uuid;

use super::story::{AT_MOST, Story};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make vm-test"]
async fn the_installed_package_lives_through_a_day() {
    let mut s = Story::new().await;
    s.say("booted");
    s.wait_ready();
    s.wait_up();
    let ready =
        (s.unit("ActiveEnterTimestampMonotonic") - s.unit("ExecMainStartTimestampMonotonic")) / 1e6;
    s.say(&format!(
        "READY {ready:.1} s after the start, with two cameras"
    ));
    let exposure = s
        .machine
        .run("systemd-analyze security sentrycam --no-pager | tail -n 1");
    s.say(&exposure);
    s.assert_maps();
    s.machine
        .run("systemd-analyze security --threshold=15 sentrycam >/dev/null");
    assert_eq!(s.light(), "timer", "nobody owns it");

    s.claim().await;

    s.event("yard").await;
    s.event("door").await;
    let uploaded =
        "(select count(distinct camera_id) = 2 from recordings where status = 'available')";
    s.wait_cloud(uploaded).await;
    s.say("motion of both cameras is in the cloud, its clips in the storage");

    let args = json!({ "camera_id": "door", "snapshot_id": Uuid::now_v7(), "max_width": 320 });
    let end = s.command("snapshot", args).await;
    assert_eq!(end["status"], "succeeded", "{end}");
    let memory = s.unit("MemoryCurrent") / 1_048_576.0;
    let rss = s
        .machine
        .run("awk '/VmRSS/ {print $2}' /proc/$(systemctl show sentrycam -P MainPID)/status");
    s.say(&format!(
        "a snapshot by command; memory of the unit {memory:.0} MiB, RSS {rss} KiB"
    ));
    let busy = s.machine.written(60);
    s.say(&format!("an hour with events every 10 s writes {busy}"));

    let before = s.machine.boot_id.clone();
    let devices = s.cloud.query("select edge_id from devices").await.unwrap();
    let edge = devices[0]["edge_id"].as_str().unwrap();
    let sent = s
        .cloud
        .send_command(edge, Wanted::new("reboot", json!({})))
        .await
        .unwrap();
    s.machine.wait_ready();
    assert_ne!(s.machine.boot_id, before);
    let end = s
        .cloud
        .wait_command(sent["id"].as_str().unwrap().parse().unwrap(), AT_MOST)
        .await
        .unwrap();
    assert_eq!(end["status"], "succeeded", "{end}");
    s.wait_ready();
    s.wait_up();
    s.say("restarted by command, proved by another boot");

    s.machine
        .run("echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind");
    s.wait_status("the camera is missed", |s| {
        s["cameras"]["door"]["state"] != "up"
    });
    s.event("yard").await;
    s.machine
        .run("echo vivid.0 >/sys/bus/platform/drivers/vivid/bind; sleep 1; v4l2-ctl -d /dev/v4l/by-path/platform-vivid.0-video-index0 -c osd_text_mode=2");
    s.wait_up();
    s.event("door").await;
    s.say("the camera was unplugged and is back");

    s.machine.network(false);
    let id = s.local_event("door");
    s.wait_status("it misses the cloud", |s| s["sync"]["state"] != "ok");
    s.machine.network(true);
    s.wait_arrived(id).await;
    s.wait_up();
    s.say("the network was gone and is back");

    s.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make vm-test"]
async fn the_installed_package_lives_through_a_bad_day() {
    let mut s = Story::new().await;
    s.wait_ready();
    s.wait_up();
    s.claim().await;

    s.machine
        .run("systemctl stop sentrycam; date -s '1970-01-01 00:10:00'; systemctl start sentrycam");
    s.wait_up();
    let id = s.local_event("door");
    let now = s
        .cloud
        .query("select extract(epoch from now())::bigint as now")
        .await
        .unwrap()[0]["now"]
        .clone();
    s.machine.run(&format!("date -s @{now}"));
    s.wait_arrived(id).await;
    let right = format!(
        "(select occurred_at > now() - interval '1 hour' from events where event_uid = '{id}')"
    );
    s.wait_cloud(&right).await;
    s.say("the clock was in 1970; what was recorded then has its right time");

    s.machine
        .run("fallocate -l $(($(df -B1 --output=avail /var/lib/sentrycam | tail -n 1) - 65536)) /var/lib/sentrycam/fill");
    s.wait_status("the disk is full", |s| s["storage"]["state"] == "full");
    s.event("door").await;
    s.machine.run("rm /var/lib/sentrycam/fill");
    s.wait_status("the disk has room", |s| s["storage"]["state"] == "ok");
    s.event("door").await;
    s.say("the disk was full: events went on");

    // Another program takes the agent's own reserve, too, for longer than the watchdog waits. After a start SQLite's log is
    // short and has to grow; once it is as long as it gets it is written over, and events need no room for a long time.
    s.machine.run("systemctl restart sentrycam");
    s.wait_ready();
    let (restarts, before) = (s.unit("NRestarts"), s.events("door"));
    s.machine
        .run("cd /var/lib/sentrycam; fill() { cat /dev/zero >$1 2>/dev/null; sync; }; fill fill; rm -f sentrycam.ballast; fill fill2; [ $(df --output=avail . | tail -n 1) = 0 ]");
    let moves = Story::moves("door");
    let held = "sentrycam status --json | grep -q '\"waits_for_room\": true'";
    s.machine
        .wait(AT_MOST, "events are held", &format!("{moves} {held}"));
    s.machine.run("sleep 90");
    s.machine.run(held);
    s.machine
        .run("rm /var/lib/sentrycam/fill /var/lib/sentrycam/fill2");
    s.wait_status("events are written", |s| s["waits_for_room"] == false);
    assert_eq!(s.unit("NRestarts"), restarts, "{}", s.machine.journal());
    // The first of what waited is written; the rest follows, in order.
    let more = format!("select count(*) > {before} from events where camera_id = 'door'");
    s.wait_number("the door's event of then is written", &more);
    s.wait_status("the disk has room", |s| s["storage"]["state"] == "ok");
    s.event("door").await;
    s.say(
        "the disk was full to the last byte for 90 s: events were held, nothing was started again",
    );

    let restarts = s.unit("NRestarts");
    s.machine
        .run("kill -STOP $(systemctl show sentrycam -P MainPID)");
    let script = format!("[ $(systemctl show sentrycam -P NRestarts) -gt {restarts} ]");
    s.machine.wait(AT_MOST, "the watchdog restarts it", &script);
    s.machine
        .run("journalctl -u sentrycam | grep -q 'Watchdog timeout'");
    s.wait_ready();
    s.wait_up();
    s.say("it was stopped; the watchdog started it again");

    let killed = s.uptime();
    s.machine
        .run("kill -9 $(systemctl show sentrycam -P MainPID); sleep 1");
    s.wait_ready();
    let again = s.unit("ActiveEnterTimestampMonotonic") / 1e6 - killed;
    let start = s.unit("ExecMainStartTimestampMonotonic") / 1e6 - killed;
    s.wait_up();
    s.say(&format!(
        "killed: started again after {start:.1} s, READY after {again:.1} s"
    ));

    s.machine.run("install -m 640 -g sentrycam /payload/quiet.toml /etc/sentrycam/sentrycam.toml; systemctl restart sentrycam; sleep 30");
    s.wait_up();
    let idle = s.machine.written(60);
    s.say(&format!(
        "an hour of nothing, heartbeats each 5 s, writes {idle}"
    ));

    s.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make vm-test"]
async fn the_installed_package_lives_through_a_week_without_a_network() {
    let mut s = Story::new().await;
    s.wait_ready();
    s.wait_up();
    s.claim().await;
    s.event("door").await;

    let began = s.cloud.query("select now()::text as now").await.unwrap();
    let began = began[0]["now"].as_str().unwrap().to_owned();
    s.machine.network(false);
    s.wait_status("it misses the cloud", |s| s["sync"]["state"] != "ok");
    // So that the clock is right again when the network is.
    s.machine.run("date -s '-7 days'");
    let mut ids = Vec::new();
    for _ in 0..7 {
        s.machine.run("date -s '+1 day'");
        ids.push(s.local_event("door"));
        ids.push(s.local_event("door"));
    }
    let waits = s.number("select count(*) from outbox where class < 3");
    let there = s
        .cloud
        .query("select count(*) as n from events")
        .await
        .unwrap()[0]["n"]
        .clone();
    s.say(&format!(
        "a week without a network, a day a step of the clock: {} events and {waits} records wait",
        ids.len()
    ));
    s.machine.network(true);
    // After so long an outage the next try is up to 300 s away.
    let delivered = "(select count(*) > 0 from events where status = 'ended' and event_uid = '";
    s.wait_cloud_for(2 * AT_MOST, &format!("{delivered}{}')", ids[0]))
        .await;
    for id in &ids {
        s.wait_arrived(*id).await;
    }
    let all: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
    let right = format!(
        "(select count(*) = {} from events where event_uid in ({}) and occurred_at between '{began}'::timestamptz and now())",
        ids.len(),
        all.join(", ")
    );
    s.wait_cloud(&right).await;
    s.wait_up();
    s.event("yard").await;
    s.say(&format!(
        "the network is back: {} events beside the {there} that were there, each once and at its right time",
        ids.len()
    ));
    s.finish().await;
}
