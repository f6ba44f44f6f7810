//! The power goes at every step of a claim, an unclaim and a wipe: the next start finds the box claimed or unclaimed,
//! never between, and the cloud's database agrees.

use sentrycam_cloud::testing::Cloud;

use crate::edge::Edge;

async fn active_keys(cloud: &Cloud, edge: &Edge) -> usize {
    let text = std::fs::read_to_string(edge.credentials("current.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let key = value["edge_key"].as_str().unwrap();
    let sql =
        format!("select 1 from edge_credentials where edge_key = '{key}' and state = 'current'");
    cloud.query(&sql).await.unwrap().len()
}

/// Begins a claim that is bound by its user code as soon as there is one, and waits until the box is cut.
async fn claim_until_cut(cloud: &Cloud, edge: &mut Edge, step: &str) {
    edge.run(Some(step));
    let mut claiming = edge.claim(&[]);
    if !matches!(step, "claim.window" | "claim.created") {
        let code = claiming.user_code();
        cloud.bind(&code, "box").await.unwrap();
    }
    edge.wait_for_its_end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_at_any_step_of_a_claim_ends_claimed_or_unclaimed() {
    let cloud = Cloud::start().await.unwrap();
    for (step, claimed) in [
        ("claim.window", false),
        ("claim.created", false),
        ("claim.sealed", false),
        ("claim.opened", false),
        ("claim.written", false),
        ("claim.pending", true),
        ("claim.stored", true),
        ("claim.confirming", true),
        ("claim.confirmed", true),
        ("claim.renamed", true),
        ("claim.activated", true),
        ("claim.owned", true),
    ] {
        let mut edge = Edge::of(&cloud);
        claim_until_cut(&cloud, &mut edge, step).await;
        edge.run(None);
        edge.wait_for(if claimed { "claimed" } else { "unclaimed" });
        assert_eq!(edge.is_claimed(), claimed, "{step}");
        if !claimed {
            // A window does not outlive a cut, and nothing is in the way of the next one.
            edge.claim_for(&cloud).await;
        }
        edge.wait("records arrive", |s| s["sync"]["state"] == "ok");
        assert_eq!(active_keys(&cloud, &edge).await, 1, "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_while_presses_are_counted_ends_unclaimed_and_the_next_claim_works() {
    let cloud = Cloud::start().await.unwrap();
    for step in ["claim.challenge", "claim.counted"] {
        let mut edge = Edge::of(&cloud);
        edge.run(Some(step));
        let mut claiming = edge.claim(&[]);
        claiming.until("open");
        let sql = "select claim_id from device_claiming_queue where state = 'open'
                   order by created_at desc limit 1";
        let rows = cloud.query(sql).await.unwrap();
        let claim = rows[0]["claim_id"].as_str().unwrap().parse().unwrap();
        let bound = cloud.bind_by_button(claim, "box").await.unwrap();
        if step == "claim.counted" {
            claiming.until("challenge");
            edge.press(bound["press"].as_u64().unwrap());
        }
        edge.wait_for_its_end();
        edge.run(None);
        edge.wait_for("unclaimed");
        assert!(!edge.is_claimed(), "{step}");
        edge.claim_for(&cloud).await;
        edge.wait("records arrive", |s| s["sync"]["state"] == "ok");
        assert_eq!(active_keys(&cloud, &edge).await, 1, "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_not_confirmed_in_time_is_forgotten_on_both_sides() {
    let cloud = Cloud::start().await.unwrap();
    let mut edge = Edge::of(&cloud);
    claim_until_cut(&cloud, &mut edge, "claim.confirming").await;
    let late = "update device_claiming_queue set confirm_by = now() - interval '1 s'";
    cloud.execute(late).await.unwrap();
    edge.run(None);
    edge.wait_for("unclaimed");
    assert!(!edge.is_claimed());
    assert!(
        cloud
            .query("select 1 from edge_credentials")
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_at_any_step_of_an_unclaim_ends_claimed_or_unclaimed() {
    let cloud = Cloud::start().await.unwrap();
    for (step, all, claimed) in [
        ("unclaim.keys", false, true),
        ("unclaim.current", false, false),
        ("unclaim.ordered", true, false),
        ("unclaim.keys", true, false),
        ("unclaim.current", true, false),
    ] {
        let mut edge = Edge::of(&cloud);
        edge.run(Some(step));
        edge.claim_for(&cloud).await;
        let mut command = vec!["unclaim", "--local", "--yes"];
        command.extend(all.then_some("--all"));
        assert!(!edge.cli(&command).status.success(), "{step}");
        edge.wait_for_its_end();
        edge.run(None);
        edge.wait_for(if claimed { "claimed" } else { "unclaimed" });
        assert_eq!(edge.is_claimed(), claimed, "{step} {all}");
        assert!(!edge.home.path("state/wipe.order").exists());
    }
    // A wipe that was begun is finished, however often it is cut.
    let mut edge = Edge::of(&cloud);
    edge.run(Some("wipe.begun"));
    edge.claim_for(&cloud).await;
    assert!(
        edge.cli(&["unclaim", "--local", "--yes", "--all"])
            .status
            .success()
    );
    edge.wait_for_its_end();
    assert!(edge.home.path("state/sentrycam.db").exists());
    for step in ["wipe.store", "wipe.clips"] {
        edge.run_to_its_end(step);
        assert!(!edge.home.path("state/sentrycam.db").exists(), "{step}");
        assert!(edge.home.path("state/wipe.order").exists(), "{step}");
    }
    edge.run(None);
    edge.wait_for("unclaimed");
    assert!(!edge.home.path("state/wipe.order").exists());
    edge.stop();
}
