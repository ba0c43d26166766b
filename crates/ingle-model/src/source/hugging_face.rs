//! Opening a folder as published on the Hugging Face hub: `config.json`, one safetensors file or an index over
//! several, and documents beside them.

use super::mmap::Bytes;
use super::modules::Module;
use super::safetensors::{SafetensorsHeader, read_safetensors_header};
use super::{Source, SourceFile, SourceKind, TensorInfo, sniff};
use crate::error::{Error, Result, printable};
use crate::gguf::split::SplitName;
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

const CONFIG: &str = "config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What follows the network, in folders of embedding models.
pub(super) const MODULES: &str = "modules.json";
/// The largest published tokenizer.json has some 35 MB; indexes and configurations are far smaller.
const MAX_DOCUMENT_BYTES: u64 = 1 << 28;

/// Opens the folder, or the one GGUF model in it.
pub(super) fn open(folder: &Path) -> Result<Source> {
    // A dangling link is there: opening it then says what is wrong.
    let has = |name: &str| folder.join(name).symlink_metadata().is_ok();
    let weights = has(WEIGHTS) || has(INDEX);
    if !weights && let Some(gguf) = only_gguf(folder)? {
        return super::gguf::open(&gguf);
    }
    let Some(config) = json_document(folder, CONFIG)? else {
        return Err(unsupported(
            folder,
            "has no config.json and no .gguf file, so it is not a model's folder",
        ));
    };
    if !config.is_object() {
        return Err(Error::damaged(folder.join(CONFIG), 0, "a JSON object was expected"));
    }
    let generation_config = json_document(folder, GENERATION_CONFIG)?;
    let mut set = if has(WEIGHTS) {
        vec![open_file(folder, WEIGHTS)?]
    } else if has(INDEX) {
        open_index(folder)?
    } else {
        return Err(no_weights(folder)?);
    };
    set.extend(open_modules(folder)?);
    Ok(Source { config, generation_config, ..assemble(folder, set)? })
}

/// Reads a document of the folder; `None` when there is none of that name.
pub(super) fn read_document(folder: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let path = member(folder, name)?;
    let io = |source| Error::io(&path, source);
    let facts = match std::fs::metadata(&path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    if !facts.is_file() || facts.len() > MAX_DOCUMENT_BYTES {
        let what = format!("is not a regular file of at most {} MiB", MAX_DOCUMENT_BYTES >> 20);
        return Err(unsupported(&path, what));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(&path).map_err(io)?;
    file.take(MAX_DOCUMENT_BYTES).read_to_end(&mut bytes).map_err(io)?;
    if sniff::is_lfs_pointer(&bytes) {
        return Err(unsupported(&path, sniff::LFS_ADVICE));
    }
    Ok(Some(bytes))
}

/// Reads a JSON document of a folder in the model's folder, or of that itself where `inner` is empty.
pub(super) fn json_document_in(folder: &Path, inner: &str, name: &str) -> Result<Option<Json>> {
    if inner.is_empty() { json_document(folder, name) } else { json_document(&member(folder, inner)?, name) }
}

fn json_document(folder: &Path, name: &str) -> Result<Option<Json>> {
    let Some(bytes) = read_document(folder, name)? else { return Ok(None) };
    let json = serde_json::from_slice(&bytes).map_err(|error| {
        let offset = super::safetensors::offset_in(&bytes, &error) as u64;
        Error::damaged(folder.join(name), offset, format!("it is not JSON: {error}"))
    })?;
    Ok(Some(json))
}

fn unsupported(path: &Path, what: impl Into<String>) -> Error {
    Error::Unsupported { path: path.into(), what: what.into() }
}

/// `name` inside `folder`, refused if it is anything but a plain file name.
fn member(folder: &Path, name: &str) -> Result<PathBuf> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        // Backslashes and colons mean something in paths on some systems: the same files open everywhere or nowhere.
        (Some(Component::Normal(only)), None) if only == name && !name.contains(['\\', ':', '\0']) => {
            Ok(folder.join(name))
        }
        _ => {
            let what = format!("names the file `{}`, which is not directly in the folder", printable(name));
            Err(unsupported(folder, what))
        }
    }
}

fn open_file(folder: &Path, name: &str) -> Result<(SourceFile, SafetensorsHeader)> {
    let path = member(folder, name)?;
    let bytes = Bytes::map(&path)?;
    let header = read_safetensors_header(&path, bytes.as_slice())?;
    Ok((SourceFile { path, bytes }, header))
}

/// Opens every file the index names and keeps of each the tensors the index says it has.
fn open_index(folder: &Path) -> Result<Vec<(SourceFile, SafetensorsHeader)>> {
    let path = folder.join(INDEX);
    let json = json_document(folder, INDEX)?.unwrap_or_default();
    let Some(map) = json.get("weight_map").and_then(Json::as_object) else {
        return Err(Error::damaged(path, 0, "it has no `weight_map`"));
    };
    let mut shards: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        let Some(file) = file.as_str() else {
            return Err(Error::tensor(tensor, format!("has no file name in {}", path.display())));
        };
        shards.entry(file).or_default().insert(tensor);
    }
    for &file in shards.keys() {
        if !member(folder, file)?.exists() {
            let what = format!("lacks {}, which {INDEX} names; fetch it into this folder", printable(file));
            return Err(unsupported(folder, what));
        }
    }
    let mut set = Vec::with_capacity(shards.len());
    for (name, wanted) in shards {
        let (file, mut header) = open_file(folder, name)?;
        let read: HashMap<&str, ()> =
            header.tensors.iter().map(|tensor| (tensor.name.as_str(), ())).collect();
        let unread: HashSet<&str> = header.unread.iter().map(|(name, _)| name.as_str()).collect();
        if let Some(missing) =
            wanted.iter().filter(|name| !read.contains_key(**name) && !unread.contains(**name)).min()
        {
            let what = format!("should be in {} but is not; fetch the file again", file.path.display());
            return Err(Error::tensor(*missing, what));
        }
        header.tensors.retain(|tensor| wanted.contains(tensor.name.as_str()));
        header.unread.retain(|(name, _)| wanted.contains(name.as_str()));
        set.push((file, header));
    }
    Ok(set)
}

/// The weights of modules that follow the network, which lie in folders of their own.
fn open_modules(folder: &Path) -> Result<Vec<(SourceFile, SafetensorsHeader)>> {
    let Some(json) = json_document(folder, MODULES)? else { return Ok(Vec::new()) };
    let mut set = Vec::new();
    for Module { path, .. } in
        super::modules::read(&json)?.into_iter().filter(|module| !module.path.is_empty())
    {
        let inner = member(folder, &path)?;
        if inner.join(WEIGHTS).symlink_metadata().is_err() {
            continue; // most modules have no weights
        }
        let (file, mut header) = open_file(&inner, WEIGHTS)?;
        header.tensors.iter_mut().for_each(|tensor| tensor.name = format!("{path}/{}", tensor.name));
        header.unread.iter_mut().for_each(|(name, _)| *name = format!("{path}/{name}"));
        set.push((file, header));
    }
    Ok(set)
}

fn assemble(folder: &Path, set: Vec<(SourceFile, SafetensorsHeader)>) -> Result<Source> {
    let (mut files, mut tensors, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (file, header)) in set.into_iter().enumerate() {
        files.push(file);
        tensors.extend(header.tensors.into_iter().map(|tensor| TensorInfo { file: number, ..tensor }));
        unread.extend(header.unread);
    }
    let source = Source::new(folder, SourceKind::HuggingFace, files, tensors)?;
    Ok(Source { unread, ..source })
}

fn file_names(folder: &Path) -> Result<Vec<String>> {
    let io = |source| Error::io(folder, source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        // A name that is not UTF-8 cannot be one that is looked for here.
        names.push(entry.map_err(io)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The one GGUF model in the folder (of a split set: its first file); `None` when there is none.
fn only_gguf(folder: &Path) -> Result<Option<PathBuf>> {
    const SHOWN: usize = 6;
    let names: Vec<String> = file_names(folder)?.into_iter().filter(|name| name.ends_with(".gguf")).collect();
    let set_of = |name: &String| SplitName::parse(Path::new(name)).map(|name| (name.prefix, name.count));
    let Some(first) = names.first() else { return Ok(None) };
    let one_set = set_of(first).is_some() && names.iter().all(|name| set_of(name) == set_of(first));
    if names.len() == 1 || one_set {
        return Ok(Some(folder.join(first)));
    }
    let more = if names.len() > SHOWN { ", …" } else { "" };
    let shown = names.iter().take(SHOWN).map(|name| printable(name)).collect::<Vec<_>>().join(", ");
    Err(unsupported(folder, format!("holds {} GGUF files; say which one: {shown}{more}", names.len())))
}

/// What to say about a folder with a configuration and no weights.
fn no_weights(folder: &Path) -> Result<Error> {
    let names = file_names(folder)?;
    let ends = |end: &str| names.iter().find(|name| name.ends_with(end));
    let what = if let Some(name) = ends(".safetensors").map(|name| printable(name)) {
        format!(
            "has neither {WEIGHTS} nor {INDEX}, but {name}; rename it to {WEIGHTS} if it is the whole model, or fetch \
             the index"
        )
    } else if let Some(name) = [".bin", ".pth", ".pt"].into_iter().find_map(ends).map(|name| printable(name))
    {
        format!(
            "has its weights only as PyTorch pickles ({name}), which are programs and are not read here; fetch the \
             safetensors or a GGUF version of the model"
        )
    } else {
        format!("has a config.json but no weights; fetch {WEIGHTS}, or {INDEX} and the files it names")
    };
    Ok(unsupported(folder, what))
}
