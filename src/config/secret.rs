//! Secrets, given in place or as the content of a file.
//!
//! No message repeats a value. The effective configuration shows only the path of a secret's file.

use std::io::Read as _;
use std::path::Path;

use ::config::ValueKind;
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::problem::Faulty;
use super::section::{RawValue, Section, text, variable};
use super::{access, files};

/// The text for a secret in the effective configuration.
const REDACTED: &str = "[redacted]";
/// The largest size of a secret's file, in bytes. A larger file is the wrong file.
const LARGEST_FILE: u64 = 64 * 1024;

/// The number of characters below which there is a warning, since a shorter secret is easily guessed.
const SHORTEST: usize = 16;

/// Headers: names and values.
type Pairs = Vec<(String, String)>;

/// The place of a secret. `InFile` has the trimmed content of the file.
enum Secret<T> {
    Nowhere,
    InPlace(T),
    InFile(String),
}

impl Section<'_> {
    /// Reads a secret, or the trimmed content of the file `<key>_file`.
    pub(super) fn secret(&mut self, key: &str) -> Result<Option<SecretString>, Faulty> {
        let in_place = self.take_text(key);
        let secret = match self.either(key, in_place)? {
            Secret::Nowhere => {
                self.show(key, &"".into());
                return Ok(None);
            }
            Secret::InPlace(secret) => {
                self.show(key, &REDACTED.into());
                secret
            }
            Secret::InFile(content) => content,
        };
        self.judge(key, &secret);
        Ok(Some(secret.into()))
    }

    /// Reads a value that is redacted like a secret and not checked like one. A short value causes no
    /// warning.
    pub(super) fn hidden(&mut self, key: &str) -> Result<Option<SecretString>, Faulty> {
        let in_place = self.take_text(key);
        Ok(match self.either(key, in_place)? {
            Secret::Nowhere => {
                self.show(key, &"".into());
                None
            }
            Secret::InPlace(text) => {
                self.show(key, &REDACTED.into());
                Some(text.into())
            }
            Secret::InFile(content) => Some(content.into()),
        })
    }

    /// Reads a text that may contain a secret, or the trimmed content of the file `<key>_file`. `shown`
    /// makes the text that is shown for a value in place.
    pub(super) fn text_or_file(
        &mut self,
        key: &str,
        default: &str,
        shown: fn(&str) -> String,
    ) -> Result<String, Faulty> {
        let in_place = self.take_text(key);
        Ok(match self.either(key, in_place)? {
            Secret::Nowhere => {
                self.show(key, &default.into());
                default.to_owned()
            }
            Secret::InPlace(text) => {
                self.show(key, &shown(&text).into());
                text
            }
            Secret::InFile(content) => content,
        })
    }

    /// Reads a secret that is sent in a header: visible ASCII without spaces.
    pub(super) fn header_safe_secret(&mut self, key: &str) -> Result<Option<SecretString>, Faulty> {
        let secret = self.secret(key)?;
        match &secret {
            Some(text) if !text.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) => Err(self
                .problem(
                    key,
                    "has a value that no header can carry; allowed is visible ASCII without spaces",
                )),
            _ => Ok(secret),
        }
    }

    /// Reads a list of secrets, or the lines of the file `<key>_file`.
    pub(super) fn secrets(&mut self, key: &str) -> Result<Vec<SecretString>, Faulty> {
        self.secrets_shown(key, |count| (count > 0).then(|| vec![REDACTED; count].into()))
    }

    /// Reads a list of secrets like [`secrets`](Self::secrets). One secret, the usual case, is shown as a
    /// text.
    pub(super) fn one_or_more_secrets(&mut self, key: &str) -> Result<Vec<SecretString>, Faulty> {
        self.secrets_shown(key, |count| match count {
            0 => Some("".into()),
            1 => Some(REDACTED.into()),
            _ => Some(vec![REDACTED; count].into()),
        })
    }

    fn secrets_shown(
        &mut self,
        key: &str,
        shown: impl Fn(usize) -> Option<toml::Value>,
    ) -> Result<Vec<SecretString>, Faulty> {
        // An empty list, as in the example configuration, means that the key is not set.
        let in_place = match self.take_list(key) {
            // An empty text is a fault. If it were ignored, an operator could take it for a secret in
            // use.
            Ok(Some(given)) if given.value.iter().any(String::is_empty) => {
                let fault = "holds an empty text; allowed are secrets, each of at least one character";
                Err(self.problem_of(key, fault, given.variable))
            }
            given => given.map(|given| given.filter(|given| !given.value.is_empty())),
        };
        let secrets: Vec<String> = match self.either(key, in_place)? {
            Secret::Nowhere => {
                if let Some(shown) = shown(0) {
                    self.show(key, &shown);
                }
                Vec::new()
            }
            Secret::InPlace(secrets) => {
                if let Some(shown) = shown(secrets.len()) {
                    self.show(key, &shown);
                }
                secrets
            }
            Secret::InFile(content) => lines(&content).map(str::to_owned).collect(),
        };
        for secret in &secrets {
            self.judge(key, secret);
        }
        if secrets.first().is_some_and(|first| first.starts_with('[')) {
            let found = "has a secret that begins with `[`, which is part of it";
            self.warn(key, found, "write a list in one text without brackets and quotation marks");
        }
        Ok(secrets.into_iter().map(SecretString::from).collect())
    }

    /// Records a warning about a secret that is easily guessed or contains its quotation marks.
    fn judge(&mut self, key: &str, secret: &str) {
        if secret.chars().count() < SHORTEST {
            let found = format!("has a secret of fewer than {SHORTEST} characters");
            self.warn(key, found, "use a longer, random one");
        }
        let quoted = ['"', '\''].iter().any(|mark| secret.starts_with(*mark) && secret.ends_with(*mark));
        if quoted && secret.len() > 1 {
            self.warn(key, "has a secret in quotation marks, which are part of it", "leave them out");
        }
    }

    /// Reads headers with secret values, or the lines `name: value` of the file `<key>_file`.
    /// `taken` returns whether the bridge sets a header itself, which is not allowed here.
    pub(super) fn headers(
        &mut self,
        key: &str,
        taken: impl Fn(&HeaderName) -> bool,
    ) -> Result<HeaderMap, Faulty> {
        let in_place = self.take_headers(key);
        let (origin, pairs) = match self.either(key, in_place)? {
            Secret::Nowhere => (key.to_owned(), Vec::new()),
            Secret::InPlace(pairs) => (key.to_owned(), pairs),
            Secret::InFile(content) => {
                let origin = format!("{key}_file");
                (origin.clone(), self.header_lines(&origin, &content)?)
            }
        };
        let (mut headers, mut shown, mut sound) = (HeaderMap::new(), toml::Table::new(), Ok(()));
        for (name, value) in pairs {
            let fault = match (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
                (Err(_), _) => "is not a header name; allowed are letters, digits and `-`",
                (Ok(header), _) if taken(&header) => {
                    "is set by the bridge itself; allowed are names it does not use"
                }
                (Ok(header), _) if headers.contains_key(&header) => {
                    "is given more than once; allowed is one value for a name"
                }
                (Ok(_), Err(_)) => "has a value that no header can have; allowed is visible ASCII",
                (Ok(header), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(header, value);
                    shown.insert(name, REDACTED.into());
                    continue;
                }
            };
            sound = Err(self.problem(&format!("{origin}.{}", name.escape_debug()), fault));
        }
        if origin == key {
            self.show(key, &toml::Value::Table(shown));
        }
        sound.map(|()| headers)
    }

    /// Returns the value of `key`, or the trimmed content of the file `<key>_file`. If one is set by the
    /// environment and the other by the configuration file, the environment takes precedence, as for
    /// every key. Both in one layer are a fault.
    fn either<T>(
        &mut self,
        key: &str,
        in_place: Result<Option<RawValue<T>>, Faulty>,
    ) -> Result<Secret<T>, Faulty> {
        let file_key = format!("{key}_file");
        let in_file = self.take_text(&file_key)?;
        let RawValue { value: path, variable } = match (in_place?, in_file) {
            (None, None) => return Ok(Secret::Nowhere),
            (Some(in_place), None) => return Ok(Secret::InPlace(in_place.value)),
            (None, Some(in_file)) => in_file,
            (Some(in_place), Some(in_file)) => {
                match (in_place.variable.is_some(), in_file.variable.is_some()) {
                    (true, false) => return Ok(Secret::InPlace(in_place.value)),
                    (false, true) => in_file,
                    _ => {
                        let fault = format!("is given, and `{file_key}` too; allowed is one of the two");
                        return Err(self.problem(key, &fault));
                    }
                }
            }
        };
        match read(&path) {
            Ok((content, exposed)) => {
                if let Some(found) = exposed {
                    self.warn(&file_key, found, "take that permission away (chmod o-r)");
                }
                self.warn_of_folder(&file_key, Path::new(&path));
                self.note_file(&file_key, Path::new(&path), content.as_bytes());
                self.show(&file_key, &path.into());
                Ok(Secret::InFile(content))
            }
            Err(fault) => {
                // The message has no path, since the value may be a misplaced secret.
                let fault = format!("names a file that {fault}; allowed is a file that holds the secret");
                Err(self.problem_of(&file_key, &fault, variable))
            }
        }
    }

    fn take_headers(&mut self, key: &str) -> Result<Option<RawValue<Pairs>>, Faulty> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let variable = variable(&value);
        let pairs: Option<Vec<_>> = match value.kind {
            ValueKind::Table(table) => {
                table.into_iter().map(|(name, value)| Some((name, text(value)?))).collect()
            }
            _ => None,
        };
        let Some(mut pairs) = pairs else {
            let allowed =
                format!("allowed is a table of texts such as `{key} = {{ authorization = \"…\" }}`");
            return Err(self.problem_of(key, &format!("is no table of texts; {allowed}"), variable));
        };
        // An empty value in the environment removes a header of the file.
        pairs.retain(|(_, value)| !value.is_empty());
        pairs.sort();
        Ok(Some(pairs).filter(|pairs| !pairs.is_empty()).map(|value| RawValue { value, variable }))
    }

    fn header_lines(&mut self, key: &str, content: &str) -> Result<Pairs, Faulty> {
        let mut pairs = Vec::new();
        for (index, line) in content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let Some((name, value)) = line.split_once(':') else {
                let fault = format!("line {} of the file is no header; allowed is `name: value`", index + 1);
                return Err(self.problem(key, &fault));
            };
            pairs.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(pairs)
    }
}

fn lines(content: &str) -> impl Iterator<Item = &str> {
    content.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// Reads a secret's file. Returns the trimmed content, and a finding if every user may read the file.
///
/// # Errors
/// The fault of the file as text.
fn read(path: &str) -> Result<(String, Option<String>), String> {
    let mut content = String::new();
    let opened = files::open(Path::new(path)).and_then(|file| {
        let exposed = access::readable(&file.metadata()?);
        file.take(LARGEST_FILE + 1).read_to_string(&mut content)?;
        Ok(exposed)
    });
    let exposed =
        opened.map_err(|error| format!("cannot be read: {}", access::explained(Path::new(path), &error)))?;
    if content.len() as u64 > LARGEST_FILE {
        return Err(format!("is larger than {} KiB", LARGEST_FILE / 1024));
    }
    // Some editors begin a file with a byte order mark.
    match content.trim_start_matches('\u{feff}').trim() {
        "" => Err("is empty".to_owned()),
        secret => Ok((secret.to_owned(), exposed)),
    }
}
