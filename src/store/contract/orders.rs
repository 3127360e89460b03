//! With `per_order`, an order, its invoice and its payments share a lane.

use proptest::prelude::*;

use super::*;
use crate::domain::event::Environment;
use crate::store::routing::lane_of_name;

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// An order before it has an invoice.
    Bare,
    /// An order that names its invoice.
    Order,
    /// The same as a snapshot, without `id`.
    Snapshot,
    Invoice,
    Payment,
}

/// Returns event `n` of order and invoice number `of`.
fn event_of(n: usize, shape: Shape, of: u8) -> Received {
    let (kind, object) = match shape {
        Shape::Bare => ("commerce.order.created", format!(r#"{{"id":"o{of}"}}"#)),
        Shape::Order => ("commerce.order.updated", format!(r#"{{"id":"o{of}","invoiceId":"i{of}"}}"#)),
        Shape::Snapshot => {
            ("commerce.order.updated", format!(r#"{{"orderId":"o{of}","invoiceId":"i{of}"}}"#))
        }
        Shape::Invoice => ("invoice.updated", format!(r#"{{"id":"i{of}","commerce_order_id":"o{of}"}}"#)),
        Shape::Payment => ("invoice_payment.created", format!(r#"{{"id":"p{n}","invoice_id":"i{of}"}}"#)),
    };
    let body = format!(r#"{{"id":"evt_{n}","type":"{kind}","created":1,"data":{{"object":{object}}}}}"#);
    let event = envelope::parse(body.into(), NOW).unwrap();
    Received { event, source: Source::Stream, origin: "s".into(), environment: None, received_at: NOW }
}

fn by_order() -> Vec<Route> {
    vec![route("orders", "*", Ordering::PerOrder)]
}

/// Returns the lane of each delivery, in the order of acceptance.
fn lanes(fixture: &Fixture) -> Vec<i64> {
    fixture.backend.numbers("SELECT lane FROM delivery ORDER BY sequence")
}

fn shapes() -> impl Strategy<Value = Vec<(Shape, u8)>> {
    let shape = prop_oneof![
        Just(Shape::Bare),
        Just(Shape::Order),
        Just(Shape::Snapshot),
        Just(Shape::Invoice),
        Just(Shape::Payment),
    ];
    prop::collection::vec((shape, 0..3_u8), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The one condition is that a payment comes after an event that links its invoice to the order, as
    /// in Pepay's order of creation.
    #[test]
    fn the_events_of_one_order_share_a_lane_and_those_of_two_do_not(shapes in shapes()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut fixture = Fixture::new(by_order()).await;
            let (mut linked, mut orders) = (BTreeSet::new(), Vec::new());
            for (n, (shape, of)) in shapes.into_iter().enumerate() {
                match shape {
                    Shape::Payment if !linked.contains(&of) => continue,
                    Shape::Order | Shape::Snapshot | Shape::Invoice => {
                        linked.insert(of);
                    }
                    Shape::Payment | Shape::Bare => {}
                }
                fixture.store.inbox.try_record(event_of(n, shape, of)).await.unwrap();
                orders.push(of);
                if n == 10 {
                    fixture = fixture.restart(by_order()).await;
                }
            }
            let lanes = lanes(&fixture);
            prop_assert_eq!(lanes.len(), orders.len());
            for (one, of_one) in lanes.iter().zip(&orders) {
                for (other, of_other) in lanes.iter().zip(&orders) {
                    prop_assert_eq!(one == other, of_one == of_other);
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_payment_without_a_known_order_shares_the_lane_of_its_invoice() {
    let fixture = Fixture::new(by_order()).await;
    for n in 0..2 {
        fixture.store.inbox.try_record(event_of(n, Shape::Payment, 1)).await.unwrap();
    }
    let lanes = lanes(&fixture);
    assert_eq!(lanes, [lane_of_name("i1"); 2]);
}

#[tokio::test]
async fn a_target_of_one_environment_receives_events_known_to_be_of_it() {
    let only = Route { environment: Some(Environment::Devnet), ..route("orders", "*", Ordering::None) };
    let fixture = Fixture::new(vec![only]).await;
    for (n, environment) in
        [None, Some(Environment::Mainnet), Some(Environment::Devnet)].into_iter().enumerate()
    {
        let received = Received { environment, ..event(&format!("evt_{n}"), "a") };
        fixture.store.inbox.try_record(received).await.unwrap();
    }
    let delivered = "SELECT e.id FROM delivery d JOIN event e ON e.sequence = d.sequence";
    assert_eq!(fixture.backend.texts(delivered), ["evt_2"]);
}
