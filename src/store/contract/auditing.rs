//! The audit trail.

use super::direct::Direct;
use super::*;
use crate::domain::audit::{Entry, Filter, Kind};
use crate::store::engine::RetentionStep;

/// Returns an entry of `action`, this many seconds after [`NOW`].
pub(super) fn entry(action: &str, seconds: i64) -> Entry {
    Entry {
        at: UnixMillis(NOW.0 + seconds * 1000),
        kind: if action == "read_body" { Kind::Read } else { Kind::Change },
        who: Some("grafana".to_owned()),
        peer: Some("192.0.2.1:1".to_owned()),
        client: "page".to_owned(),
        action: action.to_owned(),
        target: Some("orders".to_owned()),
        stream: None,
        event_id: Some("evt_1".to_owned()),
        filter: None,
        count: 3,
        outcome: "done".to_owned(),
    }
}

fn actions(entries: &[crate::store::view::AuditEntry]) -> Vec<&str> {
    entries.iter().map(|listed| &*listed.entry.action).collect()
}

#[tokio::test]
async fn entries_are_listed_newest_first_by_every_filter_and_page_by_page() {
    let fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let operator = fixture.store.operator.clone();
    let other = Entry { who: None, target: None, event_id: None, ..entry("reload", 3) };
    let written = [entry("retry", 1), entry("read_body", 2), other];
    for (key, entry) in (1..).zip(&written) {
        operator.record(key, entry.clone()).await.unwrap();
    }
    let (all, next) = operator.audit(&Filter::default(), None, 50).await.unwrap();
    assert_eq!(
        all.iter().rev().map(|listed| &listed.entry).collect::<Vec<_>>(),
        written.iter().collect::<Vec<_>>()
    );
    assert!(next.is_none() && all.is_sorted_by(|newer, older| newer.id > older.id));

    let text = |text: &str| Some(text.to_owned());
    let at = |seconds: i64| Some(UnixMillis(NOW.0 + seconds * 1000));
    for (filter, expected) in [
        (Filter { kind: Some(Kind::Read), ..Filter::default() }, &["read_body"][..]),
        (Filter { who: text("grafana"), ..Filter::default() }, &["read_body", "retry"]),
        (Filter { action: text("reload"), ..Filter::default() }, &["reload"]),
        (Filter { target: text("orders"), from: at(2), ..Filter::default() }, &["read_body"]),
        (Filter { event_id: text("evt_1"), to: at(2), ..Filter::default() }, &["retry"]),
        (Filter { event_id: text("evt_2"), ..Filter::default() }, &[]),
    ] {
        let (found, next) = operator.audit(&filter, None, 50).await.unwrap();
        assert_eq!((actions(&found), next), (expected.to_vec(), None), "{filter:?}");
    }

    let (newest, next) = operator.audit(&Filter::default(), None, 2).await.unwrap();
    assert_eq!(actions(&newest), ["reload", "read_body"]);
    let (rest, end) = operator.audit(&Filter::default(), next, 2).await.unwrap();
    assert_eq!((actions(&rest), end), (vec!["retry"], None));
    fixture.close().await;
}

#[tokio::test]
async fn entries_outlast_a_restart_and_go_with_their_age() {
    let aging = retention::Aging::new().await;
    let operator = aging.fixture.store.operator.clone();
    operator.record(1, entry("retry", 0)).await.unwrap();
    aging.pass(Duration::from_hours(24));
    operator.record(2, entry("pause", 24 * 3600)).await.unwrap();
    let aging = aging.restart().await;
    let listed = async || aging.fixture.store.operator.audit(&Filter::default(), None, 50).await.unwrap().0;
    aging.sweep().await;
    assert_eq!(actions(&listed().await), ["pause", "retry"]);
    aging.pass(Duration::from_hours(24) + Duration::from_secs(1));
    aging.sweep().await;
    assert_eq!(actions(&listed().await), ["pause"]);
}

#[tokio::test]
async fn the_newest_entries_of_each_kind_are_kept_and_reads_displace_no_changes() {
    let mut direct = Direct::new().await;
    for key in 1..=5 {
        let read = entry("read_body", key);
        direct.commit(|group| group.engine.audit(key, &read)).unwrap();
    }
    let change = entry("retry", 0);
    direct.commit(|group| group.engine.audit(6, &change)).unwrap();
    let step = RetentionStep::Audit { before: UnixMillis(0), newest: 2 };
    let more = direct.commit(|group| group.engine.retain(step, &mut group.context)).unwrap().more;
    assert!(!more);
    assert_eq!(direct.backend.numbers("SELECT key FROM audit ORDER BY key"), [4, 5, 6]);
}

#[tokio::test]
async fn an_entry_that_cannot_be_written_fails_alone() {
    let fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let operator = fixture.store.operator.clone();
    fixture.backend.refuse("INSERT ON audit", "new.action = 'retry'");
    let written = operator.record(1, entry("retry", 0));
    let stored = fixture.store.inbox.try_record(event("evt_1", "a"));
    let (written, stored) = tokio::join!(written, stored);
    assert!(written.is_err() && stored.is_ok(), "{written:?} {stored:?}");
    operator.record(2, entry("pause", 0)).await.unwrap();
    let (listed, _) = operator.audit(&Filter::default(), None, 50).await.unwrap();
    assert_eq!(actions(&listed), ["pause"]);
    fixture.close().await;
}
