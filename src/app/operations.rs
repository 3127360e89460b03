//! What an operator can have the running parts do.

use futures_util::future::BoxFuture;

use crate::delivery;
use crate::domain::operator::{BackfillFrom, OperationError, TargetInfo, TestOutcome};
use crate::domain::reload::Changes;
use crate::store::archive::{ActError, Archive};
use crate::web;

/// The running parts, for the admin API.
pub(super) struct Operations {
    archive: Archive,
    targets: Vec<TargetInfo>,
}

impl Operations {
    pub(super) fn new(targets: &[delivery::Settings], archive: Archive) -> Self {
        Self { archive, targets: targets.iter().map(info).collect() }
    }
}

fn info(settings: &delivery::Settings) -> TargetInfo {
    let mut url = settings.url.clone();
    // Both fail only for a URL that cannot have a user, which then has none to hide.
    let (_, _) = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    TargetInfo {
        name: settings.name.to_string(),
        url: url.into(),
        types: settings.types.patterns().iter().map(ToString::to_string).collect(),
        ordering: settings.ordering.as_str(),
        concurrency: settings.concurrency,
    }
}

impl web::Operations for Operations {
    fn pause(&self, target: &str, paused: bool) -> BoxFuture<'_, Result<(), OperationError>> {
        let target = target.to_owned();
        Box::pin(async move {
            self.archive.set_paused(&target, paused).await.map_err(|error| match error {
                ActError::Store(error) => OperationError::Unavailable(error.to_string()),
                _ => OperationError::Unknown,
            })
        })
    }

    fn test(&self, _target: &str) -> BoxFuture<'_, Result<TestOutcome, OperationError>> {
        Box::pin(async { Err(OperationError::Refused("not yet".to_owned())) })
    }

    fn reconnect(&self, _stream: &str) -> Result<(), OperationError> {
        Err(OperationError::Refused("not yet".to_owned()))
    }

    fn backfill(&self, _stream: &str, _from: BackfillFrom) -> Result<(), OperationError> {
        Err(OperationError::Refused("not yet".to_owned()))
    }

    fn reload(&self) -> BoxFuture<'_, Result<Changes, Vec<String>>> {
        Box::pin(async { Err(vec!["not yet".to_owned()]) })
    }

    fn targets(&self) -> Vec<TargetInfo> {
        self.targets.clone()
    }
}
