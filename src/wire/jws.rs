//! Signed documents of the cloud (RFC 7515 compact JWS, HS256): commands and the twin.
//!
//! The header must be, byte for byte, the one that this profile allows for a key that the device holds; nothing in it is
//! interpreted, so no message chooses an algorithm, a key or an extension. What a broker or anybody else without the
//! key makes does not pass. Only then is the payload handed on, still unread.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::signature::SigningKey;

/// A document, encoded; longer ones are not looked at.
pub const MAX_JWS_BYTES: usize = 32 << 10;

/// What a document is; part of its signed header, so that one cannot be passed off as the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typ {
    /// Something to do.
    Command,
    /// How to be.
    Twin,
}

impl Typ {
    fn as_str(self) -> &'static str {
        match self {
            Typ::Command => "sentrycam-cmd+jwt",
            Typ::Twin => "sentrycam-twin+jwt",
        }
    }
}

/// Why a document is not the cloud's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Longer than [`MAX_JWS_BYTES`].
    #[error("the document is too large")]
    TooLarge,
    /// Not three parts of unpadded, canonical base64url.
    #[error("the document is not a compact JWS")]
    Malformed,
    /// Another algorithm, type, order or member than the profile's.
    #[error("the header is not of this profile")]
    Header,
    /// The profile's header, with a key that this device does not hold.
    #[error("the document is signed with another key")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
}

impl JwsError {
    /// The word on the wire and in logs.
    pub fn code(self) -> &'static str {
        match self {
            JwsError::TooLarge => "too-large",
            JwsError::Malformed => "malformed",
            JwsError::Header => "header",
            JwsError::UnknownKey => "unknown-key",
            JwsError::Signature => "invalid-signature",
        }
    }
}

/// The payload of a document that one of `keys` signed.
///
/// # Errors
/// [`JwsError`], in the order size, header, signature.
pub fn verify(token: &[u8], typ: Typ, keys: &[SigningKey]) -> Result<Vec<u8>, JwsError> {
    if token.len() > MAX_JWS_BYTES {
        return Err(JwsError::TooLarge);
    }
    let mut dots = token.iter().enumerate().filter(|(_, b)| **b == b'.');
    let (Some((first, _)), Some((second, _)), None) = (dots.next(), dots.next(), dots.next())
    else {
        return Err(JwsError::Malformed);
    };
    let (header, payload, mac) = (
        &token[..first],
        &token[first + 1..second],
        &token[second + 1..],
    );
    let key = keys
        .iter()
        .find(|key| {
            URL_SAFE_NO_PAD
                .encode(header_of(key.key_id(), typ))
                .as_bytes()
                == header
        })
        .ok_or_else(|| judge_header(header, typ))?;
    let mac = decode(mac)?;
    hmac::verify(key.hmac(), &token[..second], &mac).map_err(|_| JwsError::Signature)?;
    decode(payload)
}

fn header_of(kid: &str, typ: Typ) -> String {
    format!(
        "{{\"alg\":\"HS256\",\"kid\":\"{kid}\",\"typ\":\"{}\"}}",
        typ.as_str()
    )
}

/// A header of the profile with a foreign key, or none of the profile.
fn judge_header(header: &[u8], typ: Typ) -> JwsError {
    let Ok(bytes) = decode(header) else {
        return JwsError::Malformed;
    };
    let tail = format!("\",\"typ\":\"{}\"}}", typ.as_str());
    let kid = bytes
        .strip_prefix(b"{\"alg\":\"HS256\",\"kid\":\"")
        .and_then(|rest| rest.strip_suffix(tail.as_bytes()));
    let is_kid = |kid: &[u8]| {
        kid.iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    match kid {
        Some(kid) if is_kid(kid) => JwsError::UnknownKey,
        _ => JwsError::Header,
    }
}

fn decode(part: &[u8]) -> Result<Vec<u8>, JwsError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| JwsError::Malformed)
}

/// Signs as the cloud does; the agent itself never signs a document.
#[cfg(test)]
pub(crate) fn sign(payload: &[u8], typ: Typ, key: &SigningKey) -> String {
    sign_with_header(payload, &header_of(key.key_id(), typ), key)
}

#[cfg(test)]
pub(crate) fn sign_with_header(payload: &[u8], header: &str, key: &SigningKey) -> String {
    let input = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let mac = hmac::sign(key.hmac(), input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(mac))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;

    fn vectors() -> (Value, SigningKey) {
        let v: Value =
            serde_json::from_str(include_str!("../../tests/vectors/protocol-vectors.json"))
                .unwrap();
        let secret = STANDARD.decode(v["key_b64"].as_str().unwrap()).unwrap();
        (v, SigningKey::new("ek_0001", &secret))
    }

    #[test]
    fn the_vector_verifies_and_any_changed_byte_does_not() {
        let (v, key) = vectors();
        let jws = v["command"]["jws"].as_str().unwrap();
        let payload = verify(jws.as_bytes(), Typ::Command, std::slice::from_ref(&key)).unwrap();
        let claims: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(claims, v["command"]["claims"]);
        assert_eq!(
            verify(jws.as_bytes(), Typ::Twin, std::slice::from_ref(&key)),
            Err(JwsError::Header)
        );
        for at in 0..jws.len() {
            let mut bytes = jws.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(
                verify(&bytes, Typ::Command, std::slice::from_ref(&key)).is_err(),
                "byte {at}"
            );
        }
    }

    #[test]
    fn the_next_key_counts_and_a_foreign_one_does_not() {
        let (_, old) = vectors();
        let (new, foreign) = (
            SigningKey::new("ek_new", &[7; 32]),
            SigningKey::new("ek_x", &[8; 32]),
        );
        let both = [old.clone(), new.clone()];
        for key in [&old, &new] {
            let token = sign(b"{}", Typ::Command, key);
            assert_eq!(
                verify(token.as_bytes(), Typ::Command, &both),
                Ok(b"{}".to_vec())
            );
        }
        let token = sign(b"{}", Typ::Command, &foreign);
        assert_eq!(
            verify(token.as_bytes(), Typ::Command, &both),
            Err(JwsError::UnknownKey)
        );
        // Our key's name, another's secret.
        let token = sign(b"{}", Typ::Command, &SigningKey::new("ek_new", &[8; 32]));
        assert_eq!(
            verify(token.as_bytes(), Typ::Command, &both),
            Err(JwsError::Signature)
        );
    }

    #[test]
    fn no_header_but_the_one_is_accepted() {
        let (_, key) = vectors();
        for header in [
            r#"{"alg":"none","kid":"ek_0001","typ":"sentrycam-cmd+jwt"}"#,
            r#"{"alg":"HS512","kid":"ek_0001","typ":"sentrycam-cmd+jwt"}"#,
            r#"{"alg":"hs256","kid":"ek_0001","typ":"sentrycam-cmd+jwt"}"#,
            r#"{"alg":"HS256","typ":"sentrycam-cmd+jwt","kid":"ek_0001"}"#,
            r#"{"alg":"HS256","kid":"ek_0001","typ":"sentrycam-cmd+jwt","crit":["b64"],"b64":false}"#,
            r#"{"alg":"HS256","kid":"ek_0001","typ":"sentrycam-cmd+jwt","jwk":{"kty":"oct","k":"AA"}}"#,
            r#"{"alg":"HS256","kid":"ek_0001","typ":"sentrycam-cmd+jwt" }"#,
            r#"{"alg":"HS256","kid":"ek_0001","alg":"none","typ":"sentrycam-cmd+jwt"}"#,
            r#"{"alg":"HS256","kid":"../../etc/passwd","typ":"sentrycam-cmd+jwt"}"#,
            r#"{"alg":"HS256","kid":"ek_0001","typ":"JWT"}"#,
            r#"{"alg":"HS256"}"#,
            "",
            "[]",
        ] {
            let token = sign_with_header(b"{}", header, &key);
            let verdict = verify(token.as_bytes(), Typ::Command, std::slice::from_ref(&key));
            assert_eq!(verdict, Err(JwsError::Header), "{header}");
        }
    }

    #[test]
    fn size_and_shape_come_first() {
        let (_, key) = vectors();
        let keys = [key];
        let long = sign(&vec![b' '; 40_000], Typ::Command, &keys[0]);
        assert_eq!(
            verify(long.as_bytes(), Typ::Command, &keys),
            Err(JwsError::TooLarge)
        );
        let good = sign(b"{}", Typ::Command, &keys[0]);
        let unsigned = format!("{}.", good.rsplit_once('.').unwrap().0);
        assert_eq!(
            verify(unsigned.as_bytes(), Typ::Command, &keys),
            Err(JwsError::Signature)
        );
        for bad in [
            "",
            "..",
            "a.b",
            "a.b.c.d",
            &format!("{good}="),
            &format!("{good}."),
            &format!(" {good}"),
        ] {
            assert!(
                verify(bad.as_bytes(), Typ::Command, &keys).is_err(),
                "{bad}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_pass(bytes: Vec<u8>) {
            let (_, key) = vectors();
            proptest::prop_assert!(verify(&bytes, Typ::Command, &[key]).is_err());
        }
    }
}
