//! Live view, whole: the cloud asks, the real agent publishes to real servers, the picture is proved by its counter and
//! the session's row by what happened.

use std::time::Duration;

use sentrycam_cloud::stream::Wanted;
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{
    Auth, Codec, Ingest, MediaServer, Options, Picture, Source, TestCamera, issued,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::edge::Edge;
use crate::fixture::wait_until;

const SOON: Duration = Duration::from_secs(40);
const WIDTH: usize = 640;
const HEIGHT: usize = 360;

/// A claimed agent with one camera, allowed to publish to this machine.
struct Site {
    cloud: Cloud,
    edge: Edge,
    camera: TestCamera,
    edge_id: String,
}

impl Site {
    async fn start(codec: Codec, ports: &[u16]) -> Site {
        Site::trusting(codec, ports, "").await
    }

    /// The same, with one more authority for certificates.
    async fn trusting(codec: Codec, ports: &[u16], ca: &str) -> Site {
        Site::with(&["door"], codec, ports, ca).await
    }

    /// The same, with the camera under several names.
    async fn with(names: &[&str], codec: Codec, ports: &[u16], ca: &str) -> Site {
        let camera = TestCamera::start(Options {
            source: Source::Pattern(Picture::default(), codec),
            ..Options::default()
        })
        .unwrap();
        let cloud = Cloud::builder().broker().start().await.unwrap();
        let mut edge = Edge::of(&cloud);
        std::fs::write(
            edge.home.path("ca.pem"),
            format!("{}\n{ca}", cloud.ca_pem()),
        )
        .unwrap();
        let path = edge.home.path("sentrycam.toml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text = text.replace(
            "announce = false\n",
            "announce = false\nallow_private = [\"127.0.0.0/8\", \"::1/128\"]\n",
        );
        for name in names {
            text += &format!(
                "[[camera]]\nid = \"{name}\"\nurl = \"{}\"\n[camera.recording]\nmode = \"off\"\n[camera.motion]\nenabled = false\n",
                camera.url()
            );
        }
        std::fs::write(&path, text).unwrap();
        edge.run(None);
        edge.claim_for(&cloud).await;
        let edge_id = edge.edge_id();
        let stream = json!({ "stream": { "hosts": ["localhost"], "ports": ports } });
        cloud.set_twin(&edge_id, stream).await.unwrap();
        edge.wait("the twin is in force, camera and link are up", |s| {
            s["link"]["state"] == "up"
                && s["twin"]["applied"].as_u64().is_some_and(|v| v > 0)
                && names.iter().all(|name| s["cameras"][name]["state"] == "up")
        });
        Site {
            cloud,
            edge,
            camera,
            edge_id,
        }
    }

    /// Asks for a session, and waits until its command has ended.
    async fn ask(
        &self,
        protocol: &str,
        endpoint: &str,
        key: Option<&str>,
        lease_s: i64,
    ) -> (Uuid, Value) {
        self.ask_of("door", protocol, endpoint, key, lease_s).await
    }

    async fn ask_of(
        &self,
        camera: &str,
        protocol: &str,
        endpoint: &str,
        key: Option<&str>,
        lease_s: i64,
    ) -> (Uuid, Value) {
        let wanted = Wanted {
            camera_id: camera.into(),
            protocol: protocol.into(),
            publish_endpoint: endpoint.into(),
            stream_key: key.map(str::to_owned),
            lease_s,
        };
        let session = self
            .cloud
            .start_stream(&self.edge_id, wanted)
            .await
            .unwrap();
        let id = |v: &Value| v.as_str().unwrap().parse::<Uuid>().unwrap();
        let ended = self
            .cloud
            .wait_command(id(&session["command_id"]), SOON)
            .await;
        (
            id(&session["id"]),
            ended.unwrap_or_else(|e| panic!("{e:?}\n{}", self.edge.log())),
        )
    }

    async fn live(&self, server: &MediaServer, protocol: &str, lease_s: i64) -> Uuid {
        let (session, ended) = self.ask(protocol, &server.endpoint(), None, lease_s).await;
        assert_eq!(ended["status"], "succeeded", "{ended}");
        self.until(session, "live").await;
        session
    }

    async fn row(&self, session: Uuid) -> Value {
        let sql = format!("select * from stream_sessions where id = '{session}'");
        self.cloud.query(&sql).await.unwrap().remove(0)
    }

    /// Waits until the cloud's row has a status.
    async fn until(&self, session: Uuid, status: &str) -> Value {
        let is =
            format!("(select status from stream_sessions where id = '{session}') = '{status}'");
        if let Err(e) = self.cloud.wait_for(&is, SOON).await {
            panic!("{e:?}: {}\n{}", self.row(session).await, self.edge.log());
        }
        self.row(session).await
    }

    /// Sees ten pictures more, in the order in which the camera made them, and not older than a few seconds.
    fn sees(&self, server: &MediaServer) -> Vec<u32> {
        let before = server.counters().len();
        let mut seen = Vec::new();
        wait_until(30, &format!("pictures\n{}", self.edge.log()), || {
            seen = server.counters()[before..].to_vec();
            seen.len() >= 10
        });
        let seen: Vec<u32> = seen
            .into_iter()
            .map(|n| n.expect("a legible counter"))
            .collect();
        assert!(
            seen.windows(2).all(|n| n[1] == n[0] + 1),
            "no picture is missing: {seen:?}"
        );
        let age = self.camera.frame() - seen[seen.len() - 1];
        assert!(age < 15 * 6, "{age} pictures old");
        seen
    }
}

fn server(kind: Ingest) -> MediaServer {
    MediaServer::start(kind, WIDTH, HEIGHT).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_camera_is_watched_by_rtsp_rtmp_and_srt_until_it_is_stopped() {
    let servers = [
        ("rtsp", server(Ingest::Rtsp)),
        ("rtmp", server(Ingest::Rtmp)),
        ("srt", server(Ingest::Srt)),
    ];
    let ports: Vec<u16> = servers.iter().map(|(_, s)| s.port()).collect();
    let site = Site::start(Codec::H264, &ports).await;
    for (protocol, server) in servers {
        let session = site.live(&server, protocol, 120).await;
        site.sees(&server);
        let shown = site.edge.status()["live"][session.to_string()].clone();
        assert_eq!(
            (&shown["camera"], &shown["protocol"], &shown["state"]),
            (&json!("door"), &json!(protocol), &json!("live")),
            "{shown}"
        );
        assert!(
            shown["bytes"].as_u64() > Some(5_000)
                && (1..=120).contains(&shown["ends_in_s"].as_u64().unwrap()),
            "{shown}"
        );
        let other = site.cloud.change_stream(session, None).await;
        other.unwrap();
        let row = site.until(session, "ended").await;
        assert_eq!(row["reason"], "stopped", "{protocol}: {row}");
        assert!(row["bytes"].as_i64().unwrap() > 5_000, "{protocol}: {row}");
        assert_eq!(site.edge.status()["live"], json!({}));
        assert!(
            row["started_at"].is_string() && row["ended_at"].is_string(),
            "{row}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lease_ends_by_itself_unless_it_is_renewed() {
    let server = server(Ingest::Rtsp);
    let site = Site::start(Codec::H264, &[server.port()]).await;
    let session = site.live(&server, "rtsp", 20).await;
    site.cloud.change_stream(session, Some(25)).await.unwrap();
    let renewed = site.row(session).await["expires_at"].clone();
    site.sees(&server);
    let row = site.until(session, "ended").await;
    assert_eq!(row["reason"], "lease", "{row}");
    let moment = |v: &Value| v.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let late = moment(&row["ended_at"]).as_second() - moment(&renewed).as_second();
    // Besides the date's second: a publisher has 3 s to say goodbye.
    assert!((-2..=10).contains(&late), "{late} s after its lease: {row}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_freezes_or_dies_is_tried_again_and_the_camera_never_notices() {
    let first = server(Ingest::Rtmp);
    let port = first.port();
    let site = Site::start(Codec::H264, &[port]).await;
    let session = site.live(&first, "rtmp", 300).await;
    site.sees(&first);
    let pid = rustix::process::Pid::from_raw(first.pid().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    wait_until(40, "the stall is noticed", || {
        site.edge.log().contains("live view is interrupted")
    });
    drop(first);
    let again = MediaServer::start_at(Ingest::Rtmp, port, WIDTH, HEIGHT).unwrap();
    site.sees(&again);
    assert_eq!(site.row(session).await["status"], "live");
    let status = site.edge.wait("the camera delivers as ever", |s| {
        s["cameras"]["door"]["fps"].as_f64() > Some(13.0)
    });
    let door = &status["cameras"]["door"];
    assert_eq!(
        (&door["dropped"], &door["reconnects"]),
        (&json!(0), &json!(0)),
        "{status}"
    );
    site.cloud.change_stream(session, None).await.unwrap();
    assert_eq!(site.until(session, "ended").await["reason"], "stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_not_allowed_or_cannot_be_is_refused_and_the_key_is_nowhere() {
    let site = Site::start(Codec::H265, &[9, 1935, 443]).await;
    for (protocol, endpoint, code) in [
        ("rtmp", "rtmp://elsewhere.example.com/live", "refused"),
        ("rtsp", "rtsp://127.0.0.1:9/live", "refused"),
        ("srt", "srt://localhost:4444", "refused"),
        ("whip", "https://localhost/whip", "unsupported"),
    ] {
        let (session, ended) = site.ask(protocol, endpoint, Some("canary-key"), 60).await;
        assert_eq!(
            (&ended["status"], &ended["code"]),
            (&json!("failed"), &json!(code)),
            "{ended}"
        );
        let row = site.until(session, "failed").await;
        assert_eq!(row["reason"], code, "{row}");
    }
    // FLV has no number for H.265; it takes a look at the camera to know.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = json!({ "stream": { "hosts": ["localhost"], "ports": [port] } });
    site.cloud.set_twin(&site.edge_id, stream).await.unwrap();
    site.edge.wait("the second twin", |s| {
        s["twin"]["applied"].as_u64().is_some_and(|v| v > 1)
    });
    let endpoint = format!("rtmp://localhost:{port}/live");
    let (session, ended) = site.ask("rtmp", &endpoint, Some("canary-key"), 60).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    let row = site.until(session, "failed").await;
    assert_eq!(row["reason"], "unsupported", "{row}");
    assert!(
        !std::fs::read_to_string(site.edge.home.path("err"))
            .unwrap()
            .contains("canary")
    );
    let kept = "select group_concat(args) from commands where type = 'stream.start'";
    assert!(!site.edge.text(kept).unwrap().contains("canary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_device_without_an_owner_publishes_nothing() {
    let server = server(Ingest::Rtsp);
    let site = Site::start(Codec::H264, &[server.port()]).await;
    site.live(&server, "rtsp", 300).await;
    site.sees(&server);
    let args = json!({ "wipe": "credentials" });
    let wanted = sentrycam_cloud::command::Wanted::new("unclaim", args);
    site.cloud
        .send_command(&site.edge_id, wanted)
        .await
        .unwrap();
    site.edge.wait_for("unclaimed");
    wait_until(20, "its end is told", || {
        let log = std::fs::read_to_string(site.edge.home.path("err")).unwrap();
        log.lines()
            .any(|l| l.contains("live view ended") && l.contains("unclaimed"))
    });
    // The line is written when the record is handed over, a moment before its commit.
    let records = "select count(*) || '' from outbox where body ->> '$.type' like '%stream.ended%'";
    wait_until(20, "one record of it is kept", || {
        site.edge.text(records).as_deref() == Some("1")
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rtsps_trusts_the_name_and_a_login_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, cert, key) = issued(dir.path(), "localhost").unwrap();
    let (_, other_cert, other_key) = {
        let other = dir.path().join("other");
        std::fs::create_dir(&other).unwrap();
        issued(&other, "localhost").unwrap()
    };
    let login = || Some(Auth::Digest("me".into(), "canary-p4ss".into()));
    let server = MediaServer::rtsp(0, login(), Some((cert, key))).unwrap();
    let foreign = MediaServer::rtsp(0, None, Some((other_cert, other_key))).unwrap();
    let ports = [server.port(), foreign.port()];
    let ca = std::fs::read_to_string(ca).unwrap();
    let site = Site::trusting(Codec::H264, &ports, &ca).await;
    let secure = |server: &MediaServer| server.endpoint().replace("rtsp:", "rtsps:");
    for (server, key, reason) in [
        (&server, Some("me:canary-wr0ng"), "auth"),
        (&foreign, None, "unreachable"),
    ] {
        let (session, ended) = site.ask("rtsps", &secure(server), key, 120).await;
        assert_eq!(ended["status"], "succeeded", "{ended}");
        let row = site.until(session, "failed").await;
        assert_eq!(row["reason"], reason, "{row}\n{}", site.edge.log());
    }
    let (session, _) = site
        .ask("rtsps", &secure(&server), Some("me:canary-p4ss"), 120)
        .await;
    site.until(session, "live").await;
    site.sees(&server);
    assert!(
        !std::fs::read_to_string(site.edge.home.path("err"))
            .unwrap()
            .contains("canary")
    );
}

/// Threads, open files and resident memory (KiB) of a process.
fn held(pid: u32) -> [u64; 3] {
    let count = |what: &str| {
        std::fs::read_dir(format!("/proc/{pid}/{what}"))
            .unwrap()
            .count() as u64
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .unwrap();
    let rss = rss.trim().trim_end_matches(" kB").parse().unwrap();
    [count("task"), count("fd"), rss]
}

/// One session of one camera, from the question to its end.
async fn one_session(site: &Site, camera: &str, server: &MediaServer) {
    let (session, ended) = site
        .ask_of(camera, "rtsp", &server.endpoint(), None, 60)
        .await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    site.until(session, "live").await;
    site.cloud.change_stream(session, None).await.unwrap();
    site.until(session, "ended").await;
}

/// `make live-sessions` asks for many. As many at once as a device may have.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_sessions_leave_nothing_behind() {
    let sessions: usize = std::env::var("LIVE_SESSIONS").map_or(8, |n| n.parse().unwrap());
    let servers = [(); 4].map(|()| server(Ingest::Rtsp));
    let ports = servers.each_ref().map(MediaServer::port);
    let names = ["door", "yard", "gate", "shed"];
    let site = Site::with(&names, Codec::H264, &ports, "").await;
    let one = |n: usize| one_session(&site, names[n], &servers[n]);
    let (mut first, mut done, mut shown) = ([0; 3], 0, 0);
    // A first round loads what every later one uses.
    for round in 0..=sessions.div_ceil(4) {
        tokio::join!(one(0), one(1), one(2), one(3));
        if round == 0 {
            first = held(site.edge.pid());
            println!("0 sessions: {first:?}");
            continue;
        }
        done += 4;
        if done - shown >= 100 {
            shown = done;
            println!("{done} sessions: {:?}", held(site.edge.pid()));
        }
    }
    let mut last = [0; 3];
    wait_until(20, &format!("{first:?} again"), || {
        last = held(site.edge.pid());
        last[0] <= first[0] + 2 && last[1] <= first[1] + 2
    });
    println!("{done} sessions: threads, descriptors, KiB before {first:?}, after {last:?}");
    assert!(last[2] < first[2] + 16 * 1024, "{first:?} {last:?}");
}
