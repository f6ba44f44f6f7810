//! The device finds its owner, and the owner asks it for something.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use uuid::Uuid;

use crate::processes::Agent;
use crate::story::{Story, word};

const CLAIM: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(60);

/// Opens a window as an installer would, types its code in as the owner would, and waits for the device to be claimed.
pub async fn claim(story: &Story, agent: &Agent, cloud: &Cloud) -> Result<()> {
    let mut child = agent.claiming()?;
    let out = child.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(out).lines();
    let follow = async {
        let mut bound = false;
        while let Some(line) = lines.next_line().await? {
            let now: Value = serde_json::from_str(&line)?;
            if let Some(code) = now["user_code"].as_str()
                && !bound
            {
                bound = true;
                let what = format!(
                    "no owner yet; its window is open for {} s and shows {code}",
                    now["closes_in_s"]
                );
                story.tell("claim", &what);
                cloud.bind(code, "demo box").await?;
                let what = "the owner typed the code in; keys are sealed to the device";
                story.tell("cloud", what);
            }
            if now["state"] == "claimed" {
                let (owner, name) = (word(&now["tenant"]), word(&now["edge_id"]));
                story.tell("claim", &format!("claimed by {owner}, as {name}"));
                return Ok(());
            }
            if let Some(why) = now["ended"][1].as_str() {
                bail!("{why}");
            }
        }
        bail!("the window closed; see {}", agent.log.display())
    };
    tokio::time::timeout(CLAIM, follow)
        .await
        .context("the device is not claimed")?
}

/// Asks the device for a picture, through the broker where the link is up, and tells each step.
#[expect(
    clippy::disallowed_methods,
    reason = "the demo's own clock, for people"
)]
pub async fn command(story: &Story, agent: &Agent, cloud: &Cloud) -> Result<()> {
    let status = agent.ask("status").await?;
    let edge_id = word(&status["claim"]["edge_id"]);
    let way = match status["link"]["state"].as_str() {
        Some("up") => "the broker",
        _ => "the next answer over HTTPS",
    };
    let began = Instant::now();
    let wanted = json!({ "camera_id": "demo", "snapshot_id": Uuid::now_v7(), "max_width": 640 });
    let sent = cloud.send_command(edge_id, Wanted::new("snapshot", wanted));
    let id: Uuid = word(&sent.await?["id"]).parse()?;
    story.tell("cloud", &format!("command snapshot, signed, goes by {way}"));
    let end = cloud.wait_command(id, COMMAND).await?;
    let (state, took) = (word(&end["status"]), began.elapsed().as_millis());
    let picture = word(&end["result"]["path_name"]);
    let what = format!("command snapshot {state} in {took} ms: {picture}");
    story.tell("postgresql", &what);
    ensure!(state == "succeeded", "the snapshot: {}", end["error"]);
    Ok(())
}
