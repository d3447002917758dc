//! The causes of an error, as one line of text or one by one.

use std::error::Error;

/// What an error comes from, the nearest cause first.
pub fn causes_of<'a>(error: &'a dyn Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// An error's text with those of its causes.
pub fn with_causes(error: &dyn Error) -> String {
    causes_of(error).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
