//! HTTP: several APIs over one internal request type.
//!
//! ```text
//! connection ─► guard (host, origin, key, size) ─► adapter (openai, ..) ─► Ask ─► Engine
//!                                                       ▲                          │
//!                                                       └────────── Told ◄─────────┘
//! ```
//!
//! An adapter turns a body into an [`ask::Ask`] and what it is told into its API's own shapes; it knows no tensors. What a
//! body says is used, reported as a warning, or refused: nothing is ignored in silence.

mod anthropic;
mod app;
mod ask;
mod fields;
mod guard;
mod keep;
mod listen;
mod metrics;
mod models;
mod ollama;
mod openai;
mod openapi;
mod patience;
mod plain;
mod problem;
mod record;
mod routes;
mod serve;
mod stream;
pub mod time;
mod tls;
mod truncate;

pub use guard::keys::{Keys, Role, new_key};
pub use guard::limits::Limits;
pub use keep::Keep;
pub use models::{Load, Offer, Room};
pub use openapi::document as openapi;
pub use serve::{At, ServeError, ServeOptions, Serving};
pub use tls::Tls;
