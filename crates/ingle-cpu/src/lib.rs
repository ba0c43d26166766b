//! Placeholder header, replaced as the crate fills.
