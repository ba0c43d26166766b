//! Numbers as options take them.

/// A whole number above 0.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("a whole number above 0 is needed".into()),
    }
}

/// A whole number, 0 included.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("a whole number from 0 to {} is needed", u32::MAX))
}

/// One of a list of token ids; there may be spaces around it.
pub(crate) fn tokens(text: &str) -> Result<u32, String> {
    text.trim()
        .parse()
        .map_err(|_| "token ids are whole numbers separated by commas, as in 9707,11,1879".into())
}
