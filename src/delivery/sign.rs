//! Standard Webhooks signatures (standardwebhooks.com): `v1,` and the base64 of
//! HMAC-SHA256 over `id.timestamp.body`, with a secret written `whsec_<base64>`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// A target's signing secret, ready to use. Never printed.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

/// Why a text is no signing secret. The text itself is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signing secret; allowed is `whsec_` followed by the base64 of 24 to 64 bytes")]
pub struct InvalidSigningSecret;

impl SigningKey {
    /// Reads `whsec_<base64>`.
    ///
    /// # Errors
    /// [`InvalidSigningSecret`] if it is not of that form.
    pub fn parse(secret: &SecretString) -> Result<Self, InvalidSigningSecret> {
        let encoded = secret.expose_secret().strip_prefix("whsec_").ok_or(InvalidSigningSecret)?;
        let key = STANDARD.decode(encoded).map_err(|_| InvalidSigningSecret)?;
        if !(24..=64).contains(&key.len()) {
            return Err(InvalidSigningSecret);
        }
        Hmac::new_from_slice(&key).map(Self).map_err(|_| InvalidSigningSecret)
    }

    /// The value of `webhook-signature`; `timestamp` is in Unix seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// Two keys are the same if they sign alike; the comparison takes the same time
/// wherever they differ.
impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.clone().finalize() == other.0.clone().finalize()
    }
}

impl Eq for SigningKey {}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specifications_own_library() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let key = SigningKey::parse(&secret.into()).unwrap();
        let (id, body, now) = ("evt_1", br#"{"id":"evt_1"}"#, 1_734_780_000);
        let expected = standardwebhooks::Webhook::new(secret).unwrap().sign(id, now, body).unwrap();
        assert_eq!(key.sign(id, now, body), expected);
        assert_ne!(key.sign(id, now, b"{}"), expected);
    }

    #[test]
    fn other_forms_of_secret_are_refused_without_repeating_them() {
        for bad in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_!!!", "whsec_c2hvcnQ="] {
            let error = SigningKey::parse(&bad.into()).unwrap_err().to_string();
            assert!(bad.len() < 8 || !error.contains(bad));
        }
    }
}
