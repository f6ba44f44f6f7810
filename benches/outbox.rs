//! What the outbox costs on a real file with an fsync a commit: one record a commit, records of many tasks that share
//! commits, and taking and settling a batch of 256 while 100,000 rows wait.
//!
//! `cargo bench --bench outbox` prints a table and writes `target/bench/outbox.json`. The file lies in `target`, so the
//! figures are those of that disk.

mod figures;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use criterion::Criterion;
use sentrycam::board::clock::Clock;
use sentrycam::db::open::{Closer, Options, open};
use sentrycam::db::{Connection, Db, DbError, IdSource, Run, Urgency, WriterStats, batch, outbox};
use sentrycam::model::{BootId, Class, RecordId, Severity};
use sentrycam::outbox::quota::Quotas;
use sentrycam::time::{Mono, TimeQuality, Wall};
use sentrycam::wire::answer::{RecordVerdict, Results};
use sentrycam::wire::envelope::{BootClock, Record};
use serde_json::json;
use tokio::runtime::Runtime;
use uuid::Uuid;

const GROUP: &str = "outbox";
/// Tasks that put at the same time.
const TASKS: u64 = 64;
/// Rows that wait while batches are taken.
const BACKLOG: usize = 100_000;
const BATCH: usize = 256;

/// A store in a directory of its own.
struct Store {
    db: Db,
    closer: Closer,
    _directory: tempfile::TempDir,
}

impl Store {
    fn open(runtime: &Runtime) -> Store {
        let within = figures::target().join("bench");
        std::fs::create_dir_all(&within).expect("the target directory can be written");
        let directory = tempfile::tempdir_in(within).expect("the target directory can be written");
        let next = AtomicU64::new(1);
        let ids: IdSource =
            Arc::new(move || Uuid::from_u128(u128::from(next.fetch_add(1, Relaxed))));
        let options = Options {
            dir: directory.path().to_owned(),
            boot: BootId(Uuid::from_u128(1)),
            clock: BootClock {
                offset_us: 0,
                quality: TimeQuality::Floor,
            },
            now: Wall(1_795_226_400_000_000),
            quotas: Quotas::default(),
            ids,
        };
        let (db, closer, _) = open(options, runtime.handle().clone()).expect("the store opens");
        Store {
            db,
            closer,
            _directory: directory,
        }
    }

    fn stats(&self) -> WriterStats {
        *self.db.stats().borrow()
    }

    fn close(self) {
        drop(self.db);
        self.closer.close().expect("the store closes");
    }
}

fn record(run: &Run) -> Record {
    let id = (run.ids)();
    Record {
        id: RecordId(id),
        kind: "motion.updated",
        class: Class::Alarm,
        subject: Some("cam-1".into()),
        severity: Severity::Warning,
        at: Mono(1),
        data: json!({ "event_id": id, "camera_id": "cam-1", "score": 0.5, "peak_score": 0.6,
                      "regions": [{"x": 0.1, "y": 0.1, "w": 0.2, "h": 0.2}], "zones": ["drive"], "rev": 2 }),
    }
}

fn put(conn: &Connection, run: &Run) -> Result<(), DbError> {
    outbox::put(conn, run, &record(run))
}

/// Commits a put, over all of a benchmark's iterations.
#[derive(Debug, Default, Clone, Copy)]
struct Commits {
    commits: u64,
    jobs: u64,
}

fn counted(store: &Store, total: &mut Commits, work: impl FnOnce()) -> Duration {
    let (before, began) = (store.stats(), Clock::default().mono());
    work();
    let (took, after) = (Clock::default().mono().since(began), store.stats());
    total.commits += after.commits - before.commits;
    total.jobs += after.jobs - before.jobs;
    took
}

/// One record, one commit, one fsync.
fn single(criterion: &mut Criterion, runtime: &Runtime) -> Commits {
    let (store, mut total) = (Store::open(runtime), Commits::default());
    criterion
        .benchmark_group(GROUP)
        .bench_function("put_single", |b| {
            b.iter_custom(|n| {
                counted(&store, &mut total, || {
                    runtime.block_on(async {
                        for _ in 0..n {
                            store.db.call(Urgency::Now, put).await.expect("it is put");
                        }
                    });
                })
            });
        });
    store.close();
    total
}

/// [`TASKS`] tasks put at once; whoever waits shares the next commit. Time is a record's.
fn grouped(criterion: &mut Criterion, runtime: &Runtime) -> Commits {
    let (store, mut total) = (Store::open(runtime), Commits::default());
    criterion
        .benchmark_group(GROUP)
        .bench_function("put_grouped", |b| {
            b.iter_custom(|n| {
                counted(&store, &mut total, || {
                    runtime.block_on(async {
                        let mut tasks = tokio::task::JoinSet::new();
                        for task in 0..TASKS {
                            let (db, share) = (store.db.clone(), (n + TASKS - 1 - task) / TASKS);
                            tasks.spawn(async move {
                                for _ in 0..share {
                                    db.call(Urgency::Now, put).await.expect("it is put");
                                }
                            });
                        }
                        tasks.join_all().await;
                    });
                })
            });
        });
    store.close();
    total
}

/// What the uploader does with the store for each batch; each batch that goes is replaced.
fn take_and_settle(criterion: &mut Criterion, runtime: &Runtime) {
    let store = Store::open(runtime);
    let fill = |n: usize| {
        let work = move |c: &Connection, run: &Run| (0..n).try_for_each(|_| put(c, run));
        runtime
            .block_on(store.db.call(Urgency::Now, work))
            .expect("it is filled");
    };
    (0..BACKLOG / 1000).for_each(|_| fill(1000));
    criterion
        .benchmark_group(GROUP)
        .bench_function("take_and_settle", |b| {
            b.iter_custom(|n| {
                let mut took = Duration::ZERO;
                for _ in 0..n {
                    let began = Clock::default().mono();
                    runtime.block_on(async {
                        let taken = store
                            .db
                            .call(Urgency::Now, |c, run| batch::take(c, BATCH, (run.ids)()));
                        let taken = taken.await.expect("the store answers").expect("rows wait");
                        let results = Results {
                            records: taken
                                .rows
                                .iter()
                                .map(|r| (r.id, RecordVerdict::Settled))
                                .collect(),
                            commands_pending: 0,
                            twin_version: None,
                        };
                        let settle = move |c: &Connection, run: &Run| {
                            batch::settle(c, run, taken.key, &results, Mono(9))
                        };
                        store
                            .db
                            .call(Urgency::Now, settle)
                            .await
                            .expect("it is settled");
                    });
                    took += Clock::default().mono().since(began);
                    fill(BATCH);
                }
                took
            });
        });
    store.close();
}

fn main() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut criterion = figures::criterion();
    let alone = single(&mut criterion, &runtime);
    let shared = grouped(&mut criterion, &runtime);
    take_and_settle(&mut criterion, &runtime);
    criterion.final_summary();

    let mean = |name| figures::mean_ns(GROUP, name);
    let (Some(one), Some(many), Some(settle)) = (
        mean("put_single"),
        mean("put_grouped"),
        mean("take_and_settle"),
    ) else {
        return Ok(());
    };
    let per_commit = |c: Commits| c.jobs as f64 / c.commits.max(1) as f64;
    println!("put         records/s   µs a record   records a commit (fsync)");
    for (name, ns, commits) in [("single", one, alone), ("grouped", many, shared)] {
        println!(
            "{name:<9} {:>11.0} {:>13.1} {:>18.1}",
            1e9 / ns,
            ns / 1e3,
            per_commit(commits)
        );
    }
    println!(
        "take and settle a batch of {BATCH}, {BACKLOG} waiting: {:.2} ms, {:.0} records/s",
        settle / 1e6,
        BATCH as f64 * 1e9 / settle
    );
    let figures = json!({
        "put_single_per_s": 1e9 / one, "put_grouped_per_s": 1e9 / many,
        "records_per_commit_single": per_commit(alone), "records_per_commit_grouped": per_commit(shared),
        "batch": BATCH, "backlog": BACKLOG, "take_and_settle_ms": settle / 1e6,
    });
    figures::write("outbox", &figures)
}
