//! What a name means somewhere else: the files of a model in a registry of Ollama's kind, in a repository of Hugging Face,
//! or at an address.

use crate::digest::Digest;
use crate::fetch::{Client, FetchError, Wanted};
use crate::name::TaggedName;
use crate::own::is_inside;
use serde_json::Value;

/// Most files of a model.
const MOST: usize = 2000;
/// The format that is taken where nobody asks for one and the memory is not known.
const USUAL: &str = "Q4_K_M";

/// Where names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bases {
    /// Of Hugging Face's repositories, or a mirror.
    pub hub: String,
    /// Of Ollama's registry, or a mirror.
    pub registry: String,
    /// For repositories that are not open to everybody.
    pub hub_token: Option<String>,
}

impl Default for Bases {
    fn default() -> Bases {
        Bases {
            hub: "https://huggingface.co".into(),
            registry: "https://registry.ollama.ai".into(),
            hub_token: None,
        }
    }
}

/// A model somewhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// What it is called here.
    pub(crate) name: TaggedName,
    /// Its files: where each belongs, and where it is fetched.
    pub(crate) files: Vec<(String, Wanted)>,
    /// What was chosen, and why.
    pub(crate) said: Option<String>,
}

/// Why a name means nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotThere {
    /// What was asked for is no name of a kind that is known.
    #[error(
        "`{0}` is no model to fetch: say NAME:TAG (Ollama's registry), OWNER/REPOSITORY[:FORMAT] (Hugging Face) or the address of a .gguf file"
    )]
    Name(String),
    /// Nobody answers as they should.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The model cannot be used from there.
    #[error("{name}: {why}")]
    Unusable {
        /// What was asked for.
        name: String,
        /// Why.
        why: String,
    },
}

/// Looks a name up. Of several formats, one that `memory` bytes hold is chosen.
///
/// # Errors
/// Why it means nothing.
pub(crate) fn find(
    client: &Client,
    bases: &Bases,
    text: &str,
    memory: Option<u64>,
) -> Result<Remote, NotThere> {
    let refused = || NotThere::Name(text.chars().take(200).collect());
    if text.starts_with("https://") || text.starts_with("http://") {
        return address(text).ok_or_else(refused);
    }
    let hub = ["hf.co/", "huggingface.co/"].into_iter().find_map(|host| text.strip_prefix(host));
    if let Some(repository) = hub.or_else(|| (text.matches('/').count() == 1).then_some(text)) {
        let (repository, format) = match repository.split_once(':') {
            Some((repository, format)) => (repository, Some(format)),
            None => (repository, None),
        };
        let (owner, model) = repository.split_once('/').ok_or_else(refused)?;
        let name = TaggedName::of("hf.co", owner, model, format.unwrap_or("main")).ok_or_else(refused)?;
        return repository_files(client, bases, &name, (owner, model), format, memory);
    }
    registry(client, bases, text.parse().map_err(|_| refused())?, text)
}

/// A file at an address.
fn address(url: &str) -> Option<Remote> {
    let rest = url.split_once("://")?.1;
    let path = rest.split(['?', '#']).next()?;
    let host = path.split('/').next()?.rsplit('@').next()?;
    let file = path.rsplit('/').next().filter(|file| is_inside(file))?;
    let stem = file.strip_suffix(".gguf")?;
    let plain: String =
        stem.chars().map(|c| if matches!(c, ' ' | '+' | '(' | ')') { '-' } else { c }).collect();
    let name = TaggedName::of(host, "files", &plain, "latest")?;
    let wanted = Wanted { url: url.to_owned(), digest: None, bytes: None, token: None };
    Some(Remote { name, files: vec![(file.to_owned(), wanted)], said: None })
}

fn json(url: &str, bytes: &[u8]) -> Result<Value, FetchError> {
    serde_json::from_slice(bytes)
        .map_err(|error| FetchError::Document { url: url.into(), why: error.to_string() })
}

/// A model of a registry of Ollama's kind.
fn registry(client: &Client, bases: &Bases, name: TaggedName, asked: &str) -> Result<Remote, NotThere> {
    let unusable = |why: &str| NotThere::Unusable { name: asked.into(), why: why.into() };
    let (host, owner, model, tag) = name.parts();
    let base = if host == TaggedName::HOST { bases.registry.clone() } else { format!("https://{host}") };
    let base = format!("{}/v2/{owner}/{model}", base.trim_end_matches('/'));
    let url = format!("{base}/manifests/{tag}");
    let accept = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = json(&url, &client.document(&url, accept, None)?)?;
    let layers = manifest["layers"].as_array().map_or(&[][..], Vec::as_slice);
    let mut files = Vec::new();
    let mut licences = 0;
    for layer in layers.iter().take(MOST) {
        let path = match layer["mediaType"].as_str().unwrap_or_default() {
            "application/vnd.ollama.image.model" => "model.gguf".to_owned(),
            "application/vnd.ollama.image.license" => {
                licences += 1;
                format!("LICENSE-{licences}")
            }
            _ => continue,
        };
        let digest: Digest = layer["digest"]
            .as_str()
            .and_then(|digest| digest.parse().ok())
            .ok_or_else(|| unusable("a layer has no digest"))?;
        let bytes = layer["size"].as_u64().ok_or_else(|| unusable("a layer has no size"))?;
        let wanted = Wanted {
            url: format!("{base}/blobs/{digest}"),
            digest: Some(digest),
            bytes: Some(bytes),
            token: None,
        };
        files.push((path, wanted));
    }
    match files.iter().filter(|(path, _)| path == "model.gguf").count() {
        1 => Ok(Remote { name, files, said: None }),
        0 => Err(unusable(
            "there are no weights in its manifest: it is computed elsewhere, or of another kind",
        )),
        _ => Err(unusable("its weights are in several layers, which this version cannot put together")),
    }
}

/// A file of a repository.
struct File {
    path: String,
    bytes: u64,
    digest: Option<Digest>,
}

fn repository_files(
    client: &Client,
    bases: &Bases,
    name: &TaggedName,
    (owner, model): (&str, &str),
    format: Option<&str>,
    memory: Option<u64>,
) -> Result<Remote, NotThere> {
    let unusable = |why: String| NotThere::Unusable { name: format!("{owner}/{model}"), why };
    let hub = bases.hub.trim_end_matches('/');
    let url = format!("{hub}/api/models/{owner}/{model}/tree/main?recursive=true");
    let token = bases.hub_token.as_deref();
    let tree = json(&url, &client.document(&url, "application/json", token)?)?;
    let entries = tree.as_array().ok_or_else(|| unusable("its list of files is none".into()))?;
    let file = |entry: &Value| {
        let path = entry["path"].as_str().filter(|path| entry["type"] == "file" && is_inside(path))?;
        let digest = entry["lfs"]["oid"].as_str().and_then(Digest::from_hex);
        let bytes = entry["lfs"]["size"].as_u64().or_else(|| entry["size"].as_u64())?;
        Some(File { path: path.to_owned(), bytes, digest })
    };
    let files: Vec<File> = entries.iter().take(MOST).filter_map(file).collect();
    let (chosen, tag, said) = match gguf(&files, format, memory) {
        Chosen::Format { files, format, said } => (files, format, said),
        Chosen::Unknown(formats) if !formats.is_empty() => {
            return Err(unusable(format!(
                "there is no format {}; there is: {}",
                format.unwrap_or_default(),
                formats.join(", ")
            )));
        }
        Chosen::Unknown(_) if format.is_some() => return Err(unusable("there is no GGUF file in it".into())),
        Chosen::Unknown(_) => (checkpoint(&files), "main".to_owned(), None),
    };
    if chosen.is_empty() {
        return Err(unusable(
            "there is neither a GGUF file nor a checkpoint (config.json and safetensors) in it".into(),
        ));
    }
    let licences = files.iter().filter(|file| file.path.starts_with("LICENSE") && !file.path.contains('/'));
    let (host, ..) = name.parts();
    let name =
        TaggedName::of(host, owner, model, &tag).ok_or_else(|| unusable(format!("`{tag}` is no format")))?;
    let wanted = |file: &File| {
        let url = format!("{hub}/{owner}/{model}/resolve/main/{}", escaped(&file.path));
        let wanted =
            Wanted { url, digest: file.digest, bytes: Some(file.bytes), token: bases.hub_token.clone() };
        (file.path.clone(), wanted)
    };
    Ok(Remote { name, files: chosen.into_iter().chain(licences).map(wanted).collect(), said })
}

/// A choice among formats.
enum Chosen<'a> {
    Format {
        files: Vec<&'a File>,
        format: String,
        said: Option<String>,
    },
    /// None of that name; those that there are.
    Unknown(Vec<String>),
}

/// The GGUF files of one format: the one that is asked for, or the largest that the memory holds.
fn gguf<'a>(files: &'a [File], asked: Option<&str>, memory: Option<u64>) -> Chosen<'a> {
    let mut formats: Vec<(String, Vec<&File>)> = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".gguf") && !file.path.contains("mmproj")) {
        let format = format_of(&file.path);
        match formats.iter_mut().find(|(known, _)| *known == format) {
            Some((_, files)) => files.push(file),
            None => formats.push((format, vec![file])),
        }
    }
    let bytes = |files: &[&File]| files.iter().map(|file| file.bytes).sum::<u64>();
    formats.sort_by_key(|(_, files)| bytes(files));
    let names: Vec<String> = formats.iter().map(|(format, _)| format.clone()).collect();
    let gb = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    // some room for keys and values, and for what else runs
    let fits = |files: &[&File]| memory.is_none_or(|memory| bytes(files) / 4 * 5 <= memory);
    let at = match asked {
        Some(asked) => formats.iter().position(|(format, _)| format.eq_ignore_ascii_case(asked)),
        None if memory.is_none() => {
            formats.iter().position(|(format, _)| format == USUAL).or(formats.len().checked_sub(1))
        }
        None => formats.iter().rposition(|(_, files)| fits(files)).or(if formats.is_empty() {
            None
        } else {
            Some(0)
        }),
    };
    let Some((format, files)) = at.map(|at| formats.swap_remove(at)) else { return Chosen::Unknown(names) };
    let said = (asked.is_none() && names.len() > 1).then(|| {
        let free = memory.map_or("the memory is not known".to_owned(), |memory| {
            format!("{} of memory are free", gb(memory))
        });
        let why = if fits(&files) {
            "the largest that fits with a quarter to spare"
        } else {
            "the smallest, and even that may not fit"
        };
        format!("{format} is taken ({}): {why}; {free}. There is: {}", gb(bytes(&files)), names.join(", "))
    });
    Chosen::Format { files, format, said }
}

/// `Q4_K_M` of `x/Poet-Q4_K_M-00001-of-00002.gguf`; the file's name where it says none.
fn format_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.strip_suffix(".gguf").unwrap_or(file);
    let stem = match stem.rsplit_once("-of-").and_then(|(before, _)| before.rsplit_once('-')) {
        Some((whole, number)) if number.len() == 5 && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            whole
        }
        _ => stem,
    };
    let last = stem.rsplit(['-', '.']).next().unwrap_or(stem).to_uppercase();
    let known =
        ["Q", "IQ", "TQ", "F16", "F32", "BF16", "MXFP", "NVFP"].iter().any(|start| last.starts_with(start));
    if known && last.bytes().any(|byte| byte.is_ascii_digit()) { last } else { stem.to_owned() }
}

/// The files of a checkpoint; none if there is none.
fn checkpoint(files: &[File]) -> Vec<&File> {
    let top: Vec<&File> = files.iter().filter(|file| !file.path.contains('/')).collect();
    let weights =
        |file: &&&File| file.path.ends_with(".safetensors") && !file.path.starts_with("consolidated");
    if !top.iter().any(|file| file.path == "config.json") || top.iter().filter(weights).count() == 0 {
        return Vec::new();
    }
    let beside = [".json", ".jinja", "tokenizer.model"];
    let needed = |file: &&&File| weights(file) || beside.iter().any(|end| file.path.ends_with(end));
    top.iter().filter(needed).copied().collect()
}

/// A path as a part of an address.
fn escaped(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: u64) -> File {
        File { path: path.into(), bytes, digest: None }
    }

    fn taken(files: &[File], asked: Option<&str>, memory: Option<u64>) -> String {
        match gguf(files, asked, memory) {
            Chosen::Format { format, files, .. } => format!("{format} {}", files.len()),
            Chosen::Unknown(names) => names.join(","),
        }
    }

    #[test]
    fn a_format_is_the_one_asked_for_or_the_largest_that_fits() {
        let files = [
            file("Poet-Q8_0.gguf", 800),
            file("Poet-Q4_K_M-00001-of-00002.gguf", 200),
            file("Poet-Q4_K_M-00002-of-00002.gguf", 200),
            file("Poet.BF16.gguf", 1600),
            file("mmproj-Poet-F16.gguf", 5),
            file("README.md", 1),
        ];
        assert_eq!(taken(&files, Some("q8_0"), Some(1)), "Q8_0 1");
        assert_eq!(taken(&files, None, Some(1000)), "Q8_0 1");
        assert_eq!(taken(&files, None, Some(999)), "Q4_K_M 2");
        assert_eq!(taken(&files, None, Some(1)), "Q4_K_M 2", "the smallest");
        assert_eq!(taken(&files, None, None), "Q4_K_M 2", "the usual one");
        assert_eq!(taken(&files, Some("Q2_K"), None), "Q4_K_M,Q8_0,BF16");
        assert_eq!(taken(&[], None, None), "");
        assert_eq!(taken(&[file("model.gguf", 1)], None, Some(1)), "model 1");
    }

    #[test]
    fn a_checkpoint_is_its_weights_and_what_belongs_to_them() {
        let files = [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "README.md",
            "pytorch_model.bin",
            "original/model.safetensors",
            "consolidated.safetensors",
        ];
        let files: Vec<File> = files.iter().map(|path| file(path, 1)).collect();
        let chosen: Vec<&str> = checkpoint(&files).iter().map(|file| file.path.as_str()).collect();
        assert_eq!(chosen, ["config.json", "model.safetensors", "tokenizer.json"]);
        assert!(checkpoint(&files[2..4]).is_empty());
    }

    #[test]
    fn an_address_gives_a_name_or_is_refused() {
        let found = address("https://example.org/a/Poet%20x/Poet-Q4_K_M.gguf?download=true").unwrap();
        assert_eq!(found.name.to_string(), "example.org/files/Poet-Q4_K_M:latest");
        assert_eq!(found.files[0].0, "Poet-Q4_K_M.gguf");
        for wrong in [
            "https://example.org",
            "https://example.org/",
            "https://example.org/x.bin",
            "https://example.org/..",
            "https://example.org/.gguf",
            "https:///x.gguf",
        ] {
            assert!(address(wrong).is_none(), "{wrong}");
        }
    }
}
