//! The writer.
use super::inbox::{Batch, RecordError, Recorded};
use tokio::sync::oneshot;

/// PLACEHOLDER until the store lands.
#[derive(Debug)]
pub(super) enum Command {
    Record { batch: Batch, reply: oneshot::Sender<Result<Vec<Recorded>, RecordError>> },
}
