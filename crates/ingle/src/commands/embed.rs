//! `ingle embed`: texts to vectors.

use crate::args::{ComputeArgs, positive};
use crate::console::{Output, for_output, harmless, say};
use crate::opening::{self, ModelName};
use crate::progress::{Progress, Unit};
use crate::{errors, input, interrupt, messages};
use anyhow::Result;
use clap::ValueEnum;
use ingle_engine::{EmbedOptions, Embedding, EngineError, Model, cosine};
use ingle_model::spec::PooledRow;
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// Turn texts into vectors whose directions say how alike the texts are.
///
/// For models made for that: BERT encoders (MiniLM, BGE, E5), Qwen3-Embedding, EmbeddingGemma. The vectors go to standard
/// output in the order of the texts, everything else to standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[arg(value_name = "MODEL", help = messages::MODEL_HELP)]
    model: String,
    /// The texts; without them, standard input, one text per line
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// Read the texts from this file, one per line; an empty line is an empty text
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    file: Option<PathBuf>,
    /// How vectors are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print one JSON object: model, width, prompt, embeddings, notices
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Print how alike the texts are instead of their vectors: the cosine of every pair, 1 for the same direction
    #[arg(long)]
    similarity: bool,
    /// Put the model's prompt of this name before every text (most have `query` and `document`)
    #[arg(long, value_name = "NAME")]
    prompt_name: Option<String>,
    /// Put this before every text
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt_name")]
    prompt: Option<String>,
    /// Keep only the first N values of a vector, for models trained for that (Matryoshka)
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive)]
    dimensions: Option<usize>,
    /// Leave the vectors at the length they come with, where the model divides by it
    #[arg(long, alias = "no-normalize")]
    no_normalise: bool,
    /// Which of the hidden rows stands for a text, where the model does not say it or for a comparison
    #[arg(long, value_enum)]
    pooling: Option<Row>,
    /// Cut off the end of texts that are too long, instead of refusing them
    #[arg(long)]
    truncate: bool,
    /// Read control tokens spelled in the texts as themselves
    #[arg(long)]
    special: bool,
    /// No notices
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

const EXAMPLES: &str = "\
Examples:
  ingle embed ./all-MiniLM-L6-v2 \"A cat sits outside\" \"A dog plays in the garden\" --similarity
  ingle embed ./embeddinggemma-300m --prompt-name query --json \"Which planet is red?\"
  ingle embed ./bge-small-en-v1.5 --file lines.txt --format f32 > vectors.f32
  ingle embed ./Qwen3-Embedding-0.6B --dimensions 256 --format jsonl < lines.txt";

/// Ways to write vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line per text, values separated by spaces
    Text,
    /// One JSON object
    Json,
    /// A JSON object per text, each in a line
    Jsonl,
    /// A line per text, values separated by commas
    Csv,
    /// 32-bit floats, lowest byte first, nothing between them
    F32,
}

/// Which row stands for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Row {
    /// The mean of all
    Mean,
    /// The first, as BGE has it
    First,
    /// The last
    Last,
}

impl Args {
    /// Whether a program reads the result, and the error if there is one.
    pub(crate) fn json(&self) -> bool {
        self.format() == Format::Json
    }

    fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.format() == Format::F32 && std::io::stdout().is_terminal() {
        return Err(errors::Usage(messages::BINARY_TO_TERMINAL.into()).into());
    }
    let compute = args.compute.choose()?;
    let name = opening::model(&args.model)?;
    let texts = texts(args)?;
    interrupt::install()?;
    let source = Arc::new(name.open()?);
    let spec = name.describe(&source)?;
    if spec.pooling.is_none() && args.pooling.is_none() {
        return Err(name.blame(EngineError::NoPooling.into()));
    }
    let options = compute.load_options(None);
    let mut progress = Progress::new_if(!args.quiet, "loading", Unit::Bytes);
    let mut model = Model::load(source, &options, &mut |at| progress.update(at.done, at.total))
        .map_err(|error| name.blame(error.into()))?;
    progress.finish();
    let prompt = prompt(args, &model)?;
    let options = EmbedOptions {
        prompt: prompt.clone(),
        special: args.special,
        truncate: args.truncate,
        row: args.pooling.map(|row| match row {
            Row::Mean => PooledRow::Mean,
            Row::First => PooledRow::First,
            Row::Last => PooledRow::Last,
        }),
        dimensions: args.dimensions,
        unnormalised: args.no_normalise,
    };
    let mut progress = Progress::new_if(!args.quiet, "computing", Unit::Tokens);
    let embeddings =
        model.embed(&texts, &options, &mut |done, total| progress.update(done as u64, total as u64))?;
    progress.finish();

    let mut notices = model.notices().to_vec();
    notices.extend(compute.notice());
    let cut = embeddings.iter().enumerate().filter(|(_, embedding)| embedding.left_out > 0);
    let cut: Vec<usize> = cut.map(|(at, _)| at + 1).collect();
    if !cut.is_empty() {
        notices.push(messages::cut_texts(&cut, model.longest_text()));
    }
    if !args.quiet && args.format() != Format::Json {
        notices.iter().for_each(|notice| say(&format!("note: {notice}")));
    }
    let mut output = Output::new("the vectors");
    let written =
        Written { name: &name, texts: &texts, prompt: &prompt, embeddings: &embeddings, notices: &notices };
    match (args.similarity, args.format()) {
        (true, format) => written.similarity(format, &mut output)?,
        (false, format) => written.vectors(format, &mut output)?,
    }
    Ok(output.flush()?)
}

/// From the arguments, a file or standard input.
fn texts(args: &Args) -> Result<Vec<String>> {
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let texts = match &args.file {
        Some(path) => lines(input::read_file(path)?),
        None if args.texts.is_empty() => lines(input::read_all()?),
        None => args.texts.clone(),
    };
    if texts.is_empty() {
        return Err(errors::Usage(messages::NO_TEXTS.into()).into());
    }
    Ok(texts)
}

/// What comes before every text.
fn prompt(args: &Args, model: &Model) -> Result<String> {
    match &args.prompt {
        Some(prompt) => Ok(prompt.clone()),
        None => Ok(model.prompts().choose(args.prompt_name.as_deref())?.to_owned()),
    }
}

/// The results and what they are of.
struct Written<'a> {
    name: &'a ModelName,
    texts: &'a [String],
    prompt: &'a str,
    embeddings: &'a [Embedding],
    notices: &'a [String],
}

impl Written<'_> {
    fn vectors(&self, format: Format, output: &mut Output) -> Result<()> {
        match format {
            Format::Text | Format::Csv => {
                let separator = if format == Format::Csv { "," } else { " " };
                for embedding in self.embeddings {
                    writeln!(output, "{}", joined(&embedding.values, separator))?;
                }
            }
            Format::Jsonl => {
                for (index, embedding) in self.embeddings.iter().enumerate() {
                    writeln!(output, "{{\"index\":{index},{}}}", members(embedding))?;
                }
            }
            Format::Json => {
                let width = self.embeddings.first().map_or(0, |embedding| embedding.values.len());
                let all: Vec<String> =
                    self.embeddings.iter().map(|embedding| format!("{{{}}}", members(embedding))).collect();
                self.document(&format!("\"width\":{width},\"embeddings\":[{}]", all.join(",")), output)?;
            }
            Format::F32 => {
                for value in self.embeddings.iter().flat_map(|embedding| &embedding.values) {
                    output.write_all(&value.to_le_bytes())?;
                }
            }
        }
        Ok(())
    }

    fn similarity(&self, format: Format, output: &mut Output) -> Result<()> {
        let row = |a: &Embedding| -> Vec<f32> {
            self.embeddings.iter().map(|b| cosine(&a.values, &b.values) as f32).collect()
        };
        match format {
            Format::Text => {
                const SHOWN: usize = 50;
                for (number, (text, embedding)) in self.texts.iter().zip(self.embeddings).enumerate() {
                    let cells: Vec<String> =
                        row(embedding).iter().map(|cosine| format!("{cosine:7.4}")).collect();
                    let shown: String =
                        harmless(text).replace(['\n', '\t'], " ").chars().take(SHOWN).collect();
                    let more = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
                    writeln!(output, "{:>4} {}  {shown}{more}", number + 1, cells.join(" "))?;
                }
            }
            Format::Csv => {
                for embedding in self.embeddings {
                    writeln!(output, "{}", joined(&row(embedding), ","))?;
                }
            }
            Format::Jsonl => {
                for (index, embedding) in self.embeddings.iter().enumerate() {
                    let cosines = joined(&row(embedding), ",");
                    writeln!(output, "{{\"index\":{index},\"similarity\":[{cosines}]}}")?;
                }
            }
            Format::Json => {
                let rows =
                    self.embeddings.iter().map(|embedding| format!("[{}]", joined(&row(embedding), ",")));
                let rows: Vec<String> = rows.collect();
                self.document(&format!("\"similarity\":[{}]", rows.join(",")), output)?;
            }
            Format::F32 => {
                for value in self.embeddings.iter().flat_map(row) {
                    output.write_all(&value.to_le_bytes())?;
                }
            }
        }
        Ok(())
    }

    /// One object with these members and what they are of.
    fn document(&self, members: &str, output: &mut Output) -> Result<()> {
        let model = for_output(json!(self.name.display()).to_string());
        let (prompt, notices) =
            (for_output(json!(self.prompt).to_string()), for_output(json!(self.notices).to_string()));
        Ok(writeln!(output, "{{\"model\":{model},\"prompt\":{prompt},{members},\"notices\":{notices}}}")?)
    }
}

/// The members of a vector's JSON object.
fn members(embedding: &Embedding) -> String {
    let Embedding { values, tokens, left_out } = embedding;
    format!("\"tokens\":{tokens},\"left_out\":{left_out},\"embedding\":[{}]", joined(values, ","))
}

/// Numbers in their shortest form that reads back as the same 32-bit float.
fn joined(values: &[f32], separator: &str) -> String {
    let words: Vec<String> = values.iter().map(f32::to_string).collect();
    words.join(separator)
}
