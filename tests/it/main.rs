//! Integration tests, by behaviour.

mod config;
