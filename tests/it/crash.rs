//! kill -9 of the real agent at random moments while it records RTSP cameras and syncs to the reference cloud; at the
//! end the two databases are compared row by row and every clip is played.
//!
//! `ROUNDS=100 SEED=7` repeats. The last line is `rounds N lost L doubled D unplayable U`.

use std::time::Duration;

use sentrycam::board::clock::Clock;
use sentrycam::db::Connection;
use sentrycam_cloud::faults::{Rule, What};
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{Scene, TestCamera};
use uuid::Uuid;

use crate::agent::{serve, small};
use crate::dice::Dice;
use crate::fixture::wait_until;
use crate::process::{Agent, Home, last_words};
use crate::verdict::{self, Clip, Seen, Verdict, clips, play};

struct Site {
    cloud: Cloud,
    home: Home,
    cameras: Vec<TestCamera>,
    seen: Seen,
}

impl Site {
    async fn new() -> Site {
        let cloud = Cloud::start().await.unwrap();
        let home = Home::new();
        cloud
            .write_credentials("box", &home.path("edge.json"))
            .await
            .unwrap();
        std::fs::write(home.path("ca.pem"), cloud.ca_pem()).unwrap();
        let scenes = [
            Scene {
                quiet: 2,
                motion: 2,
            },
            Scene {
                quiet: 3,
                motion: 1,
            },
        ];
        let cameras: Vec<_> = scenes.into_iter().map(camera).collect();
        let mut config = String::new();
        for (n, camera) in cameras.iter().enumerate() {
            config.push_str(&format!(
                "[[camera]]\nid = \"cam-{n}\"\nurl = \"{}\"\n[camera.recording]\npre_roll = \"1 s\"\n\
                 post_roll = \"1 s\"\nmax_event = \"10 s\"\n[camera.motion]\nfps = 5\n",
                camera.url()
            ));
        }
        // The first one once more, in segments of five seconds: a clip is always being written.
        config.push_str(&format!(
            "[[camera]]\nid = \"all-day\"\nurl = \"{}\"\n[camera.recording]\nmode = \"continuous\"\n\
             segment = \"5 s\"\n[camera.motion]\nenabled = false\n",
            cameras[0].url()
        ));
        home.configure(&config);
        Site {
            cloud,
            home,
            cameras,
            seen: Seen::default(),
        }
    }

    /// Notes what the dead process had committed.
    fn look(&mut self) {
        let (_aside, conn) = self.home.copy();
        self.seen.look(&conn);
    }

    /// Waits for a number of the device's database.
    fn wait_for(&self, agent: &mut Agent, what: &str, sql: &str) {
        let until = Clock::default().mono() + Duration::from_secs(180);
        wait_until(270, what, || {
            let late = Clock::default().mono() > until;
            assert!(!late, "not {what}:\n{}", last_words(&self.home.path("err")));
            assert!(
                agent.runs(),
                "the agent ended:\n{}",
                last_words(&self.home.path("err"))
            );
            self.home.number(sql) == Some(1)
        });
    }

    /// One life of the agent, ended by SIGKILL after `life`.
    async fn round(&mut self, life: Duration) {
        let agent = Agent::start(&self.home, "info");
        tokio::time::sleep(life).await;
        agent.kill();
        self.look();
    }

    /// Lets the agent finish: at least one event, then no more cameras, then nothing waits.
    fn finish(&mut self) {
        let mut agent = Agent::start(&self.home, "info");
        let done = "select count(*) > 0 from events e join recordings r on r.event_id = e.id
            where e.end_reason <> 'crash' and r.state = 'kept'";
        self.wait_for(&mut agent, "an event has ended and its clip is kept", done);
        self.cameras.clear();
        let drained = "select not exists (select 1 from outbox where class < 3)
            and not exists (select 1 from recordings where state = 'recording')
            and not exists (select 1 from events where state = 'active')";
        self.wait_for(&mut agent, "everything is closed and sent", drained);
        let status = agent.stop();
        assert!(
            status.success(),
            "{status}\n{}",
            last_words(&self.home.path("err"))
        );
        self.look();
    }

    async fn compare(&self) -> Verdict {
        verdict::compare(&self.cloud, &self.home, &self.seen).await
    }
}

fn camera(scene: Scene) -> TestCamera {
    serve(small(scene))
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_random_moments_loses_doubles_and_breaks_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let rounds = number("ROUNDS").unwrap_or(3);
    let seed = number("SEED").unwrap_or_else(|| Uuid::now_v7().as_u128() as u64);
    println!("SEED={seed}");
    let mut dice = Dice(seed);
    let mut site = Site::new().await;
    let faults = [
        (What::Delay { seconds: 0.3 }, 0.2),
        (What::CutAfterCommit, 0.1),
        (What::CutBefore, 0.05),
        (What::fail(503), 0.05),
    ];
    let rules = faults.map(|(what, p)| Rule::sometimes("/edge", what, p, dice.next()));
    site.cloud.faults().set(rules.into());
    for round in 1..=rounds {
        // One in four dies while it starts, or repairs what the last one left.
        let life = if dice.percent(25) {
            50 + dice.below(1500)
        } else {
            2000 + dice.below(5000)
        };
        site.round(Duration::from_millis(life)).await;
        if round % 10 == 0 {
            println!("{round} rounds, {} events seen", site.seen.events.len());
        }
    }
    site.cloud.faults().clear();
    site.finish();
    let verdict = site.compare().await;
    for note in &verdict.notes {
        println!("{note}");
    }
    println!("{}", verdict.figures);
    println!("rounds {rounds} {verdict}");
    let clean = (verdict.lost, verdict.doubled, verdict.unplayable) == (0, 0, 0);
    assert!(clean, "{}", last_words(&site.home.path("err")));
}

/// The harness sees a loss, a double and an unplayable clip where there is one.
#[tokio::test(flavor = "multi_thread")]
async fn the_comparison_sees_what_was_doctored() {
    let mut site = Site::new().await;
    // Nothing can be sent, so that everything waits in the outbox.
    site.cloud.stop().await.unwrap();
    let mut agent = Agent::start(&site.home, "info");
    let done = "select count(*) > 0 from recordings where state = 'kept' and mode = 'motion'";
    site.wait_for(&mut agent, "a clip of an event is kept", done);
    agent.kill();
    site.look();
    let doctor = |sql: &str| {
        let conn = Connection::open(site.home.path(sentrycam::db::FILE_NAME)).unwrap();
        assert_eq!(conn.execute(sql, []).unwrap(), 1, "{sql}");
    };
    doctor(
        "delete from outbox where seq = (select min(seq) from outbox where body like '%motion.started%')",
    );
    site.cloud.start_again().await.unwrap();
    site.finish();
    let verdict = site.compare().await;
    assert_eq!(
        (verdict.lost, verdict.doubled, verdict.unplayable),
        (1, 0, 0),
        "{:?}",
        verdict.notes
    );

    // A copy of a record under another id: what a device without stable ids would send.
    let copy = "insert into edge_records select device_id, organization_id, gen_random_uuid(), type, subject, time,
            timequality, epoch, sequence + 1000000, boot_id, severity, record, received_at
        from edge_records where type like '%motion.ended%' limit 1";
    site.cloud.execute(copy).await.unwrap();
    let verdict = site.compare().await;
    assert_eq!(
        (verdict.lost, verdict.doubled, verdict.unplayable),
        (1, 1, 0),
        "{:?}",
        verdict.notes
    );

    // A clip with a hole whose digest is right, one that is gone.
    let (_aside, conn) = site.home.copy();
    let kept: Vec<_> = clips(&conn)
        .into_values()
        .filter(|clip| clip.state == "kept")
        .collect();
    let victim = verdict::file(&site.home, &kept[0]);
    let mut bytes = std::fs::read(&victim).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 2000].fill(0xff);
    std::fs::write(&victim, &bytes).unwrap();
    let (sha256, _) = sentrycam::model::Sha256::of_reader(&bytes[..]).unwrap();
    let holed = Clip {
        state: "kept".into(),
        truncated: false,
        sha256: Some(sha256.to_string()),
        path: kept[0].path.clone(),
    };
    let why = play(&victim, &holed).unwrap_err();
    assert!(
        why.contains("complaints"),
        "ffprobe sees the hole, not the digest alone: {why}"
    );
    assert_eq!(site.compare().await.unplayable, 1);
    std::fs::remove_file(&victim).unwrap();
    let verdict = site.compare().await;
    assert_eq!(
        (verdict.lost, verdict.doubled, verdict.unplayable),
        (1, 1, 1),
        "{:?}",
        verdict.notes
    );

    // A record that the cloud forgot.
    site.cloud
        .execute("delete from events where id = (select id from events limit 1)")
        .await
        .unwrap();
    assert_eq!(site.compare().await.lost, 2);
}
