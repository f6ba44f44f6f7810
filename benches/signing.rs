//! What a request costs before and after the network: digest and signature of a batch of 256 records, gzipped, and the
//! verification of an answer.
//!
//! `cargo bench --bench signing` prints a table and writes `target/bench/signing.json`.

mod figures;

use std::hint::black_box;
use std::io::Write as _;

use criterion::Criterion;
use flate2::Compression;
use flate2::write::GzEncoder;
use sentrycam::model::{BootId, Class, EpochId, RecordId, Severity};
use sentrycam::time::{Mono, TimeQuality, Wall};
use sentrycam::wire::envelope::{BootClock, Record, Stored, batch_body, moment, render};
use sentrycam::wire::signature::{
    Body, Request, Response, ResponseError, SigningKey, sign_request, verify_response,
};
use serde_json::json;
use uuid::Uuid;

const GROUP: &str = "signing";
const RECORDS: usize = 256;
const NOW: Wall = Wall(1_795_226_400_000_000);
const STEPS: [&str; 4] = ["render", "gzip", "sign", "verify"];

fn rows() -> Vec<Stored> {
    (0..RECORDS)
        .map(|n| {
            let (id, at) = (Uuid::from_u128(n as u128 + 1), Mono(n as u64 * 1_000_000_000));
            let record = Record {
                id: RecordId(id),
                kind: "motion.updated",
                class: Class::Alarm,
                subject: Some("cam-1".into()),
                severity: Severity::Warning,
                at,
                data: json!({ "event_id": id, "camera_id": "cam-1", "started_at": moment(at), "score": 0.5,
                              "peak_score": 0.6, "regions": [{"x": 0.1, "y": 0.1, "w": 0.2, "h": 0.2}],
                              "zones": ["drive"], "rev": 2 }),
            };
            Stored {
                seq: n as u64 + 1,
                id: record.id,
                boot: BootId(Uuid::from_u128(7)),
                at,
                body: record.stored_body(),
                clock: BootClock { offset_us: NOW.0, quality: TimeQuality::Synced },
            }
        })
        .collect()
}

fn body(rows: &[Stored]) -> Vec<u8> {
    let epoch = EpochId(Uuid::from_u128(9));
    let events: Vec<String> = rows
        .iter()
        .filter_map(|row| render("edge_bench", epoch, row))
        .collect();
    batch_body(&events)
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder
        .write_all(body)
        .and_then(|()| encoder.finish())
        .expect("memory takes it")
}

/// Bytes of the batch, plain and compressed.
fn measure(criterion: &mut Criterion) -> (usize, usize) {
    let rows = rows();
    let plain = body(&rows);
    let packed = gzip(&plain);
    let key = SigningKey::new("ek_bench", &[7; 32]);
    let request = Request {
        method: "POST",
        authority: "api.example.com",
        path: "/edge/v1/events",
        query: "",
        body: Some(Body {
            content_type: "application/cloudevents-batch+json",
            content_encoding: Some("gzip"),
            idempotency_key: Some("\"01990000-0000-7000-8000-000000000000\""),
            bytes: &packed,
        }),
    };
    let answer = json!({ "results": rows.iter().map(|r| json!({ "id": r.id, "status": "accepted" })).collect::<Vec<_>>() })
        .to_string();
    // Made up: all that it costs is done before the last comparison fails.
    let response = Response {
        status: 200,
        content_type: "application/json",
        content_digest: &sentrycam::wire::signature::content_digest(answer.as_bytes()),
        date: "Sat, 21 Nov 2026 02:00:00 GMT",
        signature_input: "sig1=(\"@status\" \"content-type\" \"content-digest\" \"date\" \"@method\";req \
                          \"@path\";req \"signature\";req;key=\"sig1\");created=1795226400;\
                          alg=\"hmac-sha256\";keyid=\"ek_bench\";tag=\"sentrycam-resp\"",
        signature: "sig1=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:",
        body: answer.as_bytes(),
    };
    let verify = || verify_response(&key, "POST", request.path, "sig1=:AA==:", &response);
    assert_eq!(verify(), Err(ResponseError::Mac));
    let mut group = criterion.benchmark_group(GROUP);
    group.bench_function(STEPS[0], |b| b.iter(|| black_box(body(&rows))));
    group.bench_function(STEPS[1], |b| b.iter(|| black_box(gzip(&plain))));
    group.bench_function(STEPS[2], |b| {
        b.iter(|| black_box(sign_request(&key, &request, NOW, &[3; 16])))
    });
    group.bench_function(STEPS[3], |b| b.iter(|| black_box(verify())));
    group.finish();
    (plain.len(), packed.len())
}

fn main() -> std::io::Result<()> {
    let mut criterion = figures::criterion();
    let (plain, packed) = measure(&mut criterion);
    criterion.final_summary();
    let means: Option<Vec<f64>> = STEPS.iter().map(|s| figures::mean_ns(GROUP, s)).collect();
    let Some(means) = means else { return Ok(()) };
    println!("batch of {RECORDS} records, {plain} bytes, {packed} gzipped");
    println!("step      µs a batch");
    for (step, ns) in STEPS.iter().zip(&means) {
        println!("{step:<9} {:>10.1}", ns / 1000.0);
    }
    let figures = json!({
        "records": RECORDS, "bytes": plain, "gzip_bytes": packed,
        "render_us": means[0] / 1e3, "gzip_us": means[1] / 1e3, "sign_us": means[2] / 1e3, "verify_us": means[3] / 1e3,
    });
    figures::write("signing", &figures)
}
