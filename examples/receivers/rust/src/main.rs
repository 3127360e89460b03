//! A target of pepay-bridge: axum, tokio-postgres and the Standard Webhooks library.
//!
//! ```console
//! $ export SIGNING_SECRET=whsec_… DATABASE_URL=postgresql://… PORT=8000
//! $ cargo run --release
//! ```

use std::env;
use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use deadpool_postgres::{Manager, Pool, Transaction};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio_postgres::NoTls;

/// Events of 256 KiB and more arrive; what is larger than this is answered 413.
const MOST_BYTES: usize = 4 * 1024 * 1024;

struct Receiver {
    webhook: Webhook,
    database: Pool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let webhook = Webhook::new(&env::var("SIGNING_SECRET")?)?;
    let manager = Manager::new(env::var("DATABASE_URL")?.parse()?, NoTls);
    let database = Pool::builder(manager).max_size(8).build()?;
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{}", env::var("PORT")?)).await?;
    let router = Router::new()
        .route("/pepay-events", post(receive))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .with_state(Arc::new(Receiver { webhook, database }));
    Ok(axum::serve(listener, router).await?)
}

/// Takes the bytes as they came: parsed and written again, they would not verify.
async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if receiver.webhook.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
    let (Some(id), Ok(event)) = (id, serde_json::from_slice(&body)) else {
        return StatusCode::BAD_REQUEST;
    };
    match receive_once(&receiver.database, id, &event).await {
        Ok(()) => StatusCode::NO_CONTENT,
        // pepay-bridge sends the event again.
        Err(error) => {
            eprintln!("{error}");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// One transaction: the id and the work it stands for are kept together, or neither is.
async fn receive_once(database: &Pool, id: &str, event: &Value) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut connection = database.get().await?;
    let transaction = connection.transaction().await?;
    let taken = "INSERT INTO received (webhook_id) VALUES ($1) ON CONFLICT DO NOTHING";
    if transaction.execute(taken, &[&id]).await? > 0 {
        apply(&transaction, event).await?;
    }
    Ok(transaction.commit().await?)
}

/// Does the work of one event. Pepay names an order by `id` or by `orderId`.
async fn apply(transaction: &Transaction<'_>, event: &Value) -> Result<(), tokio_postgres::Error> {
    let subject = &event["data"]["object"];
    let order = match [&subject["id"], &subject["orderId"]].into_iter().find(|id| !id.is_null()) {
        Some(Value::String(id)) => id.clone(),
        Some(id) => id.to_string(),
        None => return Ok(()),
    };
    let change = "INSERT INTO orders (id, status, changes) VALUES ($1, $2, 1)
        ON CONFLICT (id) DO UPDATE SET status = excluded.status, changes = orders.changes + 1";
    transaction.execute(change, &[&order, &subject["status"].as_str()]).await?;
    Ok(())
}
