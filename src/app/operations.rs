//! What an operator can have the running parts do.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::Reload;
use crate::delivery;
use crate::domain::operator::{BackfillFrom, OperationError, TargetInfo, TestOutcome};
use crate::domain::reload::Changes;
use crate::source::stream;
use crate::store::archive::{ActError, Archive};
use crate::web;

/// The running parts, for the admin API.
pub(super) struct Operations {
    archive: Archive,
    directed: watch::Receiver<Arc<Directed>>,
    reload: Reload,
}

/// The parts that run under one configuration, each list sorted by name.
#[derive(Debug, Default)]
pub(super) struct Directed {
    pub(super) streams: Vec<(Arc<str>, stream::Control)>,
    pub(super) targets: Vec<(TargetInfo, delivery::Control)>,
}

impl Directed {
    fn target(&self, name: &str) -> Result<&delivery::Control, OperationError> {
        let target = self.targets.iter().find(|(target, _)| target.name == name);
        target.map(|(_, control)| control).ok_or(OperationError::Unknown)
    }
}

impl Operations {
    pub(super) const fn new(
        archive: Archive,
        directed: watch::Receiver<Arc<Directed>>,
        reload: Reload,
    ) -> Self {
        Self { archive, directed, reload }
    }

    fn target(&self, name: &str) -> Result<delivery::Control, OperationError> {
        self.directed.borrow().target(name).cloned()
    }

    fn stream(&self, name: &str) -> Result<stream::Control, OperationError> {
        let directed = self.directed.borrow();
        let stream = directed.streams.iter().find(|(stream, _)| **stream == *name);
        stream.map(|(_, control)| control.clone()).ok_or(OperationError::Unknown)
    }
}

impl web::Operations for Operations {
    fn pause(&self, target: &str, paused: bool) -> BoxFuture<'_, Result<(), OperationError>> {
        let target = target.to_owned();
        Box::pin(async move {
            self.target(&target)?;
            self.archive.set_paused(&target, paused).await.map_err(|error| match error {
                ActError::Store(error) => OperationError::Unavailable(error.to_string()),
                _ => OperationError::Unknown,
            })?;
            // Looked up again: a reload may have replaced it meanwhile. One that comes
            // now waits for this look-up to end, and takes over what it has brought about.
            let directed = self.directed.borrow();
            directed.target(&target)?.pause(paused);
            Ok(())
        })
    }

    fn test(&self, target: &str) -> BoxFuture<'_, Result<TestOutcome, OperationError>> {
        let control = self.target(target);
        Box::pin(async move { control?.test().await })
    }

    fn reconnect(&self, stream: &str) -> Result<(), OperationError> {
        self.stream(stream)?.reconnect()
    }

    fn backfill(&self, stream: &str, from: BackfillFrom) -> Result<(), OperationError> {
        self.stream(stream)?.backfill(from)
    }

    fn reload(&self) -> BoxFuture<'_, Result<Changes, Vec<String>>> {
        Box::pin(self.reload.reload())
    }

    fn targets(&self) -> Vec<TargetInfo> {
        self.directed.borrow().targets.iter().map(|(target, _)| target.clone()).collect()
    }
}

impl From<&delivery::Settings> for TargetInfo {
    fn from(settings: &delivery::Settings) -> Self {
        let mut url = settings.url.clone();
        // No configuration has a user or password in it, but a query can hold a key.
        url.set_query(None);
        Self {
            name: settings.name.to_string(),
            url: url.into(),
            types: settings.types.patterns().iter().map(ToString::to_string).collect(),
            ordering: settings.ordering.as_str(),
            concurrency: settings.concurrency,
        }
    }
}
