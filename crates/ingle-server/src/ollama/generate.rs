//! `POST /api/generate`

use super::answer::{self, Frame, Shape};
use super::message::no_images;
use super::settings::{Settings, Think};
use crate::app::App;
use crate::ask::Input;
use crate::fields::Fields;
use crate::guard::Client;
use crate::keep::Keep;
use crate::models::Served;
use crate::openai::fields;
use crate::problem::Problem;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use ingle_engine::ChatRequest;
use ingle_text::Message;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) async fn generate(
    State(app): State<Arc<App>>,
    Extension(Client { name: client, .. }): Extension<Client>,
    body: Body,
) -> Response {
    respond(&app, client, body).await.unwrap_or_else(super::error)
}

async fn respond(app: &Arc<App>, client: String, body: Body) -> Result<Response, Problem> {
    let asked = Instant::now();
    let mut fields = fields(app, body).await?;
    let model: String = fields.required("model")?;
    let lease = super::find(app, &model).await?;
    let settings = Settings::read(&mut fields, &lease)?;
    let (input, told) = input(&mut fields, &lease, settings.think.as_ref())?;
    let mut frame =
        Frame { shape: Shape::Generate, model, asked, load: lease.load, warnings: fields.finish()? };
    if let Some(keep) = settings.keep {
        frame.warnings.extend(lease.keep(keep));
    }
    let gone = settings.keep == Some(Keep::For(Duration::ZERO));
    let Some(input) = input else { return Ok(frame.loaded(gone)) };
    frame.warnings.extend(told);
    let stream = settings.stream;
    answer::respond(app, lease, frame, settings.ask(input, client), stream).await
}

/// Takes what is to be answered, if anything; with what of it the answer has to mention.
///
/// # Errors
/// What cannot be answered, or not together.
fn input(
    fields: &mut Fields,
    served: &Served,
    think: Option<&Think>,
) -> Result<(Option<Input>, Option<String>), Problem> {
    let prompt: String = fields.optional("prompt")?.unwrap_or_default();
    let system = fields.optional::<String>("system")?.filter(|system| !system.is_empty());
    let raw = fields.optional("raw")?.unwrap_or(false);
    let refused = |name: &str, what: &str| Err(Problem::field(name, format!("`{name}` {what}")));
    if fields.optional::<String>("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        return refused("suffix", "is not taken here: text is only continued at its end");
    }
    if fields.optional::<String>("template")?.is_some_and(|template| !template.is_empty()) {
        return refused(
            "template",
            "is not taken here: a model keeps its own; with `raw`, a prompt goes to it as it is",
        );
    }
    if fields.optional::<Vec<Value>>("context")?.is_some_and(|context| !context.is_empty()) {
        return refused("context", "is not taken here; send what was said before as `messages` to /api/chat");
    }
    no_images(fields)?;
    let language = served.engine.language();
    // a model without a template continues text, as with Ollama
    let plain = raw || !language.has_template();
    if plain && system.is_some() {
        return match raw {
            true => refused("system", "and `raw` exclude each other: raw text is all that the model gets"),
            false => refused("system", "cannot reach this model, which has no chat template"),
        };
    }
    if prompt.is_empty() {
        return Ok((None, None));
    }
    if plain {
        let told = think.map(|_| "`think` has no effect on text that no template is put around".into());
        return Ok((Some(Input::Text(prompt)), told));
    }
    let system = system.map(|system| Message::new("system", system));
    let messages = system.into_iter().chain([Message::new("user", prompt)]).collect();
    let variables = think.map(Think::variables).unwrap_or_default();
    let told = think.and_then(|think| think.unread(|name| language.template_reads(name)));
    Ok((Some(Input::Chat(ChatRequest { messages, variables, ..ChatRequest::default() })), told))
}
