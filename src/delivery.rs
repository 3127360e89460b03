//! Forwarding: per target, its own dispatcher, client and retry schedule.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use url::Url;

use crate::domain::delivery::{Ordering, RetryPolicy};
use crate::domain::filter::TypeFilter;

/// One configured target.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Where events are posted; http or https.
    pub url: Url,
    /// Which event types it receives.
    pub types: TypeFilter,
    /// Signs what is sent, as Standard Webhooks.
    pub signing_key: Option<sign::SigningKey>,
    /// Sent with every request; marked sensitive.
    pub headers: HeaderMap,
    /// From the first byte sent to the last byte of the answer that is read.
    pub timeout: Duration,
    /// For the connection alone.
    pub connect_timeout: Duration,
    /// A root certificate beside the system's own, PEM.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key for mutual TLS, PEM.
    pub client_identity: Option<ClientIdentity>,
    /// Attempts on the wire at the same time.
    pub concurrency: usize,
    /// Whether deliveries wait for one another.
    pub ordering: Ordering,
    /// Requests per second; `None` is no limit.
    pub rate_limit: Option<f64>,
    /// What follows an attempt.
    pub retry: RetryPolicy,
    /// Answers that are not worth retrying.
    pub dead_on: BTreeSet<StatusCode>,
}

/// Files of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// Certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Private key, PEM.
    pub key_file: PathBuf,
}

pub mod sign;
