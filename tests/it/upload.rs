//! Uploads against the reference cloud and a real S3 server: through cuts and every fault of a storage each object equals its
//! file, and nothing is sent again but the part that was cut.

use std::collections::BTreeMap;
use std::time::Duration;

use sentrycam::agent::media_upload::Settings;
use sentrycam::board::clock::Clock;
use sentrycam::config::Config;
use sentrycam::db::{Urgency, uploads};
use sentrycam::model::RecordMode;
use sentrycam::twin::Effective;
use sentrycam_cloud::faults::Rule;
use sentrycam_cloud::faults::storage::{Seen, What};

use crate::dice::Dice;
use crate::upload_site::Site;

const MIB: u64 = 1 << 20;
const PART: u64 = 5 * MIB;
const SOON: Duration = Duration::from_secs(90);

/// As many cuts as the environment asks for.
fn cuts() -> u64 {
    let asked = std::env::var("UPLOAD_CUTS")
        .ok()
        .and_then(|n| n.parse().ok());
    asked.unwrap_or(10)
}

fn puts(site: &Site) -> Vec<Seen> {
    let seen = site.cloud.objects().unwrap().faults().seen();
    // The cloud makes its bucket by PUT too.
    let of_object = |s: &Seen| s.method == "PUT" && s.path.trim_matches('/').contains('/');
    seen.into_iter().filter(of_object).collect()
}

/// The offset of a cut may lie behind the end of the body: then it was taken.
fn was_cut(put: &Seen) -> bool {
    put.fault.is_some() && put.status != Some(200)
}

/// Each range was taken once; what came on top are the cut ones, at most one part each.
fn assert_nothing_twice(puts: &[Seen], size: u64) {
    let mut taken: BTreeMap<(String, Option<u16>), u32> = BTreeMap::new();
    let mut whole = 0;
    for put in puts {
        if !was_cut(put) {
            assert_eq!(put.status, Some(200), "{put:?}");
            *taken.entry((put.path.clone(), put.part)).or_default() += 1;
            whole += put.body_bytes;
        } else {
            assert!(put.body_bytes <= 8 * MIB, "{put:?}");
        }
    }
    assert!(taken.values().all(|n| *n == 1), "{taken:?}");
    assert_eq!(whole, size);
}

/// `make upload-cuts` asks for at least 200.
#[tokio::test(flavor = "multi_thread")]
async fn cut_at_random_offsets_every_object_equals_its_file_and_nothing_is_sent_twice() {
    let mut dice = Dice(41);
    let mut site = Site::new("max_kbps = \"off\"").await;
    let (mut left, mut round) = (cuts(), 0);
    while left > 0 {
        let n = left.min(5);
        (left, round) = (left - n, round + 1);
        let size = if round % 3 == 2 {
            1 + dice.below(8 * MIB - 1)
        } else {
            8 * MIB + dice.below(16 * MIB)
        };
        let faults = site.cloud.objects().unwrap().faults();
        faults.forget();
        let part = size.min(PART);
        let rules = (0..n).map(|_| {
            let after = dice.below(2);
            let rule = Rule::times(
                "PUT /",
                What::CutAt {
                    bytes: 1 + dice.below(part),
                },
                1,
            );
            Rule { after, ..rule }
        });
        faults.set(rules.collect());
        let clip = site.clip(size, RecordMode::Motion).await;
        site.start();
        site.wait_for(&clip, SOON).await;
        site.stop().await;
        let puts = puts(&site);
        assert_nothing_twice(&puts, size);
        let cut = puts.iter().filter(|p| was_cut(p)).count() as u64;
        // A rule whose turn had not come by the end cut nothing.
        left += n - cut.min(n);
        assert!(cut > 0 || size < 8 * MIB, "nothing was cut");
        println!("round {round}: {size} bytes, {cut} cuts, {left} left");
    }
}

/// Every fault of the storage, once each, on a plain PUT and on parts.
#[tokio::test(flavor = "multi_thread")]
async fn no_fault_of_a_storage_keeps_a_file_from_it_or_changes_it() {
    let mut site = Site::new("max_kbps = \"off\"").await;
    for what in [
        What::Expired,
        What::Fail { status: 500 },
        What::Fail { status: 503 },
        What::Fail { status: 404 },
        What::Fail { status: 307 },
        What::CutAnswer,
        What::Forget,
        What::Corrupt,
        What::BlackHole { seconds: 30.0 },
        What::Slow { rate: 4 * MIB },
    ] {
        for size in [300_000, 11 * MIB] {
            let faults = site.cloud.objects().unwrap().faults();
            faults.set(vec![Rule::times("PUT /", what.clone(), 1)]);
            let clip = site.clip(size, RecordMode::Motion).await;
            site.start();
            site.wait_for(&clip, SOON).await;
            assert_eq!(
                site.cloud.objects().unwrap().faults().hits(),
                [1],
                "{what:?}"
            );
            site.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_stopped_goes_on_where_it_was_also_with_addresses_that_are_over() {
    let mut site = Site::new("max_kbps = \"off\"").await;
    let faults = site.cloud.objects().unwrap().faults();
    faults.set(vec![Rule::times("PUT /", What::Slow { rate: 3 * MIB }, 5)]);
    let clip = site.clip(23 * MIB, RecordMode::Motion).await;
    site.start();
    site.wait_until("two parts are there", async || {
        puts(&site).iter().filter(|p| p.status == Some(200)).count() >= 2
    })
    .await;
    site.stop().await;
    let taken = puts(&site).iter().filter(|p| p.status == Some(200)).count();
    assert!(taken < 5, "it was over before it was stopped");
    // Three in a row with fresh addresses: given up and begun anew would send all again, so two.
    site.cloud
        .objects()
        .unwrap()
        .faults()
        .set(vec![Rule::times("PUT /", What::Expired, 2)]);
    site.start();
    site.wait_for(&clip, SOON).await;
    let good: Vec<Seen> = puts(&site)
        .into_iter()
        .filter(|p| p.status == Some(200))
        .collect();
    assert_eq!(good.iter().map(|p| p.body_bytes).sum::<u64>(), 23 * MIB);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_or_is_gone_has_a_clear_end() {
    let mut site = Site::new("max_kbps = \"off\"").await;
    let gone = site.clip(1000, RecordMode::Motion).await;
    std::fs::remove_file(&gone.path).unwrap();
    let shorter = site.clip(1000, RecordMode::Motion).await;
    std::fs::write(&shorter.path, &shorter.bytes[..999]).unwrap();
    let other = site.clip(1000, RecordMode::Motion).await;
    std::fs::write(&other.path, vec![0; 1000]).unwrap();
    let good = site.clip(1000, RecordMode::Motion).await;
    site.start();
    site.wait_for(&good, SOON).await;
    let ended = async || {
        let of = [
            site.standing(&gone).await.0,
            site.standing(&shorter).await.1,
            site.standing(&other).await.1,
        ];
        of == ["lost", "local", "local"]
    };
    site.wait_until("each has its end", ended).await;
    let told = site.db.call(Urgency::Now, |c, _| {
        let n = |word: &str| {
            let sql = "select count(*) from outbox where body like '%' || ?1 || '%'";
            c.query_row(sql, [word], |r| r.get::<_, i64>(0))
        };
        let failed = "select count(*) from outbox where body like '%recording.failed%' and body like '%changed%'";
        let failed: i64 = c.query_row(failed, [], |r| r.get(0))?;
        Ok((failed, n("\"lost\"")?, uploads::queue(c)?.failed))
    });
    assert_eq!(told.await.unwrap(), (2, 1, 2));
    for clip in [&gone, &shorter, &other] {
        assert_eq!(site.object(clip).await, None);
    }
    site.stop().await;
}

fn in_force(file: &str) -> Settings {
    let config = Config::parse(&format!("[upload]\n{file}"), &|_| Err(String::new())).unwrap();
    let mut effective = Effective::local(&config);
    effective.upload_hosts = vec!["localhost".parse().unwrap()];
    Settings::of(&effective)
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_budget_and_a_metered_line_hold_back_and_a_request_does_not() {
    let mut site = Site::new("policy = \"none\"").await;
    let (event, footage) = (
        site.clip(3000, RecordMode::Motion).await,
        site.clip(4000, RecordMode::Continuous).await,
    );
    site.start();
    site.wait_until("policy keeps both", async || {
        site.shown()["queue"]["local_files"] == 2
    })
    .await;
    assert!(puts(&site).is_empty());
    site.settings.send_replace(in_force("metered = true"));
    site.wait_until("the event waits for a better line", async || {
        site.shown()["held"] == "metered"
    })
    .await;
    let id = footage.id;
    let asked = site
        .db
        .call(Urgency::Now, move |c, _| uploads::ask(c, id))
        .await
        .unwrap();
    assert_eq!(asked, uploads::Asked::Queued);
    site.wake();
    site.wait_for(&footage, SOON).await;
    assert_eq!(site.standing(&event).await.1, "due");
    site.settings
        .send_replace(in_force("daily_budget = \"1 MiB\""));
    site.wait_for(&event, SOON).await;
    let big = site.clip(2 * MIB, RecordMode::Motion).await;
    site.wait_for(&big, SOON).await;
    let late = site.clip(10, RecordMode::Motion).await;
    site.wait_until("the day is spent", async || {
        site.shown()["held"] == "budget"
    })
    .await;
    assert_eq!(site.standing(&late).await.1, "due");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_goes_to_a_host_that_the_twin_does_not_name() {
    let mut site = Site::new("").await;
    let mut settings = in_force("");
    settings.hosts = vec!["storage.example.com".parse().unwrap()];
    site.settings.send_replace(settings);
    let clip = site.clip(1000, RecordMode::Motion).await;
    site.start();
    let refused = async || {
        site.shown()["last_error"]
            .as_str()
            .is_some_and(|e| e.contains("not in the signed list"))
    };
    site.wait_until("it is refused", refused).await;
    assert!(puts(&site).is_empty());
    assert_eq!(site.standing(&clip).await.1, "due");
    site.settings.send_replace(in_force(""));
    site.wait_for(&clip, SOON).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_kept() {
    let mut site = Site::new("max_kbps = 16000").await;
    let clip = site.clip(6 * MIB, RecordMode::Motion).await;
    let clock = Clock::default();
    let began = clock.mono();
    site.start();
    site.wait_for(&clip, SOON).await;
    let took = clock.mono().since(began).as_secs_f64();
    // 2 MB/s, with half a second's worth at once.
    assert!(took >= 2.4, "{took} s");
    site.stop().await;
}

/// A wider policy that comes while a file is under way is taken up between two parts, not at the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_during_an_upload_is_not_lost() {
    let mut site = Site::new("max_kbps = \"off\"").await;
    let faults = site.cloud.objects().unwrap().faults();
    faults.set(vec![Rule::always("PUT /", What::Slow { rate: 8 * MIB })]);
    let footage = site.clip(1000, RecordMode::Continuous).await;
    let event = site.clip(23 * MIB, RecordMode::Motion).await;
    site.start();
    site.wait_until("the first part is under way", async || {
        !puts(&site).is_empty()
    })
    .await;
    assert_eq!(site.standing(&footage).await.1, "local");
    site.settings
        .send_replace(in_force("policy = \"all\"\nmax_kbps = \"off\""));
    site.wait_for(&footage, SOON).await;
    site.wait_for(&event, SOON).await;
    site.stop().await;
}

/// One file that the storage refuses for ever has its turns, and the others theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_does_not_get_on_lets_the_others_pass() {
    let mut site = Site::new("max_kbps = \"off\"").await;
    let first = site.clip(1000, RecordMode::Motion).await;
    site.start();
    site.wait_for(&first, SOON).await;
    site.stop().await;
    let path = puts(&site)[0].path.clone();
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(site.clip(1000, RecordMode::Motion).await);
    }
    // The newest, which would have each turn but the fourth.
    let refused = site.clip(1000, RecordMode::Motion).await;
    let path = path.replace(&first.id.to_string(), &refused.id.to_string());
    let rule = Rule::always(format!("PUT {path}"), What::Fail { status: 503 });
    site.cloud.objects().unwrap().faults().set(vec![rule]);
    site.start();
    for clip in &others {
        site.wait_for(clip, SOON).await;
    }
    let tries = puts(&site).iter().filter(|p| p.path == path).count();
    assert!((1..=3).contains(&tries), "{tries} tries");
    site.cloud.objects().unwrap().faults().set(Vec::new());
    site.wait_for(&refused, SOON).await;
    site.stop().await;
}
