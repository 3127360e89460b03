//! The demo, as a new user runs it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::support::bridge::{Configuration, Ended, run, without_roots};

#[tokio::test]
async fn the_demo_delivers_every_event_once_and_its_counts_add_up() {
    let Ended { code, stdout: shown, stderr } = run(&Configuration::new(), &["demo", "--events", "30"]).await;
    assert_eq!(code, Some(0), "{shown}\n{stderr}");
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

#[tokio::test]
async fn the_demo_needs_no_root_certificates() {
    let ended = run(&without_roots(&Configuration::new()), &["demo", "--events", "6"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed());
}

#[test]
fn a_demo_that_is_kept_leaves_the_page_open_until_it_is_interrupted() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_pepay-bridge"))
        .args(["demo", "--events", "6", "--keep"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
    let page = lines.find_map(|line| line.strip_prefix("page ").map(str::to_owned)).unwrap();
    let address = page.trim().strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    let mut connection = TcpStream::connect(&address).unwrap();
    write!(connection, "GET / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.contains("<title>pepay-bridge</title>"),
        "{answer}"
    );
    let process = rustix::process::Pid::from_child(&demo);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert!(demo.wait().unwrap().success());
}

#[tokio::test]
async fn a_number_of_events_that_cannot_be_played_is_a_usage_error() {
    let demo = run(&Configuration::new(), &["demo", "--events", "0"]).await;
    assert_eq!(demo.code, Some(2));
    assert!(demo.stderr.contains("1..=100000"), "{}", demo.stderr);
}
