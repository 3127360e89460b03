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

/// Why a text is not a signing secret. The error does not repeat the text.
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

    /// Returns the value of `webhook-signature`; `timestamp` is in Unix seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        format!("v1,{}", STANDARD.encode(self.mac(id, timestamp, body).finalize().into_bytes()))
    }

    /// Returns whether one of the signatures in `signatures`, the value of `webhook-signature`, was
    /// made with this key. The comparison takes the same time wherever the two differ.
    pub fn verify(&self, signatures: &str, id: &str, timestamp: i64, body: &[u8]) -> bool {
        signatures.split(' ').any(|signature| {
            let claimed = signature.strip_prefix("v1,").and_then(|claimed| STANDARD.decode(claimed).ok());
            claimed.is_some_and(|claimed| self.mac(id, timestamp, body).verify_slice(&claimed).is_ok())
        })
    }

    fn mac(&self, id: &str, timestamp: i64, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        mac
    }
}

/// Two keys are equal if they make the same signatures. The comparison takes the same time wherever
/// they differ.
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
    fn only_the_same_key_id_time_and_bytes_verify() {
        let key =
            |text: &str| SigningKey::parse(&format!("whsec_{}", STANDARD.encode(text.repeat(24))).into());
        let (ours, other) = (key("a").unwrap(), key("b").unwrap());
        let signature = ours.sign("evt_1", 7, b"body");
        assert!(ours.verify(&signature, "evt_1", 7, b"body"));
        let both = format!("{} {signature}", other.sign("evt_1", 7, b"body"));
        assert!(ours.verify(&both, "evt_1", 7, b"body"), "as while a secret is rotated");
        assert!(!other.verify(&signature, "evt_1", 7, b"body"));
        assert!(!ours.verify(&signature, "evt_2", 7, b"body"));
        assert!(!ours.verify(&signature, "evt_1", 8, b"body"));
        assert!(!ours.verify(&signature, "evt_1", 7, b"bodY"));
        for bad in ["", "v1,", "v2,AAAA", signature.trim_start_matches("v1,")] {
            assert!(!ours.verify(bad, "evt_1", 7, b"body"), "{bad:?}");
        }
    }

    #[test]
    fn other_forms_of_secret_are_refused_without_repeating_them() {
        for bad in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_!!!", "whsec_c2hvcnQ="] {
            let error = SigningKey::parse(&bad.into()).unwrap_err().to_string();
            assert!(bad.len() < 8 || !error.contains(bad));
        }
    }
}
