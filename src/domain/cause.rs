//! The causes of an error.

use std::error::Error;

/// Returns the innermost cause of `error`, or `error` itself if it has none. The innermost cause says
/// what happened; the errors around it mostly repeat the attempted operation.
pub fn innermost<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

/// Returns `error` and its causes, outermost first, without those whose text the previous one repeats
/// already.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let (mut said, mut cause) = (text.clone(), error.source());
    while let Some(error) = cause {
        let next = error.to_string();
        if !said.contains(&next) {
            text = format!("{text}: {next}");
        }
        (said, cause) = (next, error.source());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn the_innermost_error_is_found_and_the_chain_shows_every_error() {
        let inner = Layer("connection refused", None);
        assert_eq!(innermost(&inner).to_string(), "connection refused");
        let outer = Layer("cannot send", Some(Box::new(Layer("cannot connect", Some(Box::new(inner))))));
        assert_eq!(innermost(&outer).to_string(), "connection refused");
        assert_eq!(chain(&outer), "cannot send: cannot connect: connection refused");
    }

    #[test]
    fn text_that_an_error_repeats_of_its_cause_is_shown_once() {
        let inner = Layer("connection refused", None);
        let outer = Layer("cannot connect: connection refused", Some(Box::new(inner)));
        assert_eq!(chain(&outer), "cannot connect: connection refused");
    }
}
