//! Checks a Standard Webhooks signature, as a receiver does (standardwebhooks.com).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// A receiver's secret, ready to verify. Never printed.
#[derive(Clone)]
pub struct Verifier(Hmac<Sha256>);

/// Why a text is not a secret. The error does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signing secret; allowed is `whsec_` followed by base64")]
pub struct InvalidSecret;

impl Verifier {
    /// Reads `whsec_<base64>`.
    ///
    /// # Errors
    /// [`InvalidSecret`] if it is not of that form.
    pub fn new(secret: &SecretString) -> Result<Self, InvalidSecret> {
        let encoded = secret.expose_secret().strip_prefix("whsec_").ok_or(InvalidSecret)?;
        let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        Hmac::new_from_slice(&key).map(Self).map_err(|_| InvalidSecret)
    }

    /// Returns whether one of the signatures in `headers` is that of `body`.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let (Some(id), Some(timestamp), Some(signatures)) =
            (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
        else {
            return false;
        };
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        signatures
            .split(' ')
            .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .any(|signature| mac.clone().verify_slice(&signature).is_ok())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn signatures_of_the_specifications_own_library_verify() {
        let (id, timestamp, body) = ("evt_1", 1_734_780_000, b"{}");
        let signature = standardwebhooks::Webhook::new(SECRET).unwrap().sign(id, timestamp, body).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.into());
        headers.insert("webhook-signature", format!("v1,bm8= {signature}").parse().unwrap());
        let verifier = Verifier::new(&SECRET.into()).unwrap();
        assert!(verifier.verify(&headers, body));
        assert!(!verifier.verify(&headers, b"[]"));
        headers.remove("webhook-signature");
        assert!(!verifier.verify(&headers, body));
    }
}
