//! Integration tests, by behaviour.

#[cfg(test)]
mod config;
