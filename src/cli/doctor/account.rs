//! The check that the store contains events of the configured accounts.

use std::sync::Arc;

use super::report::Check;
use crate::app;
use crate::config::Settings;
use crate::domain::cause::chain;
use crate::pepay::token::Identity;
use crate::store::inbox::SourceIdentity;
use crate::store::{Place, check};

/// Compares the accounts that the store remembers with the configuration and with the accounts of the
/// streams' tokens. Returns no check if the store remembers no account yet.
pub(super) fn examine(settings: &Settings, minted: Vec<(Arc<str>, Identity)>) -> Vec<Check> {
    let mut found = app::identities(settings);
    for (stream, Identity { environment, account }) in minted {
        if let Some(source) = found.iter_mut().find(|source| source.source == stream) {
            (source.environment, source.account) = (environment, account);
        }
    }
    let identities = match &settings.store.place {
        Place::File(database) => check::identities(database, &found),
        // For a store on a server, `run` makes this comparison at its start.
        Place::Server(_) => return Vec::new(),
    };
    let check = match identities {
        Ok(check::Identities::None) => return Vec::new(),
        Ok(check::Identities::Same(held)) => {
            let knows_more = |one: &SourceIdentity| {
                held.iter().any(|other| other.api_url == one.api_url && other.account.is_some())
            };
            let told = held.iter().filter(|one| one.account.is_some() || !knows_more(one));
            let mut held: Vec<_> = told.map(ToString::to_string).collect();
            held.dedup();
            Check::ok("account", format!("the store holds events of {}", held.join(", ")))
        }
        Ok(check::Identities::Other(other)) => {
            Check::failed("account", other.to_string(), "`run` refuses to start so")
        }
        // The check of the database reports the fault itself.
        Err(error) => {
            let found = format!("whose events the store holds cannot be read: {}", chain(&error));
            Check::warning("account", found, "see the check of the database")
        }
    };
    vec![check]
}
