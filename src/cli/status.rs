//! `status`: how the running agent is, at a glance.

use std::process::ExitCode;

use anyhow::Context as _;

use super::{Format, lists, output};
use crate::agent::status::{Decoding, LiveStatus, Status, ask};
use crate::config::Config;
use crate::units::ByteSize;

pub fn run(config: &Config, format: Format) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let status = runtime
        .block_on(ask(&config.state_dir))
        .with_context(|| format!("cannot ask the agent in {}", config.state_dir.display()))?;
    let Some(status) = status else {
        anyhow::bail!(
            "no agent runs with state directory {} (start it with `sentrycam run` or `systemctl start sentrycam`)",
            config.state_dir.display()
        );
    };
    if format.json {
        output::json(&status)?;
    } else {
        show(&status)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(s: &Status) -> anyhow::Result<()> {
    println!(
        "sentrycam {}, up {}, {} (clock: {})",
        s.version,
        output::age(s.uptime_s as f64),
        s.now,
        s.timequality
    );
    let text = |v: &serde_json::Value, key: &str| match &v[key] {
        serde_json::Value::String(t) => t.clone(),
        serde_json::Value::Null => "-".into(),
        other => other.to_string(),
    };
    let sync = &s.sync;
    println!(
        "cloud: {}{}, {} delivered, {} refused",
        text(sync, "state"),
        sync["last_error"]
            .as_str()
            .map(|e| format!(" ({e})"))
            .unwrap_or_default(),
        text(sync, "delivered"),
        text(sync, "rejected"),
    );
    if let Some(state) = s.claim["state"].as_str() {
        let owner = s.claim["tenant"].as_str().or(s.claim["edge_id"].as_str());
        let owner = owner.map(|o| format!(" by {o}")).unwrap_or_default();
        println!("claim: {state}{owner}");
    }
    if !s.twin.is_null() && s.twin["desired"] != 0 {
        let (applied, status) = (text(&s.twin, "applied"), text(&s.twin, "status"));
        let faults = s.twin["errors"].as_array().map_or(0, Vec::len);
        let why = if faults > 0 {
            format!(", {faults} fault(s), see --json")
        } else {
            String::new()
        };
        println!(
            "twin:  {applied} in force; {} {status}{why}",
            text(&s.twin, "desired")
        );
    }
    if let Some(state) = s.link["state"].as_str() {
        println!("mqtt:  {state}{}", link_detail(&s.link));
    }
    let rows: u64 = s.backlog["rows"]
        .as_array()
        .map(|r| r.iter().filter_map(|v| v.as_u64()).sum())
        .unwrap_or(0);
    let oldest = s.backlog["oldest_age_s"]
        .as_f64()
        .map(|a| format!(", oldest {}", output::age(a)))
        .unwrap_or_default();
    println!("queue: {rows} record(s) wait{oldest}");
    println!(
        "disk:  {} free of {} for clips",
        text(&s.system, "spool_free"),
        text(&s.system, "spool_total")
    );
    if s.waits_for_room {
        println!(
            "disk:  NO ROOM for events, they are held in memory: remove files where the state directory is"
        );
    }
    for line in storage(&s.storage) {
        println!("{line}");
    }
    for line in uploads(&s.upload) {
        println!("{line}");
    }
    for live in s.live.values() {
        println!("{}", session(live));
    }
    println!();
    let mut table = output::table(&[
        "CAMERA",
        "STATE",
        "LAST FRAME",
        "FPS",
        "KBIT/S",
        "FORMAT",
        "RECONNECTS",
        "DETECTION",
        "DECODED",
        "RECORDING",
        "LAST REASON",
    ]);
    for (id, c) in &s.cameras {
        table.add_row([
            id.clone(),
            c.state.clone(),
            c.last_frame_age_s.map_or("-".into(), output::age),
            format!("{:.1}", c.fps),
            format!("{:.0}", c.bitrate_kbps),
            c.format.clone().unwrap_or_default(),
            c.reconnects.to_string(),
            c.detection.clone(),
            c.decoding.as_ref().map_or("-".into(), decoded),
            (if c.recording { "yes" } else { "no" }).to_owned(),
            c.reason.clone().unwrap_or_default(),
        ]);
    }
    output::print(&table, "no cameras are configured")
}

/// `4 % (key frames)`.
fn decoded(d: &Decoding) -> String {
    let share = d
        .share
        .map_or("-".into(), |s| format!("{:.0} %", 100.0 * s));
    format!("{share} ({})", d.mode)
}

/// What is kept, what went and why, and what a person has to do.
fn storage(storage: &serde_json::Value) -> Vec<String> {
    let size = |v: &serde_json::Value| v.as_u64().map(|n| ByteSize(n).to_string());
    let mut lines = Vec::new();
    if let Some(used) = size(&storage["used_bytes"]) {
        let quota = size(&storage["quota_bytes"]).map_or("no quota".into(), |q| format!("of {q}"));
        let gone: Vec<String> = storage["deleted"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(why, g)| {
                let bytes = size(&g["bytes"]).unwrap_or_default();
                format!("{} for {why} ({bytes})", g["files"])
            })
            .collect();
        let gone = if gone.is_empty() {
            "nothing deleted since the start".to_owned()
        } else {
            let last = storage["last_deleted"]["at"].as_str().map(lists::short);
            format!(
                "deleted {}, last {}",
                gone.join(", "),
                last.unwrap_or_default()
            )
        };
        lines.push(format!("clips: {used} {quota}; {gone}"));
    }
    for why in storage["unmet"].as_array().into_iter().flatten() {
        let why = why.as_str().unwrap_or_default();
        lines.push(format!(
            "clips: the limit \"{why}\" cannot be met: what is left is locked, open, or not ours"
        ));
    }
    if let Some(state) = storage["state"].as_str().filter(|s| *s != "ok") {
        lines.push(format!(
            "disk:  {}: {}",
            state.to_uppercase(),
            storage["advice"].as_str().unwrap_or_default()
        ));
    }
    lines
}

/// What waits for its upload, what stays here, how fast it goes.
fn uploads(upload: &serde_json::Value) -> Vec<String> {
    let Some(state) = upload["state"].as_str() else {
        return Vec::new();
    };
    let (queue, count) = (&upload["queue"], |v: &serde_json::Value| {
        v.as_u64().unwrap_or(0)
    });
    let size = |v: &serde_json::Value| ByteSize(count(v)).to_string();
    let why = upload["last_error"].as_str().or(upload["held"].as_str());
    let why = why.map(|w| format!(" ({w})")).unwrap_or_default();
    let rate = match count(&upload["rate_bps"]) {
        0 => String::new(),
        rate => format!(", last at {} kbit/s", rate / 125),
    };
    let mut lines = vec![format!(
        "upload: {state}{why}; {} file(s) wait ({}), {} done since the start{rate}, {} today",
        count(&queue["files"]),
        size(&queue["bytes"]),
        count(&upload["uploaded"]),
        size(&upload["sent_today_bytes"]),
    )];
    let (local, failed) = (count(&queue["local_files"]), count(&queue["failed"]));
    if local > 0 {
        let failed = match failed {
            0 => String::new(),
            n => format!(", {n} of them because they cannot be uploaded"),
        };
        let bytes = size(&queue["local_bytes"]);
        lines.push(format!(
            "upload: {local} file(s) stay here ({bytes}){failed}"
        ));
    }
    if upload["zone_unknown"] == true {
        let zone = upload["time_zone"].as_str().unwrap_or_default();
        lines.push(format!(
            "upload: this machine does not know the time zone {zone}, UTC counts"
        ));
    }
    lines
}

/// What is published, how, and until when.
fn session(live: &LiveStatus) -> String {
    let why = live.detail.as_deref().filter(|_| live.state != "live");
    let why = why.map(|w| format!(" ({w})")).unwrap_or_default();
    format!(
        "live:  {} by {}: {}{why}, {} sent, ends in {}",
        live.camera,
        live.protocol,
        live.state,
        ByteSize(live.bytes),
        output::age(live.ends_in_s as f64),
    )
}

/// Since when, and why it is not up, or was not last.
fn link_detail(link: &serde_json::Value) -> String {
    let since = link["since_s"]
        .as_f64()
        .map(|s| format!(" for {}", output::age(s)))
        .unwrap_or_default();
    match (link["state"].as_str(), link["last_reason"].as_str()) {
        (_, None) => since,
        (Some("up"), Some(reason)) => format!("{since} (before that: {reason})"),
        (_, Some(reason)) => format!("{since} ({reason})"),
    }
}
