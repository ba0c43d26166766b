//! Ember's sealed test: prompts with checks, run over any generator and set beside the scores of the model card.

pub mod checks;
pub mod run;
pub mod sealed;

pub use run::{Report, run};
pub use sealed::{Item, Sealed, Suite};
