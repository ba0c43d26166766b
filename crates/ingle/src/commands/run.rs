//! `ingle run`: one answer, or a conversation.

use crate::args::{Compute, ComputeArgs, SamplingArgs, positive};
use crate::chat::{
    Conversation, Effort, Loaded, Partner, Prompt, Repl, Screen, Settings, Terminal, reason_name, show_answer,
};
use crate::console::{Notes, Output, Style, for_output, on_errors, say};
use crate::opening::{self, ModelName, Word};
use crate::progress::{Progress, Unit};
use crate::{errors, figures, input, interrupt, messages, tools};
use anyhow::Result;
use clap::builder::PossibleValuesParser;
use ingle_engine::{EndReason, EngineError, Model, Outcome, Reading};
use ingle_text::{Dialect, ToolCall};
use serde_json::json;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Answer a prompt, or chat when there is none.
///
/// The answer goes to standard output, everything else to standard error. What is piped in comes before the prompt.
#[derive(Debug, clap::Args)]
#[command(after_help = messages::EXAMPLES)]
pub(crate) struct Args {
    #[arg(value_name = "MODEL", help = format!("{} [default: ember]", messages::MODEL_HELP))]
    model: Option<String>,
    /// What to answer; without it, a conversation begins
    #[arg(value_name = "PROMPT")]
    prompt: Option<String>,
    /// How the model is to behave
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Print one JSON object: text, reasoning, tool_calls, tokens, reason, usage, seed, notices
    #[arg(long)]
    pub(crate) json: bool,
    /// Continue the prompt as it is, without the model's chat template; control tokens in it mean themselves
    #[arg(long, conflicts_with_all = ["system", "think", "no_think"])]
    raw: bool,
    /// Let the model reason before it answers, if its template has the choice
    #[arg(long, overrides_with = "no_think")]
    think: bool,
    /// Let the model answer at once, if its template has the choice
    #[arg(long, overrides_with = "think")]
    no_think: bool,
    /// How long the model reasons, if its template asks
    #[arg(long, value_name = "LEVEL", conflicts_with = "raw")]
    reasoning_effort: Option<Effort>,
    /// Offer the tools in this file, a JSON list in the OpenAI layout; calls are shown, nothing executes them
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    tools: Option<PathBuf>,
    /// How the model marks reasoning and tool calls [default: as its template shows]
    #[arg(long, value_name = "NAME", conflicts_with = "raw", value_parser = PossibleValuesParser::new(Dialect::names()))]
    dialect: Option<String>,
    /// No notices, no figures, no reasoning, only the answer
    #[arg(short, long)]
    quiet: bool,
    /// Neither read nor write the file that keeps what was typed in chats (~/.local/share/ingle/history)
    #[arg(long)]
    no_history: bool,
    /// Most tokens of an answer [default: until the model ends it]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive)]
    max_tokens: Option<usize>,
    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT", value_parser = stop)]
    stop: Vec<String>,
    /// Tokens that prompt and answers may have together [default: what the model was made for, if it fits]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive)]
    context: Option<usize>,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Most tokens of a plain continuation, which may have no end of its own.
const PLAIN_TOKENS: usize = 512;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (name, prompt) = what_to_do(args)?;
    let prompt = whole_prompt(prompt)?;
    if prompt.is_none() && args.json {
        return Err(errors::Usage(messages::JSON_NEEDS_PROMPT.into()).into());
    }
    if prompt.is_none() && !io::stdout().is_terminal() {
        return Err(errors::Usage(messages::CHAT_NEEDS_TERMINAL.into()).into());
    }
    let tools = args.tools.as_deref().map(tools::read).transpose()?.unwrap_or_default();
    let compute = args.compute.choose()?;
    interrupt::install()?;
    let (mut partner, mut notices) = load(&name, args, compute)?;
    let plain = args.raw || !partner.converses();
    let mut settings = Settings {
        sampling: args.sampling.overrides(),
        max_tokens: args.max_tokens,
        stop: args.stop.clone(),
        think: if args.think { Some(true) } else { args.no_think.then_some(false) },
        effort: args.reasoning_effort,
        tools,
    };
    settings.options(partner.defaults())?; // impossible options are refused before anything is computed
    if !partner.converses() && !args.raw {
        if args.system.is_some() {
            anyhow::bail!(messages::SYSTEM_NEEDS_TEMPLATE);
        }
        if args.tools.is_some() {
            anyhow::bail!(messages::TOOLS_NEED_TEMPLATE);
        }
        if args.think || args.no_think || args.reasoning_effort.is_some() || args.dialect.is_some() {
            notices.push(messages::REASONING_NEEDS_TEMPLATE.to_owned());
        }
        settings.max_tokens = settings.max_tokens.or(Some(PLAIN_TOKENS));
        notices.push(messages::no_template(args.max_tokens.is_none().then_some(PLAIN_TOKENS)));
    }
    let silent = args.quiet || args.json;
    if !silent {
        if name == ModelName::Ember {
            on_errors(|notes| notes.aside(messages::DEMONSTRATION));
        }
        notices.iter().for_each(|notice| say(&format!("note: {notice}")));
    }
    match prompt {
        Some(text) => answer(args, &mut partner, &settings, &text, plain, &notices),
        None => converse(args, &mut partner, settings, plain),
    }
}

/// Which model, and the prompt if there is one. A single word that is no model is a prompt for ember.
fn what_to_do(args: &Args) -> Result<(ModelName, Option<String>)> {
    match (&args.model, &args.prompt) {
        (Some(word), None) if word.trim().is_empty() => Ok((ModelName::Ember, Some(word.clone()))),
        (Some(model), Some(prompt)) => Ok((opening::model(model)?, Some(prompt.clone()))),
        (Some(word), None) if opening::classify(word) == Word::Text => {
            Ok((ModelName::Ember, Some(word.clone())))
        }
        (Some(model), None) => Ok((opening::model(model)?, None)),
        (None, _) => Ok((ModelName::Ember, None)),
    }
}

/// The prompt with what was piped in before it.
fn whole_prompt(prompt: Option<String>) -> Result<Option<String>> {
    let piped = if input::is_terminal() { None } else { Some(input::read_all()?) };
    let piped = piped.as_deref().map(str::trim_end);
    if prompt.as_ref().is_some_and(|prompt| prompt.trim().is_empty()) && piped.is_none_or(str::is_empty) {
        return Err(errors::Usage(messages::EMPTY_PROMPT.into()).into());
    }
    let Some(piped) = piped else { return Ok(prompt) };
    match prompt {
        Some(prompt) if piped.is_empty() => Ok(Some(prompt)),
        Some(prompt) if prompt.trim().is_empty() => Ok(Some(piped.to_owned())),
        Some(prompt) => Ok(Some(format!("{piped}\n\n{prompt}"))),
        None if piped.is_empty() => Err(errors::Usage(messages::NO_PROMPT.into()).into()),
        None => Ok(Some(piped.to_owned())),
    }
}

fn load(name: &ModelName, args: &Args, compute: Compute) -> Result<(Loaded, Vec<String>)> {
    let options = compute.load_options(args.context);
    let source = Arc::new(name.open()?);
    let spec = name.describe(&source)?; // refused in this program's words before anything is loaded
    if spec.head.is_none() {
        return Err(anyhow::Error::msg(messages::only_embeds(&name.display())));
    }
    let mut progress = Progress::new_if(!args.quiet && !args.json, "loading", Unit::Bytes);
    let mut model = Model::load(source, &options, &mut |at| progress.update(at.done, at.total))
        .map_err(|error| name.blame(error.into()))?;
    progress.finish();
    let mut notices = model.notices().to_vec();
    notices.extend(compute.notice());
    if model.language().has_template() {
        let unread = |names: &[&str]| !names.iter().any(|name| model.language().template_reads(name));
        let without_effect = [
            (args.think || args.no_think, unread(&opening::THINKING), messages::NO_THINKING_SWITCH),
            (args.reasoning_effort.is_some(), unread(&[opening::EFFORT]), messages::NO_EFFORT),
            (args.tools.is_some(), unread(&["tools"]), messages::NO_TOOLS),
        ];
        let told = without_effect.into_iter().filter(|(asked, unread, _)| *asked && *unread);
        notices.extend(told.map(|(_, _, notice)| notice.to_owned()));
    }
    let dialect =
        args.dialect.as_deref().and_then(|name| Dialect::named(name, Some(model.language().tokenizer())));
    if let Some(dialect) = dialect {
        model.set_dialect(dialect);
    }
    Ok((Loaded::new(name.display(), model)?, notices))
}

/// One answer.
fn answer(
    args: &Args,
    partner: &mut Loaded,
    settings: &Settings,
    text: &str,
    plain: bool,
    notices: &[String],
) -> Result<ExitCode> {
    let mut options = settings.options(partner.defaults())?;
    let prompt = if plain {
        options.reading = Reading::Text;
        partner.tokens(Prompt::Plain(text))?
    } else {
        let mut conversation = Conversation::new(args.system.clone());
        conversation.ask(text);
        partner.tokens(Prompt::Chat(&conversation.request(settings.variables(), &settings.tools)))?
    };
    let mut output = Output::new("the answer");
    let suggest = |error: anyhow::Error| match error.downcast_ref() {
        Some(&EngineError::PromptTooLong { prompt, context }) => {
            anyhow::Error::msg(messages::prompt_too_long(prompt, context))
        }
        _ => error,
    };
    let outcome = if args.json {
        let (mut nowhere, mut silence) = (io::sink(), io::sink());
        let mut screen = Screen {
            out: &mut nowhere,
            notes: Notes::new(&mut silence, Style::PLAIN),
            terminal: false,
            figures: false,
            apart: false,
        };
        let outcome = show_answer(partner, &prompt, &options, &mut screen).map_err(suggest)?;
        writeln!(output, "{}", for_output(document(partner.name(), &outcome, notices).to_string()))?;
        output.flush()?;
        outcome
    } else {
        let mut notes = io::stderr();
        let mut screen = screen(&mut output, &mut notes, !args.quiet);
        show_answer(partner, &prompt, &options, &mut screen).map_err(suggest)?
    };
    let interrupted = outcome.reason == EndReason::Stopped;
    Ok(if interrupted { ExitCode::from(errors::INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// A conversation at the terminal.
fn converse(args: &Args, partner: &mut Loaded, settings: Settings, plain: bool) -> Result<ExitCode> {
    let mut notices = Vec::new();
    let mut terminal = Terminal::open(!args.no_history, &mut notices)?;
    let (mut output, mut notes) = (Output::new("the answer"), io::stderr());
    let mut screen = screen(&mut output, &mut notes, !args.quiet);
    if !args.quiet {
        let welcome =
            messages::welcome(partner.name(), &figures::rounded(partner.parameters()), partner.context());
        screen.notes.aside(&welcome);
        for notice in &notices {
            screen.notes.aside(&format!("note: {notice}"));
        }
    }
    let conversation = Conversation::new(args.system.clone());
    Repl { partner, conversation, settings, screen, plain, answers: Vec::new() }.run(&mut terminal)?;
    Ok(ExitCode::SUCCESS)
}

/// The person's terminal, or what stands in its place.
fn screen<'a>(output: &'a mut Output, notes: &'a mut io::Stderr, figures: bool) -> Screen<'a> {
    Screen {
        out: output,
        notes: Notes::new(notes, Style::of_errors()),
        terminal: io::stdout().is_terminal(),
        figures,
        apart: io::stderr().is_terminal() && !io::stdout().is_terminal(),
    }
}

/// The answer for programs.
fn document(model: &str, outcome: &Outcome, notices: &[String]) -> serde_json::Value {
    let usage = &outcome.usage;
    let mut document = json!({
        "model": model,
        "text": outcome.text,
        "reasoning": outcome.reasoning,
        "tool_calls": outcome.calls.iter().map(call).collect::<Vec<_>>(),
        "tokens": outcome.tokens,
        "reason": reason_name(&outcome.reason),
        "seed": usage.seed,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "prefill_seconds": usage.prefill_seconds,
            "prefill_tokens_per_second": usage.prefill_rate(),
            "decoded_tokens": usage.decoded_tokens,
            "decode_seconds": usage.decode_seconds,
            "decode_tokens_per_second": usage.decode_rate(),
        },
        "notices": notices.iter().chain(&outcome.notices).collect::<Vec<_>>(),
    });
    if let EndReason::StopText(text) = &outcome.reason {
        document["stop"] = json!(text);
    }
    document
}

/// A call in the OpenAI layout: the arguments are text.
fn call(call: &ToolCall) -> serde_json::Value {
    let arguments = call.arguments.as_str().map_or_else(|| call.arguments.to_string(), str::to_owned);
    let function = json!({"name": call.name, "arguments": arguments});
    json!({"id": call.id, "type": "function", "function": function})
}

fn stop(text: &str) -> Result<String, String> {
    if text.is_empty() { Err(messages::EMPTY_STOP.into()) } else { Ok(text.to_owned()) }
}
