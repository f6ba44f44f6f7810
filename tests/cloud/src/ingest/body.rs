//! From the bytes of a request to the items of a batch, within bounds.
//!
//! gzip is decoded with a hard limit on what comes out, so that a small body cannot become a large one;
//! the JSON parser's own limit of 128 levels stops deep nesting before records are looked at.

use std::io::Read;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use crate::problem::Problem;

/// Most bytes of a batch before compression.
pub const MAX_BODY_BYTES: usize = 512 * 1024;
/// Most records of a batch.
pub const MAX_RECORDS: usize = 256;

/// Undoes `Content-Encoding`.
///
/// # Errors
/// 415 `encoding` for a coding that was not announced, 400 `malformed` for a broken stream, 413
/// `too-large` when more than `MAX_BODY_BYTES` come out.
pub fn decode(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Problem> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let too_large = || Problem::too_large("a batch is at most 512 KiB before compression");
    let decoded = match (codings.next().map(|value| value.as_bytes()), codings.next()) {
        (None, _) => body,
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"gzip") => {
            let mut plain = Vec::new();
            // One byte more than allowed tells "full" from "too large".
            flate2::read::GzDecoder::new(&body[..])
                .take(MAX_BODY_BYTES as u64 + 1)
                .read_to_end(&mut plain)
                .map_err(|_| Problem::malformed("the body is not gzip"))?;
            plain.into()
        }
        _ => {
            let detail = "only gzip is understood";
            let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding", detail);
            return Err(problem.with_header(header::ACCEPT_ENCODING, "gzip"));
        }
    };
    if decoded.len() > MAX_BODY_BYTES {
        Err(too_large())
    } else {
        Ok(decoded)
    }
}

/// Splits a batch into its items.
///
/// # Errors
/// 400 `malformed` when it is not a JSON array, 413 `too-large` when it has too many items.
pub fn items(body: &[u8]) -> Result<Vec<Value>, Problem> {
    let items: Vec<Value> = serde_json::from_slice(body)
        .map_err(|_| Problem::malformed("the body is not a JSON array"))?;
    if items.len() > MAX_RECORDS {
        return Err(Problem::too_large("a batch has at most 256 records"));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(plain: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap().into()
    }

    fn gzip_headers() -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, "gzip".parse().unwrap())])
    }

    #[test]
    fn a_gzip_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
        assert!(bomb.len() < MAX_BODY_BYTES);
        assert_eq!(decode(&gzip_headers(), bomb).unwrap_err().code, "too-large");
        let full = gzip(&vec![b' '; MAX_BODY_BYTES]);
        assert_eq!(decode(&gzip_headers(), full).unwrap().len(), MAX_BODY_BYTES);
    }

    #[test]
    fn a_broken_or_unknown_coding_has_its_own_code() {
        let mut cut = gzip(b"[1,2,3]").to_vec();
        cut.truncate(15);
        assert_eq!(
            decode(&gzip_headers(), cut.into()).unwrap_err().code,
            "malformed"
        );
        let zstd = HeaderMap::from_iter([(header::CONTENT_ENCODING, "zstd".parse().unwrap())]);
        assert_eq!(decode(&zstd, Bytes::new()).unwrap_err().code, "encoding");
    }

    #[test]
    fn a_batch_is_a_bounded_array() {
        assert_eq!(items(b"{}").unwrap_err().code, "malformed");
        assert_eq!(items(b"[").unwrap_err().code, "malformed");
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(items(deep.as_bytes()).unwrap_err().code, "malformed");
        let many = format!("[{}0]", "0,".repeat(MAX_RECORDS));
        assert_eq!(items(many.as_bytes()).unwrap_err().code, "too-large");
        assert_eq!(items(b"[]").unwrap().len(), 0);
    }
}
