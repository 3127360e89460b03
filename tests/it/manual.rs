//! Completions and manual pages, which are generated from the definition of the command line.

use std::io::Write as _;

use tempfile::{NamedTempFile, TempDir};
use tokio::process::Command;

use crate::support::bridge::{Configuration, output_of, run};
use crate::support::http::answer_once;

/// Runs a command that succeeds. Returns its standard output.
async fn stdout(arguments: &[&str]) -> String {
    let ended = run(&Configuration::new(), arguments).await;
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
    ended.stdout
}

#[tokio::test]
async fn every_shell_gets_a_script_that_knows_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&["completions", shell]).await;
        for word in ["completions", "simulator", "webhook-secret", "reconnect", "id-prefix", "reload"] {
            assert!(script.contains(word), "{word} is not in the script for {shell}");
        }
    }
}

#[tokio::test]
async fn bash_completes_commands_and_options_with_the_script() {
    for (typed, expected) in [
        (&["pepay-bridge", "che"][..], "check"),
        (&["pepay-bridge", "health", "--ur"], "--url"),
        (&["pepay-bridge", "deliveries", "rel"], "release"),
        (&["pepay-bridge", "events", "list", "--id-"], "--id-prefix"),
    ] {
        assert_eq!(completed(typed).await, expected, "{typed:?}");
    }
}

/// Returns the completions of bash for the last of the `typed` words.
async fn completed(typed: &[&str]) -> String {
    // This calls the function that the script has registered as bash calls it.
    let complete = "COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))\n\
                    function=$(complete -p pepay-bridge | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
                    $function \"$1\" \"${@: -1}\" \"${@: -2:1}\"; echo \"${COMPREPLY[*]}\"";
    let script = format!("{}\n{complete}\n", stdout(&["completions", "bash"]).await);
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(script.as_bytes()).unwrap();
    output_of(Command::new("bash").arg(file.path()).args(typed)).await.stdout.trim().to_owned()
}

#[tokio::test]
async fn bash_completes_the_names_of_targets_as_the_running_bridge_has_them() {
    for typed in [&["targets", "pause", "ord"][..], &["deliveries", "list", "--target", "ord"]] {
        let two = r#"{"targets":[{"name":"orders"},{"name":"order-archive"}]}"#;
        let (address, asked) = answer_once("200 OK", two);
        let reach = ["--admin-url".to_owned(), format!("http://{address}")];
        let words = reach.iter().map(String::as_str).chain(typed.iter().copied());
        let words: Vec<_> = std::iter::once(env!("CARGO_BIN_EXE_pepay-bridge")).chain(words).collect();
        assert_eq!(completed(&words).await, "orders order-archive", "{typed:?}");
        assert_eq!(asked.join().unwrap(), "GET /api/v1/targets HTTP/1.1");
    }
}

#[tokio::test]
async fn the_scripts_of_bash_zsh_and_fish_complete_the_names_of_targets() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&["completions", shell]).await;
        assert!(script.contains("complete-names"), "{shell}");
    }
    let zsh = stdout(&["completions", "zsh"]).await;
    for line in zsh.lines().filter(|line| line.starts_with("'--target=[")) {
        assert!(line.contains(":NAME:_pepay_bridge_targets'"), "{line}");
    }
    assert!(zsh.contains("':target -- ") && !stdout(&["--help"]).await.contains("complete-names"));
}

#[tokio::test]
async fn the_manual_has_a_page_for_the_program_and_one_for_each_command() {
    let page = stdout(&["man"]).await;
    assert!(page.contains(".TH pepay-bridge 1") && page.contains("PEPAY_BRIDGE_CONFIG"), "{page}");
    let folder = TempDir::new().unwrap();
    let pages = folder.path().join("man1");
    stdout(&["man", "--dir", pages.to_str().unwrap()]).await;
    assert!(std::fs::read_to_string(pages.join("pepay-bridge.1")).unwrap().contains("pepay\\-bridge\\-run"));
    let health = std::fs::read_to_string(pages.join("pepay-bridge-health.1")).unwrap();
    assert!(health.contains(".TH pepay-bridge-health 1") && health.contains("/readyz"), "{health}");
    for page in
        ["events-replay", "events-verify", "deliveries-retry", "targets-test", "streams-backfill", "reload"]
    {
        assert!(pages.join(format!("pepay-bridge-{page}.1")).exists(), "{page}");
    }
}
