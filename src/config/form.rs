//! The forms of values. A form parses a text, or returns a message about a wrong text.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use http::{HeaderName, Uri};
use rustls::pki_types::ServerName;
use url::Url;

use super::problem::quoted;
use super::{access, files};
use crate::domain::event::Environment;

/// Parses a text, or returns its fault and what is allowed.
type Read<T> = dyn Fn(&str) -> Result<T, String>;

/// The form of one kind of value. Every value is read as text, since the environment has only text. A
/// number or a boolean of the file is converted to text first.
pub(super) struct Form<T> {
    read: Box<Read<T>>,
    bare: bool,
    /// Converts a text to the text that is shown, if they differ.
    shown: Option<fn(&str) -> String>,
}

impl<T> Form<T> {
    /// Creates a form that TOML writes in quotes. The error of `read` has the fault and what is allowed.
    pub(super) fn text(read: impl Fn(&str) -> Result<T, String> + 'static) -> Self {
        Self { read: Box::new(read), bare: false, shown: None }
    }

    /// Creates a form that TOML writes without quotes.
    pub(super) fn bare(read: impl Fn(&str) -> Result<T, String> + 'static) -> Self {
        Self { read: Box::new(read), bare: true, shown: None }
    }

    /// Parses `text`.
    pub(super) fn read(&self, text: &str) -> Result<T, String> {
        (self.read)(text)
    }

    /// Returns the same form with its value converted by `make`.
    pub(super) fn map<U>(self, make: impl Fn(T) -> U + 'static) -> Form<U>
    where
        T: 'static,
    {
        let Self { read, bare, shown } = self;
        Form { read: Box::new(move |text| read(text).map(&make)), bare, shown }
    }

    /// Returns the same form with its shown text made by `shown`.
    pub(super) fn shown_as(self, shown: fn(&str) -> String) -> Self {
        Self { shown: Some(shown), ..self }
    }

    /// Returns `text`, which is valid, as a TOML value.
    pub(super) fn show(&self, text: &str) -> toml::Value {
        if let Some(shown) = self.shown {
            return shown(text).into();
        }
        let number =
            || text.parse().map(toml::Value::Integer).or_else(|_| text.parse().map(toml::Value::Float));
        match self.bare.then(number) {
            Some(Ok(number)) => number,
            _ => text.into(),
        }
    }
}

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);

/// The form of a duration, such as `500ms`.
pub(super) fn duration(allowed: RangeInclusive<Duration>) -> Form<Duration> {
    Form::text(move |text| {
        let duration = humantime::parse_duration(text).map_err(|_| {
            format!(
                "{} is not a duration; allowed are values such as `500ms`, `10s`, `5m`, `30d`",
                quoted(text)
            )
        })?;
        within(text, duration, &allowed, |end| show_duration(*end))
    })
}

/// Returns `duration` as text, in the largest unit that divides it.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(DAY, "d"), (HOUR, "h"), (SECOND * 60, "m"), (SECOND, "s"), (MILLISECOND, "ms")];
    let fitting = units.into_iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(unit.as_millis()));
    match fitting {
        Some((unit, name)) => format!("{}{name}", millis / unit.as_millis()),
        None => "0s".to_owned(),
    }
}

/// The form of a number of bytes, such as `256KiB`.
pub(super) fn size(allowed: RangeInclusive<ByteSize>) -> Form<ByteSize> {
    Form::text(move |text| {
        let size = text.parse().map_err(|_| {
            format!("{} is not a size; allowed are values such as `4096`, `256KiB`, `1MiB`", quoted(text))
        })?;
        within(text, size, &allowed, |end| end.display().iec().to_string())
    })
}

/// The form of a number in a range.
pub(super) fn number<T>(allowed: RangeInclusive<T>) -> Form<T>
where
    T: FromStr + PartialOrd + Display + 'static,
{
    Form::bare(move |text| {
        let number = text.parse().map_err(|_| {
            let (least, most) = (allowed.start(), allowed.end());
            format!("{} is not such a number; allowed are {least} to {most}", quoted(text))
        })?;
        within(text, number, &allowed, T::to_string)
    })
}

fn within<T: PartialOrd>(
    text: &str,
    value: T,
    allowed: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<T, String> {
    if allowed.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (show(allowed.start()), show(allowed.end()));
    Err(format!("{} is out of range; allowed are {least} to {most}", quoted(text)))
}

/// The form of a network environment of Pepay.
pub(super) fn environment() -> Form<Environment> {
    choice(&[("devnet", Environment::Devnet), ("mainnet", Environment::Mainnet)])
}

/// The form of one of several words.
pub(super) fn choice<T: Copy + 'static>(choices: &'static [(&'static str, T)]) -> Form<T> {
    Form::text(move |text| {
        let chosen = choices.iter().find(|(word, _)| *word == text);
        chosen.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
            format!("{} is no choice; allowed are {}", quoted(text), words.join(" and "))
        })
    })
}

/// The form of a type whose parse error has the fault and what is allowed.
pub(super) fn parsed<T>() -> Form<T>
where
    T: FromStr + 'static,
    T::Err: Display,
{
    Form::text(|text| text.parse().map_err(|error: T::Err| error.to_string()))
}

/// The form of a text for a query: up to 255 bytes without control characters.
pub(super) fn plain_text() -> Form<String> {
    Form::text(|text| {
        let clean = text.len() <= 255 && !text.contains(char::is_control);
        clean.then(|| text.to_owned()).ok_or_else(|| {
            format!(
                "{} is not such a text; allowed are up to 255 bytes without control characters",
                quoted(text)
            )
        })
    })
}

/// The form of an address to listen on.
pub(super) fn address() -> Form<SocketAddr> {
    Form::text(|text| {
        text.parse().map_err(|_| {
            format!(
                "{} is not an address; allowed is IP:PORT such as `127.0.0.1:9090` or `[::]:8080`",
                quoted(text)
            )
        })
    })
}

/// The form of a URL with one of two schemes. The URL may have no user and no password, since `check`
/// prints it. No message repeats it.
pub(super) fn url(schemes: [&'static str; 2], instead_of_credentials: &'static str) -> Form<Url> {
    let allowed = format!("allowed are {}://… and {}://… with a host", schemes[0], schemes[1]);
    Form::text(move |text| {
        let url = Url::parse(text).map_err(|error| format!("is not a URL ({error}); {allowed}"))?;
        if !schemes.contains(&url.scheme()) {
            return Err(format!("has the scheme {}; {allowed}", quoted(url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("holds a user or a password; {instead_of_credentials}"));
        }
        if url.fragment().is_some() {
            return Err(format!("has a fragment (`#…`), which is never sent; {allowed}"));
        }
        // A URL may have characters that a request may not, such as those of `http://${HOST}/`.
        if Uri::try_from(url.as_str()).is_err() {
            return Err(format!("has a character that no request can carry, or is too long; {allowed}"));
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if matches!(url.scheme(), "https" | "wss") && ServerName::try_from(host).is_err() {
            return Err(format!("has a host that no certificate can name; {allowed}"));
        }
        Ok(url)
    })
}

/// The form of a header name.
pub(super) fn header_name() -> Form<HeaderName> {
    Form::text(|text| {
        text.parse().map_err(|_| {
            format!(
                "{} is not a header name; allowed are letters, digits and `-`, as in `x-api-key`",
                quoted(text)
            )
        })
    })
}

/// The form of the path of a readable file. No message repeats the path, since the value may be a
/// misplaced key or certificate.
pub(super) fn file() -> Form<PathBuf> {
    Form::text(|text| match files::open(Path::new(text)) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(format!(
            "names a file that cannot be opened: {}; allowed is the path of a readable file",
            access::explained(Path::new(text), &error)
        )),
    })
}
