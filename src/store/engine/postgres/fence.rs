//! Checks the right to change the deliveries of a target. That right is the term of its lease,
//! which is compared in the transaction of the change.
//!
//! A comparison locks the row of the lease against the next take-over until the transaction ends. A
//! renewal does not wait for this lock. So of two owners, the later one begins after everything
//! that the earlier one has written. A later write of the earlier owner then finds that its term is
//! over.

use std::collections::BTreeSet;

use sqlx::Row as _;

use super::session::{Failed, Session};
use crate::store::engine::Authority;
use crate::store::types::{TargetId, Term};

const COMPARE: &str = "SELECT 1 FROM lease WHERE name = $1 AND term = $2 FOR KEY SHARE";

/// Raises the term of a lease that has expired, so that its former holder cannot write any more.
const OVERRULE: &str = "UPDATE lease SET term = term + 1, holder = NULL \
                        WHERE name = $1 AND expires_at < clock_timestamp()";

const MAKE: &str =
    "INSERT INTO lease (name, term, expires_at) VALUES ($1, 1, '-infinity') ON CONFLICT DO NOTHING";

/// Returns the name of the lease of `target`.
pub(super) async fn lease_of(session: &mut Session, target: TargetId) -> Result<String, sqlx::Error> {
    let query = "SELECT 'target/' || name AS lease FROM target WHERE id = $1";
    let rows = session.rows(sqlx::query(query).bind(target.0)).await?;
    rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get("lease")
}

/// Ensures `authority` over the owner of `lease` until the transaction ends.
///
/// # Errors
/// [`Failed::Superseded`] if another process has the lease.
pub(super) async fn hold(session: &mut Session, lease: &str, authority: Authority) -> Result<(), Failed> {
    let holds = match authority {
        Authority::Owner(Term(term)) => {
            !session.rows(sqlx::query(COMPARE).bind(lease).bind(term)).await?.is_empty()
        }
        Authority::Unowned => {
            session.execute(sqlx::query(OVERRULE).bind(lease)).await? == 1
                || session.execute(sqlx::query(MAKE).bind(lease)).await? == 1
        }
    };
    if holds { Ok(()) } else { Err(Failed::Superseded) }
}

/// Ensures that no process owns any of `targets` until the transaction ends.
pub(super) async fn hold_unowned(session: &mut Session, targets: BTreeSet<TargetId>) -> Result<(), Failed> {
    for target in targets {
        let lease = lease_of(session, target).await?;
        hold(session, &lease, Authority::Unowned).await?;
    }
    Ok(())
}
