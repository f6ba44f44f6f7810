//! Live view, whole: the cloud asks, the real agent publishes to real servers, the picture is proved by its counter and
//! the session's row by what happened.

use std::time::Duration;

use sentrycam_cloud::stream::Wanted;
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{Codec, Ingest, MediaServer, Options, Picture, Source, TestCamera};
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
        let camera = TestCamera::start(Options {
            source: Source::Pattern(Picture::default(), codec),
            ..Options::default()
        })
        .unwrap();
        let cloud = Cloud::start().await.unwrap();
        let mut edge = Edge::of(&cloud);
        let path = edge.home.path("sentrycam.toml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text = text.replace(
            "announce = false\n",
            "announce = false\nallow_private = [\"127.0.0.0/8\", \"::1/128\"]\n",
        );
        text += &format!(
            "[[camera]]\nid = \"door\"\nurl = \"{}\"\n[camera.recording]\nmode = \"off\"\n[camera.motion]\nenabled = false\n",
            camera.url()
        );
        std::fs::write(&path, text).unwrap();
        edge.run(None);
        edge.claim_for(&cloud).await;
        let edge_id = edge.edge_id();
        let stream = json!({ "stream": { "hosts": ["localhost"], "ports": ports } });
        cloud.set_twin(&edge_id, stream).await.unwrap();
        edge.wait("the twin is in force, the camera up", |s| {
            s["twin"]["applied"].as_u64().is_some_and(|v| v > 0)
                && s["cameras"]["door"]["state"] == "up"
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
        let wanted = Wanted {
            camera_id: "door".into(),
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
    let port = MediaServer::free_port(kind).unwrap();
    MediaServer::start(kind, port, WIDTH, HEIGHT).unwrap()
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
    for (protocol, mut server) in servers {
        let session = site.live(&server, protocol, 120).await;
        site.sees(&server);
        site.cloud.change_stream(session, None).await.unwrap();
        let row = site.until(session, "ended").await;
        assert_eq!(row["reason"], "stopped", "{protocol}: {row}");
        assert!(row["bytes"].as_i64().unwrap() > 5_000, "{protocol}: {row}");
        assert!(
            row["started_at"].is_string() && row["ended_at"].is_string(),
            "{row}"
        );
        wait_until(20, "the server hears of the end", || server.is_over());
    }
}
