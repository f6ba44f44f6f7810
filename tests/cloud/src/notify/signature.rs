//! Standard Webhooks (<https://www.standardwebhooks.com>): `webhook-id`, `webhook-timestamp` and
//! `webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">`.

use base64::prelude::{BASE64_STANDARD, Engine};
use ring::hmac;

use crate::secret::{SecretError, random};

/// What every secret begins with.
const PREFIX: &str = "whsec_";

/// A new secret as its receiver is told it: 32 random bytes.
///
/// # Errors
/// `Random` when the system gives no random bytes.
pub fn new_secret() -> Result<String, SecretError> {
    Ok(format!(
        "{PREFIX}{}",
        BASE64_STANDARD.encode(random::<32>()?)
    ))
}

/// The bytes of a secret; none when it is none.
pub fn key_of(secret: &str) -> Option<Vec<u8>> {
    let bytes = BASE64_STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    (24..=64).contains(&bytes.len()).then_some(bytes)
}

/// The value of `webhook-signature`.
pub fn sign(key: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mac = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the reference libraries of Standard Webhooks.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", r#"{"test": 2432232314}"#);
        assert_eq!(
            sign(&key, id, 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_secret_has_24_to_64_bytes() {
        assert_eq!(key_of(&new_secret().unwrap()).unwrap().len(), 32);
        for wrong in [
            "",
            "whsec_",
            "whsec_AAAA",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            assert_eq!(key_of(wrong), None, "{wrong}");
        }
    }
}
