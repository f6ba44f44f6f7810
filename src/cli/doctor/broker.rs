//! The broker: name, port, certificate, and whether it takes this device's account.
//!
//! Only one may use the account at a time: where the agent runs, its link is asked. Where none runs, one CONNECT with the
//! agent's own client id and a DISCONNECT in order leave the session, and what waits in it, as they were.

use std::time::Duration;

use rustls::ClientConfig;
use tokio::time::timeout;

use super::{Finding, cloud};
use crate::agent::status::Status;
use crate::cloud::Credentials;
use crate::cloud::mqtt::{Broker as _, Mqtts, Wire as _};
use crate::config::MqttConfig;
use crate::link::{Ended, Incoming, Outgoing, Topics};

const CHECK: &str = "broker";
const LOGIN: &str = "broker login";
/// For CONNACK.
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn check(
    device: &Credentials,
    tls: ClientConfig,
    mqtt: MqttConfig,
    status: Option<&Status>,
) -> Vec<Finding> {
    let Some(account) = &device.mqtt else {
        let text = "the cloud named none, commands come by HTTPS";
        return vec![Finding::skipped(CHECK, text)];
    };
    if !mqtt.enabled {
        let text = "switched off in the configuration, commands come by HTTPS";
        return vec![Finding::skipped(CHECK, text)];
    }
    let names = ["broker dns", "broker tcp", "broker tls"];
    let mut findings = cloud::way(names, &account.host, account.port, tls.clone()).await;
    match status {
        Some(status) => findings.push(of_agent(&status.link)),
        None if findings.iter().any(Finding::is_failure) => {
            findings.push(Finding::skipped(LOGIN, "see the checks above"));
        }
        None => findings.push(judge(login(device, tls, mqtt).await)),
    }
    findings
}

/// As the running agent sees it.
fn of_agent(link: &serde_json::Value) -> Finding {
    let reason = link["last_reason"].as_str().unwrap_or("no reason yet");
    match link["state"].as_str().unwrap_or("off") {
        "up" => Finding::ok(LOGIN, "the agent's link is up"),
        state @ "connecting" => Finding::warning(
            LOGIN,
            format!("the agent's link is {state} ({reason})"),
            "wait a minute and run doctor again",
        ),
        "taken_over" => Finding::failure(
            LOGIN,
            "another device uses this device's account",
            "find the copied card and take it out, then claim this device anew",
        ),
        "refused" => refused(format!("the agent's link: {reason}")),
        state => Finding::failure(
            LOGIN,
            format!("the agent's link is {state} ({reason})"),
            "stop the agent and run doctor again: it then tries by itself",
        ),
    }
}

async fn login(device: &Credentials, tls: ClientConfig, mqtt: MqttConfig) -> Result<(), Ended> {
    let Some(account) = device.mqtt.clone() else {
        return Ok(());
    };
    let mut wire = Mqtts::new(account, tls, mqtt.keep_alive).connect().await?;
    let connect = Outgoing::Connect {
        keep_alive: mqtt.keep_alive,
        will_topic: Topics::of(&device.edge_id).state(),
        // Never published: we take our leave.
        will: br#"{"online":false}"#.to_vec(),
    };
    wire.send(connect).await?;
    let answer = timeout(PATIENCE, wire.recv()).await;
    match answer.map_err(|_| Ended::NoConnack)?? {
        Incoming::Connected { reason: 0, .. } => {
            // Without it the broker publishes the will after a while; the next link says otherwise.
            let _ = wire.send(Outgoing::Disconnect).await;
            Ok(())
        }
        Incoming::Connected { reason, .. } => Err(Ended::Refused(reason)),
        Incoming::Disconnected { reason } => Err(Ended::Disconnected(reason)),
        _ => Err(Ended::Protocol("no CONNACK")),
    }
}

fn judge(found: Result<(), Ended>) -> Finding {
    match found {
        Ok(()) => Finding::ok(LOGIN, "the broker takes this device's account"),
        Err(e @ Ended::Refused(0x84..=0x87 | 0x8a | 0x8c)) => refused(e.to_string()),
        Err(e @ Ended::Refused(_)) => Finding::warning(
            LOGIN,
            e.to_string(),
            "wait: the broker is busy, the agent tries again by itself",
        ),
        Err(e) => Finding::failure(
            LOGIN,
            e.to_string(),
            "ask the cloud's operator whether the broker runs: TLS works, MQTT does not",
        ),
    }
}

fn refused(detail: String) -> Finding {
    Finding::failure(
        LOGIN,
        detail,
        "claim this device anew: the broker does not know its account; recordings and the queue stay",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::doctor::Verdict;

    #[test]
    fn the_state_of_the_link_is_judged() {
        use Verdict::{Failure, Ok, Warning};
        for (link, verdict, word) in [
            (json!({ "state": "up" }), Ok, "up"),
            (
                json!({ "state": "connecting", "last_reason": "x7" }),
                Warning,
                "x7",
            ),
            (
                json!({ "state": "waiting", "last_reason": "x7" }),
                Failure,
                "x7",
            ),
            (
                json!({ "state": "refused", "last_reason": "x7" }),
                Failure,
                "x7",
            ),
            (json!({ "state": "taken_over" }), Failure, "another device"),
            (json!(null), Failure, "off"),
        ] {
            let found = of_agent(&link);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.detail.contains(word), "{found:?}");
            assert_eq!(found.todo.is_some(), verdict != Ok, "{found:?}");
        }
    }

    #[test]
    fn what_the_broker_says_is_judged() {
        let verdict = |e| judge(Err(e)).verdict;
        assert_eq!(judge(Ok(())).verdict, Verdict::Ok);
        assert_eq!(verdict(Ended::Refused(0x86)), Verdict::Failure);
        assert_eq!(verdict(Ended::Refused(0x88)), Verdict::Warning);
        assert_eq!(verdict(Ended::NoConnack), Verdict::Failure);
    }
}
