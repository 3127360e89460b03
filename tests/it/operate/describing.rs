//! Responses, compared with the `OpenAPI` document.

use super::Operator;
use crate::support::document::Document;
use crate::support::soon;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn responses_are_as_the_document_describes_them() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let id = world.simulator.play(1).remove(0);
    soon("the delivery", target.until(|totals| totals.unique == 1)).await;
    let operator = Operator::of(&bridge);
    operator.until_all_are("delivered", 1).await;
    // Reading a body adds an entry to the audit trail.
    operator.look(&format!("events/{id}/body")).await;
    let document = Document::of(&bridge).await;
    for path in [
        "overview",
        "events",
        "events/{id}",
        "deliveries",
        "deliveries/{target}/{event_id}",
        "targets",
        "streams",
        "audit",
        "history",
        "bulk",
    ] {
        let asked = path.replace("{id}", id.as_str()).replace("{event_id}", id.as_str());
        let body = operator.look(&asked.replace("{target}", "orders")).await;
        document.assert_describes(&format!("/api/v1/{path}"), &body);
    }
}
