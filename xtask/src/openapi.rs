//! The document that describes the server's routes, into the repository.

use anyhow::{Context, Result};
use std::path::Path;

/// Writes it.
///
/// # Errors
/// A file that cannot be written.
pub fn write(out: &Path) -> Result<()> {
    let mut text = serde_json::to_string_pretty(&ingle_server::openapi())?;
    text.push('\n');
    std::fs::write(out, text).with_context(|| format!("cannot write {}", out.display()))
}
