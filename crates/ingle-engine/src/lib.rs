//! Placeholder header, replaced as the crate fills.

pub mod sampling;
