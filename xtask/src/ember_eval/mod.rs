//! Ember's sealed test: prompts with checks, run over any generator and set beside the scores of the model card.

pub mod checks;
pub mod run;
pub mod sealed;

pub use run::{Report, run};
pub use sealed::{Item, Sealed, Suite};

use anyhow::{Context, Result};
use ingle_engine::sampling::SamplingOptions;
use ingle_engine::{ChatRequest, ExecutorKind, Flow, GenerateOptions, LoadOptions, Model};
use ingle_model::Source;
use ingle_model::spec::KvFormat;
use ingle_text::Message;
use std::path::Path;
use std::sync::Arc;

/// Lets a model (the one inside the program, unless another is named) take the sealed test and prints the scores.
///
/// # Errors
/// A model or a test that cannot be read, and a format of keys and values, `kv`, that does not exist.
pub fn eval(model: Option<&Path>, reference: bool, kv: &str) -> Result<()> {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/ember/ember-q8_0.gguf");
    let source = Arc::new(Source::open(model.unwrap_or(&built_in))?);
    let kind = if reference { ExecutorKind::Reference } else { ExecutorKind::Production };
    let kv = KvFormat::parse(kv).with_context(|| format!("there is no format `{kv}` of keys and values"))?;
    let mut model = Model::load(source, &LoadOptions { kind, kv, ..LoadOptions::default() }, &mut |_| {})?;
    let mut session = model.open()?;
    let report = run(&Sealed::read(&Sealed::path())?, |item| {
        let messages = item.messages.iter().enumerate().map(|(at, message)| Message::from_json(at, message));
        let messages = messages.collect::<ingle_text::Result<_>>()?;
        let request = ChatRequest { messages, tools: item.tools.clone(), ..ChatRequest::default() };
        let prompt = model.language().render(&request)?;
        let sampling = SamplingOptions { temperature: 0.0, ..SamplingOptions::default() };
        let options =
            GenerateOptions { sampling, max_tokens: Some(item.max_new_tokens), ..GenerateOptions::default() };
        Ok(model.generate(&mut session, &prompt, &options, &mut |_| Flow::Continue)?.text)
    })?;
    println!("{report}");
    Ok(())
}
