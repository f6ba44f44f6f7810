//! HTTP Message Signatures (RFC 9421, `hmac-sha256`) and Content-Digest (RFC 9530): profile EDGE-SIG/1.
//!
//! Requests are signed with a fixed order of components and parameters; answers are verified against the one
//! signature the profile allows, byte by byte, so nothing from outside chooses an algorithm or a component.
//! The vectors of `tests/vectors/` hold both directions.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::{digest, hmac};

use crate::time::Wall;

const REQUEST_TAG: &str = "sentrycam-req";
const RESPONSE_COMPONENTS: &str = "(\"@status\" \"content-type\" \"content-digest\" \"date\" \"@method\";req \
                                   \"@path\";req \"signature\";req;key=\"sig1\")";

/// A device's signing key: `keyid` is public, the HMAC key is not.
#[derive(Clone)]
pub struct SigningKey {
    key_id: String,
    key: hmac::Key,
}

impl SigningKey {
    /// From the key's public name (`ek_…`) and its raw secret.
    pub fn new(key_id: impl Into<String>, secret: &[u8]) -> Self {
        Self {
            key_id: key_id.into(),
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// The public name.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    pub(super) fn hmac(&self) -> &hmac::Key {
        &self.key
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.key_id)
    }
}

/// The parts of a request that are signed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Upper case.
    pub method: &'a str,
    /// Host as the cloud publishes it, with the port unless it is the scheme's default, lower case.
    pub authority: &'a str,
    /// Absolute path.
    pub path: &'a str,
    /// Without `?`; empty where there is none.
    pub query: &'a str,
    /// Present where there is a body.
    pub body: Option<Body<'a>>,
}

/// Body and the headers that describe it.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a> {
    /// `Content-Type`.
    pub content_type: &'a str,
    /// `Content-Encoding` where the bytes are compressed.
    pub content_encoding: Option<&'a str>,
    /// `Idempotency-Key` as an sf-string, quotes included.
    pub idempotency_key: Option<&'a str>,
    /// The bytes on the wire (after compression).
    pub bytes: &'a [u8],
}

/// Header values to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHeaders {
    /// `Content-Digest` where there is a body.
    pub content_digest: Option<String>,
    /// `Signature-Input`.
    pub signature_input: String,
    /// `Signature`.
    pub signature: String,
}

/// `Content-Digest: sha-256=:…:` (RFC 9530 §2) of the bytes on the wire.
pub fn content_digest(bytes: &[u8]) -> String {
    format!(
        "sha-256=:{}:",
        STANDARD.encode(digest::digest(&digest::SHA256, bytes))
    )
}

/// Signs a request (RFC 9421 §3.1). `nonce` must be new for every attempt; `created` is trusted time.
pub fn sign_request(
    key: &SigningKey,
    request: &Request<'_>,
    created: Wall,
    nonce: &[u8; 16],
) -> SignedHeaders {
    let (base, params, content_digest) = request_base(key, request, created, nonce);
    let mac = hmac::sign(&key.key, base.as_bytes());
    SignedHeaders {
        content_digest,
        signature_input: format!("sig1={params}"),
        signature: format!("sig1=:{}:", STANDARD.encode(mac)),
    }
}

fn request_base(
    key: &SigningKey,
    request: &Request<'_>,
    created: Wall,
    nonce: &[u8; 16],
) -> (String, String, Option<String>) {
    let digest = request.body.map(|b| content_digest(b.bytes));
    let query = format!("?{}", request.query);
    let mut components: Vec<(&str, &str)> = vec![
        ("@method", request.method),
        ("@authority", request.authority),
        ("@path", request.path),
        ("@query", &query),
    ];
    if let (Some(body), Some(digest)) = (&request.body, &digest) {
        components.push(("content-type", body.content_type));
        components.push(("content-digest", digest));
        if let Some(encoding) = body.content_encoding {
            components.push(("content-encoding", encoding));
        }
        if let Some(key) = body.idempotency_key {
            components.push(("idempotency-key", key));
        }
    }
    let names: Vec<String> = components
        .iter()
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    let params = format!(
        "({});created={};nonce=\"{}\";alg=\"hmac-sha256\";keyid=\"{}\";tag=\"{REQUEST_TAG}\"",
        names.join(" "),
        created.unix_seconds(),
        URL_SAFE_NO_PAD.encode(nonce),
        key.key_id,
    );
    let mut base = String::with_capacity(512);
    for (name, value) in components {
        base.push_str(&format!("\"{name}\": {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {params}"));
    (base, params, digest)
}

/// An answer as received, header values verbatim; a header that is absent is empty.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'a str,
    /// `Content-Digest`.
    pub content_digest: &'a str,
    /// `Date`.
    pub date: &'a str,
    /// `Signature-Input`.
    pub signature_input: &'a str,
    /// `Signature`.
    pub signature: &'a str,
    /// The bytes on the wire.
    pub body: &'a [u8],
}

/// Why an answer does not count as the cloud's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// No signature at all.
    #[error("the answer is not signed")]
    Unsigned,
    /// Other components, parameters, key or tag than the profile's.
    #[error("the answer's signature is not of this profile")]
    Profile,
    /// The body is not what was signed.
    #[error("the answer's body does not match its digest")]
    Digest,
    /// The MAC is wrong, or belongs to another request.
    #[error("the answer's signature is wrong")]
    Mac,
}

/// Verifies that `response` was signed with our key for exactly the request whose `Signature` header was
/// `request_signature` (RFC 9421 §2.4): a recorded answer to another request does not pass.
pub fn verify_response(
    key: &SigningKey,
    method: &str,
    path: &str,
    request_signature: &str,
    response: &Response<'_>,
) -> Result<(), ResponseError> {
    if response.signature.is_empty() || response.signature_input.is_empty() {
        return Err(ResponseError::Unsigned);
    }
    let params = response
        .signature_input
        .strip_prefix("sig1=")
        .ok_or(ResponseError::Profile)?;
    let rest = params
        .strip_prefix(RESPONSE_COMPONENTS)
        .ok_or(ResponseError::Profile)?;
    let created = rest
        .strip_prefix(";created=")
        .ok_or(ResponseError::Profile)?;
    let digits = created.find(';').ok_or(ResponseError::Profile)?;
    let expected = format!(
        ";alg=\"hmac-sha256\";keyid=\"{}\";tag=\"sentrycam-resp\"",
        key.key_id
    );
    let well_formed =
        (1..=12).contains(&digits) && created.as_bytes()[..digits].iter().all(u8::is_ascii_digit);
    if !well_formed || created[digits..] != expected {
        return Err(ResponseError::Profile);
    }
    if content_digest(response.body) != response.content_digest {
        return Err(ResponseError::Digest);
    }
    let byte_sequence = |s: &str| {
        let inner = s.strip_prefix("sig1=:")?.strip_suffix(':')?;
        STANDARD.decode(inner).ok()
    };
    let mac = byte_sequence(response.signature).ok_or(ResponseError::Profile)?;
    let request_mac = request_signature
        .strip_prefix("sig1=")
        .ok_or(ResponseError::Profile)?;
    let base = format!(
        "\"@status\": {}\n\"content-type\": {}\n\"content-digest\": {}\n\"date\": {}\n\"@method\";req: {method}\n\
         \"@path\";req: {path}\n\"signature\";req;key=\"sig1\": {request_mac}\n\"@signature-params\": {params}",
        response.status, response.content_type, response.content_digest, response.date,
    );
    hmac::verify(&key.key, base.as_bytes(), &mac).map_err(|_| ResponseError::Mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/vectors/protocol-vectors.json")).unwrap()
    }

    fn key(v: &Value) -> SigningKey {
        SigningKey::new(
            v["keyid"].as_str().unwrap(),
            &STANDARD.decode(v["key_b64"].as_str().unwrap()).unwrap(),
        )
    }

    fn nonce(text: &str) -> [u8; 16] {
        URL_SAFE_NO_PAD.decode(text).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_request_vector_is_signed_byte_for_byte() {
        let v = vectors();
        let r = &v["request"];
        let body = r["body"].as_str().unwrap();
        let request = Request {
            method: "POST",
            authority: "api.example.com",
            path: "/edge/v1/events",
            query: "",
            body: Some(Body {
                content_type: "application/cloudevents-batch+json",
                content_encoding: None,
                idempotency_key: r["headers"]["idempotency-key"].as_str(),
                bytes: body.as_bytes(),
            }),
        };
        let created = Wall::from_unix_seconds(1_795_226_400);
        let n = nonce("AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(
            request_base(&key(&v), &request, created, &n).0,
            r["signature_base"].as_str().unwrap()
        );
        let signed = sign_request(&key(&v), &request, created, &n);
        assert_eq!(
            signed.content_digest.as_deref(),
            r["headers"]["content-digest"].as_str()
        );
        assert_eq!(
            signed.signature_input,
            r["headers"]["signature-input"].as_str().unwrap()
        );
        assert_eq!(
            signed.signature,
            r["headers"]["signature"].as_str().unwrap()
        );
    }

    #[test]
    fn a_request_without_body_covers_four_components() {
        let v = vectors();
        let r = &v["request_without_body"];
        let request = Request {
            method: "GET",
            authority: "api.example.com",
            path: "/edge/v1/commands",
            query: "after=7&limit=16",
            body: None,
        };
        let signed = sign_request(
            &key(&v),
            &request,
            Wall::from_unix_seconds(1_795_226_400),
            &nonce("EBESExQVFhcYGRobHB0eHw"),
        );
        assert_eq!(signed.content_digest, None);
        assert_eq!(
            signed.signature_input,
            r["headers"]["signature-input"].as_str().unwrap()
        );
        assert_eq!(
            signed.signature,
            r["headers"]["signature"].as_str().unwrap()
        );
    }

    #[test]
    fn the_response_vector_verifies_and_any_change_fails() {
        let v = vectors();
        let header = |name: &str| v["response"]["headers"][name].as_str().unwrap();
        let request_signature = v["request"]["headers"]["signature"].as_str().unwrap();
        let good = Response {
            status: 200,
            content_type: header("content-type"),
            content_digest: header("content-digest"),
            date: header("date"),
            signature_input: header("signature-input"),
            signature: header("signature"),
            body: v["response"]["body"].as_str().unwrap().as_bytes(),
        };
        let verify = |r: &Response<'_>, sig: &str| {
            verify_response(&key(&v), "POST", "/edge/v1/events", sig, r)
        };
        assert_eq!(verify(&good, request_signature), Ok(()));
        assert_eq!(
            verify(
                &Response {
                    status: 410,
                    ..good
                },
                request_signature
            ),
            Err(ResponseError::Mac)
        );
        assert_eq!(
            verify(
                &Response {
                    body: b"{}",
                    ..good
                },
                request_signature
            ),
            Err(ResponseError::Digest)
        );
        assert_eq!(
            verify(
                &Response {
                    signature: "",
                    ..good
                },
                request_signature
            ),
            Err(ResponseError::Unsigned)
        );
        assert_eq!(
            verify(
                &Response {
                    date: "later",
                    ..good
                },
                request_signature
            ),
            Err(ResponseError::Mac)
        );
        assert_eq!(verify(&good, "sig1=:AAAA:"), Err(ResponseError::Mac));
        let other = SigningKey::new("ek_0002", &[0; 32]);
        assert_eq!(
            verify_response(&other, "POST", "/edge/v1/events", request_signature, &good),
            Err(ResponseError::Profile)
        );
    }

    #[test]
    fn the_key_is_not_shown() {
        let key = SigningKey::new("ek_1", b"very secret");
        assert_eq!(format!("{key:?}"), "SigningKey(ek_1)");
    }

    proptest::proptest! {
        #[test]
        fn hostile_headers_never_panic(input in ".{0,200}", sig in ".{0,80}", date in ".{0,20}") {
            let key = SigningKey::new("ek_1", b"k");
            let r = Response { status: 200, content_type: "", content_digest: "", date: &date,
                               signature_input: &input, signature: &sig, body: b"" };
            proptest::prop_assert!(verify_response(&key, "GET", "/", "sig1=:AA==:", &r).is_err());
        }
    }
}
