use proptest::prelude::*;

use super::*;

fn data(data: &str) -> Data<'_, 0> {
    Data::read(data.as_bytes(), &[]).unwrap()
}

fn digest(text: &str) -> Digest {
    of("t", Some(1), Some(&data(text)))
}

#[test]
fn the_same_meaning_has_the_same_digest() {
    let one = r#"{"object":{"id":"é/","n":[1,10.50,-0.0,true,null],"a":{"x":1,"y":{}}},"z":1e3}"#;
    for other in [
        r#"{ "z" : 1000, "object" : { "a":{"y":{ },"x":1e0}, "n":[1.0, 105e-1, 0, true, null],
           "id":"\u00e9\/" } }"#,
        r#"{"z":1.000E+3,"object":{"id":"é/","n":[0.1e1,10.5,0e7,true,null],"a":{"x":1,"y":{}}}}"#,
    ] {
        assert_eq!(digest(one), digest(other), "{other}");
    }
}

#[test]
fn another_meaning_has_another_digest() {
    let different = [
        "1",
        "10",
        "0.1",
        "-1",
        "\"1\"",
        "[1]",
        "[[1]]",
        "[]",
        "{}",
        "null",
        "true",
        "false",
        "\"null\"",
        "[1,2]",
        "[2,1]",
        "[12]",
        "[\"1\",\"2\"]",
        "[\"1,2\"]",
        r#"{"a":1}"#,
        r#"{"a":"1"}"#,
        r#"{"a":{"b":1}}"#,
        r#"{"a":{},"b":1}"#,
        r#"{"b":1}"#,
        r#"{"a":1,"a":1}"#,
        r#""\ud800""#,
        r#""\ud801""#,
        r#""\\ud800""#,
        "1e99999999999",
        "100000000000000000000000000001",
        "100000000000000000000000000002",
        "\"a b\"",
        "\"ab\"",
    ];
    for (index, one) in different.iter().enumerate() {
        for other in &different[index + 1..] {
            assert_ne!(digest(one), digest(other), "{one} and {other}");
        }
    }
    let empty = data("{}");
    let of = |kind, created, data| of(kind, created, data);
    assert_ne!(of("t", Some(1), Some(&empty)), of("u", Some(1), Some(&empty)));
    assert_ne!(of("t", Some(1), Some(&empty)), of("t", Some(2), Some(&empty)));
    assert_ne!(of("t", None, Some(&empty)), of("t", Some(2), Some(&empty)));
    assert_ne!(of("t", None, Some(&empty)), of("t", None, None));
}

#[test]
fn in_long_data_white_space_still_does_not_count() {
    let text = "x\\\" y".repeat(20_000);
    let one = format!(r#"{{"text":"{text}","n":[1,2]}}"#);
    let spaced = format!("{{ \"text\" : \"{text}\" ,\r\n\t\"n\" : [ 1 , 2 ] }}");
    assert_eq!(digest(&one), digest(&spaced));
    assert_ne!(digest(&one), digest(&one.replace(" y", "  y")));
}

fn value() -> impl Strategy<Value = String> {
    let name =
        || prop::sample::select(vec!["object", r"obj\u0065ct", "id", r"\u0069d", "order", r"\ud800", ""]);
    let leaf = prop::sample::select(vec!["7", "\"a\"", r#""\"x\\""#, "null", "-1.5e3", "[]", "{}", " true"]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 32, 6, move |inner| {
        let member = (name(), inner.clone()).prop_map(|(name, value)| format!("\"{name}\" : {value}"));
        prop_oneof![
            prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(" ,"))),
            prop::collection::vec(inner, 0..6).prop_map(|items| format!("[{}]", items.join(", "))),
        ]
    })
}

proptest! {
    #[test]
    fn one_pass_over_the_data_reads_the_same_as_a_search_for_each_member(value in value()) {
        let value = value.trim_start();
        let text = format!("{value}, \"created\": 1}}");
        let names = ["id", "order"];
        let data = Data::read(text.as_bytes(), &names).unwrap();
        prop_assert_eq!(data.length, value.trim_end().len());
        let looked_for = object_of(value.as_bytes(), &names);
        prop_assert_eq!(data.object.values, looked_for.values);
        prop_assert_eq!(data.object.repeated, looked_for.repeated);
    }
}

#[test]
fn a_stored_digest_stays_readable() {
    // Pinned: databases hold digests that were made like this.
    let digest = digest(r#"{"b":[1.50,"x"],"a":null}"#);
    assert_eq!(digest.to_string(), "da688d88e94a48bfa8b947349819ecc9");
}
