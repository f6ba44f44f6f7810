//! No packet to an address that is denied: a network namespace in which every address of the world answers, and an
//! interface that counts. Hostile addresses, names of denied addresses, a redirect, a resolver that changes its mind.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sentrycam::agent::media_upload::{MediaUpload, Parts};
use sentrycam::board::clock::Clock;
use sentrycam::cloud::client::Call;
use sentrycam::cloud::relay::Relay;
use sentrycam::cloud::{ClientError, Reply, Transport, tls, vetted};
use sentrycam::live::place;
use sentrycam::model::{LiveProtocol, RecordMode, Secret};
use sentrycam::time::{Mono, Wall};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use crate::upload_site::{make_clip, parts};

const DIR: &str = "SENTRYCAM_SSRF_DIR";
const PUBLIC: &str = "93.184.216.34";
const SIZE: u64 = 1000;

/// Everything is this machine: what is sent to any address arrives, on the interface `lo`, which counts.
const NAMESPACE: &str = "set -e
ip link set lo up
ip route add local 0.0.0.0/0 dev lo
ip -6 route add local ::/0 dev lo
for file in hosts resolv.conf nsswitch.conf; do mount --bind \"$1/$file\" /etc/$file; done
exec \"$2\" \"$3\" --exact --ignored --nocapture --test-threads 1";

/// Addresses that are not public, of every kind that there is.
const DENIED: &str = include_str!("../vectors/denied-addresses.txt");

/// Host parts that reach something else in some parser.
const TRICKS: [&str; 26] = [
    "2130706433",
    "0x7f000001",
    "017700000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "0",
    "localhost",
    "localhost.localdomain",
    "metadata.google.internal",
    "public.example.com@127.0.0.1",
    "127.0.0.1@public.example.com",
    "public.example.com:443@127.0.0.1",
    "user:pw@public.example.com",
    "127.0.0.1\\@public.example.com",
    "127.0.0.1%23@public.example.com",
    "127.0.0.1#@public.example.com",
    "127.0.0.1%00.example.com",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "[::ffff:7f00:1]",
    "[fe80::1%25lo]",
    "evil.example",
    "public.example.com.evil.example",
];

/// `None`: this process may not make namespaces; says so.
fn namespace(stage: &str, nsswitch: &str, hosts: &str) -> Option<()> {
    let may = Command::new("unshare")
        .args(["--net", "--mount", "ip", "link", "show", "lo"])
        .output();
    if !may.is_ok_and(|o| o.status.success()) {
        println!("SKIPPED: no network namespaces here (not root, or no iproute2)");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    file("hosts", hosts);
    file(
        "resolv.conf",
        "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n",
    );
    file("nsswitch.conf", &format!("hosts: {nsswitch}\n"));
    let out = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", NAMESPACE, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .arg(format!("ssrf::{stage}"))
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    println!("{said}");
    Some(())
}

fn name_of(n: usize) -> String {
    format!("denied-{n}.example.com")
}

#[test]
fn no_packet_goes_to_a_denied_address() {
    let mut hosts = format!("{PUBLIC} public.example.com\n");
    for (n, address) in DENIED.lines().enumerate() {
        // A name that is public too is denied all the same.
        let both = [
            String::new(),
            format!("{PUBLIC} {name}\n", name = name_of(n)),
        ];
        hosts += &format!("{}{address} {}\n", both[n % 2], name_of(n));
    }
    namespace("inside_where_every_address_answers", "files", &hosts);
}

#[test]
fn no_redirect_and_no_second_answer_of_a_resolver_leads_to_a_denied_address() {
    namespace("inside_where_the_resolver_changes_its_mind", "dns", "");
}

fn dir() -> PathBuf {
    PathBuf::from(std::env::var_os(DIR).expect("it is run by the test above"))
}

/// Packets that were sent in this namespace.
fn packets() -> u64 {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap();
    let lo = text
        .lines()
        .find_map(|l| l.trim().strip_prefix("lo:"))
        .unwrap();
    lo.split_whitespace().nth(9).unwrap().parse().unwrap()
}

/// A cloud that hands out one address.
struct Hands(String);

impl Transport for Hands {
    fn edge_id(&self) -> &str {
        "e-test"
    }

    async fn send(&self, call: &Call<'_>, _: Wall, _: [u8; 16]) -> Result<Reply, ClientError> {
        let begins = call.path == "/edge/v1/uploads";
        let part = json!({ "n": 1, "offset": 0, "size": SIZE, "method": "PUT", "url": self.0 });
        let body = json!({ "upload_id": Uuid::nil(), "status": "uploading", "parts": [part] });
        Ok(Reply {
            status: if begins { 200 } else { 503 },
            code: String::new(),
            date: None,
            etag: None,
            cached: false,
            retry_after: None,
            authentic: true,
            body: body.to_string().into_bytes(),
        })
    }
}

/// What the agent's upload says of an address.
async fn upload(parts: &Parts, url: &str) -> String {
    let mut task = MediaUpload::new(parts.clone(), Hands(url.to_owned()));
    task.pass().await.unwrap();
    let shown = parts.status.snapshot(Mono(0)).upload;
    shown["last_error"].as_str().unwrap_or_default().to_owned()
}

/// What live view does with an address before anything else.
async fn publish(endpoint: &str) -> Result<(), String> {
    let hosts = |host: &str| host.ends_with(".example.com");
    let secret = Secret::new(endpoint);
    let place = place(LiveProtocol::Rtmps, &secret, None, &hosts, &[443]);
    let place = place.map_err(|e| e.to_string())?;
    let addresses = vetted::resolve(&place.host, place.port, &[]).await;
    let addresses = addresses.map_err(|e| e.to_string())?;
    let relay = Relay::open(&place.host, &addresses, None).await;
    relay.map(drop).map_err(|e| e.to_string())
}

async fn device(ca: Option<&Path>) -> (tempfile::TempDir, Parts) {
    let home = tempfile::tempdir().unwrap();
    let clock = Clock::default();
    let tls = tls::client_config(ca, Arc::new(move || clock.system_wall())).unwrap();
    let (parts, settings) = parts(home.path(), tls.usual, "", &["*.example.com"], &[]);
    // In force for good.
    std::mem::forget(settings);
    make_clip(&parts.db, &parts.spool, 1, SIZE, RecordMode::Motion).await;
    (home, parts)
}

/// Takes connections to any address, notes to which, and closes them.
fn listen(met: &Arc<Mutex<Vec<IpAddr>>>) {
    let six = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 443));
    let met = Arc::clone(met);
    // Takes IPv4 too.
    let listener = TcpListener::bind(six).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let to = stream.local_addr().unwrap().ip().to_canonical();
            met.lock().unwrap().push(to);
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a network namespace"]
async fn inside_where_every_address_answers() {
    let _ = dir();
    let (_home, parts) = device(None).await;
    let met = Arc::default();
    listen(&met);
    let before = packets();
    let mut cases: Vec<String> = TRICKS.iter().map(|t| (*t).to_owned()).collect();
    for (n, address) in DENIED.lines().enumerate() {
        cases.push(name_of(n));
        cases.push(match address.contains(':') {
            true => format!("[{address}]"),
            false => (*address).to_owned(),
        });
    }
    for host in &cases {
        let said = upload(&parts, &format!("https://{host}/bucket/key")).await;
        assert!(
            said.contains("an address of the cloud") || said.contains("not public"),
            "{host}: {said}"
        );
        let said = publish(&format!("rtmps://{host}/live/x")).await;
        assert!(said.is_err(), "{host}");
        assert_eq!(packets(), before, "something was sent for {host}: {said:?}");
    }
    assert!(met.lock().unwrap().is_empty());
    // The listed and public one, that the counter counts.
    upload(&parts, "https://public.example.com/bucket/key").await;
    publish("rtmps://public.example.com/live/x").await.unwrap();
    assert!(packets() > before + 4);
    let public: IpAddr = PUBLIC.parse().unwrap();
    crate::fixture::wait_until(30, "both connections are noted", || {
        *met.lock().unwrap() == [public; 2]
    });
    println!("{} cases by two ways, no packet", cases.len());
}

/// Answers questions for addresses of `rebind.example.com`, in turn.
fn resolver(turns: &'static [&'static [&'static str]]) -> Arc<Mutex<usize>> {
    let asked = Arc::<Mutex<usize>>::default();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((n, from)) = socket.recv_from(&mut question) {
            let q = &question[..n];
            // Header of 12 bytes, one name, type, class; what follows (EDNS) is left out.
            let end = 12 + q[12..].iter().position(|b| *b == 0).unwrap() + 5;
            let is_a = q[end - 4..end - 2] == [0, 1];
            let mut addresses: &[&str] = &[];
            if is_a {
                let mut count = count.lock().unwrap();
                addresses = turns[(*count).min(turns.len() - 1)];
                *count += 1;
            }
            let mut answer = q[..end].to_vec();
            answer[2..12].copy_from_slice(&[
                0x81,
                0x80,
                0,
                1,
                0,
                addresses.len() as u8,
                0,
                0,
                0,
                0,
            ]);
            for address in addresses {
                // Of the name at 12, A, IN, no life at all, 4 bytes.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                answer.extend(address.parse::<Ipv4Addr>().unwrap().octets());
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    asked
}

/// An HTTPS server at every address, which sends whoever comes to the metadata of a machine.
async fn redirecting(cert: &Path, key: &Path, met: Arc<Mutex<Vec<IpAddr>>>) {
    let certs = CertificateDer::pem_file_iter(cert)
        .unwrap()
        .collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(certs.unwrap(), key)
    .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 443)).await;
    let listener = listener.unwrap();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        met.lock().unwrap().push(tcp.local_addr().unwrap().ip());
        let Ok(mut stream) = acceptor.accept(tcp).await else {
            continue;
        };
        let (mut got, mut chunk) = (Vec::new(), [0; 4096]);
        let head = |got: &[u8]| got.windows(4).position(|w| w == b"\r\n\r\n");
        while head(&got).is_none_or(|at| got.len() < at + 4 + SIZE as usize) {
            match stream.read(&mut chunk).await {
                Ok(n) if n > 0 => got.extend(&chunk[..n]),
                _ => break,
            }
        }
        let answer = "HTTP/1.1 307 Temporary Redirect\r\nLocation: https://169.254.169.254/latest\r\n\
                      Content-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a network namespace"]
async fn inside_where_the_resolver_changes_its_mind() {
    let (ca, cert, key) = sentrycam_testcam::issued(&dir(), "rebind.example.com").unwrap();
    let met = Arc::<Mutex<Vec<IpAddr>>>::default();
    let asked = resolver(&[
        &[PUBLIC],
        &["169.254.169.254"],
        &["127.0.0.1"],
        &[PUBLIC, "10.0.0.1"],
        &[PUBLIC],
    ]);
    let mut tasks = tokio::task::JoinSet::new();
    let server = Arc::clone(&met);
    tasks.spawn(async move { redirecting(&cert, &key, server).await });
    let (_home, parts) = device(Some(&ca)).await;
    let mut said = BTreeMap::new();
    for turn in 1..=5 {
        let answer = upload(&parts, "https://rebind.example.com/bucket/key").await;
        said.insert(turn, answer);
        // One question a connection: between check and connection no name is asked again.
        assert_eq!(*asked.lock().unwrap(), turn, "{said:?}");
    }
    let redirected = |turn: usize| said[&turn].contains("307");
    let denied = |turn: usize| said[&turn].contains("not public");
    assert!(
        redirected(1) && denied(2) && denied(3) && denied(4) && redirected(5),
        "{said:?}"
    );
    let public: IpAddr = PUBLIC.parse().unwrap();
    assert_eq!(
        *met.lock().unwrap(),
        [public; 2],
        "only where it was allowed"
    );
    // A publisher asks in the same way.
    assert!(publish("rtmps://rebind.example.com/live/x").await.is_ok());
    assert_eq!(*asked.lock().unwrap(), 6);
}
