//! The import rule: which module of `src/` may name which other. It lets an event flow one way
//! and each module be read alone. The rule does not hold for test code, which has to build what
//! it tests.

mod circles;
mod scan;

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use scan::{Token, paths, tokens};

/// Every module, and the paths that it may name besides its own.
const MODULES: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("lifecycle", &[]),
    ("telemetry", &[]),
    ("pepay", &["domain"]),
    ("store", &["domain", "pepay::condition"]),
    ("source", &["domain", "pepay", "store::inbox", "store::lease", "store::types", "store::error"]),
    (
        "delivery",
        &["domain", "pepay::condition", "store::outbox", "store::lease", "store::types", "store::error"],
    ),
    ("web", &["domain", "store::operator", "store::cluster", "store::view", "store::error"]),
    (
        "alerts",
        &[
            "domain",
            "delivery::Settings",
            "delivery::TargetClient",
            "delivery::MessageOutcome",
            "delivery::BuildError",
            "delivery::sign::SigningKey",
        ],
    ),
    ("simulator", &["pepay", "domain"]),
    ("config", SETTINGS),
    ("cli", COMMANDS),
    ("app", &[ANYTHING]),
    ("main", &["cli", "app", "telemetry"]),
    ("lib", &[]),
];

/// The paths that commands may name: the application and its configuration, the parts of `demo`,
/// and the parts that `backup`, `doctor` and `devnet` use without a running application.
const COMMANDS: &[&str] = &[
    "app",
    "config",
    "domain",
    "lifecycle",
    "telemetry",
    "simulator",
    "pepay::signature",
    "pepay::rest",
    "pepay::devnet",
    "pepay::error",
    "pepay::token::Identity",
    "source::stream::Settings",
    "source::stream::Auth",
    "source::stream::Unreached",
    "source::stream::reach",
    "source::stream::probe",
    "source::webhook::Settings",
    "delivery::Settings",
    "delivery::check_connection",
    "store::backup",
    "store::inbox::SourceIdentity",
    "store::check",
    "store::view::Backlog",
    "store::restore",
    "store::server_check",
    "store::import",
    "store::Disk",
    "store::Durability",
    "store::Place",
    "store::Server",
    "store::Settings",
    "web::Settings",
];

/// The types that configuration is turned into. `config` may name no other part of a module.
const SETTINGS: &[&str] = &[
    "domain",
    "alerts::Settings",
    "alerts::Format",
    "pepay::account::Account",
    "pepay::account::Proxy",
    "pepay::account::Roots",
    "pepay::condition::Condition",
    "pepay::filter::Filter",
    "pepay::filter::Filters",
    "pepay::signature::SigningKey",
    "store::Settings",
    "store::Durability",
    "store::Place",
    "store::Retention",
    "store::Server",
    "source::stream::Settings",
    "source::stream::Endpoint",
    "source::stream::Auth",
    "source::stream::StartFrom",
    "source::webhook::Settings",
    "delivery::Settings",
    "delivery::tls",
    "delivery::sign::SigningKey",
    "telemetry::Format",
    "telemetry::Settings",
    "web::Settings",
    "web::Scope",
    "web::Token",
];

/// The paths that every module may name: the table of metric names, the traces and the target of
/// audit lines.
const EVERYWHERE: [&str; 3] = ["telemetry::names", "telemetry::traces", "telemetry::AUDIT"];
const ANYTHING: &str = "*";

/// Libraries that only some files may name, and these files.
const LIBRARIES: &[(&[&str], &[&str])] = &[
    (&["sqlx", "rusqlite", "libsqlite3_sys"], &["src/store/engine.rs", "src/store/engine/"]),
    (
        &["tungstenite", "tokio_tungstenite"],
        &["src/source/stream/wire.rs", "src/simulator.rs", "src/simulator/"],
    ),
    (&["opentelemetry", "opentelemetry_sdk", "opentelemetry_otlp"], &["src/telemetry/"]),
    (&["utoipa"], &["src/web/"]),
];

/// Known circles among files of the benchmarks: the place, and the reason. A place that no longer has
/// a circle fails the test, so that its line is removed.
const CIRCLES_OF_BENCHES: &[(&str, &str)] =
    &[("", "roles name the programs that play them, the report names the plan that it reports on")];

/// The most lines that a file may have. A longer one has more than one subject.
const LONGEST_FILE: usize = 400;

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// Returns where `source` breaks the rules as the content of `file`, a path like `src/web/health.rs`.
fn violations(file: &str, source: &str) -> Vec<Violation> {
    let violation = |line, rule| Violation { file: file.to_owned(), line, rule };
    let mut found = Vec::new();
    let lines = source.lines().count();
    if lines > LONGEST_FILE {
        found.push(violation(lines, format!("a file has at most {LONGEST_FILE} lines")));
    }
    let path: Vec<&str> = file.trim_start_matches("src/").trim_end_matches(".rs").split('/').collect();
    let module = path[0];
    let Some((_, allowed)) = MODULES.iter().find(|(name, _)| *name == module) else {
        found.push(violation(1, format!("the module `{module}` has no line in the import rule")));
        return found;
    };
    if path.contains(&"tests") {
        return found;
    }
    let tokens = tokens(source);
    found.extend(named_libraries(file, &tokens));
    if is_suite(&path) {
        return found;
    }
    let depth = if matches!(module, "main" | "lib") { 0 } else { path.len() };
    for named in paths(&tokens, depth) {
        let may = |prefix: &str| {
            prefix == ANYTHING || prefix.split("::").eq(named.path.iter().take(prefix.split("::").count()))
        };
        if !may(module) && !EVERYWHERE.into_iter().any(may) && !allowed.iter().any(|prefix| may(prefix)) {
            let named_path = named.path.join("::");
            let list =
                if allowed.is_empty() { "nothing of the crate".to_owned() } else { allowed.join(", ") };
            found.push(violation(
                named.line,
                format!("`{module}` may not name `{named_path}`; it may name {list}"),
            ));
        }
    }
    found
}

/// Returns whether the file at `path` belongs to the contract suite, which runs on every engine of the
/// store. It is test code, but may name no engine's library.
fn is_suite(path: &[&str]) -> bool {
    path.starts_with(&["store", "contract"])
}

/// Returns where `tokens`, the content of `file`, name a library that `file` may not name.
fn named_libraries(file: &str, tokens: &[Token]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (libraries, places) in LIBRARIES {
        if places.iter().any(|place| file.starts_with(place)) {
            continue;
        }
        for token in tokens.iter().filter(|token| libraries.contains(&token.text.as_str())) {
            let rule = format!("`{}` may be named only in {}", token.text, places.join(", "));
            found.push(Violation { file: file.to_owned(), line: token.line, rule });
        }
    }
    found
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn every_file_of_src_keeps_the_import_rule() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&top.join("src"), &mut files).unwrap();
    files.sort();
    assert!(files.contains(&top.join("src/domain/event.rs")), "the scan found no source: {files:?}");
    let found: Vec<String> = files
        .iter()
        .flat_map(|path| {
            let file = path.strip_prefix(top).unwrap().to_str().unwrap();
            violations(file, &fs::read_to_string(path).unwrap())
        })
        .map(|violation| violation.to_string())
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Returns the Rust files below `root`: their paths relative to it, and their contents.
fn sources(root: &str) -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let mut files = Vec::new();
    rust_files(&top, &mut files).unwrap();
    let named = |path: &PathBuf| path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (named(path), fs::read_to_string(path).unwrap())).collect()
}

fn assert_no_circles_but(root: &str, exceptions: &[(&str, &str)]) {
    let found = circles::circles(&sources(root));
    let is_in =
        |file: &str, place: &str| place.is_empty() || file == place || file.starts_with(&format!("{place}/"));
    let new: Vec<_> =
        found.iter().filter(|(file, _)| !exceptions.iter().any(|(place, _)| is_in(file, place))).collect();
    assert!(new.is_empty(), "files of {root} that use one another in a circle: {new:#?}");
    for (place, _) in exceptions {
        assert!(found.keys().any(|file| is_in(file, place)), "{root}/{place} has no circle any more");
    }
}

#[test]
fn no_files_use_one_another_in_a_circle() {
    assert_no_circles_but("src", &[]);
    assert_no_circles_but("benches/bridge", CIRCLES_OF_BENCHES);
}

/// Returns those of `files` that are part of a circle.
fn in_circles(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<_> =
        files.iter().map(|(file, source)| ((*file).to_owned(), (*source).to_owned())).collect();
    circles::circles(&files).into_keys().collect()
}

#[test]
fn a_circle_is_found_however_a_file_names_another() {
    let a = ("a/x.rs", "use super::y::Y;\npub struct X;\n");
    for y in [
        "use super::x::X;\n",
        "use crate::a::{x::X as Z};\n",
        "fn f() { super::x::f() }\n",
        "use super::x;\nfn f() { x::f() }\n",
        "use crate::a;\nfn f() { a::x::f() }\n",
        "use crate::a::X;\n",
    ] {
        let files = [("a.rs", "mod x;\nmod y;\npub use x::X;\n"), a, ("a/y.rs", y)];
        assert_eq!(in_circles(&files), ["a/x", "a/y"], "{y}");
    }
    let long =
        [("a.rs", "use crate::b::B;\n"), ("b.rs", "use crate::c::C;\n"), ("c.rs", "use crate::a::A;\n")];
    assert_eq!(in_circles(&long), ["a", "b", "c"]);
    let out_and_back =
        [("a.rs", "mod x;\n"), ("a/x.rs", "use crate::b::B;\n"), ("b.rs", "use crate::a::x::X;\n")];
    assert_eq!(in_circles(&out_and_back), ["a/x", "b"]);
}

#[test]
fn a_module_and_its_own_submodules_are_no_circle() {
    let none: [&str; 0] = [];
    let parent = [("a.rs", "mod x;\nuse x::X;\npub struct A;\n"), ("a/x.rs", "use super::A;\n")];
    assert_eq!(in_circles(&parent), none);
    let passed_on = [("a.rs", "pub use crate::b::B;\n"), ("b.rs", "use crate::a::A;\n")];
    assert_eq!(in_circles(&passed_on), none);
    let seen_by = [("a.rs", "use crate::b::B;\n"), ("b.rs", "pub(in crate::a) struct B;\n")];
    assert_eq!(in_circles(&seen_by), none);
    let test = [("a.rs", "use crate::b::B;\n"), ("b.rs", "#[cfg(test)]\nmod tests { use crate::a::A; }\n")];
    assert_eq!(in_circles(&test), none);
}

/// Returns the violations of `source` as the content of `file`, as text.
fn broken(file: &str, source: &str) -> Vec<String> {
    violations(file, source).iter().map(ToString::to_string).collect()
}

#[test]
fn a_forbidden_import_is_named_with_file_line_and_rule() {
    let source = "//! Health.\n\nuse crate::domain::clock::Clock;\nuse crate::delivery::Settings;\n";
    assert_eq!(
        broken("src/web/health.rs", source),
        [
            "src/web/health.rs:4: `web` may not name `delivery::Settings`; it may name domain, store::operator, store::cluster, store::view, store::error"
        ]
    );
}

#[test]
fn a_forbidden_path_is_found_in_groups_in_expressions_and_after_super() {
    let lines = |file, source| -> Vec<usize> {
        violations(file, source).iter().map(|violation| violation.line).collect()
    };
    let group = "use crate::{\n    domain::event::{Event, EventId},\n    store::{\n        inbox::Inbox,\n        outbox as out,\n    },\n    web,\n};\n";
    assert_eq!(lines("src/source/webhook.rs", group), [5, 7]);
    let expression = "fn f<'a>(x: &'a str) -> char {\n    crate::config::load::<u8>(x);\n    'c'\n}\n";
    assert_eq!(lines("src/delivery.rs", expression), [2]);
    let by_super = "use super::super::config;\nuse super::sign;\n";
    assert_eq!(lines("src/delivery/client.rs", by_super), [1]);
    assert_eq!(lines("src/main.rs", "use pepay_bridge::{cli, store};\n"), [1]);
    assert_eq!(
        lines("src/source/webhook.rs", "use crate::store;\n"),
        [1],
        "a whole module is more than its handle"
    );
}

#[test]
fn an_allowed_import_passes() {
    let source = "use crate::domain::{clock::Clock, event::{self, Event}};\nuse crate::store::inbox::*;\n\
                  use crate::telemetry::names;\nuse super::stream;\nuse self::stream::wire;\npub(crate) fn f() {}\n\
                  pub(in crate::source) fn g() { crate::source::stream::run() }\n";
    assert_eq!(broken("src/source/backfill.rs", source), [""; 0]);
    assert_eq!(broken("src/app.rs", "use crate::{config, delivery, store, web};\n"), [""; 0]);
}

#[test]
fn comments_strings_and_tests_are_not_production_code() {
    let source = "//! [`web`](crate::web)\n/* use crate::web; /* nested */ use crate::web; */\n\
                  const A: &str = \"crate::web \\\" crate::web\";\nconst B: &str = r#\"crate::web \" \"#;\n\
                  #[cfg(test)]\nmod tests {\n    use crate::web;\n    fn f() { if true { sqlx() } }\n}\n\
                  #[cfg(test)]\nmod more_tests;\nuse crate::web;\n";
    let found = violations("src/domain/event.rs", source);
    assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), [12]);
    assert_eq!(broken("src/delivery/lanes/tests.rs", "use crate::store::inbox::Inbox;\n"), [""; 0]);
    assert_eq!(broken("src/store/contract/orders.rs", "use crate::pepay::envelope;\n"), [""; 0]);
}

#[test]
fn a_library_outside_its_place_is_found() {
    let source = "use rusqlite::Connection;\nuse tokio_tungstenite::tungstenite::Message;\n";
    let lines =
        |file| -> Vec<usize> { violations(file, source).iter().map(|violation| violation.line).collect() };
    assert_eq!(lines("src/web/status.rs"), [1, 2, 2]);
    assert_eq!(lines("src/store/engine/sqlite/write.rs"), [2, 2]);
    assert_eq!(lines("src/store/committer.rs"), [1, 2, 2]);
    assert_eq!(lines("src/store/contract/orders.rs"), [1, 2, 2], "the suite of every engine knows none");
    assert_eq!(lines("src/source/stream/wire.rs"), [1]);
    assert_eq!(lines("src/source/stream/state.rs"), [1, 2, 2]);
}

#[test]
fn a_long_file_and_an_unknown_module_are_found() {
    let long = "\n".repeat(LONGEST_FILE + 1);
    assert_eq!(broken("src/web.rs", &long), ["src/web.rs:401: a file has at most 400 lines"]);
    assert_eq!(broken("src/web.rs", &"\n".repeat(LONGEST_FILE)), [""; 0]);
    let unknown = broken("src/helpers.rs", "");
    assert_eq!(unknown, ["src/helpers.rs:1: the module `helpers` has no line in the import rule"]);
}
