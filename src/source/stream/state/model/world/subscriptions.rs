//! Changes of types and filters, and their effect on each event.

use super::*;
use crate::pepay::filter::{Filter, Filters};

/// The order by which the filter selects.
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
    /// Sets the types and filters of the next process.
    pub(super) fn subscribe(&mut self, other: Option<Subscribed>) {
        self.subscribed = other.unwrap_or(self.subscribed);
        self.ever_subscribed.push(self.subscribed);
    }

    /// Returns whether types or filters have changed. If so, the known event need not be on the
    /// list, and its absence is no hole.
    pub(super) fn has_resubscribed(&self) -> bool {
        self.ever_subscribed.windows(2).any(|pair| pair[0] != pair[1])
    }

    /// Returns whether the event names its order.
    pub(super) const fn is_whole(index: usize) -> bool {
        index.is_multiple_of(2)
    }

    /// Returns whether the stream sends the event to a connection with this subscription.
    pub(super) fn is_admitted(&self, index: usize, subscribed: Subscribed) -> bool {
        let Logged { order, kind, .. } = self.log[index];
        match subscribed {
            Subscribed::All => true,
            Subscribed::Orders => kind == Kind::Order,
            Subscribed::Invoices => kind == Kind::Invoice,
            Subscribed::OneOrder => order == ONE,
        }
    }

    /// Returns whether the list shows the event: of the filters, the list knows only the types.
    pub(super) fn is_listed(&self, index: usize) -> bool {
        self.subscribed == Subscribed::OneOrder || self.is_admitted(index, self.subscribed)
    }

    /// Returns whether the event was wanted all the time and the list alone can show that.
    pub(super) fn has_to_be_brought(&self, index: usize) -> bool {
        let tells = self.log[index].kind == Kind::Order || Self::is_whole(index);
        let is_wanted = |subscribed: &Subscribed| {
            self.is_admitted(index, *subscribed) && (tells || *subscribed != Subscribed::OneOrder)
        };
        self.ever_subscribed.iter().all(is_wanted)
    }

    /// Returns whether the event passes the present types and filters.
    pub(super) fn may_be_brought(&self, index: usize) -> bool {
        self.is_admitted(index, self.subscribed)
    }

    pub(super) fn is_about_the_same(&self, one: usize, other: usize) -> bool {
        (self.log[one].order, self.log[one].kind) == (self.log[other].order, self.log[other].kind)
    }
}
