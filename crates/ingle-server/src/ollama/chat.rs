//! `POST /api/chat`

use super::answer::{self, Frame, Shape};
use super::message;
use super::settings::Settings;
use crate::app::App;
use crate::ask::Input;
use crate::guard::Client;
use crate::keep::Keep;
use crate::openai::{fields, messages};
use crate::problem::Problem;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use ingle_engine::ChatRequest;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) async fn chat(
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
    let messages = message::messages(&mut fields)?;
    let tools = messages::tools(&mut fields)?;
    let mut frame = Frame { shape: Shape::Chat, model, asked, load: lease.load, warnings: fields.finish()? };
    if let Some(keep) = settings.keep {
        frame.warnings.extend(lease.keep(keep));
    }
    let gone = settings.keep == Some(Keep::For(Duration::ZERO));
    let Some(last) = messages.last() else { return Ok(frame.loaded(gone)) };
    // what the assistant has begun, it goes on with
    let continues = last.role == "assistant" && last.tool_calls.is_empty();
    let mut request = ChatRequest { messages, tools, ..ChatRequest::default() };
    if let Some(think) = &settings.think {
        request.variables = think.variables();
        let language = lease.engine.language();
        frame.warnings.extend(think.unread(|name| language.template_reads(name)));
    }
    let input = if continues { Input::Continue(request) } else { Input::Chat(request) };
    let stream = settings.stream;
    answer::respond(app, lease, frame, settings.ask(input, client), stream).await
}
