//! By which right the deliveries of a target are changed: the term of its lease, compared
//! in the transaction of the change.
//!
//! A comparison locks the row of the lease against the next take-over until the transaction
//! has ended, and lets a renewal pass. So of two owners the later one begins after everything
//! that the earlier one has written, and whatever the earlier one tries then finds its term over.

use std::collections::BTreeSet;

use sqlx::Row as _;

use super::session::{Failed, Session};
use crate::store::engine::Authority;
use crate::store::types::{TargetId, Term};

const COMPARE: &str = "SELECT 1 FROM lease WHERE name = $1 AND term = $2 FOR KEY SHARE";

/// The term of a later owner is greater than the one that a holder of before may write under.
const OVERRULE: &str = "UPDATE lease SET term = term + 1, holder = NULL \
                        WHERE name = $1 AND expires_at < clock_timestamp()";

const MAKE: &str =
    "INSERT INTO lease (name, term, expires_at) VALUES ($1, 1, '-infinity') ON CONFLICT DO NOTHING";

/// The name of the lease of `target`.
pub(super) async fn lease_of(session: &mut Session, target: TargetId) -> Result<String, sqlx::Error> {
    let query = "SELECT 'target/' || name AS lease FROM target WHERE id = $1";
    let rows = session.rows(sqlx::query(query).bind(target.0)).await?;
    rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get("lease")
}

/// Makes sure of `authority` over what `lease` is for, until the transaction ends.
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

/// Makes sure that no process owns any of `targets`, until the transaction ends.
pub(super) async fn hold_unowned(session: &mut Session, targets: BTreeSet<TargetId>) -> Result<(), Failed> {
    for target in targets {
        let lease = lease_of(session, target).await?;
        hold(session, &lease, Authority::Unowned).await?;
    }
    Ok(())
}
