//! A request of the agent as it goes over the wire, judged by a library that we did not write: PyPI
//! `http-message-signatures` verifies it, and refuses it after any change.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sentrycam::agent::uploader::Pass;
use sentrycam::board::clock::Clock;
use sentrycam::cloud::client::TOTAL_TIMEOUT;
use sentrycam::cloud::{Client, Credentials, tls};
use sentrycam::outbox::quota::Quotas;
use sentrycam_cloud::cert::DevCert;
use serde_json::json;

use crate::device::Device;

const SECRET: [u8; 32] = *b"thirty-two bytes of device key !";

/// One request, whole.
#[derive(Debug)]
struct Recorded {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// Answers every request with 503 and hands over what it was, byte for byte.
fn record(cert: &DevCert, requests: std::sync::mpsc::Sender<Recorded>) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(cert.cert_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(cert.key_pem.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, socket.unwrap());
            let Some(request) = read(&mut stream) else {
                continue;
            };
            let date = sentrycam_cloud::clock::http_date(jiff::Timestamp::now());
            let answer = format!(
                "HTTP/1.1 503 Unavailable\r\ndate: {date}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = stream
                .write_all(answer.as_bytes())
                .and_then(|()| stream.flush());
            stream.conn.send_close_notify();
            let _ = stream.flush();
            if requests.send(request).is_err() {
                break;
            }
        }
    });
    port
}

fn read(stream: &mut impl std::io::Read) -> Option<Recorded> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let mut start = lines.next()?.split(' ');
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Recorded {
        method: start.next()?.to_owned(),
        path: start.next()?.to_owned(),
        headers,
        body,
    })
}

/// A Python with the pinned library, made once beside the build.
pub fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wanted = root.join("tests/foreign/requirements.txt");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let venv = target.join("foreign-venv");
    let (python, done) = (venv.join("bin/python"), venv.join("requirements.txt"));
    let pinned = std::fs::read(&wanted).unwrap();
    if std::fs::read(&done).ok().as_ref() != Some(&pinned) {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv));
        run(Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(&wanted));
        std::fs::write(&done, &pinned).unwrap();
    }
    python
}

fn run(command: &mut Command) {
    let out = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_library_verifies_what_the_agent_sends() {
    let python = tokio::task::spawn_blocking(python).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let cert = DevCert::generate().unwrap();
    cert.write(home.path()).unwrap();
    let (tell, requests) = std::sync::mpsc::channel();
    let port = record(&cert, tell);
    let base = format!("https://localhost:{port}");
    let file = home.path().join("edge.json");
    let secret = STANDARD.encode(SECRET);
    let edge = json!({ "v": 1, "edge_id": "e-foreign", "edge_key": "ek_foreign", "edge_secret": secret, "api_base": base });
    std::fs::write(&file, edge.to_string()).unwrap();
    let credentials = Credentials::load(&file).unwrap();
    let ca = home.path().join("ca.pem");
    let tls = tls::client_config(Some(&ca), Arc::new(|| Clock::default().system_wall())).unwrap();
    let client = Client::new(credentials, tls, TOTAL_TIMEOUT).unwrap();
    let mut device = Device::over(home, client, Quotas::default());
    device.start();

    // The first request asks for the time; then a small batch, as it is, and a large one, compressed.
    assert_eq!(device.pass().await, Pass::More);
    assert_eq!(requests.recv().unwrap().path, "/edge/v1/time");
    device.notes(1).await;
    device.pass_and_wait().await;
    let plain = requests.recv().unwrap();
    let release = device.db().call(sentrycam::db::Urgency::Now, |c, _| {
        sentrycam::db::batch::release(c)
    });
    release.await.unwrap();
    device.notes(60).await;
    device.pass_and_wait().await;
    let packed = requests.recv().unwrap();
    assert!(!plain.headers.contains_key("content-encoding"));
    assert_eq!(packed.headers["content-encoding"], "gzip");

    for request in [plain, packed] {
        let case = json!({
            "method": request.method, "url": format!("{base}{}", request.path), "headers": request.headers,
            "body": STANDARD.encode(&request.body), "keyid": "ek_foreign", "secret": STANDARD.encode(SECRET),
        });
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/verify_request.py");
        let mut child = Command::new(&python)
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(case.to_string().as_bytes())
            .unwrap();
        let out = child.wait_with_output().unwrap();
        let (said, err) = (
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr),
        );
        assert!(out.status.success(), "{said}{err}");
        assert_eq!(
            said.lines().filter(|l| l.starts_with("refused: ")).count(),
            11,
            "{said}"
        );
        print!("{said}");
    }
}
