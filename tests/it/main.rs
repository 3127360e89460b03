//! Integration tests, by behaviour.

mod architecture;
