//! The accounts whose events a store holds, and their comparison with the configured sources.

use std::fmt;
use std::sync::Arc;

use super::error::RecordError;
use crate::domain::event::Environment;

/// The account of a source's events, and the Pepay that has it, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceIdentity {
    /// The configured name of the stream; empty for webhooks, which belong to `[pepay]`.
    pub source: Arc<str>,
    /// The base of the REST API, without a slash at its end.
    pub api_url: String,
    /// The environment that Pepay or the configuration names.
    pub environment: Option<Environment>,
    /// The number or name that Pepay gives the account.
    pub account: Option<String>,
}

/// A source belongs to another Pepay, or to another account there, than the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store belongs to {stored}, and {} is of {found}; if that is a mistake, correct the key, \
     `api_url` or `store.url`; if the store is to go on with it, start with `run --adopt`", found.name()
)]
pub struct OtherIdentity {
    /// The identity that the store has.
    pub stored: SourceIdentity,
    /// The identity of the source.
    pub found: SourceIdentity,
}

/// Why the store does not accept the configured sources.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// A source belongs to another account than the store.
    #[error(transparent)]
    Other(#[from] Box<OtherIdentity>),
    /// The store does not commit.
    #[error(transparent)]
    Store(#[from] RecordError),
}

impl SourceIdentity {
    /// Returns the name of the source in the configuration.
    fn name(&self) -> String {
        if self.source.is_empty() { "`[pepay]`".to_owned() } else { format!("`streams.{}`", self.source) }
    }
}

impl fmt::Display for SourceIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.account {
            Some(account) => write!(f, "account {account} ")?,
            None => f.write_str("an account ")?,
        }
        if let Some(environment) = self.environment {
            write!(f, "({}) ", environment.as_str())?;
        }
        write!(f, "at {}", self.api_url)
    }
}

/// Compares the `claimed` identities with the `stored` ones. Returns the identities to write: new
/// ones, and stored ones of which more is known now.
///
/// A stored source has to have the same identity as before, as far as both are known. Other sources
/// may be added beside at least one that has the `api_url` of a stored one, even of another Pepay.
pub(super) fn reconcile(
    stored: &[SourceIdentity],
    claimed: &[SourceIdentity],
) -> Result<Vec<SourceIdentity>, Box<OtherIdentity>> {
    let known = |claim: &SourceIdentity| stored.iter().any(|stored| stored.api_url == claim.api_url);
    if let (Some(stored), Some(found)) = (stored.first(), claimed.first())
        && !claimed.iter().any(known)
    {
        return Err(other(stored, found));
    }
    let mut changed = Vec::new();
    for found in claimed {
        let Some(stored) = stored.iter().find(|stored| stored.source == found.source) else {
            changed.push(found.clone());
            continue;
        };
        if stored.api_url != found.api_url
            || differ(stored.environment.as_ref(), found.environment.as_ref())
            || differ(stored.account.as_ref(), found.account.as_ref())
        {
            return Err(other(stored, found));
        }
        let merged = SourceIdentity {
            environment: stored.environment.or(found.environment),
            account: stored.account.clone().or_else(|| found.account.clone()),
            ..stored.clone()
        };
        if merged != *stored {
            changed.push(merged);
        }
    }
    Ok(changed)
}

/// Returns whether both are known and different.
fn differ<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

fn other(stored: &SourceIdentity, found: &SourceIdentity) -> Box<OtherIdentity> {
    Box::new(OtherIdentity { stored: stored.clone(), found: found.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Environment::{Devnet, Mainnet};

    fn of(source: &str, api_url: &str) -> SourceIdentity {
        SourceIdentity { source: source.into(), api_url: api_url.into(), environment: None, account: None }
    }

    fn account(source: &str, account: &str) -> SourceIdentity {
        SourceIdentity { account: Some(account.into()), environment: Some(Devnet), ..of(source, "a") }
    }

    #[test]
    fn an_empty_store_accepts_the_first_identities() {
        let claimed = [of("", "a"), of("commerce", "b")];
        assert_eq!(reconcile(&[], &claimed), Ok(claimed.to_vec()));
    }

    #[test]
    fn an_identity_that_becomes_known_later_is_added_and_never_removed() {
        let stored = [of("commerce", "a")];
        assert_eq!(reconcile(&stored, &[account("commerce", "1")]), Ok(vec![account("commerce", "1")]));
        assert_eq!(reconcile(&[account("commerce", "1")], &stored), Ok(vec![]));
    }

    #[test]
    fn a_known_source_of_another_address_account_or_environment_is_refused() {
        let stored = [account("commerce", "1"), of("", "b")];
        let elsewhere = SourceIdentity { api_url: "b".into(), ..account("commerce", "1") };
        let live = SourceIdentity { environment: Some(Mainnet), ..account("commerce", "1") };
        for found in [elsewhere, live, account("commerce", "2")] {
            let refused = reconcile(&stored, std::slice::from_ref(&found)).unwrap_err();
            assert_eq!((&refused.stored, &refused.found), (&stored[0], &found));
        }
    }

    #[test]
    fn a_source_is_added_beside_a_known_one_and_not_instead_of_all() {
        let stored = [of("commerce", "a")];
        let added = of("test", "b");
        assert_eq!(reconcile(&stored, &[stored[0].clone(), added.clone()]), Ok(vec![added.clone()]));
        assert!(reconcile(&stored, std::slice::from_ref(&added)).is_err());
        assert_eq!(reconcile(&stored, &[of("renamed", "a")]), Ok(vec![of("renamed", "a")]));
        assert_eq!(reconcile(&stored, &[]), Ok(vec![]));
    }

    #[test]
    fn the_refusal_names_both_and_what_to_do() {
        let refused = reconcile(&[account("commerce", "1")], &[account("commerce", "2")]).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("belongs to account 1 (devnet) at a"), "{text}");
        assert!(text.contains("`streams.commerce` is of account 2 (devnet) at a"), "{text}");
        assert!(text.contains("`run --adopt`"), "{text}");
    }
}
