//! From what a person typed to the models that can be asked.

use super::Args;
use crate::args::Compute;
use crate::console::{on_errors, say};
use crate::opening::{self, ModelName, Word};
use crate::progress::{Progress, Unit};
use crate::{ember, errors, messages};
use anyhow::Result;
use ingle_engine::{
    Description, Engine, EngineError, EngineOptions, Guess, LoadOptions, Model, PrefixFolder,
};
use ingle_model::Source;
use ingle_server::{Load, Offer, Room};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, UNIX_EPOCH};

/// A model with the name that requests call it by.
struct Named {
    id: String,
    model: ModelName,
}

/// All models of the command line. Progress and notes are for people as long as the server has not `started`, and
/// lines of its log after that.
///
/// # Errors
/// Models that are not there or cannot be run, and names that are not clear.
pub(super) fn offers(
    args: &Args,
    compute: Compute,
    prefixes: Option<&PrefixFolder>,
    started: &Arc<AtomicBool>,
) -> Result<Vec<Offer>> {
    let mut named = args.models.iter().map(|text| name(text)).collect::<Result<Vec<_>>>()?;
    let typed = named.len();
    for folder in &args.folder {
        named.extend(models_in(folder)?.into_iter().map(|path| {
            let model = ModelName::Path(path);
            Named { id: id(&model), model }
        }));
    }
    if named.is_empty() && args.folder.is_empty() {
        named.push(Named { id: ember::NAME.into(), model: ModelName::Ember });
    }
    if let (Some(id), Some(first)) = (&args.name, named.first_mut()) {
        first.id.clone_from(id);
    }
    let mut kept: Vec<(Offer, Option<PathBuf>)> = Vec::new();
    for (at, Named { id, model }) in named.into_iter().enumerate() {
        let typed = at < typed.max(1);
        let file = model.file();
        let known = kept.iter().any(|(other, _)| other.id == id || other.aliases.contains(&id));
        // one file is one model, whatever it is called
        if let Some((same, _)) = kept.iter_mut().find(|(_, other)| file.is_some() && *other == file) {
            if !known {
                same.aliases.push(id);
            }
            continue;
        }
        if known && typed {
            let message = format!("two models are called `{id}`; say what requests call each: NAME=MODEL");
            return Err(errors::Usage(message).into());
        } else if known {
            say(&format!("note: {} is not served: another model is called `{id}`", model.display()));
            continue;
        }
        let description = match describe(&model) {
            Ok(description) => description,
            Err(error) if typed => return Err(error),
            // a folder may hold other things, too
            Err(error) => {
                say(&format!("note: {} is not served: {}", model.display(), errors::line(&error)));
                continue;
            }
        };
        let (pinned, changed) = (args.pin.contains(&id), changed(&model));
        let draft = args.draft.as_deref().filter(|_| at == 0).map(opening::model).transpose()?;
        let kv = args.kv_of.iter().rfind(|(name, _)| *name == id).map(|&(_, format)| format);
        let compute = kv.map_or(compute, |kv| compute.with_kv(kv));
        let load = loader(model, draft, args, compute, prefixes.cloned(), started.clone());
        let (aliases, at_start) = (if at == 0 { args.alias.clone() } else { Vec::new() }, at == 0);
        kept.push((Offer { id, aliases, description, changed, at_start, pinned, load }, file));
    }
    let kept: Vec<Offer> = kept.into_iter().map(|(offer, _)| offer).collect();
    let pins = args.pin.iter().map(|name| (name, "pin"));
    let formats = args.kv_of.iter().map(|(name, _)| (name, "keep keys and values of"));
    for (absent, what) in pins.chain(formats) {
        if !kept.iter().any(|offer| offer.id == *absent) {
            let all: Vec<&str> = kept.iter().map(|offer| offer.id.as_str()).collect();
            let message = format!("there is no model `{absent}` to {what}; there is: {}", all.join(", "));
            return Err(errors::Usage(message).into());
        }
    }
    if kept.is_empty() {
        return Err(errors::Usage("there is no model to serve in these folders".into()).into());
    }
    Ok(kept)
}

/// What a model is, if it can be run.
fn describe(model: &ModelName) -> Result<Description> {
    let source = model.open()?;
    model.describe(&source)?;
    Description::read(&source).map_err(|error| model.blame(error.into()))
}

/// `MODEL` or `NAME=MODEL`.
fn name(text: &str) -> Result<Named> {
    // a path may have the sign in it
    if let (Word::Missing | Word::Several(_) | Word::Remote | Word::Text, Some((id, rest))) =
        (opening::classify(text), text.split_once('='))
    {
        let id = id.trim();
        if id.is_empty() || id.len() > 200 || id.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(errors::Usage(format!("`{id}` cannot be a model's name: one word is needed")).into());
        }
        return Ok(Named { id: id.to_owned(), model: opening::model(rest)? });
    }
    let model = opening::model(text)?;
    Ok(Named { id: id(&model), model })
}

/// The models that lie in a folder: GGUF files, of splits the first, and folders with a configuration; in the order of
/// their names.
fn models_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let blame =
        |error: std::io::Error| anyhow::anyhow!("cannot look for models in {}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(blame)? {
        let path = entry.map_err(blame)?.path();
        let file =
            path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let further_split = file
            .strip_suffix(".gguf")
            .and_then(|stem| stem.rsplit_once("-of-"))
            .is_some_and(|(before, _)| before.contains('-') && !before.ends_with("-00001"));
        let is_model = if path.is_dir() {
            path.join("config.json").is_file()
        } else {
            file.ends_with(".gguf") && !file.starts_with("mmproj") && !further_split
        };
        if is_model {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What a model is called where nothing else is said: its file's name without what the format says.
fn id(name: &ModelName) -> String {
    match name {
        ModelName::Ember => ember::NAME.into(),
        ModelName::Found { name, .. } => name.rsplit('/').next().unwrap_or(name).to_owned(),
        ModelName::Path(path) => {
            let path = path.canonicalize().unwrap_or_else(|_| path.clone());
            let whole = if path.is_dir() { path.file_name() } else { path.file_stem() };
            whole.map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
        }
    }
}

/// Seconds since 1970 at which a model was changed; of the one inside the program, when that was.
fn changed(name: &ModelName) -> u64 {
    let file = name.file().map_or_else(std::env::current_exe, Ok);
    let time = file.and_then(std::fs::metadata).and_then(|of| of.modified()).ok();
    time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |time| time.as_secs())
}

/// What loads a model, as often as it has to be.
fn loader(
    name: ModelName,
    draft: Option<ModelName>,
    args: &Args,
    compute: Compute,
    prefixes: Option<PrefixFolder>,
    started: Arc<AtomicBool>,
) -> Load {
    let options = LoadOptions { next_token: args.mtp, ..compute.load_options(args.context) };
    let engine = EngineOptions {
        at_once: args.at_once,
        waiting: args.queue,
        kv_bytes: args.kv_memory,
        prefixes,
        guess: if args.no_guessing { Guess::Never } else { Guess::Worthwhile },
        ..EngineOptions::default()
    };
    let quiet = args.quiet;
    Box::new(move |room: &Room| {
        let begun = Instant::now();
        let options = LoadOptions { promised: room.promised, no_less: room.no_less, ..options.clone() };
        let source = source_of(&name)?;
        let later = started.load(Ordering::Relaxed);
        let mut progress = Progress::new_if(!quiet && !later, "loading", Unit::Bytes);
        let model = Model::load(Arc::new(source), &options, &mut |at| progress.update(at.done, at.total))?;
        progress.finish();
        match (quiet, later) {
            (true, _) => {}
            (false, false) => tell(&name, &model),
            (false, true) => {
                let line = serde_json::json!({
                    "loaded": name.display(), "milliseconds": begun.elapsed().as_millis() as u64,
                    "context": model.context(), "notes": model.notices(),
                });
                say(&line.to_string());
            }
        }
        let engine = EngineOptions { promised: room.promised, ..engine.clone() };
        let Some(draft) = &draft else { return Ok(Engine::start(model, &engine)) };
        // of the same length as the conversations it guesses in
        let options =
            LoadOptions { context: Some(model.context()), expert_memory: None, next_token: false, ..options };
        let draft = Model::load(Arc::new(source_of(draft)?), &options, &mut |_| {})?;
        Engine::start_with_draft(model, draft, &engine)
    })
}

fn source_of(name: &ModelName) -> Result<Source, EngineError> {
    Ok(match name {
        ModelName::Ember => ember::open()?,
        ModelName::Path(path) | ModelName::Found { path, .. } => Source::open(path)?,
    })
}

/// What a person should know of a model that is loaded.
fn tell(name: &ModelName, model: &Model) {
    if *name == ModelName::Ember {
        on_errors(|notes| notes.aside(messages::DEMONSTRATION));
    }
    model.notices().iter().for_each(|notice| say(&format!("note: {notice}")));
}
