//! The demo, as a new user runs it.

use std::collections::BTreeMap;
use std::process::Command;

#[test]
fn the_demo_ends_with_a_ledger_that_balances() {
    let demo =
        Command::new(env!("CARGO_BIN_EXE_pepay-bridge")).args(["demo", "--events", "30"]).output().unwrap();
    let shown = String::from_utf8(demo.stdout).unwrap();
    assert!(demo.status.success(), "{shown}\n{}", String::from_utf8_lossy(&demo.stderr));
    let row = |line: &str| {
        let (name, number) = line.split_at_checked(20)?;
        Some((name.trim().to_owned(), number.split_whitespace().next()?.parse::<u64>().ok()?))
    };
    let ledger: BTreeMap<_, _> = shown.lines().filter_map(row).collect();
    for (name, expected) in
        [("played", 30), ("unique", 30), ("delivered", 30), ("delivered twice", 0), ("lost", 0)]
    {
        assert_eq!(ledger.get(name), Some(&expected), "{name} in\n{shown}");
    }
    let sources = ["stream", "webhook", "backfill", "reconcile"].map(|source| ledger[source]);
    assert_eq!(ledger["received"], sources.iter().sum::<u64>());
    assert_eq!(ledger["received"], ledger["unique"] + ledger["duplicates"]);
    assert!(ledger["attempts failed"] > 0, "a target that fails is part of the demo");
    assert!(!shown.contains('\u{1b}'), "plain lines where there is no terminal");
}

#[test]
fn a_number_of_events_that_cannot_be_played_is_a_usage_error() {
    let demo =
        Command::new(env!("CARGO_BIN_EXE_pepay-bridge")).args(["demo", "--events", "0"]).output().unwrap();
    assert_eq!(demo.status.code(), Some(2));
    assert!(String::from_utf8(demo.stderr).unwrap().contains("1..=100000"));
}
