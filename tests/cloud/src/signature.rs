//! HTTP Message Signatures (RFC 9421) as EDGE-SIG/1 uses them: reading a request's signature and
//! building its base, and signing an answer. Pure: no database, no clock, no socket.
//!
//! The MAC algorithm is bound to the key (`hmac-sha256`), never chosen by the message, and the base is
//! built from the authority that the cloud is *configured* to have. Digests are RFC 9530.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::prelude::{BASE64_STANDARD, Engine};
use ring::{digest, hmac};

use crate::problem::Problem;
use crate::sf;

/// `Signature-Input`.
pub const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// `Signature`.
pub const SIGNATURE: HeaderName = HeaderName::from_static("signature");
/// `Content-Digest`.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// `Idempotency-Key`.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The only label.
const LABEL: &str = "sig1";
/// The only algorithm.
const ALG: &str = "hmac-sha256";
/// Components that every request covers.
const ALWAYS: [&str; 4] = ["@method", "@authority", "@path", "@query"];
/// Header fields that are covered when they are present.
const WHEN_PRESENT: [HeaderName; 2] = [header::CONTENT_ENCODING, IDEMPOTENCY_KEY];

/// What a signature is about.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Upper-case method.
    pub method: &'a str,
    /// The cloud's public `host[:port]`, lower case, without the scheme's default port.
    pub authority: &'a str,
    /// Path as sent, at least `/`.
    pub path: &'a str,
    /// Query as sent, without `?`.
    pub query: Option<&'a str>,
    /// Header fields as received.
    pub headers: &'a HeaderMap,
}

/// A request's signature, read but not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// `keyid`: the device's `edge_key`.
    pub keyid: String,
    /// `created`, Unix seconds.
    pub created: i64,
    /// `nonce`, 16 to 64 characters.
    pub nonce: String,
    /// The signature base (RFC 9421 section 2.5).
    base: String,
    mac: Vec<u8>,
}

impl Claim {
    /// Compares the MAC in constant time.
    pub fn verify(&self, key: &hmac::Key) -> bool {
        hmac::verify(key, self.base.as_bytes(), &self.mac).is_ok()
    }

    /// The signature as it stands in a structured field, which the answer's signature covers.
    pub fn signature_text(&self) -> String {
        bytes_text(&self.mac)
    }
}

fn invalid(detail: &str) -> Problem {
    Problem::unauthorized("invalid-signature", detail)
}

fn missing(name: &str) -> Problem {
    Problem::unauthorized("missing-component", format!("{name} is not covered"))
}

/// Reads the signature of a request: rules 1 and 2 of section 3.2.
///
/// # Errors
/// 401 `invalid-signature` for a wrong label, tag or algorithm or an unreadable field, 401
/// `missing-component` when something that must be covered is not.
pub fn read_request(message: &Message<'_>, has_body: bool) -> Result<Claim, Problem> {
    let field = |name: &HeaderName| {
        combined(message.headers, name).ok_or_else(|| invalid("the request is not signed"))
    };
    let (label, input) = sf::one_inner_list(&field(&SIGNATURE_INPUT)?)
        .map_err(|_| invalid("signature-input is not understood"))?;
    let (mac_label, mac) =
        sf::one_bytes(&field(&SIGNATURE)?).map_err(|_| invalid("signature is not understood"))?;
    if label != LABEL || mac_label != LABEL {
        return Err(invalid("there must be exactly one signature, sig1"));
    }
    if input.string("tag") != Some("sentrycam-req") {
        return Err(invalid("the tag must be sentrycam-req"));
    }
    if input.string("alg") != Some(ALG) {
        return Err(invalid("the algorithm must be hmac-sha256"));
    }

    let covered = |name: &str| {
        input
            .components
            .iter()
            .any(|(covered, params)| covered == name && params.is_empty())
    };
    for name in ALWAYS {
        if !covered(name) {
            return Err(missing(name));
        }
    }
    let with_body = [header::CONTENT_TYPE, CONTENT_DIGEST]
        .into_iter()
        .filter(|_| has_body);
    let present = WHEN_PRESENT
        .into_iter()
        .filter(|name| message.headers.contains_key(name));
    let required = with_body.chain(present);
    for name in required {
        if !covered(name.as_str()) {
            return Err(missing(name.as_str()));
        }
    }
    let keyid = input.string("keyid").ok_or_else(|| missing("keyid"))?;
    let nonce = input.string("nonce").ok_or_else(|| missing("nonce"))?;
    let Some(sf::Bare::Integer(created)) = input.param("created") else {
        return Err(missing("created"));
    };
    if !(16..=64).contains(&nonce.len()) || !(1..=64).contains(&keyid.len()) {
        return Err(invalid("nonce or keyid has a wrong length"));
    }
    let base = signature_base(message, &input)
        .ok_or_else(|| invalid("a covered component cannot be had from the request"))?;
    Ok(Claim {
        keyid: keyid.to_owned(),
        created: *created,
        nonce: nonce.to_owned(),
        base,
        mac,
    })
}

/// Builds the signature base of a request; none when a covered component is unknown or absent.
pub fn signature_base(message: &Message<'_>, input: &sf::InnerList) -> Option<String> {
    use std::fmt::Write;
    let mut base = String::new();
    for (name, params) in &input.components {
        if !params.is_empty() {
            return None;
        }
        let value = match name.as_str() {
            "@method" => message.method.to_owned(),
            "@authority" => message.authority.to_owned(),
            "@path" => message.path.to_owned(),
            "@query" => format!("?{}", message.query.unwrap_or_default()),
            derived if derived.starts_with('@') => return None,
            field if field.chars().any(|c| c.is_ascii_uppercase()) => return None,
            field => combined(
                message.headers,
                &HeaderName::from_bytes(field.as_bytes()).ok()?,
            )?,
        };
        writeln!(base, "\"{name}\": {value}").ok()?;
    }
    write!(base, "\"@signature-params\": {}", input.raw).ok()?;
    Some(base)
}

/// A field's value with its lines combined (RFC 9421 section 2.1).
fn combined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut lines = Vec::new();
    for value in headers.get_all(name) {
        lines.push(value.to_str().ok()?.trim());
    }
    if lines.is_empty() {
        None
    } else {
        Some(lines.join(", "))
    }
}

/// The `Content-Digest` of these bytes (RFC 9530).
pub fn content_digest(body: &[u8]) -> String {
    format!(
        "sha-256={}",
        bytes_text(digest::digest(&digest::SHA256, body).as_ref())
    )
}

/// Whether the header's digest is the one of the received bytes: rule 7.
pub fn digest_matches(headers: &HeaderMap, body: &[u8]) -> bool {
    combined(headers, &CONTENT_DIGEST)
        .and_then(|field| sf::one_bytes(&field).ok())
        .is_some_and(|(alg, sent)| {
            alg == "sha-256" && sent == digest::digest(&digest::SHA256, body).as_ref()
        })
}

fn bytes_text(bytes: &[u8]) -> String {
    format!(":{}:", BASE64_STANDARD.encode(bytes))
}

/// What an answer's signature covers of its request (section 3.3).
#[derive(Debug, Clone)]
pub struct Answering {
    /// The request's method.
    pub method: String,
    /// The request's path.
    pub path: String,
    /// The request's signature, as text.
    pub signature: String,
    /// The key that signed the request, which signs the answer.
    pub keyid: String,
}

/// Signs an answer: returns `Content-Digest`, `Signature-Input` and `Signature`.
pub fn sign_response(
    key: &hmac::Key,
    request: &Answering,
    status: u16,
    content_type: &str,
    date: &str,
    created: i64,
    body: &[u8],
) -> [(HeaderName, HeaderValue); 3] {
    let Answering {
        method,
        path,
        signature,
        keyid,
    } = request;
    let digest = content_digest(body);
    let params = format!(
        "(\"@status\" \"content-type\" \"content-digest\" \"date\" \"@method\";req \"@path\";req \
         \"signature\";req;key=\"sig1\");created={created};alg=\"{ALG}\";keyid=\"{keyid}\";\
         tag=\"sentrycam-resp\""
    );
    let base = format!(
        "\"@status\": {status}\n\"content-type\": {content_type}\n\"content-digest\": {digest}\n\
         \"date\": {date}\n\"@method\";req: {method}\n\"@path\";req: {path}\n\
         \"signature\";req;key=\"sig1\": {signature}\n\"@signature-params\": {params}"
    );
    let mac = bytes_text(hmac::sign(key, base.as_bytes()).as_ref());
    let value = |text: &str| {
        // The keyid came from a field of visible ASCII, the rest is made here.
        HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
    };
    [
        (CONTENT_DIGEST, value(&digest)),
        (SIGNATURE_INPUT, value(&format!("{LABEL}={params}"))),
        (SIGNATURE, value(&format!("{LABEL}={mac}"))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const VECTORS: &str = include_str!("../../vectors/protocol-vectors.json");

    fn vectors() -> (Value, hmac::Key) {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let key = BASE64_STANDARD
            .decode(vectors["key_b64"].as_str().unwrap())
            .unwrap();
        (vectors, hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// A request of the vectors, owned, so that tests can change it.
    #[derive(Clone)]
    struct Request {
        method: String,
        authority: String,
        path: String,
        query: Option<String>,
        headers: HeaderMap,
        body: Vec<u8>,
    }

    impl Request {
        fn of(vector: &Value) -> Self {
            let url: axum::http::Uri = vector["url"].as_str().unwrap().parse().unwrap();
            let mut headers = HeaderMap::new();
            for (name, value) in vector["headers"].as_object().unwrap() {
                headers.insert(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    value.as_str().unwrap().parse().unwrap(),
                );
            }
            Self {
                method: vector["method"].as_str().unwrap().to_owned(),
                authority: url.authority().unwrap().to_string(),
                path: url.path().to_owned(),
                query: url.query().map(str::to_owned),
                headers,
                body: vector["body"]
                    .as_str()
                    .unwrap_or_default()
                    .as_bytes()
                    .to_vec(),
            }
        }

        fn message(&self) -> Message<'_> {
            Message {
                method: &self.method,
                authority: &self.authority,
                path: &self.path,
                query: self.query.as_deref(),
                headers: &self.headers,
            }
        }

        /// The code of the first rule it breaks, if any.
        fn refused(&self, key: &hmac::Key) -> Option<&'static str> {
            let claim = match read_request(&self.message(), !self.body.is_empty()) {
                Ok(claim) => claim,
                Err(problem) => return Some(problem.code),
            };
            if !claim.verify(key) {
                return Some("invalid-signature");
            }
            let digest_is_right = self.body.is_empty() || digest_matches(&self.headers, &self.body);
            (!digest_is_right).then_some("digest-mismatch")
        }
    }

    #[test]
    fn the_signed_requests_of_the_vectors_verify() {
        let (vectors, key) = vectors();
        for name in ["request", "request_without_body"] {
            let request = Request::of(&vectors[name]);
            let claim = read_request(&request.message(), !request.body.is_empty()).unwrap();
            assert_eq!(claim.base, vectors[name]["signature_base"], "{name}");
            assert_eq!(claim.keyid, "ek_0001");
            assert_eq!(claim.created, 1_795_226_400);
            assert_eq!(request.refused(&key), None, "{name}");
        }
    }

    #[test]
    fn a_change_of_any_covered_part_is_refused() {
        let (vectors, key) = vectors();
        let whole = Request::of(&vectors["request"]);
        let set = |name: &'static str, value: &str| {
            let mut request = whole.clone();
            request.headers.insert(name, value.parse().unwrap());
            request.refused(&key)
        };
        let mut body = whole.clone();
        body.body[10] ^= 1;
        assert_eq!(body.refused(&key), Some("digest-mismatch"));
        let forged = Some("invalid-signature");
        let mut method = whole.clone();
        method.method = "PUT".into();
        assert_eq!(method.refused(&key), forged);
        let mut authority = whole.clone();
        authority.authority = "api.example.org".into();
        assert_eq!(authority.refused(&key), forged);
        let mut path = whole.clone();
        path.path.push('/');
        assert_eq!(path.refused(&key), forged);
        let mut query = whole.clone();
        query.query = Some("a=1".into());
        assert_eq!(query.refused(&key), forged);
        assert_eq!(set("content-type", "application/json"), forged);
        assert_eq!(set("content-digest", &content_digest(b"other")), forged);
        assert_eq!(set("idempotency-key", "\"other\""), forged);
        assert_eq!(set("content-encoding", "gzip"), Some("missing-component"));
        assert_eq!(set("signature", "sig1=:AAAA:"), forged);
        assert_eq!(set("signature", "sig2=:AAAA:"), forged);
        let (_, other) = (0, hmac::Key::new(hmac::HMAC_SHA256, &[9; 32]));
        assert_eq!(whole.refused(&other), forged);
    }

    #[test]
    fn a_changed_signature_input_is_refused_by_the_rule_it_breaks() {
        let (vectors, key) = vectors();
        let whole = Request::of(&vectors["request"]);
        let input = vectors["request"]["headers"]["signature-input"]
            .as_str()
            .unwrap();
        let with = |from: &str, to: &str| {
            assert!(input.contains(from), "{from}");
            let mut request = whole.clone();
            request
                .headers
                .insert(SIGNATURE_INPUT, input.replace(from, to).parse().unwrap());
            request.refused(&key)
        };
        for (from, to, code) in [
            ("sig1=(", "sig2=(", "invalid-signature"),
            (
                "tag=\"sentrycam-req\"",
                "tag=\"sentrycam-resp\"",
                "invalid-signature",
            ),
            (";tag=\"sentrycam-req\"", "", "invalid-signature"),
            ("hmac-sha256", "hmac-sha512", "invalid-signature"),
            ("hmac-sha256", "none", "invalid-signature"),
            (";alg=\"hmac-sha256\"", "", "invalid-signature"),
            ("\"@method\" ", "", "missing-component"),
            ("\"@authority\" ", "", "missing-component"),
            ("\"@path\" ", "", "missing-component"),
            ("\"@query\" ", "", "missing-component"),
            (" \"content-digest\"", "", "missing-component"),
            ("\"content-type\" ", "", "missing-component"),
            (" \"idempotency-key\"", "", "missing-component"),
            (";created=1795226400", "", "missing-component"),
            (";nonce=\"AAECAwQFBgcICQoLDA0ODw\"", "", "missing-component"),
            (
                "created=1795226400",
                "created=1795226401",
                "invalid-signature",
            ),
            ("ODw\"", "ODx\"", "invalid-signature"),
            (
                "\"@query\"",
                "\"@query\" \"@query-param\"",
                "invalid-signature",
            ),
            ("\"@query\"", "\"@query\";req", "missing-component"),
        ] {
            assert_eq!(with(from, to), Some(code), "{from} -> {to}");
        }
    }

    #[test]
    fn an_answer_is_signed_as_in_the_vectors() {
        let (vectors, key) = vectors();
        let request = Request::of(&vectors["request"]);
        let claim = read_request(&request.message(), true).unwrap();
        let answering = Answering {
            method: "POST".into(),
            path: "/edge/v1/events".into(),
            signature: claim.signature_text(),
            keyid: "ek_0001".into(),
        };
        let response = &vectors["response"];
        let headers = sign_response(
            &key,
            &answering,
            200,
            "application/json",
            response["headers"]["date"].as_str().unwrap(),
            1_795_226_401,
            response["body"].as_str().unwrap().as_bytes(),
        );
        for (name, value) in headers {
            assert_eq!(
                value.to_str().unwrap(),
                response["headers"][name.as_str()],
                "{name}"
            );
        }
    }

    /// RFC 9421 appendix B.2.5: signing a request using hmac-sha256.
    #[test]
    fn the_vector_of_rfc_9421_b_2_5_verifies() {
        let key = BASE64_STANDARD
            .decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
            .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("date", "Tue, 20 Apr 2021 02:07:55 GMT".parse().unwrap());
        headers.insert("content-type", "application/json".parse().unwrap());
        let message = Message {
            method: "POST",
            authority: "example.com",
            path: "/foo",
            query: Some("param=Value&Pet=dog"),
            headers: &headers,
        };
        let (_, input) = sf::one_inner_list(
            r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        )
        .unwrap();
        let (_, mac) =
            sf::one_bytes("sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:").unwrap();
        let base = signature_base(&message, &input).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        assert!(hmac::verify(&key, base.as_bytes(), &mac).is_ok());
    }
}
