//! Stores events with their deliveries, and moves the cursors of streams: one call for the whole
//! group.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use sqlx::Row as _;

use super::session::Session;
use super::words::clean;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::{Ordering, State};
use crate::domain::event::{Digest, Environment, Event, Received};
use crate::store::engine::{GroupContext, ORDINARY_SKEW_MS};
use crate::store::routing::{RoutingTable, belongs_to, lane, lane_of_name, rank};
use crate::store::types::{Appended, Batch, Recorded};

const APPEND: &str = "SELECT place, new_sequence, first_lag, conflicts, news FROM append_events( \
     $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, \
     $23, $24, $25, $26, $27, $28)";

/// The columns of the events of a group.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<&'a str>,
    types: Vec<String>,
    objects: Vec<Option<String>>,
    creations: Vec<i64>,
    sources: Vec<&'a str>,
    origins: Vec<String>,
    environments: Vec<Option<&'a str>>,
    arrivals: Vec<i64>,
    bodies: Vec<&'a [u8]>,
    digests: Vec<Option<Vec<u8>>>,
    order_lanes: Vec<Option<i64>>,
    orders: Vec<Option<String>>,
    invoices: Vec<Option<String>>,
}

/// The columns of their deliveries.
#[derive(Default)]
struct DeliveryColumns {
    places: Vec<i64>,
    targets: Vec<i64>,
    lanes: Vec<Option<i64>>,
    ranks: Vec<i64>,
}

/// The pairs of invoice and order that events of the group name.
#[derive(Default)]
struct LinkColumns {
    places: Vec<i64>,
    invoices: Vec<String>,
    orders: Vec<String>,
}

/// Stores the new events of `batches`, and moves the cursors. Returns the result for each event of
/// each batch.
pub(super) async fn all(
    session: &mut Session,
    batches: &[&Batch],
    newest_arrival: &mut UnixMillis,
    context: &mut GroupContext<'_>,
) -> Result<Vec<Vec<Appended>>, sqlx::Error> {
    let (routes, now) = (context.routes, context.now);
    *newest_arrival = (*newest_arrival).max(now);
    let events: Vec<&Received> = batches.iter().flat_map(|batch| &batch.events).collect();
    let (order_lanes, links) = order_lanes(session, routes, &events).await?;
    let (mut columns, mut deliveries) = (Columns::default(), DeliveryColumns::default());
    let mut queues = Vec::with_capacity(events.len());
    for ((place, event), order_lane) in (1..).zip(&events).zip(&order_lanes) {
        columns.push(event, order_lane.as_ref());
        let lane = order_lane.as_ref().map(|of_order| of_order.lane);
        queues.push(deliveries.push(routes, place, event, lane));
    }
    let cursors: Vec<_> = batches.iter().filter_map(|batch| batch.cursor.as_ref()).collect();
    let query = sqlx::query(APPEND)
        .bind(now.0)
        .bind(newest_arrival.0)
        .bind(ORDINARY_SKEW_MS)
        .bind(&columns.ids)
        .bind(&columns.types)
        .bind(&columns.objects)
        .bind(&columns.creations)
        .bind(&columns.sources)
        .bind(&columns.origins)
        .bind(&columns.environments)
        .bind(&columns.arrivals)
        .bind(&columns.bodies)
        .bind(&columns.digests)
        .bind(&columns.order_lanes)
        .bind(&columns.orders)
        .bind(&columns.invoices)
        .bind(&deliveries.places)
        .bind(&deliveries.targets)
        .bind(&deliveries.lanes)
        .bind(&deliveries.ranks)
        .bind(&links.places)
        .bind(&links.invoices)
        .bind(&links.orders)
        .bind(cursors.iter().map(|cursor| clean(&cursor.stream)).collect::<Vec<_>>())
        .bind(
            cursors
                .iter()
                .map(|cursor| cursor.position.event.as_ref().map(|id| id.as_str().to_owned()))
                .collect::<Vec<_>>(),
        )
        .bind(cursors.iter().map(|cursor| cursor.position.created).collect::<Vec<_>>())
        .bind(cursors.iter().map(|cursor| cursor.history.as_deref().map(clean)).collect::<Vec<_>>())
        .bind(cursors.iter().map(|cursor| cursor.term.number()).collect::<Vec<_>>());
    let rows = session.rows(query).await?;

    let repeat =
        Appended { recorded: Recorded::Duplicate, sequence: 0, queues: Vec::new(), lag: None, news: false };
    let mut appended = vec![repeat; events.len()];
    for row in rows {
        let place = usize::try_from(row.try_get::<i64, _>("place")?).unwrap_or(0).saturating_sub(1);
        let Some(one) = appended.get_mut(place) else { continue };
        let sequence: i64 = row.try_get("new_sequence")?;
        if sequence > 0 {
            (one.recorded, one.sequence) = (Recorded::New, sequence);
            one.queues = std::mem::take(&mut queues[place]);
            *newest_arrival = (*newest_arrival).max(events[place].received_at);
            for (index, _) in &one.queues {
                context.changes.step(routes.at(*index).target, None, State::Pending);
            }
        }
        if let Some(lag) = row.try_get::<Option<i64>, _>("first_lag")? {
            one.lag = Some(Duration::from_millis(u64::try_from(lag).unwrap_or(0)));
        }
        if row.try_get("conflicts")? {
            (one.recorded, one.news) = (Recorded::Conflict, row.try_get("news")?);
        }
    }
    let mut appended = appended.into_iter();
    Ok(batches.iter().map(|batch| appended.by_ref().take(batch.events.len()).collect()).collect())
}

impl<'a> Columns<'a> {
    fn push(&mut self, received: &'a Received, of_order: Option<&OrderLane>) {
        let Received { event, source, origin, environment, received_at } = received;
        let (order, invoice) = belongs_to(&event.subject);
        self.ids.push(event.id.as_str());
        self.types.push(clean(event.kind.as_str()));
        self.objects.push(event.subject.object.as_deref().map(clean));
        self.creations.push(event.created);
        self.sources.push(source.as_str());
        self.origins.push(clean(origin));
        self.environments.push(environment.map(Environment::as_str));
        self.arrivals.push(received_at.0);
        self.bodies.push(&event.body);
        self.digests.push(event.digest.map(|Digest(digest)| digest.to_vec()));
        self.order_lanes.push(of_order.map(|of_order| of_order.lane));
        // A payment names only its invoice. It can be found by the order of that invoice.
        let linked = of_order.and_then(|of_order| of_order.linked.clone());
        self.orders.push(order.map(clean).or(linked));
        self.invoices.push(invoice.map(clean));
    }
}

impl DeliveryColumns {
    /// Adds the deliveries of `event`. Returns the indices of the queues that take it, with the
    /// lanes.
    fn push(
        &mut self,
        routes: &RoutingTable,
        place: i64,
        event: &Received,
        order_lane: Option<i64>,
    ) -> Vec<(usize, Option<i64>)> {
        let rank = rank(&event.event.id, event.received_at);
        let mut taken_by = Vec::new();
        for (index, queue) in routes.open_ones().filter(|(_, queue)| queue.route.takes(event)) {
            let lane = lane(queue.route.ordering, event, order_lane);
            self.places.push(place);
            self.targets.push(queue.target.0);
            self.lanes.push(lane);
            self.ranks.push(rank);
            taken_by.push((index, lane));
        }
        taken_by
    }
}

/// The order that an event belongs to.
struct OrderLane {
    /// The lane that the event shares with the order.
    lane: i64,
    /// The order of the event's invoice, if the event itself names no order.
    linked: Option<String>,
}

/// Returns the lane of each event's order, if an open target is ordered by order. It is the lane of
/// the order that the event names, otherwise of the order that is known for its invoice, otherwise
/// of the invoice.
async fn order_lanes(
    session: &mut Session,
    routes: &RoutingTable,
    events: &[&Received],
) -> Result<(Vec<Option<OrderLane>>, LinkColumns), sqlx::Error> {
    let mut links = LinkColumns::default();
    if routes.open_ones().all(|(_, queue)| queue.route.ordering != Ordering::PerOrder) {
        return Ok((events.iter().map(|_| None).collect(), links));
    }
    let names = |event: &Event| {
        let name = |name: &Option<_>| Option::<&str>::map(Option::as_deref(name), clean);
        (name(&event.subject.order), name(&event.subject.invoice))
    };
    let invoices: Vec<_> = events.iter().filter_map(|event| names(&event.event).1).collect();
    let query = "SELECT invoice_id, order_id FROM order_link WHERE invoice_id = ANY ($1)";
    let mut known = HashMap::new();
    for row in session.rows(sqlx::query(query).bind(&invoices)).await? {
        known.insert(row.try_get::<String, _>("invoice_id")?, row.try_get::<String, _>("order_id")?);
    }
    let mut lanes = Vec::with_capacity(events.len());
    for (place, event) in (1..).zip(events) {
        let of_order = match names(&event.event) {
            (Some(order), Some(invoice)) => {
                // The first event that names the pair counts.
                if let Entry::Vacant(unknown) = known.entry(invoice) {
                    links.places.push(place);
                    links.invoices.push(unknown.key().clone());
                    links.orders.push(order.clone());
                    unknown.insert(order.clone());
                }
                Some((order, None))
            }
            (Some(order), None) => Some((order, None)),
            (None, Some(invoice)) => {
                let linked = known.get(&invoice).cloned();
                Some((linked.clone().unwrap_or(invoice), linked))
            }
            (None, None) => None,
        };
        lanes.push(of_order.map(|(name, linked)| OrderLane { lane: lane_of_name(&name), linked }));
    }
    Ok((lanes, links))
}
