//! Types and filters that change, and what follows from them for each event.

use super::*;
use crate::pepay::filter::{Filter, Filters};

/// The order of the filter by one order.
const ONE: u8 = 1;

impl Subscribed {
    pub(super) fn of(self, settings: Settings) -> Settings {
        let types = match self {
            Self::All | Self::OneOrder => "*",
            Self::Orders => "commerce.order.*",
            Self::Invoices => "invoice.*",
        };
        let filter = (self == Self::OneOrder).then(|| (Filter::OrderId, format!("order_{ONE}")));
        let filters = Filters::new(filter.into_iter().collect());
        Settings { types: types.parse().unwrap(), filters, ..settings }
    }
}

impl World {
    /// The next process has these types and filters.
    pub(super) fn subscribe(&mut self, other: Option<Subscribed>) {
        self.subscribed = other.unwrap_or(self.subscribed);
        self.ever_subscribed.push(self.subscribed);
    }

    /// Whether types or filters have changed: then the known event need not be on the
    /// list, and its absence is no hole.
    pub(super) fn has_resubscribed(&self) -> bool {
        self.ever_subscribed.windows(2).any(|pair| pair[0] != pair[1])
    }

    /// Whether the event says which order it is about.
    pub(super) const fn is_whole(index: usize) -> bool {
        index.is_multiple_of(2)
    }

    /// Whether the stream sends an event to who has subscribed so.
    pub(super) fn is_admitted(&self, index: usize, subscribed: Subscribed) -> bool {
        let Logged { order, kind, .. } = self.log[index];
        match subscribed {
            Subscribed::All => true,
            Subscribed::Orders => kind == Kind::Order,
            Subscribed::Invoices => kind == Kind::Invoice,
            Subscribed::OneOrder => order == ONE,
        }
    }

    /// Whether the list shows it: of the filters it knows the types.
    pub(super) fn is_listed(&self, index: usize) -> bool {
        self.subscribed == Subscribed::OneOrder || self.is_admitted(index, self.subscribed)
    }

    /// Whether the event was wanted all the time, and the list alone can tell.
    pub(super) fn has_to_be_brought(&self, index: usize) -> bool {
        let tells = self.log[index].kind == Kind::Order || Self::is_whole(index);
        let is_wanted = |subscribed: &Subscribed| {
            self.is_admitted(index, *subscribed) && (tells || *subscribed != Subscribed::OneOrder)
        };
        self.ever_subscribed.iter().all(is_wanted)
    }

    /// Whether the present types and filters let it through.
    pub(super) fn may_be_brought(&self, index: usize) -> bool {
        self.is_admitted(index, self.subscribed)
    }

    pub(super) fn is_about_the_same(&self, one: usize, other: usize) -> bool {
        (self.log[one].order, self.log[one].kind) == (self.log[other].order, self.log[other].kind)
    }
}
