//! The operations of the admin API, applied to the running parts.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::Reload;
use super::parts::{Controls, route};
use super::pauses::Pauses;
use super::replicas::ask_stream;
use super::verify::{Asker, Verifier};
use crate::alerts::Alerts;
use crate::delivery;
use crate::domain::alert::AlertOutcome;
use crate::domain::event::{Environment, EventId};
use crate::domain::operator::{
    BackfillFrom, OperationError, Routing, StreamCommand, TargetInfo, TestOutcome, Verification,
};
use crate::domain::reload::{Changes, ReloadError};
use crate::pepay::condition::{Condition, Path};
use crate::store::Peers;
use crate::web;

/// The running parts, for the admin API.
pub(super) struct Operations {
    pub(super) controls: watch::Receiver<Arc<Controls>>,
    pub(super) pauses: Pauses,
    pub(super) reload: Reload,
    pub(super) verifier: Verifier,
    pub(super) alerts: Alerts,
    /// The other replicas; `None` if the store belongs to one process.
    pub(super) peers: Option<Peers>,
}

impl Operations {
    /// Returns the account of `stream`. If there is no such stream, returns all accounts, that of
    /// `[pepay]` first.
    fn askers(&self, stream: Option<&str>) -> Vec<Asker> {
        let controls = self.controls.borrow();
        let of_stream = controls.accounts.iter().find(|(name, _)| Some(&**name) == stream);
        if let Some((name, account)) = of_stream {
            return vec![Asker { name: format!("streams.{name}"), account: Arc::clone(account) }];
        }
        let pepay = controls.account.iter().map(|account| ("pepay".to_owned(), account));
        let streams = controls.accounts.iter().map(|(name, account)| (format!("streams.{name}"), account));
        let mut askers: Vec<Asker> = Vec::new();
        for (name, account) in pepay.chain(streams) {
            if askers.iter().all(|asker| asker.account != *account) {
                askers.push(Asker { name, account: Arc::clone(account) });
            }
        }
        askers
    }

    fn target(&self, name: &str) -> Result<delivery::Control, OperationError> {
        self.controls.borrow().target(name).cloned()
    }

    /// Passes `command` to the stream called `name`, in the replica that reads it.
    async fn command(&self, name: String, command: StreamCommand) -> Result<(), OperationError> {
        let control = self.controls.borrow().stream(&name)?;
        let here = control.command(command.clone());
        match (&self.peers, here) {
            (Some(peers), Err(OperationError::Elsewhere)) => ask_stream(peers, &name, &command).await,
            (_, done) => done,
        }
    }
}

impl web::Operations for Operations {
    fn pause(&self, target: &str, paused: bool) -> BoxFuture<'_, Result<(), OperationError>> {
        Box::pin(self.pauses.set(target.to_owned(), paused))
    }

    fn test_alerts(&self) -> BoxFuture<'_, Result<AlertOutcome, OperationError>> {
        Box::pin(self.alerts.test())
    }

    fn test(&self, target: &str) -> BoxFuture<'_, Result<TestOutcome, OperationError>> {
        let control = self.target(target);
        Box::pin(async move { control?.test().await })
    }

    fn reconnect(&self, stream: &str) -> BoxFuture<'_, Result<(), OperationError>> {
        Box::pin(self.command(stream.to_owned(), StreamCommand::Reconnect))
    }

    fn backfill(&self, stream: &str, from: BackfillFrom) -> BoxFuture<'_, Result<(), OperationError>> {
        Box::pin(self.command(stream.to_owned(), StreamCommand::Backfill(from)))
    }

    fn verify(
        &self,
        id: EventId,
        stream: Option<&str>,
        held: Bytes,
    ) -> BoxFuture<'_, Result<Verification, OperationError>> {
        let askers = self.askers(stream);
        Box::pin(self.verifier.verify(askers, id, held))
    }

    fn reload(&self) -> BoxFuture<'_, Result<Changes, ReloadError>> {
        Box::pin(self.reload.reload())
    }

    fn routing(&self, kind: &str, environment: Option<Environment>, body: &[u8]) -> Vec<Routing> {
        let controls = self.controls.borrow();
        let routing = controls.targets.iter().map(|(target, control)| Routing {
            target: target.name.clone(),
            mismatch: route(control.settings()).mismatch(kind, environment, body),
        });
        routing.collect()
    }

    fn targets(&self) -> Vec<TargetInfo> {
        self.controls.borrow().targets.iter().map(|(target, _)| target.clone()).collect()
    }
}

impl From<&delivery::Settings> for TargetInfo {
    fn from(settings: &delivery::Settings) -> Self {
        let own = |(path, value): (&Path, &str)| (path.to_string(), value.to_owned());
        let mut url = settings.url.clone();
        // The configuration allows no user or password in the URL, but its query can contain a key.
        url.set_query(None);
        Self {
            signed: !settings.signing_keys.is_empty(),
            headers: settings.headers.keys().map(ToString::to_string).collect(),
            name: settings.name.to_string(),
            url: url.into(),
            types: settings.types.patterns().iter().map(ToString::to_string).collect(),
            environment: settings.environment,
            condition: settings.condition.iter().flat_map(Condition::terms).map(own).collect(),
            ordering: settings.ordering.as_str(),
            concurrency: settings.concurrency,
        }
    }
}
