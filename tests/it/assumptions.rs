//! `docs/pepay.md` names a test for each assumption. This test checks that they exist.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

/// Adds the name of every function below `folder`, tests included, to `found`.
fn functions(folder: &Path, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            functions(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path)?;
            let after_fn = source.split("fn ").skip(1);
            found.extend(after_fn.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
        }
    }
    Ok(())
}

/// Returns the names in backticks in the last cell of every row with four cells.
fn named(page: &str) -> Vec<String> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.matches(" | ").count() == 3);
    let last = rows.filter_map(|row| row.trim_end_matches('|').rsplit(" | ").next());
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn every_test_that_the_list_of_assumptions_names_exists() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    functions(&top.join("src"), &mut known).unwrap();
    functions(&top.join("tests"), &mut known).unwrap();
    let named = named(&fs::read_to_string(top.join("docs/pepay.md")).unwrap());
    assert!(named.len() > 20, "the page names hardly any test: {named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !known.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/pepay.md names tests that do not exist: {missing:#?}");
}
