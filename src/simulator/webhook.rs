//! The webhook sender follows the journal and posts each event to each endpoint, signed, until the
//! event is acknowledged or given up.
//!
//! Waiting events are in the journal. At most
//! [`concurrency`](super::options::WebhookOptions::concurrency) webhooks are under way, so a receiver
//! that is down holds the sender up instead of filling its memory.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use reqwest::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::journal::{Entry, Item};
use super::options::WebhookEndpoint;
use super::{Simulator, lock};

/// The number of items read from the journal at once.
const BATCH: usize = 64;

/// Returns a client that sends to one address: it follows no redirects and uses no proxy. On a system
/// without root certificates it reaches only `http` addresses.
pub(super) fn client(timeout: Duration) -> Result<Client, reqwest::Error> {
    // The first caller has chosen a provider. If there is none, this provider is the one that the rest
    // of the program uses.
    let _already_chosen = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent("Pepay-Webhooks/1.0 (simulator)")
    };
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}

/// An event for one endpoint, given by its index in the list.
#[derive(Clone)]
struct Webhook {
    entry: Arc<Entry>,
    endpoint: usize,
}

/// Sends webhooks until `stop`. A later run goes on at the same position; webhooks that were under way
/// are not sent again.
pub(super) async fn run(simulator: &Simulator, client: &Client, stop: &CancellationToken) {
    let mut journal_end = simulator.0.journal.follow();
    let mut due: VecDeque<Webhook> = VecDeque::new();
    let mut under_way = JoinSet::new();
    let concurrency = simulator.options().webhooks.concurrency.max(1);
    loop {
        journal_end.borrow_and_update();
        while under_way.len() < concurrency {
            if due.is_empty() {
                due = take_up(simulator);
            }
            let Some(webhook) = due.pop_front() else { break };
            under_way.spawn(deliver(simulator.clone(), client.clone(), webhook, stop.clone()));
        }
        // Either there is no room, or no webhook is due.
        let room = under_way.len() < concurrency;
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = under_way.join_next() => {}
            changed = journal_end.changed(), if room => if changed.is_err() { break },
        }
    }
    simulator.count(|statistics| statistics.webhooks_under_way -= due.len() as u64);
    while under_way.join_next().await.is_some() {}
}

/// Reads the next events for an endpoint from the journal.
fn take_up(simulator: &Simulator) -> VecDeque<Webhook> {
    let endpoints = lock(&simulator.0.endpoints).clone();
    let mut cursor = lock(&simulator.0.webhook_cursor);
    loop {
        let batch = simulator.0.journal.read(*cursor, BATCH);
        *cursor = batch.next;
        let mut due = VecDeque::new();
        for entry in batch.items.iter().filter_map(event) {
            let kind = entry.event.kind.as_str();
            let subscribed = |endpoint: &WebhookEndpoint| endpoint.types.matches(kind);
            let receivers = endpoints.iter().enumerate().filter(|(_, endpoint)| subscribed(endpoint));
            for (endpoint, _) in receivers {
                let webhook = Webhook { entry: Arc::clone(entry), endpoint };
                due.extend((0..entry.copies.webhook).map(|_| webhook.clone()));
            }
        }
        if batch.lost > 0 && !endpoints.is_empty() {
            tracing::warn!(lost = batch.lost, "webhooks fell out of the journal before they were sent");
        }
        simulator.count(|statistics| {
            statistics.webhook_position = batch.next;
            statistics.webhooks_under_way += due.len() as u64;
            statistics.webhooks_lost += if endpoints.is_empty() { 0 } else { batch.lost };
        });
        if !due.is_empty() || batch.items.is_empty() {
            return due;
        }
    }
}

fn event(item: &Item) -> Option<&Arc<Entry>> {
    match item {
        Item::Event(entry) => Some(entry),
        Item::Act(_) => None,
    }
}

/// Posts a webhook until the endpoint acknowledges it, the tries are used up, or `stop`.
async fn deliver(simulator: Simulator, client: Client, webhook: Webhook, stop: CancellationToken) {
    let options = &simulator.options().webhooks;
    let id = &webhook.entry.event.id;
    let mut acknowledged = false;
    for attempt in 1..=options.attempts {
        // The endpoint is looked up each time, since the receiver may have moved.
        let endpoint = lock(&simulator.0.endpoints).get(webhook.endpoint).cloned();
        let Some(endpoint) = endpoint else { break };
        let answer = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            answer = post(&simulator, &client, &endpoint, &webhook.entry) => answer,
        };
        acknowledged = matches!(&answer, Ok(status) if status.is_success());
        if acknowledged {
            break;
        }
        match answer {
            Ok(status) => tracing::info!(event_id = %id, attempt, %status, "a webhook was refused"),
            Err(error) => {
                let error: &(dyn Error + 'static) = &error.without_url();
                tracing::info!(event_id = %id, attempt, error, "a webhook did not arrive");
            }
        }
        if attempt < options.attempts {
            let wait = options.backoff.delay(attempt, simulator.0.jitter.next());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
    if acknowledged {
        webhook.entry.sent.webhooks_acknowledged.fetch_add(1, Ordering::Relaxed);
    } else {
        tracing::warn!(event_id = %id, "a webhook was given up");
    }
    simulator.count(|statistics| {
        statistics.webhooks_under_way -= 1;
        statistics.webhooks_acknowledged += u64::from(acknowledged);
        statistics.webhooks_given_up += u64::from(!acknowledged);
    });
}

async fn post(
    simulator: &Simulator,
    client: &Client,
    endpoint: &WebhookEndpoint,
    entry: &Entry,
) -> Result<StatusCode, reqwest::Error> {
    entry.sent.webhook_attempts.fetch_add(1, Ordering::Relaxed);
    simulator.count(|statistics| statistics.webhook_attempts += 1);
    let (event, timestamp) = (&entry.event, simulator.0.clock.now().0.to_string());
    let mut request = client
        .post(endpoint.url.clone())
        .header("content-type", "application/json")
        .header("x-pepay-event", event.kind.as_str())
        .header("x-pepay-event-id", event.id.as_str())
        .header("x-pepay-signature", endpoint.key.sign(&timestamp, &event.body));
    if let Some(previous) = &endpoint.previous_key {
        request = request.header("x-pepay-signature-previous", previous.sign(&timestamp, &event.body));
    }
    if let Some(environment) = endpoint.environment {
        request = request.header("x-pepay-network-environment", environment.as_str());
    }
    let response = request.header("x-pepay-timestamp", timestamp).body(event.body.clone()).send().await?;
    let status = response.status();
    // The answer is read to its end, so that the connection can be used again.
    response.bytes().await?;
    Ok(status)
}
