//! The stand-in for Pepay, over real sockets, along the wire protocol page.

mod faults;
mod harness;
mod lists;
mod rest;
mod streams;
mod switches;
mod target;
mod tokens;
mod webhooks;
