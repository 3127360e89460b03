//! What an error comes down to.

use std::error::Error;

/// The innermost cause of `error`, or `error` itself if it names none: the one
/// that says what happened. Those around it mostly repeat what was tried.
pub fn innermost<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn the_error_without_a_cause_is_the_cause() {
        let inner = Layer("connection refused", None);
        assert_eq!(innermost(&inner).to_string(), "connection refused");
        let outer = Layer("cannot send", Some(Box::new(Layer("cannot connect", Some(Box::new(inner))))));
        assert_eq!(innermost(&outer).to_string(), "connection refused");
    }
}
