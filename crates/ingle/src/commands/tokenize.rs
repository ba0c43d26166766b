//! `ingle tokenize`: text to token ids, and back.

use crate::console::{Output, for_output};
use crate::{args, input, messages, opening};
use anyhow::{Context, Result};
use ingle_text::{Specials, Tokenizer};
use serde_json::json;
use std::io::Write;

/// Show how a model's tokenizer splits a text, or the text of token ids.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[arg(value_name = "MODEL", help = messages::MODEL_HELP)]
    model: String,
    /// The text; without it, standard input
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// Print only the ids, separated by commas
    #[arg(long, conflicts_with = "json")]
    ids: bool,
    /// Read control tokens spelled in the text (`<|im_end|>`) as themselves, not as plain characters
    #[arg(long)]
    special: bool,
    /// Leave out the token that begins every text, for models that have one
    #[arg(long)]
    no_bos: bool,
    /// Print the text of these ids
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = args::tokens, conflicts_with_all = ["text", "ids", "special", "no_bos"])]
    decode: Option<Vec<u32>>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  ingle tokenize ember \"Hello there\"
  ingle tokenize ./model.gguf --ids < text.txt
  ingle tokenize ./model.gguf --decode 9707,1052";

pub(crate) fn run(args: &Args) -> Result<()> {
    let source = opening::model(&args.model)?.open()?;
    let tokenizer = opening::tokenizer(&source)?;
    let mut output = Output::new("the result");
    if let Some(ids) = &args.decode {
        let text = tokenizer.decode(ids).context("cannot decode the ids")?;
        if args.json {
            writeln!(output, "{}", for_output(json!({ "text": text }).to_string()))?;
        } else {
            writeln!(output, "{}", for_output(text))?;
        }
        return Ok(output.flush()?);
    }
    let text = match &args.text {
        Some(text) => text.clone(),
        None => input::read_all()?,
    };
    let ids = encode(&tokenizer, &text, args.special, !args.no_bos)?;
    if args.json {
        let pieces: Vec<String> = ids.iter().map(|&id| piece(&tokenizer, id)).collect();
        let document = json!({ "count": ids.len(), "ids": ids, "pieces": pieces });
        writeln!(output, "{}", for_output(document.to_string()))?;
    } else if args.ids {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        writeln!(output, "{}", ids.join(","))?;
    } else {
        for &id in &ids {
            let note = if tokenizer.is_special(id) { "  control" } else { "" };
            writeln!(output, "{id:>8}  {:?}{note}", piece(&tokenizer, id))?;
        }
    }
    Ok(output.flush()?)
}

/// The ids of a text that a person gave, with or without what the model expects around a whole text.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str, special: bool, bos: bool) -> Result<Vec<u32>> {
    let specials = if special { Specials::Parse } else { Specials::AsText };
    let ids = match bos {
        true => tokenizer.encode_with_bos(text, specials),
        false => tokenizer.encode(text, specials),
    };
    ids.context("cannot tokenize the text")
}

/// The text of one token; bytes that are only a part of a character are shown as U+FFFD.
pub(crate) fn piece(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(tokenizer.token_bytes(id).unwrap_or_default()).into_owned()
}
