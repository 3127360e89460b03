//! Properties that hold for every input: one function for each fuzz target. `tests/it/fuzz.rs`
//! runs those of public parsers over the corpora.
#![cfg_attr(fuzzing, allow(dead_code, unused_imports, reason = "each target uses one"))]

use bytes::Bytes;
use pepay_bridge::config::{self, Input};
use pepay_bridge::domain::clock::UnixMillis;
use pepay_bridge::domain::filter::TypeFilter;
use pepay_bridge::domain::operator::Cursor;
use pepay_bridge::domain::retry_after;
use pepay_bridge::pepay::condition::Condition;
use pepay_bridge::pepay::frame::{self, Frame};
use pepay_bridge::pepay::signature::SigningKey;
use pepay_bridge::pepay::{comparison, envelope};

const NOW: UnixMillis = UnixMillis(1_734_780_000_000);

/// The most bytes of a text for the log.
const LONGEST_SHOWN: usize = 4096;

fn key(secret: &str) -> SigningKey {
    SigningKey::new(&secret.into())
}

/// Returns the input before the first byte `at`, and the input after it.
fn split(data: &[u8], at: u8) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == at) {
        Some(place) => (&data[..place], &data[place + 1..]),
        None => (data, &[]),
    }
}

/// The input has a line with the signature, one with the timestamp, and the body.
pub fn signature(data: &[u8]) {
    let (signature, rest) = split(data, b'\n');
    let (timestamp, body) = split(rest, b'\n');
    let (Ok(signature), Ok(timestamp)) = (std::str::from_utf8(signature), std::str::from_utf8(timestamp))
    else {
        return;
    };
    let (own, other) = (key("own"), key("other"));
    let signed = own.sign(timestamp, body);
    assert!(own.verify(&signed, timestamp, body));
    assert!(!other.verify(&signed, timestamp, body));
    assert_eq!(own.verify(signature, timestamp, body), signature == signed);
    let mut longer = body.to_vec();
    longer.push(b' ');
    assert!(!own.verify(&signed, timestamp, &longer));
}

/// The input is an event.
pub fn envelope(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let Ok(event) = envelope::parse(body.clone(), NOW) else { return };
    assert_eq!(event.body, body);
    assert!((1..=255).contains(&event.id.as_str().len()) && (1..=255).contains(&event.kind.as_str().len()));
    assert!(event.created > 0);
    assert_eq!(comparison::differences(&body, &body, NOW).unwrap(), []);
    // White space around the event and an unknown member do not change the parsed fields.
    let mut wider = b" \n".to_vec();
    wider.extend_from_slice(data);
    wider.extend_from_slice(b"\t\r\n");
    let open = wider.iter().position(|byte| *byte == b'{').unwrap();
    let is_empty = wider[open + 1..].trim_ascii_start().starts_with(b"}");
    let member: &[u8] = if is_empty { b" \"\\u007azz\":[\"}\"] " } else { b" \"\\u007azz\":[\"}\"] ," };
    let (before, after) = wider.split_at(open + 1);
    let again = envelope::parse([before, member, after].concat().into(), NOW).unwrap();
    assert_eq!((&again.id, &again.kind, &again.subject), (&event.id, &event.kind, &event.subject));
    assert_eq!((again.created, again.digest), (event.created, event.digest));
}

/// The input is a frame of the stream.
pub fn frame(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    match frame::parse(body.clone(), NOW) {
        Frame::Event(event) => assert_eq!(event, envelope::parse(body, NOW).unwrap()),
        Frame::Control { text, .. } | Frame::Error { text } | Frame::Unknown(text) => {
            assert!(text.len() <= LONGEST_SHOWN, "{} bytes", text.len());
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
}

/// The input is the value of a `Retry-After` header.
pub fn retry_after(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(wait) = retry_after::parse(text, NOW) {
        assert!(wait.as_secs() < 10_000 * 366 * 86_400, "{wait:?}");
        assert_eq!(retry_after::parse(&format!("\t{text} "), NOW), Some(wait));
    }
}

/// The input is a time, or a cursor of a list.
pub fn time(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(time) = text.parse::<UnixMillis>() {
        let written = serde_json::to_value(time).unwrap();
        // A year that cannot be written becomes the nearest one that can.
        let nearest = UnixMillis(time.0.clamp(0, 253_402_300_799_999));
        assert_eq!(written.as_str().unwrap().parse(), Ok(nearest), "{text}");
    }
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string().parse(), Ok(cursor), "{text}");
    }
}

/// The input has three lines: two filters of types, and a type.
pub fn types(data: &[u8]) {
    let (one, rest) = split(data, b'\n');
    let (other, kind) = split(rest, b'\n');
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let Ok(one) = text(one).parse::<TypeFilter>() else { return };
    assert_eq!(one.to_string().parse(), Ok(one.clone()));
    assert!(one.overlaps(&one));
    let Ok(other) = text(other).parse::<TypeFilter>() else { return };
    assert_eq!(one.overlaps(&other), other.overlaps(&one));
    if one.matches(text(kind)) && other.matches(text(kind)) {
        assert!(one.overlaps(&other));
    }
}

/// The input has a line for each path with its value, an empty line, and an event.
pub fn condition(data: &[u8]) {
    let head = data.windows(2).position(|bytes| bytes == b"\n\n");
    let (head, event) = head.map_or((data, &b""[..]), |at| (&data[..at], &data[at + 2..]));
    let Ok(head) = std::str::from_utf8(head) else { return };
    let terms = head.lines().filter_map(|line| line.split_once('='));
    let terms = terms.map(|(path, value)| (path.to_owned(), value.to_owned()));
    let Ok(Some(condition)) = Condition::new(terms) else { return };
    let written = condition.terms().map(|(path, value)| (path.to_string(), value.to_owned()));
    assert_eq!(Condition::new(written).unwrap().as_ref(), Some(&condition));
    let met = condition.is_met_by(event);
    // The condition is met if and only if each of its terms is.
    let each = condition.terms().all(|(path, value)| {
        let part = Condition::new([(path.to_string(), value.to_owned())]).unwrap();
        part.is_none_or(|part| part.is_met_by(event))
    });
    assert_eq!(met, each);
}

/// The input has a line for each environment variable, an empty line, and a configuration file.
pub fn configuration(data: &[u8]) {
    let head = data.windows(2).position(|bytes| bytes == b"\n\n");
    let (head, file) = head.map_or((&b""[..], data), |at| (&data[..at], &data[at + 2..]));
    let Ok(head) = std::str::from_utf8(head) else { return };
    let variables = || {
        let pairs = head.lines().filter_map(|line| line.split_once('='));
        // Variables that may name other files are left out.
        pairs.filter(|(name, value)| *name != "PEPAY_BRIDGE_CONFIG" && !value.contains('/'))
    };
    // The file is in memory if the machine has this folder.
    let folder = std::path::Path::new("/dev/shm");
    let folder = if folder.is_dir() { folder.to_owned() } else { std::env::temp_dir() };
    let path = folder.join(format!("pepay-bridge-fuzz-{}.toml", std::process::id()));
    std::fs::write(&path, file).unwrap();
    match config::load(&Input::new(Some(&path), variables())) {
        Ok(loaded) => {
            let shown: toml::Table = toml::from_str(&loaded.effective).unwrap();
            assert!(shown.contains_key("store"));
            assert!(!loaded.settings.targets.is_empty());
        }
        Err(problems) => assert!(!problems.is_empty() && !problems.to_string().is_empty()),
    }
    std::fs::remove_file(&path).unwrap();
}

#[cfg(fuzzing)]
mod private {
    use std::time::Duration;

    use http::{HeaderMap, HeaderName, HeaderValue};
    use pepay_bridge::source::webhook;

    use super::*;

    /// The input is a webhook: a line for each header field, an empty line, and the body. `@own` is
    /// replaced by a signature with a key of the endpoint, `@other` by one with another key.
    pub fn webhook(data: &[u8]) {
        let head = data.windows(2).position(|bytes| bytes == b"\n\n");
        let (head, body) = head.map_or((data, &b""[..]), |at| (&data[..at], &data[at + 2..]));
        let lines = || {
            head.split(|byte| *byte == b'\n').map(|line| {
                let (name, value) = split(line, b':');
                (name, value.trim_ascii())
            })
        };
        let timestamp = lines().find(|(name, _)| name.eq_ignore_ascii_case(b"x-pepay-timestamp"));
        let timestamp = timestamp.map_or("", |(_, value)| std::str::from_utf8(value).unwrap_or_default());
        let (mut headers, mut is_signed) = (HeaderMap::new(), false);
        let own = key("own").sign(timestamp, body);
        for (name, value) in lines().take(64) {
            let value = match value {
                b"@own" => own.clone().into_bytes(),
                b"@other" => key("other").sign(timestamp, body).into_bytes(),
                value => value.to_vec(),
            };
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(&value)) {
                is_signed |= name.as_str().starts_with("x-pepay-signature") && value == own.as_str();
                headers.append(name, value);
            }
        }
        let settings = |keys: &[&str]| webhook::Settings {
            name: "default".into(),
            path: "/".into(),
            keys: keys.iter().map(|secret| key(secret)).collect(),
            environment: data
                .len()
                .is_multiple_of(2)
                .then_some(pepay_bridge::domain::event::Environment::Devnet),
            tolerance: Duration::from_mins(5),
            max_body: 1 << 20,
        };
        let body = Bytes::copy_from_slice(body);
        let verify = |keys| webhook::fuzzing::verify(&headers, body.clone(), &settings(keys), NOW);
        let received = verify(&["previous", "own"]);
        assert_eq!(received.is_some(), verify(&["own"]).is_some());
        if let Some(received) = received {
            assert!(is_signed);
            assert_eq!(received.event, envelope::parse(body.clone(), NOW).unwrap());
            let named = headers.get_all("x-pepay-event-id").iter();
            assert!(named.into_iter().all(|id| id.as_bytes() == received.event.id.as_str().as_bytes()));
        }
        assert!(verify(&["previous", "another"]).is_none());
        assert!(verify(&[]).is_none());
    }

    /// The input is a byte for the `limit`, and a page of the list of events.
    pub fn list_page(data: &[u8]) {
        use pepay_bridge::pepay::rest::{LARGEST_PAGE, fuzzing};

        let Some((limit, body)) = data.split_first() else { return };
        let limit = u16::from(*limit) % LARGEST_PAGE + 1;
        if let Some(page) = fuzzing::page(body, limit, NOW) {
            let skipped = page.skipped.as_ref().map_or(0, |skipped| skipped.count);
            assert!(page.events.len() + skipped <= usize::from(limit));
            assert!(page.last.is_some() || !page.has_more);
            for event in &page.events {
                assert_eq!(*event, envelope::parse(event.body.clone(), NOW).unwrap());
            }
        }
        if let Some(page) = fuzzing::around_bad_entry(body, NOW) {
            assert!(page.last.is_some() && page.events.is_empty());
        }
    }

    /// The input is a line with the value of `Date`, and a response of the token endpoint.
    pub fn token(data: &[u8]) {
        use pepay_bridge::pepay::rest::fuzzing;

        let (date, body) = split(data, b'\n');
        if let Some(date) = std::str::from_utf8(date).ok().and_then(fuzzing::date) {
            assert!((0..253_402_300_800_000).contains(&date.0), "{date:?}");
        }
        if let Some(token) = fuzzing::token(body) {
            let account = token.identity.account.unwrap_or_else(|| "-".to_owned());
            assert!((1..=255).contains(&account.len()) && !account.contains(char::is_control));
        }
    }

    /// The input is the body of a request to the admin API.
    pub fn admin_body(data: &[u8]) {
        assert!(pepay_bridge::web::fuzzing::bodies(data) <= 1, "no body is one of two calls");
    }

    /// The input is the query of a list of the admin API.
    pub fn admin_query(data: &[u8]) {
        let Ok(text) = std::str::from_utf8(data) else { return };
        let Some((filter, page)) = pepay_bridge::web::fuzzing::listing(text) else { return };
        assert!((1..=pepay_bridge::domain::operator::Page::LARGEST).contains(&page.limit));
        assert!(filter.text.is_none_or(|text| (1..=800).contains(&text.len())));
        assert!(filter.object_id.is_none_or(|id| !id.is_empty()));
    }
}

#[cfg(fuzzing)]
pub use private::*;
