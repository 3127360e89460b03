//! The settings of the simulated Pepay: sizes, times, keys and webhooks, beside the [`Switches`].

use std::num::NonZeroU32;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use super::switches::Switches;
use crate::domain::backoff::Backoff;
use crate::domain::event::Environment;
use crate::domain::filter::TypeFilter;
use crate::pepay::signature::SigningKey;

/// All settings. Pepay documents none of the sizes and times.
#[derive(Clone, Debug)]
pub struct Options {
    /// The keys that are accepted, in either header.
    pub keys: Vec<ApiKey>,
    /// `merchant_id` in token answers.
    pub merchant_id: u64,
    /// The longest `ttl_seconds` a token may ask for.
    pub max_token_ttl: Duration,
    /// How many of the newest events `since` can replay from.
    pub replay_retention: usize,
    /// The number of events in the snapshot after a `since` that is too old.
    pub snapshot: usize,
    /// How many of the newest events the REST list knows.
    pub rest_retention: usize,
    /// The initial switches.
    pub switches: Switches,
    /// Requests a minute and key above which the answer is 429; `None` is no limit.
    pub rate_limit: Option<NonZeroU32>,
    /// Open streams above which an upgrade is answered 429.
    pub max_streams: usize,
    /// How often a stream gets a ping; `None` is never.
    pub ping_interval: Option<Duration>,
    /// The age at which a stream is closed; `None` is never.
    pub max_stream_age: Option<Duration>,
    /// The close code of a stream that has reached that age (RFC 6455, section 7.4).
    pub age_close_code: u16,
    /// How many times an event is sent by each channel.
    pub copies: Copies,
    /// The webhook sender.
    pub webhooks: WebhookOptions,
    /// The seed of made-up events.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            merchant_id: 123,
            max_token_ttl: Duration::from_hours(1),
            replay_retention: 1_000,
            snapshot: 100,
            rest_retention: 10_000,
            switches: Switches::default(),
            rate_limit: None,
            max_streams: 100,
            ping_interval: Some(Duration::from_secs(25)),
            max_stream_age: None,
            age_close_code: 1001,
            copies: Copies::ONE,
            webhooks: WebhookOptions::default(),
            seed: 1,
        }
    }
}

/// An API key and its rights.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// The value of `x-api-key` or `x-commerce-api-key`.
    pub secret: SecretString,
    /// The scopes that it opens.
    pub scopes: Vec<Scope>,
    /// The only environment it sees, if it is bound to one.
    pub environment: Option<Environment>,
}

impl ApiKey {
    /// Creates a key of every scope and environment.
    pub fn new(secret: impl Into<SecretString>) -> Self {
        Self { secret: secret.into(), scopes: vec![Scope::Commerce, Scope::Merchant], environment: None }
    }
}

/// One of Pepay's two surfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// `/ws/commerce/events` and the devnet transitions.
    Commerce,
    /// `/ws/merchant/events`.
    Merchant,
}

impl Scope {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commerce => "commerce",
            Self::Merchant => "merchant",
        }
    }
}

/// How many times one event is sent by each channel: 0 leaves it out, 2 sends it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// The number of live frames on each stream; a replay has every event once.
    pub stream: u32,
    /// The number of webhooks to each endpoint, each with retries of its own.
    pub webhook: u32,
}

impl Copies {
    /// Once by each channel.
    pub const ONE: Self = Self { stream: 1, webhook: 1 };
}

/// The webhook sender.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// The initial receivers of webhooks.
    pub endpoints: Vec<WebhookEndpoint>,
    /// The number of webhooks under way at the same time, including those that wait for a retry.
    pub concurrency: usize,
    /// The number of tries before a webhook is given up.
    pub attempts: u32,
    /// The waits between tries.
    pub backoff: Backoff,
    /// The time limit of one try.
    pub timeout: Duration,
}

impl Default for WebhookOptions {
    #[expect(clippy::expect_used, reason = "two constants, the smaller of them first")]
    fn default() -> Self {
        let backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30));
        Self {
            endpoints: Vec::new(),
            concurrency: 32,
            attempts: 8,
            backoff: backoff.expect("250 ms is above zero and below 30 s"),
            timeout: Duration::from_secs(10),
        }
    }
}

/// A receiver of webhooks.
#[derive(Clone, Debug)]
pub struct WebhookEndpoint {
    /// The URL to which webhooks are posted.
    pub url: Url,
    /// Signs `X-Pepay-Signature`.
    pub key: SigningKey,
    /// During a rotation, signs `X-Pepay-Signature-Previous`.
    pub previous_key: Option<SigningKey>,
    /// `X-Pepay-Network-Environment`.
    pub environment: Option<Environment>,
    /// The event types it receives.
    pub types: TypeFilter,
}

impl WebhookEndpoint {
    /// An endpoint that receives every type, signed with `secret` alone.
    pub fn new(url: Url, secret: &SecretString) -> Self {
        Self {
            url,
            key: SigningKey::new(secret),
            previous_key: None,
            environment: None,
            types: TypeFilter::any(),
        }
    }
}
