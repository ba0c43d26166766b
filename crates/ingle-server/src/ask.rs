//! The one request that all adapters make, and what they are told.

use crate::metrics::Metrics;
use crate::models::{Lease, Served};
use crate::problem::Problem;
use crate::record;
use crate::truncate::{self, Truncate};
use ingle_engine::constraint::{Calls, Form};
use ingle_engine::engine::Request;
use ingle_engine::sampling::{Logprobs, SamplingOverrides};
use ingle_engine::{
    ChatRequest, EmbedOptions, Embedding, EngineError, Event, Flow, GenerateOptions, Language, Outcome,
    Reading, Ticket,
};
use ingle_text::{Specials, ToolCall};
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What to answer.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// A conversation, through the model's template.
    Chat(ChatRequest),
    /// A conversation whose last message is the assistant's, and is to go on.
    Continue(ChatRequest),
    /// Text to continue; control tokens spelled in it mean themselves.
    Text(String),
    /// Tokens to continue.
    Tokens(Vec<u32>),
}

/// A request in no API's shape.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) input: Input,
    /// Over the model's own settings.
    pub(crate) sampling: SamplingOverrides,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
    pub(crate) logprobs: Option<usize>,
    /// Likewise of the prompt's tokens.
    pub(crate) prompt_logprobs: Option<usize>,
    /// The form that what is said has to have.
    pub(crate) form: Option<Form>,
    /// How tools are to be called.
    pub(crate) calls: Calls,
    /// What is left out of a prompt that is too long; nothing, and it is refused, unless this says so.
    pub(crate) truncate: Option<Truncate>,
    /// How many answers.
    pub(crate) choices: usize,
    /// Who asks.
    pub(crate) client: String,
    /// Higher goes first.
    pub(crate) priority: i32,
}

impl Ask {
    /// The field to blame where an answer cannot be held to what is asked: the API's one for forms, or the tools whose
    /// calls are forced.
    pub(crate) fn field_of_form(&self, name: &'static str) -> &'static str {
        if self.form.is_some() { name } else { "tools" }
    }
}

/// What an adapter is told of an answer.
#[derive(Debug)]
pub(crate) enum Told {
    /// A token was chosen; what it says comes next.
    Chosen(u32, Logprobs),
    /// The next token of the prompt, from the second one on.
    Asked(u32, Logprobs),
    Content(String),
    Reasoning(String),
    Call(ToolCall),
    /// It is over.
    Ended(Result<Box<Outcome>, EngineError>),
}

/// Answers under way. Dropping them cancels what is not over.
pub(crate) struct Answers {
    told: UnboundedReceiver<(usize, Told)>,
    _tickets: Vec<Ticket>,
    /// The model stays as long as it is answered with.
    _lease: Lease,
    /// What is answered. With several, the answers to the first one come first.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// What the answer has to mention of the prompts.
    pub(crate) warnings: Vec<String>,
}

impl Answers {
    /// Tokens of all prompts.
    pub(crate) fn prompt_tokens(&self) -> usize {
        self.prompts.iter().map(Vec::len).sum()
    }

    /// What comes next, and of which answer; `None` when the engine is gone.
    pub(crate) async fn next(&mut self) -> Option<(usize, Told)> {
        self.told.recv().await
    }

    /// How each of `choices` answers ended.
    pub(crate) async fn outcomes(
        &mut self,
        choices: usize,
        mut heard: impl FnMut(usize, Told),
    ) -> Result<Vec<Outcome>, Problem> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; choices];
        while outcomes.iter().any(Option::is_none) {
            match self.next().await {
                Some((at, Told::Ended(outcome))) => outcomes[at] = Some(*outcome?),
                Some((at, told)) => heard(at, told),
                None => return Err(EngineError::Gone.into()),
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }
}

/// The prompt's tokens.
///
/// # Errors
/// What the tokenizer or the template refuses, and messages that cannot go on.
pub(crate) fn tokens(language: &Language, input: &Input) -> Result<Vec<u32>, Problem> {
    match input {
        Input::Chat(request) => Ok(language.render(request)?),
        Input::Continue(request) => continued(language, request),
        Input::Text(text) => {
            Ok(language.tokenizer().encode_with_bos(text, Specials::Parse).map_err(EngineError::from)?)
        }
        Input::Tokens(tokens) => Ok(tokens.clone()),
    }
}

/// Tokens of a prompt that may matter to what its end means.
const END: usize = 16;

/// The tokens of a conversation up to the end of its last message, which is not closed: the assistant's turn as the template
/// opens it, and what was said in it.
fn continued(language: &Language, request: &ChatRequest) -> Result<Vec<u32>, Problem> {
    let bad =
        |what: &str| Problem::field("messages", format!("the last message cannot be continued: {what}"));
    let Some((last, before)) = request.messages.split_last() else { return Err(bad("there is none")) };
    if !last.tool_calls.is_empty() || last.reasoning.is_some() {
        return Err(bad("it has thoughts or calls, and only text goes on"));
    }
    let said = match &last.content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => String::new(),
    };
    let mut open = ChatRequest { messages: before.to_vec(), ..request.clone() };
    // what is said comes after thinking
    for name in ["enable_thinking", "thinking"] {
        open.variables.entry(name).or_insert(false.into());
    }
    let mut tokens = language.render(&open)?;
    let tokenizer = language.tokenizer();
    let end = tokenizer.decode(&tokens[tokens.len().saturating_sub(END)..]).map_err(EngineError::from)?;
    if language.dialect().opens_reasoning(&end) || language.dialect().name() == "harmony" {
        return Err(bad("with this model, an answer does not begin with what is said; leave it out"));
    }
    tokens.extend(tokenizer.encode(&said, Specials::AsText).map_err(EngineError::from)?);
    Ok(tokens)
}

/// Hands a request to the engine.
///
/// # Errors
/// What is known before anything is computed.
pub(crate) async fn submit(lease: &Lease, metrics: &Arc<Metrics>, ask: Ask) -> Result<Answers, Problem> {
    submit_all(lease, metrics, ask, Vec::new()).await
}

/// The same with further inputs, of which each gets as many answers as the first.
///
/// # Errors
/// As [`submit`], of any of them: then none is answered.
pub(crate) async fn submit_all(
    lease: &Lease,
    metrics: &Arc<Metrics>,
    ask: Ask,
    further: Vec<Input>,
) -> Result<Answers, Problem> {
    let (lease, metrics) = (lease.clone(), metrics.clone());
    // templates and long texts take their time: others shall not wait for it
    blocking(move || submit_here(lease, &metrics, &ask, &further)).await
}

/// Runs what computes on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let record = record::current();
    match tokio::task::spawn_blocking(|| record::within(record, work)).await {
        Ok(done) => done,
        Err(_) => Err(Problem::internal("the request met a defect of the program; please report it")),
    }
}

/// Vectors of texts. Whoever stops waiting for them cancels them.
///
/// # Errors
/// What the engine refuses.
pub(crate) async fn embed(
    served: &Served,
    texts: Vec<String>,
    options: EmbedOptions,
) -> Result<Vec<Embedding>, EngineError> {
    let record = record::current();
    if let Some(record) = &record {
        record.model(&served.id);
        texts.iter().for_each(|text| record.asked(|| text.clone()));
    }
    let (reply, answer) = tokio::sync::oneshot::channel();
    let on_end = Box::new(move |vectors| _ = reply.send(vectors));
    let _ticket = served.engine.submit_texts(texts, options, on_end)?;
    let vectors = answer.await.map_err(|_| EngineError::Gone)??;
    if let Some(record) = record {
        record.count(vectors.iter().map(|vector| vector.tokens).sum(), 0, 0);
    }
    Ok(vectors)
}

fn submit_here(
    lease: Lease,
    metrics: &Arc<Metrics>,
    ask: &Ask,
    further: &[Input],
) -> Result<Answers, Problem> {
    if let Some(record) = record::current() {
        record.model(&lease.id);
    }
    let language = lease.engine.language();
    let inputs = || std::iter::once(&ask.input).chain(further);
    // all of them are looked at before anything is computed
    let context = lease.engine.about().context;
    let mut prompts: Vec<Vec<u32>> = Vec::new();
    let mut warnings = Vec::new();
    for input in inputs() {
        prompts.push(match ask.truncate {
            None => tokens(language, input)?,
            Some(how) => {
                let (prompt, told) = truncate::fit(language, input, how, context, ask.max_tokens)?;
                warnings.extend(told);
                prompt
            }
        });
    }
    let vocabulary = lease.engine.about().spec.vocabulary;
    if let Some(token) = prompts.iter().flatten().find(|&&token| token as usize >= vocabulary) {
        return Err(Problem::field(
            "prompt",
            format!("there is no token {token}: the vocabulary has {vocabulary}"),
        ));
    }
    if let Some(record) = record::current() {
        for prompt in &prompts {
            record.asked(|| language.tokenizer().decode(prompt).unwrap_or_default());
        }
    }
    let sampling = language.defaults().resolve(&ask.sampling).map_err(EngineError::from)?;
    let seed = sampling.seed;
    let (sender, told) = unbounded_channel();
    let mut tickets = Vec::with_capacity(ask.choices * prompts.len());
    for (input, prompt) in inputs().zip(&prompts) {
        let reading = match input {
            Input::Chat(request) | Input::Continue(request) => {
                Reading::Message { tools: request.tools.clone() }
            }
            Input::Text(_) | Input::Tokens(_) => Reading::Text,
        };
        for choice in 0..ask.choices {
            let mut options = GenerateOptions {
                sampling: sampling.clone(),
                max_tokens: ask.max_tokens,
                stop: ask.stop.clone(),
                reading: reading.clone(),
                logprobs: ask.logprobs,
                form: ask.form.clone(),
                calls: ask.calls.clone(),
            };
            // every answer has a seed of its own, and the first one the seed that was asked for
            options.sampling.seed = seed.map(|seed| seed.wrapping_add(choice as u64));
            let request = Request {
                prompt: prompt.clone(),
                options,
                prompt_logprobs: ask.prompt_logprobs,
                client: ask.client.clone(),
                priority: ask.priority,
            };
            let (on_event, on_end) = listeners(tickets.len(), &sender, metrics);
            tickets.push(lease.engine.submit(request, on_event, on_end)?);
        }
    }
    Ok(Answers { told, _tickets: tickets, _lease: lease, prompts, warnings })
}

/// What passes on what the engine says of an answer, and measures it.
fn listeners(
    choice: usize,
    sender: &UnboundedSender<(usize, Told)>,
    metrics: &Arc<Metrics>,
) -> (ingle_engine::engine::OnEvent, ingle_engine::engine::OnEnd) {
    let (to, end, metrics, at_end) = (sender.clone(), sender.clone(), metrics.clone(), metrics.clone());
    let (submitted, record) = (Instant::now(), record::current());
    let mut last: Option<Instant> = None;
    let on_event = move |event: Event| {
        let told = match event {
            Event::Prefill { done: 0, .. } => {
                metrics.queued.observe(submitted.elapsed());
                return Flow::Continue;
            }
            Event::Prefill { .. } => return Flow::Continue,
            Event::Chosen(token, logprobs) => Told::Chosen(token, logprobs.clone()),
            Event::Asked(token, logprobs) => Told::Asked(token, logprobs.clone()),
            Event::Content(text) | Event::Reasoning(text) => {
                let now = Instant::now();
                match last.replace(now) {
                    None => metrics.first_token.observe(submitted.elapsed()),
                    Some(last) => metrics.between_tokens.observe(now.duration_since(last)),
                }
                match event {
                    Event::Reasoning(_) => Told::Reasoning(text.to_owned()),
                    _ if text.is_empty() => return alive(&to),
                    _ => Told::Content(text.to_owned()),
                }
            }
            Event::Call(call) => Told::Call(call.clone()),
            // the outcome has them all
            Event::Notice(_) => return alive(&to),
        };
        if to.send((choice, told)).is_ok() { Flow::Continue } else { Flow::Stop }
    };
    let on_end = move |outcome: Result<Outcome, EngineError>| {
        at_end.whole.observe(submitted.elapsed());
        if let Some(record) = record {
            record.ended(&outcome);
        }
        _ = end.send((choice, Told::Ended(outcome.map(Box::new))));
    };
    (Box::new(on_event), Box::new(on_end))
}

fn alive(to: &UnboundedSender<(usize, Told)>) -> Flow {
    if to.is_closed() { Flow::Stop } else { Flow::Continue }
}
