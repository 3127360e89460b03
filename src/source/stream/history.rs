//! The subscriptions of a stream, with the time at which each began.
//!
//! A stream brings the events that pass its types and filters, from its first start on. Both may be
//! changed later, so the history is a list of subscriptions. The time of the first one is the
//! floor. An event is wanted if it passes the present subscription and also one that was in force
//! when the event was created. Events older than the floor are not news. Neither are events that a
//! wider subscription would have brought before it began. So no answer of the list, whatever it
//! contains or omits, makes the bridge deliver such an event.

use std::fmt::Write as _;

use super::Settings;
use super::swept::Swept;
use crate::domain::event::Event;
use crate::domain::filter::TypeFilter;
use crate::pepay::filter::{Admission, Filter, Filters};
use crate::source::backfill::MARGIN;

/// The largest number of subscriptions that are kept. Beyond it, the oldest are forgotten, and the
/// floor moves up to the oldest that is left.
const MOST: usize = 32;

/// The subscriptions of one stream, the oldest first; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History(Vec<Subscription>);

/// The subscription of a stream from a time on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Subscription {
    /// The time in Unix seconds, by Pepay's clock if that is known.
    since: i64,
    types: TypeFilter,
    filters: Filters,
}

/// Whether the history admits an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The event is to be taken in.
    Yes,
    /// The event is not to be taken in.
    No,
    /// The event would be taken in, but it was created before its subscription began.
    Early,
    /// The event passes the present filters as far as its own fields say. These do not say
    /// everything.
    Untold,
}

impl History {
    /// Creates the history of a stream that begins with events created at `since`, in Unix seconds.
    pub fn begin(settings: &Settings, since: i64) -> Self {
        Self(vec![Subscription::of(settings, since)])
    }

    /// Returns whether `event` passes the present subscription, whenever it was created.
    pub fn present(settings: &Settings, event: &Event) -> Wanted {
        admits(&settings.types, &settings.filters, event)
    }

    /// Reads the text of [`to_text`](Self::to_text), which may also have the line of [`Swept`];
    /// `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().filter(|line| !Swept::is_line(line));
        let subscriptions: Option<Vec<_>> = lines.map(Subscription::parse).collect();
        subscriptions.filter(|subscriptions| !subscriptions.is_empty()).map(Self)
    }

    /// Returns the history in the form of the store: a line for each subscription.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for Subscription { since, types, filters } in &self.0 {
            let query: String = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(filters.iter().map(|(filter, value)| (filter.name(), value)))
                .finish();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{since} {types} {query}");
        }
        text
    }

    /// Returns whether the last subscription is that of `settings`.
    pub fn is_current(&self, settings: &Settings) -> bool {
        self.0.last().is_some_and(|last| last.types == settings.types && last.filters == settings.filters)
    }

    /// Adds the subscription of `settings`, from `now` on, in Unix seconds.
    pub fn change(&mut self, settings: &Settings, now: i64) {
        let since = self.0.last().map_or(now, |last| now.max(last.since));
        self.0.push(Subscription::of(settings, since));
        if self.0.len() > MOST {
            self.0.remove(0);
        }
    }

    /// Moves beginnings that lie in the future to `now`, in Unix seconds: a clock that was ahead must not
    /// exclude events until it has come true. Returns whether there was one.
    pub fn begin_by(&mut self, now: i64) -> bool {
        let mut moved = false;
        for subscription in &mut self.0 {
            if subscription.since > now.saturating_add(margin()) {
                subscription.since = now;
                moved = true;
            }
        }
        moved
    }

    /// Returns whether the subscription has changed at `created` or later, in Unix seconds. If so,
    /// the list as it is read now need not have an event of that time.
    pub fn has_changed_since(&self, created: i64) -> bool {
        self.0.len() > 1 && self.0.last().is_some_and(|last| last.since.saturating_add(margin()) >= created)
    }

    /// Returns whether `event` is to be taken in.
    pub fn wants(&self, event: &Event) -> Wanted {
        let Some(current) = self.0.last() else { return Wanted::No };
        let now = current.admits(event);
        if now == Wanted::No {
            return now;
        }
        let mut until = i64::MAX;
        for subscription in self.0.iter().rev() {
            let began = event.created >= subscription.since.saturating_sub(margin());
            let stood = event.created <= until.saturating_add(margin());
            if began && stood && subscription.admits(event) != Wanted::No {
                return now;
            }
            until = subscription.since;
        }
        Wanted::Early
    }
}

impl Subscription {
    fn of(settings: &Settings, since: i64) -> Self {
        Self { since, types: settings.types.clone(), filters: settings.filters.clone() }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(3, ' ');
        let since = parts.next()?.parse().ok()?;
        let types = parts.next()?.parse().ok()?;
        let pairs = url::form_urlencoded::parse(parts.next()?.as_bytes());
        let filter = |(name, value): (std::borrow::Cow<str>, std::borrow::Cow<str>)| {
            let filter = Filter::ALL.into_iter().find(|filter| filter.name() == name)?;
            Some((filter, value.into_owned()))
        };
        Some(Self { since, types, filters: Filters::new(pairs.map(filter).collect::<Option<_>>()?) })
    }

    fn admits(&self, event: &Event) -> Wanted {
        admits(&self.types, &self.filters, event)
    }
}

fn admits(types: &TypeFilter, filters: &Filters, event: &Event) -> Wanted {
    if !types.matches(event.kind.as_str()) {
        return Wanted::No;
    }
    match filters.admits(event) {
        Admission::Yes => Wanted::Yes,
        Admission::No => Wanted::No,
        Admission::Untold => Wanted::Untold,
    }
}

/// Returns how far the clocks of Pepay's machines may differ, in seconds.
fn margin() -> i64 {
    i64::try_from(MARGIN.as_secs()).unwrap_or(i64::MAX)
}
