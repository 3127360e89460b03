//! Integration tests, by behaviour.

mod architecture;
mod config;
mod crash;
mod forwarding;
mod simulator;
mod stream;
mod support;
