//! The orders of invoices, as earlier events have named them. A payment names its invoice alone; by the
//! link it belongs to the order.

use std::collections::{HashMap, VecDeque};

use super::selection::{Facts, Field};

/// The largest number of remembered invoices; beyond it the oldest is dropped.
const MAX_LINKS: usize = 100_000;

/// Orders by invoice.
#[derive(Debug, Default)]
pub(super) struct Links {
    orders: HashMap<Box<str>, Box<str>>,
    by_age: VecDeque<Box<str>>,
}

impl Links {
    /// Remembers the link that an event names, or adds the order to an event that names its invoice
    /// alone.
    pub(super) fn complete(&mut self, facts: &mut Facts) {
        let Some(invoice) = facts.value(Field::Invoice).map(Box::<str>::from) else { return };
        if let Some(order) = facts.value(Field::Order).map(Box::<str>::from) {
            if self.orders.insert(invoice.clone(), order).is_none() {
                self.by_age.push_back(invoice);
            }
            if self.by_age.len() > MAX_LINKS
                && let Some(oldest) = self.by_age.pop_front()
            {
                self.orders.remove(&oldest);
            }
        } else if let Some(order) = self.orders.get(&invoice) {
            facts.add(Field::Order, order.clone());
        }
    }
}
