//! The part of HTTP/1.1 that sender and receiver need: heads with a content-length.

/// The head of a message.
pub struct Head<'a>(&'a [u8]);

impl<'a> Head<'a> {
    /// Returns the head at the beginning of `bytes` and its length, or `None` if the head is not
    /// complete.
    pub fn at_the_beginning_of(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        Some((Self(&bytes[..end]), end + 4))
    }

    /// Returns the status, if this is the head of a response.
    pub fn status(&self) -> Option<u16> {
        std::str::from_utf8(self.0.get(9..12)?).ok()?.parse().ok()
    }

    /// Returns the value of a header. `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.0.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
            let (found, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            found.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
        })
    }

    /// Returns the length of the body, in bytes.
    pub fn content_length(&self) -> usize {
        let value = self.header("content-length").and_then(|value| std::str::from_utf8(value).ok());
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}
