//! The way to the cloud: owner, name, port, certificate, signature, clock, broker. The one request asks for the time
//! and changes nothing.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use url::Url;

use super::{Finding, broker};
use crate::agent::status::Status;
use crate::board::clock::Clock;
use crate::board::entropy::Entropy;
use crate::cloud::client::{Call, ClientError, Reply, Transport as _};
use crate::cloud::reach::{Stuck, reach};
use crate::cloud::tls::{self, TlsConfigs};
use crate::cloud::{Client, Keys, Store};
use crate::config::{CloudConfig, Config};
use crate::wire::keys::KeySlot;

/// For resolving, connecting and the handshake.
const REACH_PATIENCE: Duration = Duration::from_secs(30);
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// More than this, and the cloud takes no signature before it is corrected.
const MAX_SKEW_S: i64 = 300;

/// `moved`: where the twin says that the API is, if not where the credentials say.
pub async fn check(config: &Config, moved: Option<Url>, status: Option<&Status>) -> Vec<Finding> {
    let Some(cloud) = &config.cloud else {
        return vec![
            Finding::skipped(
                "cloud",
                "none in the configuration, the agent runs standalone",
            ),
            clock(None),
        ];
    };
    let own = Clock::default();
    let source = own.clone();
    let tls = tls::client_config(
        cloud.ca_file.as_deref(),
        Arc::new(move || source.system_wall()),
    );
    let tls = match tls {
        Ok(tls) => tls,
        Err(e) => {
            let todo = "install ca-certificates, or correct cloud.ca_file";
            return vec![Finding::failure("tls", e.to_string(), todo), clock(None)];
        }
    };
    match Store::new(&cloud.credentials_file, |_| {}).keys() {
        Ok(Some(keys)) => claimed(keys, moved, tls, config, status).await,
        Ok(None) => unclaimed(cloud, tls, status).await,
        Err(e) => {
            let todo = "claim this device anew, or run doctor as the agent's user (or root): `sentrycam claim`";
            vec![
                Finding::failure("credentials", e.to_string(), todo),
                clock(None),
            ]
        }
    }
}

async fn claimed(
    keys: Keys,
    moved: Option<Url>,
    tls: TlsConfigs,
    config: &Config,
    status: Option<&Status>,
) -> Vec<Finding> {
    let own = Clock::default();
    let current = keys.of(KeySlot::Current).clone();
    let owner = Some(&current.tenant).filter(|t| !t.is_empty());
    let by = owner.map_or_else(String::new, |t| format!(" by {t}"));
    let mut findings = vec![Finding::ok(
        CLAIM,
        format!("claimed{by} as {}", current.edge_id),
    )];
    let base = moved.as_ref().unwrap_or(&current.api_base);
    findings.extend(server(["dns", "tcp", "tls"], base, &tls).await);
    match Client::new(keys, tls.clone(), ANSWER_PATIENCE) {
        Ok(client) => {
            client.set_base(moved);
            let (finding, reply) = signature(&client, &own).await;
            findings.push(finding);
            findings.push(clock(reply.and_then(|r| r.date)));
        }
        Err(e) => findings.push(Finding::failure("signature", e.to_string(), "report this")),
    }
    findings.extend(broker::check(&current, tls.usual, config.mqtt, status).await);
    findings
}

/// Whom the device belongs to.
const CLAIM: &str = "claim";

/// A device without an owner; the way to the cloud that it would ask is looked at all the same.
async fn unclaimed(cloud: &CloudConfig, tls: TlsConfigs, status: Option<&Status>) -> Vec<Finding> {
    let state = status.and_then(|s| s.claim["state"].as_str());
    let mut findings = vec![match (state, &cloud.api_base) {
        (Some("opening" | "open" | "challenge"), _) => Finding::warning(
            CLAIM,
            "no owner yet, a claim window is open",
            "type in the code that `sentrycam claim` shows",
        ),
        (Some("confirming"), _) => Finding::warning(
            CLAIM,
            "claimed, the cloud has not confirmed it yet",
            "wait: the agent asks again by itself",
        ),
        (_, None) => Finding::warning(
            CLAIM,
            "no owner yet, and no cloud to ask for one",
            "set cloud.api_base in the configuration, then `sentrycam claim`",
        ),
        (None, _) => Finding::warning(
            CLAIM,
            "no owner yet: records wait on this device",
            "start the agent, then `sentrycam claim`",
        ),
        (Some(_), _) => Finding::warning(
            CLAIM,
            "no owner yet: records wait on this device",
            "sentrycam claim, or hold the button for 3 s",
        ),
    }];
    if let Some(base) = &cloud.api_base {
        findings.extend(server(["dns", "tcp", "tls"], base, &tls).await);
    }
    findings.push(clock(None));
    findings
}

async fn server(names: [&'static str; 3], base: &Url, tls: &TlsConfigs) -> Vec<Finding> {
    let host = base.host_str().unwrap_or_default();
    let port = base.port_or_known_default().unwrap_or(443);
    way(names, host, port, tls.usual.clone()).await
}

/// Name, port and certificate of a server.
pub(super) async fn way(
    names: [&'static str; 3],
    host: &str,
    port: u16,
    tls: ClientConfig,
) -> Vec<Finding> {
    let [dns, tcp, cert] = names;
    let name = host.to_owned();
    let look = tokio::task::spawn_blocking(move || reach(&name, port, tls));
    let found = tokio::time::timeout(REACH_PATIENCE, look).await;
    match found {
        Ok(Ok(Ok(address))) => vec![
            Finding::ok(dns, format!("{host} is {}", address.ip())),
            Finding::ok(tcp, format!("port {port} answers")),
            Finding::ok(cert, "the certificate is valid and of this name"),
        ],
        Ok(Ok(Err(Stuck::Name(e)))) => {
            let todo = "check the network cable and the name server (resolvectl status)";
            vec![Finding::failure(dns, format!("{host}: {e}"), todo)]
        }
        Ok(Ok(Err(Stuck::Port(e)))) => {
            let todo = format!("allow outgoing connections to port {port} in the firewall");
            vec![
                Finding::ok(dns, format!("{host} has an address")),
                Finding::failure(tcp, e, todo),
            ]
        }
        Ok(Ok(Err(Stuck::Tls(e)))) => {
            let todo = if e.contains("Expired")
                || e.contains("NotValidYet")
                || e.contains("expired")
            {
                "set the clock right, or renew the server's certificate"
            } else {
                "set cloud.ca_file to the server's root certificate; a proxy that opens TLS cannot be used"
            };
            vec![
                Finding::ok(dns, format!("{host} has an address")),
                Finding::ok(tcp, format!("port {port} answers")),
                Finding::failure(cert, e, todo),
            ]
        }
        Ok(Err(_)) | Err(_) => {
            let todo = "check the name server (resolvectl status)";
            let took = format!("{host}: no answer within {} s", REACH_PATIENCE.as_secs());
            vec![Finding::failure(dns, took, todo)]
        }
    }
}

async fn signature(client: &Client, clock: &Clock) -> (Finding, Option<Reply>) {
    const CHECK: &str = "signature";
    let call = Call {
        path: "/edge/v1/time",
        body: None,
        delete: false,
        content_type: "",
        idempotency_key: None,
        if_none_match: None,
        gzip: false,
        key: KeySlot::Current,
        any_date: false,
    };
    let sent = client.send(&call, clock.system_wall(), Entropy::default().bytes());
    let reply = match sent.await {
        Ok(reply) => reply,
        Err(e) => {
            let todo = match e {
                ClientError::CertificateDates(_) => "set the clock right",
                _ => "see the checks above",
            };
            return (Finding::failure(CHECK, e.to_string(), todo), None);
        }
    };
    let finding = match (reply.status, reply.authentic) {
        (200, true) => Finding::ok(CHECK, format!("the cloud knows {}", client.edge_id())),
        (200, false) => Finding::failure(
            CHECK,
            "the answer is not signed by the cloud",
            "something between here and the cloud answers in its place: check proxy and cloud address",
        ),
        (401, _) => Finding::failure(
            CHECK,
            format!("the cloud refuses the key ({})", reply.code),
            "claim this device anew; recordings and the queue stay",
        ),
        (403, _) => Finding::failure(
            CHECK,
            format!("the cloud takes nothing of this account ({})", reply.code),
            "ask the owner of the account: it is suspended, or its licence ended",
        ),
        (404 | 405, _) => Finding::failure(
            CHECK,
            "there is no such cloud at this address",
            "correct api_base in the credentials file, or claim anew",
        ),
        (status, _) => Finding::warning(
            CHECK,
            format!("the cloud answers {status} {}", reply.code),
            "wait: the cloud has a fault, the agent tries again by itself",
        ),
    };
    (finding, Some(reply))
}

/// The machine's clock, against the cloud's where that answered.
fn clock(cloud: Option<crate::time::Wall>) -> Finding {
    const CHECK: &str = "clock";
    let own = Clock::default();
    let now = own.system_wall();
    let todo = "switch time synchronisation on: timedatectl set-ntp true";
    if now < own.build_time() {
        let detail = format!("{} is before this program was made", now.rfc3339());
        return Finding::failure(CHECK, detail, todo);
    }
    if let Some(cloud) = cloud {
        let off = now.since_us(cloud) / 1_000_000;
        return if off.abs() > MAX_SKEW_S {
            let detail =
                format!("{off} s off the cloud's; the agent corrects that for itself alone");
            Finding::warning(CHECK, detail, todo)
        } else {
            Finding::ok(CHECK, format!("{}, as the cloud's", now.rfc3339()))
        };
    }
    match own.ntp_synchronised() {
        Some(_) => Finding::ok(CHECK, format!("{}, set by NTP", now.rfc3339())),
        None => {
            let detail = format!("{}, not known to be right", now.rfc3339());
            Finding::warning(CHECK, detail, todo)
        }
    }
}
