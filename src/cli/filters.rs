//! The filters of the admin API, as options of commands.

use clap::builder::PossibleValuesParser;
use serde_json::Value;

use super::listing::Filtering;
use super::moment::When;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::event::Source;

/// What is not given lets everything through.
#[derive(Debug, clap::Args)]
pub(super) struct Filters {
    /// Deliveries to this target, or events that have one
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    target: Option<String>,

    #[command(flatten)]
    others: CommonFilters,
}

const HEADING: &str = "Filters";

/// The filters but for the target.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct CommonFilters {
    #[command(flatten)]
    subject: SubjectFilters,

    /// Received then or later: RFC 3339, a day such as `2026-01-31`, or an age such as `2h`
    #[arg(long, value_name = "TIME")]
    from: Option<When>,

    /// Received before: RFC 3339, a day, or an age such as `30m`
    #[arg(long, value_name = "TIME")]
    to: Option<When>,
}

/// The filters of deliveries that are moved, where `--from` and `--to` are targets.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct MoveFilters {
    #[command(flatten)]
    subject: SubjectFilters,

    /// Received then or later: RFC 3339, a day such as `2026-01-31`, or an age such as `2h`
    #[arg(long, value_name = "TIME")]
    received_from: Option<When>,

    /// Received before: RFC 3339, a day, or an age such as `30m`
    #[arg(long, value_name = "TIME")]
    received_to: Option<When>,
}

/// What an event is, how it came, and what has become of it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
struct SubjectFilters {
    /// Events of these types: exact, or a prefix such as `invoice.*`; several with commas
    #[arg(long = "type", value_name = "TYPES")]
    types: Option<String>,

    /// Events about this order, invoice or payment
    #[arg(long, value_name = "ID")]
    object_id: Option<String>,

    /// Events about this order, and about an invoice that names it
    #[arg(long, value_name = "ID")]
    order_id: Option<String>,

    /// Events about this invoice, and about a payment that names it
    #[arg(long, value_name = "ID")]
    invoice_id: Option<String>,

    /// Events that came by this source first
    #[arg(long, value_parser = PossibleValuesParser::new(Source::ALL.map(Source::as_str)))]
    source: Option<String>,

    /// Deliveries in this state, or events that have one
    #[arg(long, value_parser = PossibleValuesParser::new(State::ALL.map(State::as_str)))]
    state: Option<String>,

    /// Events whose id begins so
    #[arg(long, value_name = "PREFIX")]
    id_prefix: Option<String>,
}

impl Filtering for Filters {
    fn given(&self, now: UnixMillis) -> Vec<(&'static str, String)> {
        let mut given = self.others.given(now);
        given.extend(self.target.clone().map(|target| ("target", target)));
        given
    }

    fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }
}

impl Filters {
    /// Returns the filters that are set, as the filter of a bulk call.
    pub(super) fn object(&self, now: UnixMillis) -> Value {
        object(self.given(now))
    }
}

impl CommonFilters {
    /// Returns the filters that are set, by their names in the API.
    fn given(&self, now: UnixMillis) -> Vec<(&'static str, String)> {
        self.subject.given((self.from, self.to), now)
    }

    /// Returns the filters that are set, as the filter of a bulk call.
    pub(super) fn object(&self, now: UnixMillis) -> Value {
        object(self.given(now))
    }
}

impl MoveFilters {
    /// Returns the filters that are set, as the filter of a bulk call.
    pub(super) fn object(&self, now: UnixMillis) -> Value {
        object(self.subject.given((self.received_from, self.received_to), now))
    }
}

impl SubjectFilters {
    /// Returns the filters that are set and the times of arrival, by their names in the API.
    fn given(
        &self,
        (from, to): (Option<When>, Option<When>),
        now: UnixMillis,
    ) -> Vec<(&'static str, String)> {
        let time = |when: Option<When>| when.map(|when| when.written(now));
        let all = [
            ("type", self.types.clone()),
            ("object_id", self.object_id.clone()),
            ("order_id", self.order_id.clone()),
            ("invoice_id", self.invoice_id.clone()),
            ("source", self.source.clone()),
            ("state", self.state.clone()),
            ("from", time(from)),
            ("to", time(to)),
            ("id_prefix", self.id_prefix.clone()),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

fn object(given: Vec<(&'static str, String)>) -> Value {
    Value::Object(given.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
}

/// The filters of events: those of both lists, and what their bodies have.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct EventFilters {
    #[command(flatten)]
    common: Filters,

    /// Events whose body has this text, byte for byte: every body is read until there are enough
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
}

impl Filtering for EventFilters {
    fn given(&self, now: UnixMillis) -> Vec<(&'static str, String)> {
        let text = self.text.clone().map(|text| ("q", text));
        self.common.given(now).into_iter().chain(text).collect()
    }

    fn target(&self) -> Option<&str> {
        self.common.target()
    }
}
