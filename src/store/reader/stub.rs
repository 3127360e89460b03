//! Not there yet.
use super::Reader;
use crate::domain::clock::UnixMillis;
use crate::domain::event::EventId;
use crate::domain::operator::{Action, Filter, Page};
use crate::store::archive::*;
use crate::store::writer::Key;
use bytes::Bytes;
use std::sync::Arc;

#[expect(clippy::unused_async, reason = "stub")]
impl Reader {
    pub(in crate::store) async fn events(
        &self,
        _filter: &Filter,
        _page: &Page,
    ) -> Result<Listed<EventSummary>, ReadError> {
        Ok(Listed { items: vec![], next: None })
    }
    pub(in crate::store) async fn event(&self, _id: &EventId) -> Result<Option<EventDetail>, ReadError> {
        Ok(None)
    }
    pub(in crate::store) async fn body(&self, _id: &EventId) -> Result<Option<Option<Bytes>>, ReadError> {
        Ok(None)
    }
    pub(in crate::store) async fn deliveries(
        &self,
        _filter: &Filter,
        _page: &Page,
    ) -> Result<Listed<DeliverySummary>, ReadError> {
        Ok(Listed { items: vec![], next: None })
    }
    pub(in crate::store) async fn delivery(
        &self,
        _target: &str,
        _id: &EventId,
    ) -> Result<Option<DeliveryDetail>, ReadError> {
        Ok(None)
    }
    pub(in crate::store) async fn matching(
        &self,
        _action: Action,
        _filter: &Filter,
    ) -> Result<Vec<Key>, ReadError> {
        Ok(vec![])
    }
    pub(in crate::store) async fn paused(&self) -> Result<Vec<Arc<str>>, ReadError> {
        Ok(vec![])
    }
    pub(in crate::store) async fn races(&self, _now: UnixMillis) -> Result<Races, ReadError> {
        Ok(Races::default())
    }
    pub(in crate::store) async fn latencies(&self) -> Result<Vec<Latency>, ReadError> {
        Ok(vec![])
    }
    pub(in crate::store) async fn usage(&self) -> Result<Usage, ReadError> {
        Ok(Usage {
            database_bytes: 0,
            wal_bytes: 0,
            free_bytes: 0,
            disk_free_bytes: u64::MAX,
            disk_total_bytes: u64::MAX,
        })
    }
}
