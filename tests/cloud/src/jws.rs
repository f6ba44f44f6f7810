//! Signed documents: JWS compact serialisation (RFC 7515), HS256 and nothing else, with the header
//! bytes that section 7.1 fixes. Pure.
//!
//! The algorithm is bound to the key and the header is compared as bytes, so there is nothing in a
//! document that could choose how it is verified (`none`, `crit`, `jwk`, another `kid`).

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use ring::hmac;
use serde::Serialize;

/// `typ` of a command.
pub const COMMAND: &str = "sentrycam-cmd+jwt";
/// `typ` of a twin.
pub const TWIN: &str = "sentrycam-twin+jwt";
/// `iss` of every document.
pub const ISSUER: &str = "sentrycam-cloud";
/// Longest command, whole.
pub const MAX_COMMAND_BYTES: usize = 32 * 1024;

/// Why a document is not signed, or not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Not three parts of base64url.
    #[error("the document is malformed")]
    Malformed,
    /// The header is not the one of this type and key.
    #[error("the header is not the expected one")]
    Header,
    /// The MAC is wrong.
    #[error("the signature is wrong")]
    Signature,
}

/// The header, byte for byte.
pub fn header(kid: &str, typ: &str) -> String {
    format!("{{\"alg\":\"HS256\",\"kid\":\"{kid}\",\"typ\":\"{typ}\"}}")
}

/// Signs claims. The same claims and key give the same bytes.
///
/// # Errors
/// `Malformed` when the claims are no JSON.
pub fn sign(
    key: &hmac::Key,
    kid: &str,
    typ: &str,
    claims: &impl Serialize,
) -> Result<String, JwsError> {
    let claims = serde_json::to_vec(claims).map_err(|_| JwsError::Malformed)?;
    Ok(sign_raw(key, &header(kid, typ), &claims))
}

/// Signs any header and payload, also wrong ones.
pub fn sign_raw(key: &hmac::Key, header: &str, payload: &[u8]) -> String {
    let input = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload));
    let mac = BASE64URL.encode(hmac::sign(key, input.as_bytes()));
    format!("{input}.{mac}")
}

/// Verifies a document and returns its payload.
///
/// # Errors
/// What is wrong first: form, header, MAC.
pub fn verify(key: &hmac::Key, kid: &str, typ: &str, jws: &str) -> Result<Vec<u8>, JwsError> {
    let (input, mac) = jws.rsplit_once('.').ok_or(JwsError::Malformed)?;
    let (head, payload) = input.split_once('.').ok_or(JwsError::Malformed)?;
    if payload.contains('.') {
        return Err(JwsError::Malformed);
    }
    if head != BASE64URL.encode(header(kid, typ)) {
        return Err(JwsError::Header);
    }
    let mac = BASE64URL.decode(mac).map_err(|_| JwsError::Malformed)?;
    hmac::verify(key, input.as_bytes(), &mac).map_err(|_| JwsError::Signature)?;
    BASE64URL.decode(payload).map_err(|_| JwsError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::Value;

    fn vectors() -> (Value, hmac::Key) {
        let text = include_str!("../../vectors/protocol-vectors.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let key = BASE64_STANDARD
            .decode(vectors["key_b64"].as_str().unwrap())
            .unwrap();
        (vectors, hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    #[test]
    fn the_command_of_the_vectors_verifies_and_is_signed_alike() {
        let (vectors, key) = vectors();
        let jws = vectors["command"]["jws"].as_str().unwrap();
        let payload = verify(&key, "ek_0001", COMMAND, jws).unwrap();
        let claims: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(claims, vectors["command"]["claims"]);
        assert_eq!(sign_raw(&key, &header("ek_0001", COMMAND), &payload), jws);
    }

    #[test]
    fn any_change_is_refused() {
        let (vectors, key) = vectors();
        let jws = vectors["command"]["jws"].as_str().unwrap();
        for at in 0..jws.len() {
            let mut changed = jws.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(verify(&key, "ek_0001", COMMAND, &changed).is_err(), "{at}");
        }
        for (kid, typ) in [("ek_0002", COMMAND), ("ek_0001", TWIN)] {
            assert_eq!(verify(&key, kid, typ, jws), Err(JwsError::Header));
        }
        let none = sign_raw(&key, "{\"alg\":\"none\"}", b"{}");
        assert_eq!(
            verify(&key, "ek_0001", COMMAND, &none),
            Err(JwsError::Header)
        );
    }
}
