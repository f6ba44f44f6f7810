//! A thousand commands that come doubled, in any order and too late, by the broker and by poll at once: the real agent
//! runs each once, and what has expired never.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::faults::{Rule, What};
use sentrycam_cloud::jws;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::fixture::wait_until;
use crate::mqtt_site::Peer;
use crate::process::{Agent, Home, last_words};
use crate::round_trip::{SOON, claimed, link};

const ALIVE: usize = 24;
/// Fewer than the cloud's fault hands out at once, so that it mixes them with others.
const EXPIRED: usize = 8;
const BY_BROKER: usize = 800;
const FLIGHT: usize = 400;
const BY_POLL: u64 = 200;

async fn send(cloud: &Cloud, edge_id: &str, expires_in_s: i64, count: usize) {
    for _ in 0..count {
        let wanted = Wanted {
            expires_in_s,
            ..Wanted::new("sync.now", json!({}))
        };
        cloud.send_command(edge_id, wanted).await.unwrap();
    }
}

/// The commands of the cloud as its broker brings them, and whether each is too late.
async fn documents(cloud: &Cloud, home: &Home, edge_id: &str) -> Vec<(String, bool)> {
    let text = std::fs::read(home.path("edge.json")).unwrap();
    let device: Value = serde_json::from_slice(&text).unwrap();
    let secret = STANDARD.decode(device["edge_secret"].as_str().unwrap());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.unwrap());
    let kid = device["edge_key"].as_str().unwrap();
    let sql = "select id, n, command_type, payload, extract(epoch from issued_at)::bigint as iat,
                      extract(epoch from expires_at)::bigint as exp, expires_at <= now() as over from commands";
    let rows = cloud.query(sql).await.unwrap();
    let document = |c: &Value| {
        let claims = json!({ "iss": jws::ISSUER, "aud": edge_id, "jti": c["id"], "n": c["n"], "iat": c["iat"],
                             "exp": c["exp"], "cmd": { "type": c["command_type"], "args": c["payload"] } });
        let signed = jws::sign(&key, kid, jws::COMMAND, &claims).unwrap();
        (signed, c["over"] == true)
    };
    rows.iter().map(document).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_doubled_reordered_and_stale_commands_run_once_each_or_never() {
    let cloud = Cloud::builder().broker().start().await.unwrap();
    let home = Home::new();
    let edge_id = claimed(&cloud, &home).await;
    send(&cloud, &edge_id, 600, ALIVE).await;
    send(&cloud, &edge_id, 1, EXPIRED).await;
    let over = format!("(select count(*) = {EXPIRED} from commands where expires_at <= now())");
    cloud.wait_for(&over, SOON).await.unwrap();
    let documents = documents(&cloud, &home, &edge_id).await;
    assert_eq!(documents.iter().filter(|d| d.1).count(), EXPIRED);

    // What a poll is answered: the newest whatever became of them, or what waits, each twice or backwards.
    let polls = "/edge/v1/commands";
    cloud.faults().set(vec![
        Rule::sometimes(polls, What::Stale, 0.6, 1),
        Rule::sometimes(polls, What::Duplicate, 0.5, 2),
        Rule::always(polls, What::Reorder),
    ]);
    let agent = Agent::start(&home, "info");
    wait_until(30, "the link is up", || link(&home)["state"] == "up");
    let peer = Peer::cloud(cloud.broker().unwrap());
    let (to, poke) = (
        format!("edge/v1/{edge_id}/down/cmd"),
        format!("edge/v1/{edge_id}/down/poke"),
    );
    let mut dice = Dice(7);
    let received = || link(&home)["received"].as_u64().unwrap_or(0);
    for at in 0..BY_BROKER {
        // Mosquitto queues no more than a thousand.
        if at % FLIGHT == 0 {
            wait_until(60, "most have come", || {
                received() + FLIGHT as u64 >= at as u64
            });
        }
        let (document, _) = &documents[dice.below(documents.len() as u64) as usize];
        peer.publish(&to, false, document.as_str());
    }
    let offered = || cloud.faults().hits()[0] * 16;
    wait_until(60, "all came by poll, many times", || {
        peer.publish(&poke, false, "{}");
        offered() >= BY_POLL
    });

    let ended = format!("(select count(*) = {ALIVE} from commands where status = 'succeeded')");
    let all = cloud.wait_for(&ended, SOON).await;
    let log = last_words(&home.path("err"));
    all.unwrap_or_else(|e| panic!("{e:?}\n{log}"));
    wait_until(60, "all came by the broker", || {
        received() >= BY_BROKER as u64
    });
    println!(
        "{} by the broker, {} stale ones by poll",
        received(),
        offered()
    );
    cloud.faults().clear();
    assert_eq!(agent.stop().code(), Some(0));

    // Each has one row, was begun once and ended once; of the expired ones nothing is known.
    let rows = |sql: &str| home.number(sql).unwrap();
    assert_eq!(rows("select count(*) from commands"), ALIVE as i64);
    let done = "select count(*) from commands where state = 'succeeded' and rev = 3";
    assert_eq!(rows(done), ALIVE as i64);
    let told = "select count(*) as words, count(distinct record -> 'data' ->> 'command_id') as commands,
                       count(*) filter (where record -> 'data' ->> 'state' = 'in_progress') as begun,
                       count(*) filter (where record -> 'data' ->> 'state' = 'succeeded') as ended
                from edge_records where type like '%command.status%'";
    let told = cloud.query(told).await.unwrap()[0].clone();
    assert_eq!(
        told,
        json!({ "words": 3 * ALIVE, "commands": ALIVE, "begun": ALIVE, "ended": ALIVE })
    );
    let late =
        "select count(*) as n from commands where status in ('expired', 'queued', 'dispatched')";
    assert_eq!(cloud.query(late).await.unwrap()[0]["n"], EXPIRED);
}
