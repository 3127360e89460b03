//! pepay-bridge receives Pepay's events by WebSocket stream and by webhook, stores
//! each once in SQLite or PostgreSQL, and forwards each once to each target.
//!
//! # The flow
//! ```text
//! Pepay ──stream──▶ source::stream ─┐
//!       ──webhook─▶ source::webhook ┼─▶ store::inbox ─▶ store::outbox ─▶ delivery ──▶ targets
//!       ──REST────▶ source::backfill┘        │                ▲             │
//!                                            ▼                └── outcome ──┘
//!                        web ◀── store::operator
//! ```
//! An event enters at the left, leaves at the right and never travels back.
//! Memory never holds the only copy: the event, its deliveries and the cursor it
//! moves are written in one transaction. A webhook is answered, and a cursor
//! advances, only after that transaction has been committed.
//!
//! # The modules, and what each may use
//! | module | holds | may use |
//! |---|---|---|
//! | [`domain`] | event, delivery, filter, backoff, clock: values and pure functions | nothing |
//! | [`pepay`] | Pepay's wire formats: envelope, frames, signature, REST | `domain` |
//! | [`store`] | all SQL, behind `inbox`, `outbox` and `operator` | `domain`, and a target's condition (`pepay::condition`) |
//! | [`source`] | stream, backfill, webhook | `domain`, `pepay`, `store::inbox`, leases, its values and errors |
//! | [`delivery`] | a dispatcher, client and breaker for each target | `domain`, `pepay::condition`, `store::outbox`, leases, its values and errors |
//! | [`web`] | listeners, health, metrics, status, the admin API, the page | `domain`, `store::operator`, its values and errors |
//! | [`simulator`] | a stand-in for Pepay, and a sample target | `domain`, `pepay` |
//! | [`alerts`] | messages to an operator about conditions that do not heal by themselves | `domain`, the client of `delivery` |
//! | [`config`] | layers and validation | the settings types of all modules |
//! | [`cli`] | the commands | `app`, `config`; `simulator` for `demo`; the parts that `backup` and `doctor` read |
//! | [`lifecycle`], [`telemetry`] | stopping; logs, metrics and traces | nothing |
//! | [`app`] | the composition root, which also applies a reload | everything |
//!
//! `source`, `delivery` and `web` never name each other, nor `config`. Every module
//! may name the metrics (`telemetry::names`) and the traces (`telemetry::traces`).
//! A test reads the imports, enforces this table, and finds files that use one
//! another in a circle.
//!
//! # The promise
//! An event that was acknowledged to Pepay, or that a cursor has passed, is
//! stored and will be offered to every matching target until that target
//! acknowledges it or the delivery is given up and kept for an operator. A recorded
//! acknowledgement is final: the event is never sent to that target again. In
//! one window a target can see an event twice, with the same `webhook-id`: when
//! the process dies, or the answer is lost, between the target's 2xx and the
//! record of it. With `on_uncertain = "hold"` such an event waits for an
//! operator instead.
//!
//! # Where to start reading
//! [`app`] shows the parts and their wiring. A webhook goes through these files, in
//! this order, from the socket to the target:
//!
//! | file | what happens |
//! |---|---|
//! | `web/serve.rs` | the connection is accepted and the request is read |
//! | `source/webhook.rs` | the endpoint of the path handles it |
//! | `source/webhook/verified.rs` | it is verified, and parsed as an event |
//! | `pepay/signature.rs`, `pepay/envelope.rs` | how Pepay signs, and what its events are |
//! | `store/inbox.rs` | the event is offered to the store; the answer waits for the commit |
//! | `store/committer.rs`, `store/committer/append.rs` | it joins a group, is committed and handed over |
//! | `store/engine/sqlite/write.rs`, `store/engine/sqlite/append.rs` | its rows are written |
//! | `store/routing.rs` | its targets are chosen, with the lane and rank of each delivery |
//! | `store/handoff.rs` | its deliveries are queued for the dispatchers of these targets |
//! | `delivery/dispatch.rs`, `delivery/order.rs` | a delivery waits for earlier ones of its lane, and for a place on the wire |
//! | `delivery/attempt.rs`, `delivery/client.rs` | it is sent, and the outcome is recorded by [`store::outbox`] |
//!
//! An event of the stream comes in by other files, and goes on from `store/inbox.rs` like a webhook:
//!
//! | file | what happens |
//! |---|---|
//! | `source/stream/wire.rs`, `pepay/frame.rs` | a frame is read and parsed as an event |
//! | `source/stream/driver.rs` | it is given to the state machine, whose effects are carried out |
//! | `source/stream/state.rs`, `source/stream/state/intake.rs` | it is taken in, held while earlier events may be missing, and put into a batch with the cursor |
//! | `source/backfill.rs`, `source/reconcile.rs` | how Pepay's list is walked to fill a gap, and compared by a sweep |
//!
//! # Glossary
//! | word | means |
//! |---|---|
//! | event | a message of Pepay about one change of an order, an invoice or a payment |
//! | delivery | one event on its way to one target; it has one row in the store |
//! | attempt | one request that tries to make a delivery |
//! | lane | the deliveries of one object to one target, which go one at a time |
//! | rank | the place of a delivery in its lane: Pepay's order, where ids carry it |
//! | parked lane | a lane whose first delivery waits for its next attempt or for an operator |
//! | held | the state of a delivery with an attempt of unknown outcome, which an operator decides |
//! | sweep | a walk through Pepay's list that finds events which both sources have missed |
//! | replica | one of the processes that share a store on PostgreSQL |
//! | lease | the right of one replica at a time to deliver to a target, read a stream or keep house |
//! | term | the number of a holding of a lease, which grows with each new holder; the store refuses writes under an older term |

pub mod alerts;
pub mod app;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod lifecycle;
pub mod pepay;
pub mod simulator;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod web;
