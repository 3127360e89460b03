//! The simulator of Pepay, over real sockets, in the order of Pepay's protocol.

mod faults;
mod harness;
mod lists;
mod rest;
mod streams;
mod switches;
mod target;
mod tokens;
mod webhooks;
