//! The way to the cloud: name, port, certificate, signature, clock, broker. The one request asks for the time and
//! changes nothing.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::Finding;
use crate::board::clock::Clock;
use crate::board::entropy::Entropy;
use crate::cloud::client::{Call, Client, ClientError, Reply, Transport as _};
use crate::cloud::reach::{Stuck, reach};
use crate::cloud::{Keys, tls};
use crate::config::{CloudConfig, Config};
use crate::wire::keys::KeySlot;

/// For resolving, connecting and the handshake.
const REACH_PATIENCE: Duration = Duration::from_secs(30);
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// More than this, and the cloud takes no signature before it is corrected.
const MAX_SKEW_S: i64 = 300;

pub async fn check(config: &Config) -> Vec<Finding> {
    let Some(cloud) = &config.cloud else {
        return vec![
            Finding::skipped(
                "cloud",
                "none in the configuration, the agent runs standalone",
            ),
            clock(None),
        ];
    };
    let keys = match Keys::load(&cloud.credentials_file) {
        Ok(keys) => keys,
        Err(e) => {
            let todo = "claim this device, or run doctor as the agent's user (or root)";
            return vec![
                Finding::failure("credentials", e.to_string(), todo),
                clock(None),
            ];
        }
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
    let base = keys.of(KeySlot::Current).api_base.clone();
    let host = base.host_str().unwrap_or_default().to_owned();
    let port = base.port_or_known_default().unwrap_or(443);
    let mut findings = server(["dns", "tcp", "tls"], &host, port, tls.usual.clone()).await;
    match Client::new(keys, tls.clone(), ANSWER_PATIENCE) {
        Ok(client) => {
            let (finding, reply) = signature(&client, &own).await;
            findings.push(finding);
            findings.push(clock(reply.and_then(|r| r.date)));
        }
        Err(e) => findings.push(Finding::failure("signature", e.to_string(), "report this")),
    }
    match broker(cloud) {
        Some((host, port)) => {
            let names = ["broker dns", "broker tcp", "broker tls"];
            findings.extend(server(names, &host, port, tls.usual).await);
        }
        None => findings.push(Finding::skipped(
            "broker",
            "the cloud named none, commands come by HTTPS",
        )),
    }
    findings
}

/// Name, port and certificate of a server.
async fn server(
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

/// Where the broker is: the one part of the credentials that is of use here.
fn broker(cloud: &CloudConfig) -> Option<(String, u16)> {
    let mqtt = read(&cloud.credentials_file)?["mqtt"].take();
    let host = mqtt["host"].as_str().filter(|h| h.len() <= 253)?;
    let port = u16::try_from(mqtt["port"].as_u64()?).ok()?;
    Some((host.to_owned(), port))
}

fn read(path: &Path) -> Option<serde_json::Value> {
    let mut text = zeroize::Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path).ok()?;
    file.take(64 << 10).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
