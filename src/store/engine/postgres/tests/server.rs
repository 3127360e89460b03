//! What only a server has: leases, terms, connections that are cut.

use std::time::Duration;

use super::backend::Postgres;
use crate::domain::clock::Clock;
use crate::domain::delivery::Ordering;
use crate::store::contract::{Backend as _, Fixture, NOW, event, route};
use crate::store::error::{OpenError, RecordError};
use crate::store::types::Recorded;
use crate::store::{Store, server_check};

type Stored = Fixture<Postgres>;

async fn stored() -> Stored {
    Fixture::new(vec![route("orders", "*", Ordering::PerObject)]).await
}

const TAKE_OVER: &str = "UPDATE lease SET holder = 'another', term = term + 1, \
                         expires_at = clock_timestamp() + interval '1 hour' WHERE name = 'store'";

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused_until_the_first_has_ended() {
    let fixture = stored().await;
    let settings = fixture.backend.settings();
    let refused = Store::open(&settings, vec![], Clock::from_fn(|| NOW)).await.unwrap_err();
    assert!(matches!(refused, OpenError::Leased { .. }), "{refused}");
    let backend = fixture.close().await;
    let again = Fixture::at(backend, vec![]).await;
    assert_eq!(again.store.inbox.try_record(event("evt_1", "a")).await, Ok(Recorded::New));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_replaced_writes_nothing_and_learns_of_it() {
    let fixture = stored().await;
    fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
    fixture.backend.execute(TAKE_OVER);
    for write in [true, false] {
        let refused = if write {
            fixture.store.inbox.try_record(event("evt_2", "a")).await.map(drop)
        } else {
            fixture.store.operator.probe().await
        };
        let Err(RecordError::Unavailable(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("another process has taken over"), "{reason}");
    }
    assert_eq!(fixture.backend.texts("SELECT id FROM event"), ["evt_1"]);
    let lost = fixture.store.held(tokio_util::sync::CancellationToken::new());
    tokio::time::timeout(Duration::from_secs(5), lost).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_has_expired_and_that_nobody_took_is_still_held() {
    let fixture = stored().await;
    fixture.backend.execute("UPDATE lease SET expires_at = '-infinity' WHERE name = 'store'");
    assert_eq!(fixture.store.inbox.try_record(event("evt_1", "a")).await, Ok(Recorded::New));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_are_made_anew() {
    let fixture = stored().await;
    fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity \
               WHERE application_name = 'pepay-bridge' AND query LIKE '%append_events%'";
    fixture.backend.texts(cut);
    // The group that finds the connection gone is refused; it is offered again.
    let mut outcome = Err(RecordError::Overloaded);
    for _ in 0..40 {
        outcome = fixture.store.inbox.try_record(event("evt_2", "a")).await;
        if outcome.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(matches!(outcome, Ok(Recorded::New | Recorded::Duplicate)), "{outcome:?}");
    assert_eq!(fixture.backend.texts("SELECT id FROM event ORDER BY sequence"), ["evt_1", "evt_2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_with_a_nul_is_stored_all_the_same() {
    let fixture = stored().await;
    let recorded = fixture.store.inbox.try_record(event("evt_1", "a\\u0000b")).await;
    assert_eq!(recorded, Ok(Recorded::New));
    assert_eq!(fixture.backend.texts("SELECT object_id FROM event"), ["a\u{fffd}b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_application_or_a_later_version_is_left_alone() {
    let fixture = stored().await;
    let settings = fixture.backend.settings();
    let backend = fixture.close().await;
    backend.execute("INSERT INTO pepay_bridge_migration (version, name) VALUES (999, 'later')");
    let refused = Store::open(&settings, vec![], Clock::from_fn(|| NOW)).await.unwrap_err().to_string();
    assert!(refused.contains("has version 999, newer than"), "{refused}");
    let checked = server_check::examine(&backend.server, settings.durability).await;
    assert!(checked.unwrap_err().to_string().contains("version 999"));
    backend.execute("DROP TABLE pepay_bridge_migration");
    let refused = Store::open(&settings, vec![], Clock::from_fn(|| NOW)).await.unwrap_err().to_string();
    assert!(refused.contains("tables of another application"), "{refused}");
}
