//! From a request to tokens: a loaded [`Model`], its [`Session`]s, sampling, and the events a run reports.

mod answer;
pub mod bench;
pub mod constraint;
mod description;
pub mod embed;
pub mod engine;
pub mod error;
mod fit;
pub mod generate;
mod language;
mod listener;
pub mod machine;
pub mod memory;
pub mod model;
pub mod sampling;
mod stop;

pub use description::Description;
pub use embed::{EmbedOptions, Embedding, Prompts, cosine};
pub use engine::{Engine, EngineOptions, Guess, PrefixFolder, Request, Ticket};
pub use error::EngineError;
pub use fit::Fit;
pub use generate::{EndReason, Event, Flow, GenerateOptions, Outcome, Reading, Usage};
pub use ingle_cpu::kernels::Isa;
pub use language::{ChatRequest, Language};
pub use model::{ExecutorKind, LoadOptions, LoadProgress, Model, Session};
