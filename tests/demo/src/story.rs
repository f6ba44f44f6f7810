//! What is told, line by line, and the verdict at the end.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use sentrycam_cloud::testing::Cloud;
use serde_json::Value;
use tokio::process::Command;

use crate::processes::Agent;

/// The clips of events whose objects the cloud has read and found to be the file.
const UPLOADED: &str = "select event_uid::text as event, object_key from recordings \
    where status = 'available' and event_uid is not null order by available_at";

/// Tells each thing once.
pub struct Story {
    began: Instant,
    told: HashSet<String>,
}

impl Story {
    /// Starts the clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "the demo's own clock, for people"
    )]
    pub fn begin() -> Story {
        println!(
            "{:>7}  {:<11} what happens (Ctrl-C ends the demo)",
            "seconds", "who"
        );
        Story {
            began: Instant::now(),
            told: HashSet::new(),
        }
    }

    /// Prints a line.
    pub fn tell(&self, who: &str, what: &str) {
        println!(
            "{:>7.1}  {who:<11} {what}",
            self.began.elapsed().as_secs_f64()
        );
    }

    fn once(&mut self, key: String, who: &str, what: &str) {
        if self.told.insert(key) {
            self.tell(who, what);
        }
    }

    /// Looks at the agent and at the cloud, and tells what is new.
    pub async fn look(&mut self, agent: &Agent, cloud: &Cloud) -> Result<()> {
        let status = agent.ask("status").await?;
        for (id, c) in status["cameras"].as_object().into_iter().flatten() {
            let state = word(&c["state"]);
            let detail = if state == "up" {
                word(&c["format"])
            } else {
                word(&c["reason"])
            };
            if state != "starting" {
                self.once(
                    format!("camera {id} {state} {detail}"),
                    "camera",
                    &format!("{id} is {state}: {detail}"),
                );
            }
        }
        if status["link"]["state"] == "up" {
            self.once("link".into(), "broker", "the device is online");
        }
        for e in oldest_first(&agent.ask("events").await?) {
            let (id, peak) = (word(&e["id"]), e["peak_score"].as_f64().unwrap_or(0.0));
            self.once(
                format!("start {id}"),
                "motion",
                &format!(
                    "starts on {} at {}",
                    word(&e["camera"]),
                    word(&e["started_at"])
                ),
            );
            if e["state"] == "ended" {
                let what = format!("ends ({}), peak score {peak:.2}", word(&e["end_reason"]));
                self.once(format!("end {id}"), "motion", &what);
            }
        }
        for c in oldest_first(&agent.ask("clips").await?) {
            if c["state"] == "kept" {
                let what = format!(
                    "{:.1} s, open {}",
                    c["duration_s"].as_f64().unwrap_or(0.0),
                    clip_path(agent, c).display()
                );
                self.once(format!("clip {}", word(&c["id"])), "clip", &what);
            }
        }
        for row in cloud.query("select event_uid, status, peak from (select event_uid::text, status, meta ->> 'peak_score' as peak, occurred_at from events) e order by occurred_at").await? {
            let (id, status) = (word(&row["event_uid"]), word(&row["status"]));
            let what = format!("event {} is in PostgreSQL, {status}", id.get(28..).unwrap_or(id));
            self.once(format!("row {id} {status}"), "postgresql", &what);
        }
        for row in cloud.query(UPLOADED).await? {
            let (id, key) = (word(&row["event"]), word(&row["object_key"]));
            let name = key.rsplit('/').next().unwrap_or(key);
            let what = format!(
                "clip of event {} is there, verified: {name}",
                id.get(28..).unwrap_or(id)
            );
            self.once(format!("object {key}"), "storage", &what);
        }
        Ok(())
    }

    /// Whether the camera and the link to the broker were seen to work.
    pub fn all_is_up(&self) -> bool {
        let camera = self.told.iter().any(|t| t.starts_with("camera demo up"));
        camera && self.told.contains("link")
    }

    /// True once the cloud says that a clip is there.
    pub async fn a_clip_arrived(&self, cloud: &Cloud) -> Result<bool> {
        Ok(!cloud.query(UPLOADED).await?.is_empty())
    }

    /// Compares what the agent knows with what PostgreSQL holds.
    pub async fn summary(&mut self, agent: &Agent, cloud: &Cloud) -> Result<bool> {
        self.look(agent, cloud).await?;
        let (events, clips) = (agent.ask("events").await?, agent.ask("clips").await?);
        let uploaded = cloud.query(UPLOADED).await?;
        let mut good = 0;
        println!(
            "\n{:<38} {:>7} {:>13} {:>9} {:>8}  clip",
            "event", "state", "in PostgreSQL", "playable", "uploaded"
        );
        for e in oldest_first(&events) {
            let id = word(&e["id"]);
            let sql = format!("select count(*) as n from events where event_uid = '{id}'");
            let rows = cloud
                .query(&sql)
                .await?
                .first()
                .and_then(|r| r["n"].as_i64())
                .unwrap_or(0);
            let clip = oldest_first(&clips)
                .into_iter()
                .find(|c| c["event"] == e["id"] && c["state"] == "kept");
            let path = clip.map(|c| clip_path(agent, c));
            let frames = match &path {
                Some(path) => playable_frames(path).await?,
                None => 0,
            };
            let stored = uploaded.iter().any(|u| u["event"] == e["id"]);
            good += usize::from(rows == 1 && frames > 0 && stored);
            let shown = path.map(|p| p.display().to_string()).unwrap_or_default();
            let playable = if frames > 0 {
                format!("{frames} fr.")
            } else {
                "no".into()
            };
            println!(
                "{id:<38} {:>7} {:>13} {playable:>9} {:>8}  {shown}",
                word(&e["state"]),
                format!("{rows} x"),
                if stored { "yes" } else { "no" },
            );
        }
        println!(
            "\n{good} event(s) reached PostgreSQL exactly once, with a clip that plays and was uploaded"
        );
        Ok(good > 0)
    }
}

/// Frames that ffprobe decodes without an error.
async fn playable_frames(path: &PathBuf) -> Result<u64> {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v:0",
            "-count_frames",
            "-show_entries",
            "stream=nb_read_frames",
        ])
        .args(["-of", "csv=p=0"])
        .arg(path)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let clean = output.status.success() && output.stderr.is_empty();
    Ok(if clean {
        text.trim().trim_end_matches(',').parse().unwrap_or(0)
    } else {
        0
    })
}

fn clip_path(agent: &Agent, clip: &Value) -> PathBuf {
    let state = agent
        .log
        .parent()
        .map(|p| p.join("agent/clips"))
        .unwrap_or_default();
    state.join(word(&clip["path"]))
}

fn oldest_first(list: &Value) -> Vec<&Value> {
    list.as_array()
        .map(|l| l.iter().rev().collect())
        .unwrap_or_default()
}

pub fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
