//! Tests of a target's `where`, and of `signing_secret` with one secret or several.

use super::*;

#[test]
fn a_condition_is_read_from_a_table_nested_tables_or_a_text_and_shown_as_it_is() {
    let expected =
        [("data.object.livemode", "true"), ("data.object.status", "paid"), ("data.object.total", "100")];
    for given in [
        "where = { 'data.object.status' = 'paid', 'data.object.total' = 100, 'data.object.livemode' = true }",
        "where.data.object = { status = 'paid', total = 100, livemode = true }",
        "where = 'data.object.status=paid, data.object.total = 100,data.object.livemode=true,'",
        "where = { data.object.status = 'paid', 'data.object' = { total = 100, livemode = true }, other = '' }",
    ] {
        let loaded = load_text(&format!("{LEAST}\n{given}"), &[]).unwrap();
        let condition = loaded.settings.targets[0].condition.as_ref().unwrap();
        let terms: Vec<_> = condition.terms().map(|(path, value)| (path.to_string(), value)).collect();
        let terms: Vec<_> = terms.iter().map(|(path, value)| (&**path, *value)).collect();
        assert_eq!(terms, expected, "{given}");
        let line = loaded.effective.lines().find(|line| line.starts_with("where")).unwrap().to_owned();
        assert!(line.contains(r#""data.object.status" = "paid""#), "{line}");
    }
    let variable = [("PEPAY_BRIDGE__TARGETS__ORDERS__WHERE", "livemode=true")];
    let loaded = load_text(&format!("{LEAST}\nwhere = {{ a = 'b' }}"), &variable).unwrap();
    let condition = loaded.settings.targets[0].condition.clone().unwrap();
    assert_eq!(condition.terms().count(), 1);
}

#[test]
fn the_environment_wins_over_the_file_for_one_path_of_a_condition() {
    const STATUS: &str = "PEPAY_BRIDGE__TARGETS__ORDERS__WHERE__DATA__OBJECT__STATUS";
    for file in ["'data.object.status' = 'paid'", "data = { object = { status = 'paid' } }"] {
        let given = format!("{LEAST}\nwhere = {{ {file}, livemode = true }}");
        for (value, expected) in [
            ("open", vec!["data.object.status=open", "livemode=true"]),
            ("zzz", vec!["data.object.status=zzz", "livemode=true"]),
            ("", vec!["livemode=true"]),
        ] {
            let loaded = load_text(&given, &[(STATUS, value)]).unwrap();
            let condition = loaded.settings.targets[0].condition.as_ref().unwrap();
            let terms: Vec<_> = condition.terms().map(|(path, value)| format!("{path}={value}")).collect();
            assert_eq!(terms, expected, "{file}");
        }
    }
}

#[test]
fn one_signing_secret_or_several_are_read_in_place_and_from_a_file() {
    let (one, other) =
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_b3RoZXItc2lnbmluZy1zZWNyZXQtMjQtYnl0ZXM=");
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("secrets");
    std::fs::write(&file, format!("{one}\n{other}\n")).unwrap();
    for (given, count, shown) in [
        (String::new(), 0, "signing_secret = \"\""),
        (format!("signing_secret = '{one}'"), 1, "signing_secret = \"[redacted]\""),
        (
            format!("signing_secret = ['{one}', '{other}']"),
            2,
            "signing_secret = [\"[redacted]\", \"[redacted]\"]",
        ),
        (
            format!("signing_secret = '{one}, {other}'"),
            2,
            "signing_secret = [\"[redacted]\", \"[redacted]\"]",
        ),
        (format!("signing_secret_file = '{}'", file.display()), 2, "signing_secret_file = "),
    ] {
        let loaded = load_text(&format!("{LEAST}\n{given}"), &[]).unwrap();
        assert_eq!(loaded.settings.targets[0].signing_keys.len(), count, "{given}");
        assert!(
            loaded.effective.lines().any(|line| line.starts_with(shown)),
            "{given}\n{}",
            loaded.effective
        );
    }
}

#[test]
fn faults_of_a_condition_and_of_secrets_are_named() {
    for (text, key, says) in [
        (
            "signing_secret = ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'hidden']",
            "targets.orders.signing_secret",
            "allowed is `whsec_`",
        ),
        (
            "signing_secret = ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw']",
            "targets.orders.signing_secret",
            "has a secret twice",
        ),
        ("where = { 'a..b' = 'x' }", "targets.orders.where", "is no path"),
        ("where = { 'a.b' = 'x', a = { b = 'y' } }", "targets.orders.where", "has the path `a.b` twice"),
        ("where = 'a=x, a=y'", "targets.orders.where", "has the path `a` twice"),
        ("where = 'status'", "targets.orders.where", "allowed is a table"),
        ("where = ['status=paid']", "targets.orders.where", "allowed is a table"),
        ("where = { a = ['b'] }", "targets.orders.where", "allowed is a table"),
        ("where = '1=1,2=1,3=1,4=1,5=1,6=1,7=1,8=1,9=1'", "targets.orders.where", "has 9 paths"),
    ] {
        assert_problem(text, key, says);
    }
}
