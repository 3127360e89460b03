//! Webhook signatures: lower-case hex of
//! `HMAC-SHA256(secret, "<X-Pepay-Timestamp>.<raw body bytes>")`
//! (Pepay: `api-spec/webhooks-authentication`).

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// A webhook secret, ready to sign and verify. Never printed.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// Prepares `secret`.
    ///
    /// # Panics
    /// Never: HMAC takes a key of any length.
    pub fn new(secret: &SecretString) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC is defined for keys of every length (RFC 2104)")]
        let mac = Hmac::new_from_slice(secret.expose_secret().as_bytes())
            .expect("HMAC accepts a key of any length");
        Self(mac)
    }

    /// Returns the value of `X-Pepay-Signature` for this timestamp header and body.
    pub fn sign(&self, timestamp: &str, body: &[u8]) -> String {
        hex::encode(self.mac(timestamp, body).finalize().into_bytes())
    }

    /// Returns whether `signature`, the literal header value, was made with this key. The comparison
    /// takes the same time wherever the two differ.
    pub fn verify(&self, signature: &str, timestamp: &str, body: &[u8]) -> bool {
        let lower_case = !signature.bytes().any(|byte| byte.is_ascii_uppercase());
        let mut claimed = [0_u8; 32];
        lower_case
            && hex::decode_to_slice(signature, &mut claimed).is_ok()
            && self.mac(timestamp, body).verify_slice(&claimed).is_ok()
    }

    fn mac(&self, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(timestamp.as_bytes());
        mac.update(b".");
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

    /// Computed with `openssl dgst -sha256 -hmac whsec_test` over `1734780000000.{"id":"evt_1"}`.
    const KNOWN: &str = "ab74815c16fe31e6c957b7e4eddd09d21c82d49f9ef74018b63cb2b9b9e1b382";

    fn key(secret: &str) -> SigningKey {
        SigningKey::new(&secret.into())
    }

    #[test]
    fn a_signature_agrees_with_an_independent_implementation() {
        assert_eq!(key("whsec_test").sign("1734780000000", br#"{"id":"evt_1"}"#), KNOWN);
    }

    #[test]
    fn only_the_same_key_timestamp_and_bytes_verify() {
        let (key_a, body) = (key("a"), b"body");
        let signature = key_a.sign("1", body);
        assert!(key_a.verify(&signature, "1", body));
        assert!(!key("b").verify(&signature, "1", body));
        assert!(!key_a.verify(&signature, "2", body));
        assert!(!key_a.verify(&signature, "1", b"bodY"));
    }

    #[test]
    fn malformed_signatures_never_verify() {
        let key = key("a");
        let good = key.sign("1", b"body");
        for bad in [&*good.to_uppercase(), &good[..62], &*format!("{good}00"), "", "zz", &*format!(" {good}")]
        {
            assert!(!key.verify(bad, "1", b"body"), "{bad:?}");
        }
    }

    #[test]
    fn the_secret_does_not_show_in_debug() {
        assert_eq!(format!("{:?}", key("hunter2")), "SigningKey([redacted])");
    }
}
