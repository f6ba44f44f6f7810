//! A box becomes somebody's camera and nobody's again: the real agent, its command line and button, against the
//! reference cloud with PostgreSQL.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use sentrycam_cloud::faults::{Rule, What};
use sentrycam_cloud::testing::Cloud;
use serde_json::json;
use uuid::Uuid;

use crate::edge::Edge;
use crate::fixture::wait_until;
use crate::sync::fail;

const AT_MOST: Duration = Duration::from_secs(40);

/// Records of a type in the cloud.
fn records(kind: &str) -> String {
    format!("(select count(*) from edge_records where type = 'io.sentrycam.{kind}.v1')")
}

async fn window(cloud: &Cloud) -> Uuid {
    let sql = "select claim_id from device_claiming_queue where state in ('open', 'challenge')";
    let rows = cloud.query(sql).await.unwrap();
    rows[0]["claim_id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_code_makes_it_the_owners_and_what_waited_is_sent() {
    let cloud = Cloud::start().await.unwrap();
    let edge = Edge::start(&cloud);
    edge.wait("nobody owns it", |s| s["sync"]["state"] == "unclaimed");
    edge.wait_for_light("timer", "500");
    let mut claiming = edge.claim(&[]);
    let code = claiming.user_code();
    edge.wait_for_light("timer", "125");
    // Whoever asks meanwhile sees the same window.
    assert_eq!(edge.claim(&[]).user_code(), code);
    cloud.bind(&code.to_lowercase(), "box").await.unwrap();
    let claimed = claiming.until("claimed");
    assert_eq!(claimed["tenant"], "Test");
    assert!(claiming.ends_well());
    assert!(edge.is_claimed());
    let mode = |path: &str| {
        let path = edge.home.path(path);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("state/credentials"), 0o700);
    assert_eq!(mode("state/credentials/current.json"), 0o600);
    assert_eq!(mode("state/control.sock"), 0o600);
    // The beginning of this run was recorded before anybody owned it.
    for kind in ["agent.started", "claim.claimed", "agent.heartbeat"] {
        let arrived = format!("{} >= 1", records(kind));
        cloud.wait_for(&arrived, AT_MOST).await.unwrap();
    }
    edge.wait_for_light("heartbeat", "");
    let again = edge.cli(&["claim"]);
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        !again.status.success() && text.contains("claimed by Test"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_code_needs_nobody_to_type_anything() {
    let cloud = Cloud::start().await.unwrap();
    let organization = cloud.organization();
    let code = cloud.create_claim_code(organization, "door").await.unwrap();
    let edge = Edge::start(&cloud);
    assert!(edge.claim(&["--code", &code]).ends_well(), "{}", edge.log());

    // From the boot partition, at start; the file goes.
    let code = cloud.create_claim_code(organization, "yard").await.unwrap();
    let mut edge = Edge::of(&cloud);
    let file = edge.home.path("claim.txt");
    std::fs::write(&file, format!("{code}\r\n")).unwrap();
    edge.run(None);
    edge.wait_for("claimed");
    assert!(!file.exists());

    // Used codes are refused, in words, and the window is closed.
    let edge = Edge::start(&cloud);
    assert_eq!(edge.claim(&["--code", &code]).ends_with(), "wrong_code");
    let again = edge.cli(&["claim"]);
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(text.contains("try again in 5 min"), "{text}");
    let nonsense = edge.cli(&["claim", "--code", "12345"]);
    let text = String::from_utf8_lossy(&nonsense.stderr).into_owned();
    assert!(text.contains("8 letters"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_button_opens_a_window_and_is_pressed_as_often_as_the_app_says() {
    let cloud = Cloud::start().await.unwrap();
    let edge = Edge::start(&cloud);
    edge.press(2);
    edge.hold(Duration::from_secs(4));
    edge.wait_for("open");
    let asked = cloud
        .bind_by_button(window(&cloud).await, "box")
        .await
        .unwrap();
    let wanted = asked["press"].as_u64().unwrap();
    edge.wait_for("challenge");
    edge.wait_for_light("pattern", "");
    edge.press(if wanted == 2 { 3 } else { wanted - 1 });
    // Wrong: one more try, with another number.
    let again = "(select tries = 1 and challenge_until is not null from device_claiming_queue)";
    cloud.wait_for(again, AT_MOST).await.unwrap();
    let now = "select presses from device_claiming_queue";
    let wanted = cloud.query(now).await.unwrap()[0]["presses"]
        .as_u64()
        .unwrap();
    edge.wait_for("challenge");
    edge.press(wanted);
    edge.wait_for("claimed");
    assert!(edge.is_claimed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cloud_refuses_leaves_it_unclaimed() {
    let cloud = Cloud::start().await.unwrap();
    // The state of the claim as the cloud would have it, and what the person reads.
    for (change, word) in [
        ("state = 'conflict'", "access_denied"),
        ("state = 'denied'", "access_denied"),
        ("expires_at = now() - interval '1 s'", "expired_token"),
    ] {
        let edge = Edge::start(&cloud);
        let mut claiming = edge.claim(&[]);
        claiming.user_code();
        let sql = format!(
            "update device_claiming_queue set {change} where claim_id = '{}'",
            window(&cloud).await
        );
        cloud.execute(&sql).await.unwrap();
        assert_eq!(claiming.ends_with(), word);
        edge.wait_for("unclaimed");
        assert!(!edge.is_claimed());
    }
    // A licence that has no room, in words that say so.
    cloud
        .execute("update organizations set max_edge_servers = 0")
        .await
        .unwrap();
    let edge = Edge::start(&cloud);
    let mut claiming = edge.claim(&[]);
    let code = claiming.user_code();
    if cloud.bind(&code, "box").await.is_ok() {
        assert_eq!(claiming.ends_with(), "access_denied");
    }
    assert!(!edge.is_claimed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_fails_for_a_while_loses_no_claim() {
    let cloud = Cloud::start().await.unwrap();
    let edge = Edge::start(&cloud);
    cloud.faults().set(vec![
        Rule::times("/edge/v1/claims", What::fail(503), 1),
        Rule::times("/edge/v1/claims", What::Html200, 1),
    ]);
    let mut claiming = edge.claim(&[]);
    let code = claiming.user_code();
    let confirm = format!("/edge/v1/claims/{}/confirm", window(&cloud).await);
    cloud.faults().set(vec![
        Rule::times(&confirm, What::fail(404), 1),
        Rule::times(&confirm, What::CutAfterCommit, 1),
        Rule::times(&confirm, What::UnsignedAnswer, 1),
    ]);
    cloud.bind(&code, "box").await.unwrap();
    assert!(claiming.ends_well(), "{}", edge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_410_unclaims_it_and_no_bare_status_does() {
    let cloud = Cloud::start().await.unwrap();
    let mut edge = Edge::start(&cloud);
    edge.claim_for(&cloud).await;
    let edge_id = edge.edge_id();
    for what in [
        What::fail(401),
        What::fail(403),
        What::fail(404),
        What::fail(410),
        What::Unsigned410,
        fail(401, "unknown-key"),
    ] {
        edge.stop();
        cloud
            .faults()
            .set(vec![Rule::always("/edge", what.clone())]);
        cloud.faults().forget();
        edge.run(None);
        edge.wait("the cloud was asked", |s| {
            let state = s["sync"]["state"].as_str().unwrap_or_default();
            !matches!(state, "" | "starting" | "ok")
        });
        assert_eq!(edge.status()["claim"]["state"], "claimed", "{what:?}");
        assert!(edge.is_claimed(), "{what:?}");
    }
    edge.stop();
    cloud.faults().clear();
    cloud.unclaim(&edge_id).await.unwrap();
    edge.run(None);
    edge.wait_for("unclaimed");
    assert!(!edge.is_claimed());
    // The same owner takes it back: what was recorded meanwhile arrives.
    let started = format!("{} >= 7", records("agent.started"));
    edge.claim_for(&cloud).await;
    cloud.wait_for(&started, AT_MOST).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_is_replaced_by_a_claim_and_the_outbox_is_kept() {
    let cloud = Cloud::start().await.unwrap();
    let mut edge = Edge::start(&cloud);
    edge.claim_for(&cloud).await;
    let before = edge.edge_id();
    edge.stop();
    cloud.revoke(&before).await.unwrap();
    edge.run(None);
    edge.wait("the key is lost", |s| s["sync"]["state"] == "auth_lost");
    edge.wait_for_light("pattern", "");
    assert!(edge.is_claimed(), "nothing is wiped");
    edge.claim_for(&cloud).await;
    let started = format!("{} = 2", records("agent.started"));
    cloud.wait_for(&started, AT_MOST).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_at_the_machine_can_unclaim_it() {
    let cloud = Cloud::start().await.unwrap();
    let edge = Edge::start(&cloud);
    edge.claim_for(&cloud).await;
    let asked = edge.cli(&["unclaim", "--local"]);
    assert!(
        !asked.status.success() && edge.is_claimed(),
        "it asks first"
    );
    assert!(edge.cli(&["unclaim", "--local", "--yes"]).status.success());
    edge.wait_for("unclaimed");
    assert!(!edge.is_claimed());
    assert!(edge.home.path("state/sentrycam.db").exists());

    // By the button, everything: 10 s, and a second press.
    edge.claim_for(&cloud).await;
    // Made with the file, whose place on the disk a new one may get.
    let epoch = |edge: &Edge| {
        let there = edge.home.path("state/sentrycam.db").exists();
        there.then(|| edge.text("select value from meta where key = 'epoch'"))?
    };
    let old = epoch(&edge).unwrap();
    edge.hold(Duration::from_secs(11));
    edge.wait_for_light("timer", "100");
    edge.press(1);
    edge.wait_for("unclaimed");
    assert!(!edge.is_claimed());
    let told = format!("{} = 1", records("claim.factory_reset"));
    cloud.wait_for(&told, AT_MOST).await.unwrap();
    edge.wait("it started anew", |s| {
        s["claim"]["state"] == "unclaimed" && epoch(&edge).is_some_and(|new| new != old)
    });
}

/// The disk does not let the keys go: the device stays its owner's, and goes on working for him.
#[tokio::test(flavor = "multi_thread")]
async fn an_unclaim_that_fails_leaves_it_claimed_and_sending() {
    let cloud = Cloud::start().await.unwrap();
    let edge = Edge::start(&cloud);
    edge.claim_for(&cloud).await;
    edge.wait("records arrive", |s| s["sync"]["state"] == "ok");
    let in_the_way = edge.credentials("next.json");
    std::fs::create_dir(&in_the_way).unwrap();
    for args in [
        &["unclaim", "--local", "--yes", "--all"][..],
        &["unclaim", "--local", "--yes"],
    ] {
        assert!(!edge.cli(args).status.success());
    }
    assert_eq!(edge.status()["claim"]["state"], "claimed");
    assert!(!edge.home.path("state/wipe.order").exists());
    let heartbeats = records("agent.heartbeat");
    let sql = format!("select {heartbeats} as n");
    let so_far = cloud.query(&sql).await.unwrap()[0]["n"].clone();
    let more = format!("{heartbeats} > {so_far}");
    cloud.wait_for(&more, AT_MOST).await.unwrap();
    std::fs::remove_dir(&in_the_way).unwrap();
    assert!(edge.cli(&["unclaim", "--local", "--yes"]).status.success());
    edge.wait_for("unclaimed");
}

/// What somebody mistypes says nothing of the code that waits in the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_code_that_was_typed_leaves_the_code_file_alone() {
    let cloud = Cloud::start().await.unwrap();
    let organization = cloud.organization();
    let code = cloud.create_claim_code(organization, "yard").await.unwrap();
    let mut edge = Edge::of(&cloud);
    let file = edge.home.path("claim.txt");
    std::fs::write(&file, &code).unwrap();
    let down = Rule::always("/edge/v1/claims", What::fail(503));
    cloud.faults().set(vec![down]);
    edge.run(None);
    edge.wait_for("opening");
    let other = if code.starts_with('B') { "C" } else { "B" };
    let mut claiming = edge.claim(&["--code", &other.repeat(8)]);
    claiming.until("opening");
    cloud.faults().clear();
    assert_eq!(claiming.ends_with(), "wrong_code");
    assert!(file.exists());
    // A start forgets the pause after a window that brought nothing.
    edge.stop();
    edge.run(None);
    edge.wait_for("claimed");
    assert!(!file.exists());
}

/// The records know whose they are when the credentials cannot be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_box_whose_credentials_are_damaged_is_no_other_owners() {
    let cloud = Cloud::start().await.unwrap();
    let mut edge = Edge::start(&cloud);
    edge.claim_for(&cloud).await;
    edge.wait("records arrive", |s| s["sync"]["state"] == "ok");
    let edge_id = edge.edge_id();
    edge.stop();
    cloud.unclaim(&edge_id).await.unwrap();
    std::fs::write(edge.credentials("current.json"), "torn").unwrap();
    edge.run(None);
    let other = cloud.create_organization("Other").await.unwrap();
    let code = cloud.create_claim_code(other, "box").await.unwrap();
    let ended = edge.claim(&["--code", &code]).ends_with();
    assert_eq!(ended, "bad_credentials", "{}", edge.log());
    assert!(edge.credentials("owner.json").exists());
    assert!(!edge.home.path("state/wipe.order").exists());
}

/// As with a udev rule that has not run yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_light_whose_files_come_late_is_lit_all_the_same() {
    let cloud = Cloud::start().await.unwrap();
    let mut edge = Edge::of(&cloud);
    let late = ["delay_on", "delay_off"].map(|name| edge.home.path("led").join(name));
    for file in &late {
        std::fs::remove_file(file).unwrap();
    }
    edge.run(None);
    for file in &late {
        std::fs::write(file, "").unwrap();
    }
    edge.wait_for_light("timer", "500");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_can_forbid_the_reset_by_the_button_and_a_former_one_cannot() {
    let cloud = Cloud::start().await.unwrap();
    let edge = Edge::start(&cloud);
    edge.claim_for(&cloud).await;
    let disabled = json!({ "physical_reset": "disabled" });
    let twin = cloud.set_twin(&edge.edge_id(), disabled).await.unwrap();
    edge.wait("the twin is in force", |s| {
        s["twin"]["applied"] == twin["version"]
    });
    let reset = || {
        edge.hold(Duration::from_secs(11));
        edge.wait_for_light("timer", "100");
    };
    reset();
    edge.press(1);
    let said = "the owner has forbidden a reset by the button";
    let log = || std::fs::read_to_string(edge.home.path("err")).unwrap();
    wait_until(30, "it is refused", || log().contains(said));
    assert!(edge.is_claimed());
    assert!(edge.cli(&["unclaim", "--local", "--yes"]).status.success());
    edge.wait_for("unclaimed");
    reset();
    // It starts anew while the button is down.
    edge.press_down();
    wait_until(20, "it is wiped", || {
        log().contains("factory reset by the button")
    });
    assert_eq!(log().matches(said).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_owner_gets_no_record_of_the_former_one() {
    let cloud = Cloud::start().await.unwrap();
    let mut edge = Edge::start(&cloud);
    edge.claim_for(&cloud).await;
    cloud
        .faults()
        .set(vec![Rule::always("/edge/v1/events", What::fail(503))]);
    edge.stop();
    edge.run(None);
    let edge_id = edge.edge_id();
    assert!(edge.cli(&["unclaim", "--local", "--yes"]).status.success());
    cloud.faults().clear();
    cloud.unclaim(&edge_id).await.unwrap();
    let other = cloud.create_organization("Other").await.unwrap();
    let code = cloud.create_claim_code(other, "box").await.unwrap();
    edge.claim(&["--code", &code]).ends_well();
    edge.wait("it is the other's", |s| {
        s["claim"]["tenant"] == "Other" && s["sync"]["state"] == "ok"
    });
    let leaked = format!(
        "select 1 from edge_records where organization_id = '{other}' and type = 'io.sentrycam.claim.unclaimed.v1'"
    );
    assert!(cloud.query(&leaked).await.unwrap().is_empty());
}
