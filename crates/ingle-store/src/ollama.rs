//! Ollama's models: `manifests/HOST/OWNER/MODEL/TAG` names layers, which are `blobs/sha256-DIGITS`.

use crate::digest::Digest;
use crate::folders::Program;
use crate::found::{Found, Kind, Listing};
use crate::name::TaggedName;
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// The kind of layer that holds a GGUF file.
const WEIGHTS: &str = "application/vnd.ollama.image.model";
/// Bytes of a manifest; real ones have about one thousand.
const LARGEST: u64 = 1 << 20;
/// Most manifests that are looked at.
const MOST: usize = 10_000;

/// Finds the models of every manifest.
pub(crate) fn find(models: &Path, listing: &mut Listing) {
    let mut left = MOST;
    for (host, path) in folders(&models.join("manifests"), listing, &mut left) {
        for (owner, path) in folders(&path, listing, &mut left) {
            for (model, path) in folders(&path, listing, &mut left) {
                for (tag, path) in folders(&path, listing, &mut left) {
                    let Some(name) = TaggedName::of(&host, &owner, &model, &tag) else { continue };
                    match weights(&path, models) {
                        Ok(Some(found)) => listing.models.push(Found { name: name.to_string(), ..found }),
                        // a model that is computed elsewhere, or one of another kind
                        Ok(None) => {}
                        Err(why) => listing.troubles.push(format!("Ollama's {name} cannot be used: {why}")),
                    }
                }
            }
        }
    }
}

/// What is in a folder, by name; nothing where there is no folder.
fn folders(folder: &Path, listing: &mut Listing, left: &mut usize) -> Vec<(String, std::path::PathBuf)> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            listing.troubles.push(format!("{} cannot be read: {error}", folder.display()));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if *left == 0 {
            break;
        }
        *left -= 1;
        found.push((name, entry.path()));
    }
    found
}

/// The file with a model's weights; `None` where the manifest names none.
fn weights(manifest: &Path, models: &Path) -> Result<Option<Found>, String> {
    let read = |error: std::io::Error| format!("its manifest cannot be read: {error}");
    let mut text = Vec::new();
    std::fs::File::open(manifest).map_err(read)?.take(LARGEST + 1).read_to_end(&mut text).map_err(read)?;
    if text.len() as u64 > LARGEST {
        return Err(format!("its manifest has more than {LARGEST} bytes"));
    }
    let manifest: Value =
        serde_json::from_slice(&text).map_err(|error| format!("its manifest is no JSON: {error}"))?;
    let layers = manifest["layers"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(layer) = layers.iter().find(|layer| layer["mediaType"] == WEIGHTS) else { return Ok(None) };
    let digest: Digest = layer["digest"]
        .as_str()
        .ok_or("its weights have no digest")?
        .parse()
        .map_err(|error| format!("{error}"))?;
    let path = models.join("blobs").join(format!("sha256-{}", digest.hex()));
    let about = std::fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (stated, there) = (layer["size"].as_u64(), about.len());
    if stated.is_some_and(|stated| stated != there) {
        return Err(format!("{} has {there} bytes, and the manifest says {}", path.display(), layer["size"]));
    }
    Ok(Some(Found {
        name: String::new(),
        program: Program::Ollama,
        path,
        kind: Kind::Gguf,
        bytes: there,
        digest: Some(digest),
    }))
}
