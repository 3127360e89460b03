//! Integration tests, by behaviour.

mod simulator;
