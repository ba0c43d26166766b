//! Developer chores, each a module; the binary `xtask` runs them.

pub mod bodies;
pub mod clients;
pub mod ember_eval;
pub mod emulated;
pub mod errors;
pub mod goldens;
pub mod guess;
pub mod load;
pub mod loom;
pub mod openapi;
pub mod sparse_curve;
pub mod versus;
