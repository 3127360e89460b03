//! Integration tests, by behaviour.

#[test]
fn placeholder() {}
