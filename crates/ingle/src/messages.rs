//! What the program says to people beside its results, in one place and one voice.
//!
//! Errors begin with a small letter and end without a full stop: they follow `error: `. Each says what to do next.

use crate::figures::bytes;
use ingle_engine::EndReason;
use ingle_engine::bench::Disturbance;
use ingle_engine::memory::Demand;
use std::path::Path;

/// Examples under `ingle --help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  ingle run                              chat with ember, the small demonstration model inside
  ingle run \"What is Ingle?\"             one answer, then back to the shell
  ingle run ./qwen3-4b-q4_k_m.gguf       chat with a model file
  ingle run ./Qwen3-4B \"Why is the sky blue?\"
  cat notes.txt | ingle run \"Summarise this\"
  ingle pull qwen3:4b                    fetch a model (the one command that opens connections)
  ingle list                             models that other programs keep on this machine; `ingle run NAME` uses them
  ingle show ./qwen3-4b-q4_k_m.gguf      what a file holds and what it needs
  ingle bench ./qwen3-4b-q4_k_m.gguf     how fast it is here, beside what the machine allows
  ingle offline prove                    that this program cannot open a connection
  ingle doctor                           what was found of this machine, and what costs speed
  ingle embed ./bge-small-en-v1.5 --similarity < lines.txt

What you type in a chat is kept for the arrow keys in ~/.local/share/ingle/history (under $XDG_DATA_HOME if that is set)
and stays on this machine; `ingle run --no-history` neither reads nor writes it.";

/// Where `MODEL` is explained.
pub(crate) const MODEL_HELP: &str =
    "`ember` (the model inside), a .gguf file, or a Hugging Face folder (config.json and safetensors)";

/// A model that would have to be fetched.
pub(crate) fn no_download(name: &str) -> String {
    format!(
        "no model here is called `{name}` (`ingle list` shows those that are); `ingle pull {name}` fetches it, or give a \
         path, as in `ingle run ./model.gguf` (if it was meant as a prompt: `ingle run ember \"{name}\"`)"
    )
}

/// A name of several models.
pub(crate) fn several_models(name: &str, all: &[String]) -> String {
    let all = all.join("; ");
    format!("several models here are called `{name}`; give more of the name, or a path: {all}")
}

/// A name of none.
pub(crate) fn not_listed(name: &str) -> String {
    format!("no model here is called `{name}`; `ingle list` shows those that are here")
}

/// A model of another program.
pub(crate) fn not_ours(model: &str) -> String {
    format!(
        "{model} was not fetched by `ingle pull`, so it is not removed; remove it with the program that keeps it"
    )
}

/// The person has forbidden connections.
pub(crate) const OFFLINE: &str = "INGLE_OFFLINE is set: nothing is fetched; unset it to fetch a model";

/// There is no folder for data.
pub(crate) const NO_HOME: &str = "this system names no home folder, so there is no place for models; set HOME or XDG_DATA_HOME to an absolute path";

/// Nobody said what a file should be.
pub(crate) fn nothing_published(file: &str, digest: &str) -> String {
    format!("note: no digest was published for {file}, so it was compared with nothing; it is {digest}")
}

/// Nothing was found.
pub(crate) fn no_models(folders: &ingle_store::Folders) -> String {
    let looked: Vec<String> =
        folders.0.iter().map(|(program, path)| format!("{} ({})", path.display(), program.name())).collect();
    format!("no other models were found; looked in {}", looked.join(", "))
}

/// A path with nothing at its end.
pub(crate) fn no_such_model(path: &str) -> String {
    format!("there is no file or folder `{path}`; check the path (`ingle run` alone starts the model inside)")
}

/// What is neither a path nor a name.
pub(crate) fn not_a_model(text: &str) -> String {
    format!(
        "`{text}` is no model: there is no such file or folder, and the only model inside is `ember` (a prompt \
         of several words needs quotes)"
    )
}

/// A network nobody here can compute.
pub(crate) fn cannot_run_yet(architecture: &str) -> String {
    let known = ingle_model::families::known(ingle_model::families::Dialect::Gguf).join(", ");
    format!("`{architecture}` is an architecture that cannot run yet; this version runs: {known}")
}

/// A file without tensors.
pub(crate) fn only_a_tokenizer(name: &str) -> String {
    format!(
        "{name} holds only a tokenizer and no weights: `ingle tokenize` can use it, but there is nothing to compute; \
         fetch the whole model"
    )
}

/// A network without a head.
pub(crate) fn only_embeds(name: &str) -> String {
    format!("{name} makes embeddings of texts and writes none; use it as in `ingle embed {name} \"a text\"`")
}

/// A binary stream that a person would see.
pub(crate) const BINARY_TO_TERMINAL: &str =
    "--format f32 writes bytes, which a terminal cannot show; send them to a file (> vectors.f32)";

/// What is asked does not stay between who asks and the model.
pub(crate) const PROMPTS_ARE_LOGGED: &str = "\
WARNING: --log-prompts is given: ALL THAT IS ASKED IS WRITTEN to standard error, and to every journal that it goes to.
         Tell those who ask, or start without it.";

/// The kernel does not take the network away.
pub(crate) fn not_sealed(why: &str) -> String {
    format!(
        "this system does not let the program give up the network ({why}), so it is not certain that nothing leaves the \
         machine; allow seccomp here (some containers and sandboxes forbid it), or say INGLE_UNSEALED=1 to go on without"
    )
}

/// The person has said to go on all the same.
pub(crate) fn goes_on_unsealed(why: &str) -> String {
    format!("WARNING: the network could not be given up ({why}), and INGLE_UNSEALED says to go on without")
}

/// Systems without a way to give it up.
#[cfg(not(target_os = "linux"))]
pub(crate) const NO_SEAL_HERE: &str =
    "this system has no such means; that this command connects nowhere rests on its code alone";

/// No texts at all.
pub(crate) const NO_TEXTS: &str = "there is no text to embed; give some as arguments, in a file (--file) or on standard input, one per line";

/// Texts that lost their end.
pub(crate) fn cut_texts(numbers: &[usize], longest: usize) -> String {
    let named: Vec<String> = numbers.iter().take(5).map(usize::to_string).collect();
    let more = if numbers.len() > named.len() { ", …" } else { "" };
    let (texts, their) = if numbers.len() == 1 { ("text", "its") } else { ("texts", "their") };
    format!("{texts} {}{more} lost {their} end: the model takes {longest} tokens", named.join(", "))
}

/// Tensors that no part of the network asks for. Most of them are named by `--tensors`.
pub(crate) fn unused_tensors(names: &[&str]) -> String {
    const NAMED: usize = 3;
    let (some, more) = (&names[..names.len().min(NAMED)], names.len() > NAMED);
    let tensors = if names.len() == 1 { "tensor has" } else { "tensors have" };
    let rest = if more { ", ... (--tensors marks them all)" } else { "" };
    format!(
        "{} {tensors} no place in the network and will not be used: {}{rest}",
        names.len(),
        some.join(", ")
    )
}

/// Tensors of a part that is no text network.
pub(crate) fn unused_senses(tensors: usize) -> String {
    format!("{tensors} tensors belong to a part for images or sound, which will not be used")
}

/// A Hugging Face folder without one.
pub(crate) const NO_TOKENIZER_FILE: &str =
    "the folder has no tokenizer.json; fetch it from where the model is from";

/// Words after `ingle run` that are too many.
pub(crate) fn quotes(prompt: &str) -> String {
    format!("a prompt of several words needs quotes: ingle run \"{prompt}\"")
}

/// A file that is not one of the two layouts.
pub(crate) fn not_a_gguf_path(path: &str, ending: &str) -> String {
    format!(
        "`{path}` is a .{ending} file; give a .gguf file, or the folder that holds config.json and the .safetensors \
         files"
    )
}

/// An instruction set this processor lacks.
pub(crate) fn no_isa(asked: &str, available: &[&str]) -> String {
    format!("this processor cannot run {asked} kernels; it can run {}", available.join(", "))
}

/// A name that is no instruction set.
pub(crate) fn unknown_isa(known: &[&str], available: &[&str]) -> String {
    let (known, available) = (known.join(", "), available.join(", "));
    format!("known instruction sets are {known}; this processor can run {available}")
}

/// Threads that would wait for each other.
pub(crate) fn more_threads_than_cores(threads: usize, usable: usize) -> String {
    let cores = if usable == 1 { "core" } else { "cores" };
    format!("{threads} threads share the {usable} {cores} this program may use; fewer (--threads) are faster")
}

/// `ingle bench` without a model.
pub(crate) const BENCH_EMBER: &str = "\
note: this measures ember, the small demonstration model inside, which fits the processor's cache;
      for figures of real work name a model: ingle bench ./model.gguf";

/// `ingle doctor --reference`.
pub(crate) const NO_REFERENCE_DOCTOR: &str =
    "the reference has neither kernels nor threads to choose; leave --reference out";

/// `ingle bench -p 0 -n 0`.
pub(crate) const NOTHING_TO_MEASURE: &str =
    "there is nothing to measure: give a prompt length (-p) or a number of tokens to generate (-n) above 0";

/// A measurement that the model was not made for.
pub(crate) fn bench_beyond_context(tokens: usize, context: usize) -> String {
    format!(
        "depth and tokens come to {tokens}, and the model was made for {context}; choose a smaller depth (-d), prompt \
         (-p) or number of tokens (-n)"
    )
}

/// A measurement that the memory cannot hold.
pub(crate) fn bench_does_not_fit(
    demand: &Demand,
    sequences: usize,
    context: usize,
    available: u64,
) -> String {
    let [weights, kv, available] = [demand.weights, demand.kv, available].map(bytes);
    let of = if sequences == 1 { String::new() } else { format!("{sequences} sequences of ") };
    format!(
        "the model needs {weights} for its weights and {kv} for the cache of {of}{context} tokens, and {available} of \
         memory are free; choose a smaller model, a smaller depth (-d) or fewer sequences (-b)"
    )
}

/// Weights without a kernel of their own.
pub(crate) fn generic_formats(formats: &str) -> String {
    format!("{formats} weights have no fast kernel yet and run several times slower")
}

/// A benchmark of a mixture of which only a part is in memory.
pub(crate) fn experts_from_file(held: usize, all: usize) -> String {
    format!(
        "{held} of the model's {all} experts fit the memory for them; the others are read from the file when they are \
         chosen, and the disk bounds the speed, which the limits do not know"
    )
}

/// A limit on experts for a model without any.
pub(crate) const NO_EXPERTS: &str = "the model has no experts that memory could be set for";

/// Figures from a busy machine.
pub(crate) fn not_quiet(disturbance: &Disturbance) -> String {
    let others = disturbance.others.unwrap_or(0.0);
    let stolen = disturbance.stolen.unwrap_or(0.0);
    let who = if stolen > others {
        format!("the host gave {stolen:.1} processors to other machines")
    } else {
        format!("other programs kept {others:.1} processors busy")
    };
    format!(
        "the machine was not quiet: {who}; the figures, and the limits beside them, are lower than they could be"
    )
}

/// `--stop` without a text.
pub(crate) const EMPTY_STOP: &str = "an empty text would end every answer before it begins; leave it out";

/// A prompt without a word in it.
pub(crate) const EMPTY_PROMPT: &str = "the prompt is empty; say something, or leave it out to chat";

/// A single prompt longer than the context.
pub(crate) fn prompt_too_long(prompt: usize, context: usize) -> String {
    format!(
        "the prompt has {prompt} tokens and the context holds {context}; shorten the prompt or choose a longer \
         context with --context"
    )
}

/// More positions than the model was made for.
pub(crate) fn beyond_context(tokens: usize, context: usize) -> String {
    format!("{tokens} tokens are more than the {context} the model was made for; expect worse predictions")
}

/// Shown once when ember runs.
pub(crate) const DEMONSTRATION: &str = "\
note: ember is a demonstration: 3.7 million parameters, made to show that everything works, not for real work.
      For a real model fetch one as a .gguf file or Hugging Face folder (such as Qwen3) and name its path:
      ingle run ./model.gguf   (--quiet hides this)";

/// After Ctrl-C at the prompt.
pub(crate) const HOW_TO_LEAVE: &str = "(to leave: Ctrl-D or /bye)";
/// Keys and forms under `/help`.
pub(crate) const KEYS: &[(&str, &str)] = &[
    ("\"\"\"", "begins and ends a message of several lines"),
    ("\\ at the end of a line", "continues the message on the next line"),
    ("space before /", "sends a message that begins with a slash"),
    ("Ctrl-C", "stops an answer"),
];
/// `/system` without one.
pub(crate) const NO_SYSTEM: &str = "(there is no system prompt; /system TEXT sets one)";
/// After `/system TEXT`.
pub(crate) const SYSTEM_SET: &str = "(system prompt set)";
/// After `/system none`.
pub(crate) const SYSTEM_REMOVED: &str = "(system prompt removed)";
/// `/system TEXT` and `--system` for a model that continues text.
pub(crate) const SYSTEM_NEEDS_TEMPLATE: &str =
    "a system prompt needs a chat template; this model continues plain text, so write it into the text";
/// Tools for a model that cannot be told of them.
pub(crate) const TOOLS_NEED_TEMPLATE: &str =
    "tools need a chat template; this model continues plain text and would not hear of them";
/// Options about reasoning for a model that only continues text.
pub(crate) const REASONING_NEEDS_TEMPLATE: &str =
    "the model has no chat template: --think, --no-think, --reasoning-effort and --dialect have no effect";
/// After `/clear`.
pub(crate) const CLEARED: &str = "(the conversation is forgotten)";
/// `--json` and `--quiet` make no sense at a keyboard.
pub(crate) const JSON_NEEDS_PROMPT: &str =
    "--json prints one answer for a program, and a conversation has many; give a PROMPT or pipe one in";
/// A conversation without a screen.
pub(crate) const CHAT_NEEDS_TERMINAL: &str = "a conversation needs a terminal, and standard output is none; give a PROMPT, as in `ingle run MODEL \"Hello\"`";
/// Nothing to answer.
pub(crate) const NO_PROMPT: &str = "there is no PROMPT and standard input is empty; give one of them";

/// A call that a model made.
pub(crate) fn tool_call(name: &str, arguments: &str) -> String {
    format!("tool call: {name} {arguments}")
}

/// After it.
pub(crate) const CALLS_ARE_NOT_EXECUTED: &str =
    "(nothing here executes it; tell the model the result yourself)";

/// `--reasoning-effort` for a template that does not ask.
pub(crate) const NO_EFFORT: &str =
    "the model's chat template does not ask for an effort of reasoning; --reasoning-effort has no effect";

/// `--tools` for a template without a place for them.
pub(crate) const NO_TOOLS: &str = "the model's chat template has no place for tools; --tools has no effect";

/// A file of tools that is none.
pub(crate) const TOOLS_FORM: &str =
    "it must be a JSON list of tools in the OpenAI layout, each with a function's name";

/// `--think` and `--no-think` for a template that has no such choice.
pub(crate) const NO_THINKING_SWITCH: &str =
    "the model's chat template has no switch for reasoning; --think and --no-think have no effect";

/// A model without a chat template.
pub(crate) fn no_template(most: Option<usize>) -> String {
    let limit = most.map(|most| format!(", for at most {most} tokens (--max-tokens)")).unwrap_or_default();
    format!("the model has no chat template: it continues your text{limit} instead of answering it")
}

/// The first line of a conversation.
pub(crate) fn welcome(model: &str, parameters: &str, context: usize) -> String {
    format!(
        "{model}, {parameters} parameters, {context} tokens of context. /help lists commands, Ctrl-D leaves."
    )
}

/// Why an answer ended, if the model did not end it.
pub(crate) fn end_reason(reason: &EndReason) -> Option<String> {
    match reason {
        EndReason::EndOfTurn => None,
        EndReason::Length => Some("cut off at the token limit (--max-tokens)".into()),
        EndReason::ContextFull => Some("cut off: the context is full (/clear, or a longer --context)".into()),
        EndReason::StopText(text) => Some(format!("ended at {text:?}")),
        EndReason::Stopped => Some("stopped".into()),
    }
}

/// An answer that was stopped before its first token.
pub(crate) const STOPPED_READING: &str = "[stopped while reading the prompt]";

/// After `/save`.
pub(crate) fn saved(messages: usize, file: &str) -> String {
    format!("({messages} messages saved to {file})")
}

/// After `/load`.
pub(crate) fn loaded(messages: usize, file: &str) -> String {
    format!("({messages} messages loaded from {file})")
}

/// A slash command that does not exist.
pub(crate) fn unknown_command(name: &str, meant: Option<&str>) -> String {
    let guess = meant.map(|meant| format!("did you mean {meant}? ")).unwrap_or_default();
    format!(
        "there is no command {name}; {guess}/help lists them (to send a message that begins with a slash, put a space before it)"
    )
}

/// A setting that does not exist.
pub(crate) fn unknown_setting(name: &str, meant: Option<&str>) -> String {
    let guess = meant.map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
    format!("there is no setting `{name}`; {guess}/set lists them")
}

/// A setting that cannot change while the model is loaded.
pub(crate) fn fixed_at_start(name: &str) -> String {
    format!("`{name}` is fixed when the model is loaded; leave and start again with --{name}")
}

/// `/set system`.
pub(crate) const SET_SYSTEM: &str = "the system prompt has a command of its own: /system TEXT";

/// The history of earlier entries cannot be read.
pub(crate) fn no_history(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("the history in {} cannot be read ({error}); it begins anew", path.display())
}
