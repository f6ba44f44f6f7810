//! A seeded simulation of outbox, clocks and network: the agent's real store and uploader, a model of a cloud, kills,
//! reboots into 1970, quotas of a few kilobytes. After every step: each record ever committed is in the outbox, in the
//! cloud, in the dead letters, or counted by a `sync.gap`; and each is in the cloud once.
//!
//! `SEEDS=n` runs more, `SEED=s` runs one again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sentrycam::agent::uploader::Pass;
use sentrycam::db::{Connection, dead_letter, schema};
use sentrycam::model::{BootId, Class};
use sentrycam::outbox::quota::Quotas;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::device::{Device, End};
use crate::dice::Dice;
use crate::model::Model;

const STEPS: usize = 200;
const SEEDS: u64 = 60;

/// What was committed locally.
struct Put {
    class: Class,
    seq: u64,
}

struct Run {
    dice: Dice,
    model: Model,
    device: Device<Model>,
    reader: Connection,
    ever: BTreeMap<Uuid, Put>,
    trail: Vec<String>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let model = Model::default();
        {
            let mut cloud = model.cloud();
            cloud.trouble = 40;
            cloud.dice = Some(Dice(!seed));
        }
        // In memory: the simulation kills processes, not the power.
        let home = tempfile::tempdir_in("/dev/shm").unwrap();
        let quotas = Quotas([2 << 10, 4 << 10, 3 << 10, 1 << 10]);
        let mut device = Device::over(home, model.clone(), quotas);
        device.start();
        let reader = schema::open_reader(&device.db_path()).unwrap();
        Run {
            dice: Dice(seed),
            model,
            device,
            reader,
            ever: BTreeMap::new(),
            trail: Vec::new(),
        }
    }

    async fn step(&mut self) {
        let what = self.dice.below(100);
        let done = match what {
            0..=44 => self.put().await,
            45..=84 => self.pass().await,
            85..=89 => {
                let seconds = self.dice.below(4000);
                self.device
                    .clock
                    .rehearse_passing(Duration::from_secs(seconds));
                // Time passes for the cloud too, mostly.
                self.model.cloud().skew_s += seconds as i64;
                format!("{seconds} s pass")
            }
            90..=91 => {
                let step = self.dice.below(8_000_000) as i64 - 4_000_000;
                self.device.clock.rehearse_step(step * 1_000_000);
                format!("the device's clock steps by {step} s")
            }
            92 => {
                let step = self.dice.below(8_000) as i64 - 4_000;
                self.model.cloud().skew_s += step;
                format!("the cloud's clock steps by {step} s")
            }
            93..=94 => {
                let revive = self.device.db().call(sentrycam::db::Urgency::Now, |c, _| {
                    dead_letter::revive(c, None)
                });
                let revived = revive.await.unwrap();
                self.number_again();
                format!("{revived} revived")
            }
            95..=97 => self.restart(false).await,
            _ => self.restart(true).await,
        };
        self.trail.push(done);
    }

    /// Revived records have new sequence numbers.
    fn number_again(&mut self) {
        let mut stmt = self.reader.prepare("select id, seq from outbox").unwrap();
        let rows = stmt.query_map([], |r| Ok((r.get::<_, Uuid>(0)?, r.get::<_, i64>(1)?)));
        for (id, seq) in rows.unwrap().flatten() {
            if let Some(put) = self.ever.get_mut(&id) {
                put.seq = seq as u64;
            }
        }
    }

    async fn put(&mut self) -> String {
        let n = 1 + self.dice.below(4);
        for _ in 0..n {
            let (class, kind) = match self.dice.below(10) {
                0 => (Class::Critical, "audit.entry"),
                1..=6 => (Class::Alarm, "motion.started"),
                7..=8 => (Class::Metadata, "recording.opened"),
                _ => (Class::Metric, "agent.heartbeat"),
            };
            let fill = "x".repeat(self.dice.below(400) as usize);
            let id = self
                .device
                .put(class, kind, json!({ "fill": fill }))
                .await
                .0;
            let seq = "select seq from outbox where id = ?1";
            // A record that is larger than the whole class is evicted by the next one, never by itself.
            let seq: i64 = self.reader.query_row(seq, [id], |r| r.get(0)).unwrap();
            let put = Put {
                class,
                seq: seq as u64,
            };
            self.ever.insert(id, put);
            match self.dice.below(200) {
                0..=2 => drop(self.model.cloud().refuses.insert(id)),
                3..=5 => drop(self.model.cloud().chokes_on.insert(id)),
                _ => {}
            }
        }
        format!("{n} put")
    }

    async fn pass(&mut self) -> String {
        let model = self.model.clone();
        let killed = async move {
            while !model.cloud().killed {
                tokio::task::yield_now().await;
            }
        };
        let pass = tokio::select! {
            biased;
            pass = self.device.pass() => Some(pass),
            () = killed => None,
        };
        match pass {
            Some(pass) => format!("{pass:?}, {:?}", self.device.status().last_error),
            None => {
                self.model.cloud().killed = false;
                self.restart(false).await
            }
        }
    }

    async fn restart(&mut self, reboot: bool) -> String {
        let how = if self.dice.percent(30) {
            End::InOrder
        } else {
            End::Killed
        };
        self.device.end(how).await;
        if reboot {
            self.device.boot = BootId(Uuid::now_v7());
            if self.dice.percent(50) {
                let now = self.device.clock.system_wall();
                self.device.clock.rehearse_step(-now.0);
            }
        }
        self.device.start();
        format!("{how:?}, started again, reboot: {reboot}")
    }

    fn rows(&self, sql: &str) -> Vec<(Uuid, Value)> {
        let mut stmt = self.reader.prepare_cached(sql).unwrap();
        let rows = stmt
            .query_map([], |r| {
                let body: String = r.get(1)?;
                Ok((r.get(0)?, serde_json::from_str(&body).unwrap_or_default()))
            })
            .unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// The two sentences.
    fn check(&self) -> Result<(), String> {
        let outbox = self.rows("select id, body from outbox");
        let dead = self.rows("select id, body from dead_letter");
        let cloud = self.model.cloud();
        let local = outbox.iter().chain(&dead);
        let places: BTreeSet<Uuid> = local.clone().map(|(id, _)| *id).collect();
        // A gap counts once, as the cloud has it; what the cloud has not, counts as it stands here.
        let mut gaps: BTreeMap<Uuid, &Value> = local
            .filter(|(_, body)| body["type"] == "io.sentrycam.sync.gap.v1")
            .map(|(id, body)| (*id, &body["data"]))
            .collect();
        for (id, record) in &cloud.records {
            if record["type"] == "io.sentrycam.sync.gap.v1" {
                gaps.insert(*id, &record["data"]);
            }
        }
        let mut missing = [0u64; 4];
        for (id, put) in &self.ever {
            if put.class == Class::Metric || places.contains(id) || cloud.records.contains_key(id) {
                continue;
            }
            missing[put.class.index()] += 1;
            let named = gaps.values().any(|gap| {
                gap["class"] == put.class.name()
                    && gap["from_seq"].as_u64() <= Some(put.seq)
                    && Some(put.seq) <= gap["to_seq"].as_u64()
            });
            if !named {
                return Err(format!(
                    "{id} of {:?} seq {} is nowhere",
                    put.class, put.seq
                ));
            }
        }
        for class in [Class::Critical, Class::Alarm, Class::Metadata] {
            let counted: u64 = gaps
                .values()
                .filter(|gap| gap["class"] == class.name())
                .filter_map(|gap| gap["count"].as_u64())
                .sum();
            // Rows that the cloud has already may be evicted before its answer came: they are counted, not missing.
            if missing[class.index()] > counted {
                return Err(format!(
                    "{class:?}: {} missing, {counted} named",
                    missing[class.index()]
                ));
            }
        }
        let places: BTreeSet<(&str, &str)> = cloud
            .records
            .values()
            .map(|r| {
                (
                    r["epoch"].as_str().unwrap(),
                    r["sequence"].as_str().unwrap(),
                )
            })
            .collect();
        if places.len() != cloud.records.len() {
            return Err("two records of the cloud are one record of the device".into());
        }
        Ok(())
    }
}

async fn simulate(seed: u64, steps: usize) {
    let mut run = Run::new(seed);
    for n in 0..steps {
        run.step().await;
        if let Err(problem) = run.check() {
            let trail = run.trail[run.trail.len().saturating_sub(20)..].join("\n  ");
            panic!("SEED={seed} step {n}: {problem}; the last steps:\n  {trail}");
        }
    }
    // Then the network heals, and everything that can arrive does.
    run.model.cloud().trouble = 0;
    let mut passes = 0;
    while run.device.pass().await != Pass::Idle {
        passes += 1;
        assert!(
            passes < 200,
            "SEED={seed} does not drain: {:?}",
            run.device.status()
        );
    }
    run.check()
        .unwrap_or_else(|problem| panic!("SEED={seed} at the end: {problem}"));
    let dead: BTreeSet<Uuid> = run.device.dead().iter().map(|id| id.0).collect();
    let cloud = run.model.cloud();
    let poison: BTreeSet<Uuid> = cloud.refuses.union(&cloud.chokes_on).copied().collect();
    assert!(
        dead.is_subset(&poison),
        "SEED={seed}: innocent dead letters"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_is_lost_or_doubled_whatever_network_clocks_and_kills_do() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    if let Some(seed) = number("SEED") {
        return simulate(seed, STEPS).await;
    }
    let (first, seeds) = (
        number("FIRST").unwrap_or(0),
        number("SEEDS").unwrap_or(SEEDS),
    );
    let workers = 4;
    let mut running = tokio::task::JoinSet::new();
    for worker in 0..workers {
        running.spawn(async move {
            for seed in (first + worker..first + seeds).step_by(workers as usize) {
                simulate(seed, STEPS).await;
            }
        });
    }
    while let Some(result) = running.join_next().await {
        if let Err(e) = result {
            std::panic::resume_unwind(e.into_panic());
        }
    }
}

/// Records that make the cloud refuse the whole batch are found by halving, and nothing else dies with them.
#[tokio::test(flavor = "multi_thread")]
async fn poisoned_records_are_isolated_by_bisection() {
    for at in [&[0][..], &[100], &[255], &[3, 4, 200], &[0, 127, 128, 255]] {
        let model = Model::default();
        let home = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut device = Device::over(home, model.clone(), Quotas::default());
        device.start();
        let ids = device.notes(256).await;
        let poison: Vec<_> = at.iter().map(|i| ids[*i]).collect();
        model.cloud().chokes_on = poison.iter().map(|id| id.0).collect();
        let passes = device.drain(200).await;
        assert_eq!(device.dead(), poison);
        assert_eq!(model.cloud().records.len(), 256 - poison.len());
        assert_eq!(device.outbox(), []);
        println!("{} poisoned of 256: {passes} passes", poison.len());
        assert!(passes <= 4 + 24 * poison.len(), "{passes}");
    }
}

/// A cloud that chokes on everything gets a record at a time, ever more slowly, until it is well again.
#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_refuses_everything_does_not_empty_the_outbox() {
    let model = Model::default();
    let home = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut device = Device::over(home, model.clone(), Quotas::default());
    device.start();
    let ids = device.notes(256).await;
    model.cloud().chokes_on = ids.iter().map(|id| id.0).collect();
    let start = device.clock.mono();
    while device.clock.mono().since(start) < Duration::from_secs(3600) {
        if let Pass::Wait(until) = device.pass().await {
            let pause = until.since(device.clock.mono());
            device.clock.rehearse_passing(pause);
            model.cloud().skew_s += pause.as_secs() as i64;
        }
    }
    let dead = device.dead().len();
    assert!((4..60).contains(&dead), "{dead} in an hour");
    model.cloud().chokes_on.clear();
    device.drain(60).await;
    assert_eq!(model.cloud().records.len(), 256 - dead);
}

/// Dead letters are bounded; those that fall off the end are named.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_beyond_the_bound_are_named_in_a_gap() {
    let model = Model::default();
    let home = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut device = Device::over(home, model.clone(), Quotas::default());
    device.start();
    let ids = device.notes(1030).await;
    model.cloud().refuses = ids.iter().map(|id| id.0).collect();
    device.drain(40).await;
    assert_eq!(device.dead(), ids[30..]);
    let cloud = model.cloud();
    let counts = cloud
        .records
        .values()
        .filter_map(|r| r["data"]["count"].as_u64());
    assert_eq!(counts.sum::<u64>(), 30);
}
