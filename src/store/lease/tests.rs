//! Tenures and the reasons for their end.

use std::time::Duration;

use futures_util::FutureExt as _;

use super::*;

const TRUST: Duration = Duration::from_secs(3);

fn name() -> Arc<str> {
    of_target("orders")
}

#[tokio::test]
async fn a_store_of_one_process_has_all_of_its_leases_for_ever() {
    let leases = Leases::sole();
    let lease = leases.want(name());
    let tenure = lease.held().now_or_never().unwrap();
    assert!(tenure.is_trusted() && tenure.term() == Term::SOLE && leases.holds(&name()));
    assert!(tenure.over().now_or_never().is_none());
}

#[tokio::test]
async fn a_tenure_begins_when_the_lease_is_held_and_ends_with_the_trust_in_it() {
    let leases = Leases::shared();
    let lease = leases.want(name());
    assert!(lease.held().now_or_never().is_none() && !leases.holds(&name()));
    leases.hold(&name(), Term(7), Instant::now() + TRUST);
    let tenure = lease.held().now_or_never().unwrap();
    assert_eq!(tenure.term(), Term(7));
    assert!(tenure.is_trusted() && tenure.over().now_or_never().is_none());
    leases.hold(&name(), Term(7), Instant::now());
    assert!(!tenure.is_trusted() && tenure.over().now_or_never().is_some());
    drop(tenure);
    assert!(lease.held().now_or_never().is_none(), "nothing is started under a lease that is not trusted");
    leases.hold(&name(), Term(7), Instant::now() + TRUST);
    assert!(lease.held().now_or_never().is_some());
}

#[tokio::test]
async fn a_lost_lease_is_over_and_the_next_term_is_another_tenure() {
    let leases = Leases::shared();
    let lease = leases.want(name());
    leases.hold(&name(), Term(1), Instant::now() + TRUST);
    let first = lease.held().await;
    leases.lose(&name());
    assert!(!first.is_trusted() && first.over().now_or_never().is_some());
    leases.hold(&name(), Term(2), Instant::now() + TRUST);
    assert!(!first.is_trusted(), "the first stays over");
    first.lose();
    assert!(leases.holds(&name()), "who has an old tenure cannot end the new one");
    drop(first);
    assert_eq!(lease.held().await.term(), Term(2));
}

#[tokio::test]
async fn every_lease_of_a_term_that_the_database_has_ended_is_over_at_once() {
    let leases = Leases::shared();
    let [earlier, forgotten, later] = ["target/earlier", "target/forgotten", "target/later"].map(Arc::from);
    for (name, term) in [(&earlier, 1), (&forgotten, 1), (&later, 9)] {
        leases.hold(name, Term(term), Instant::now() + TRUST);
    }
    // The last one was taken after the database had gone on.
    leases
        .lose_earlier(&[("target/earlier".to_owned(), Term(9)), ("target/later".to_owned(), Term(9))].into());
    assert_eq!([&earlier, &forgotten, &later].map(|name| leases.holds(name)), [false, false, true]);
    assert_eq!(leases.wishes().held, [(later, Term(9))]);
}

#[tokio::test]
async fn a_lease_to_be_left_is_given_back_once_its_tenure_has_ended() {
    let leases = Leases::shared();
    let lease = leases.want(name());
    leases.hold(&name(), Term(1), Instant::now() + TRUST);
    let tenure = lease.held().await;
    assert!(leases.leave(&name()) && !leases.leave(&name()));
    assert!(tenure.over().now_or_never().is_some());
    assert!(leases.wishes().given_back.is_empty(), "something may be under way");
    leases.hold(&name(), Term(1), Instant::now() + TRUST);
    assert!(lease.held().now_or_never().is_none(), "a renewal does not begin it anew");
    drop(tenure);
    assert_eq!(leases.wishes().given_back, [(name(), Term(1))]);
    assert_eq!(leases.wishes().wanted, [name()]);
}

#[tokio::test]
async fn a_lease_that_is_not_wanted_any_more_is_given_back() {
    let leases = Leases::shared();
    let (before, after) = (leases.want(name()), leases.want(name()));
    leases.hold(&name(), Term(1), Instant::now() + TRUST);
    drop(before.held().await);
    drop(before);
    assert!(leases.wishes().given_back.is_empty(), "its successor wants it");
    drop(after);
    assert_eq!(
        leases.wishes(),
        Wishes { wanted: vec![], held: vec![(name(), Term(1))], given_back: vec![(name(), Term(1))] }
    );
}
