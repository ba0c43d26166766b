//! Which models there are: `GET /api/tags`, `GET /api/ps`, `POST /api/show`.

use crate::app::{App, answer};
use crate::keep::Keep;
use crate::models::Offer;
use crate::openai::fields;
use crate::plain::with_warnings;
use crate::problem::Problem;
use crate::time;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use ingle_engine::Description;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// For models that stay.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

/// `{models: [{name, model, modified_at, size, digest, details, capabilities}]}`, one for each name that a model has.
pub(crate) async fn tags(State(app): State<Arc<App>>) -> Response {
    let all = app.models.offers().iter().flat_map(|offer| entries(offer, &Map::new()));
    answer(&json!({"models": all.collect::<Vec<_>>()}))
}

/// The same of those that are loaded, with `expires_at`, `size_vram` (0: nothing is on a graphics card) and
/// `context_length`.
pub(crate) async fn ps(State(app): State<Arc<App>>) -> Response {
    let loaded = app.models.loaded();
    let all = loaded.iter().flat_map(|(offer, served, keep)| {
        let left = match keep {
            Keep::Forever => CENTURY,
            Keep::For(left) => *left,
        };
        let expires = Duration::from_secs(crate::models::now()).saturating_add(left.min(CENTURY));
        let more = Map::from_iter([
            ("expires_at".to_owned(), time::rfc3339(expires).into()),
            ("size_vram".to_owned(), 0.into()),
            ("context_length".to_owned(), served.engine.about().context.into()),
        ]);
        entries(offer, &more)
    });
    answer(&json!({"models": all.collect::<Vec<_>>()}))
}

fn entries(offer: &Offer, more: &Map<String, Value>) -> Vec<Value> {
    let names = std::iter::once(&offer.id).chain(&offer.aliases);
    let one = |name: &String| {
        let mut entry = entry(offer, &tagged(name));
        entry.extend(more.clone());
        Value::Object(entry)
    };
    names.map(one).collect()
}

/// A name as clients look for it: there, every model has a tag.
fn tagged(name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

fn entry(offer: &Offer, name: &str) -> Map<String, Value> {
    Map::from_iter([
        ("name".to_owned(), name.into()),
        ("model".to_owned(), name.into()),
        ("modified_at".to_owned(), changed(offer).into()),
        ("size".to_owned(), offer.description.spec.resident_bytes().into()),
        // the checksum of all its bytes takes minutes, and one of anything else would be no digest of the model
        ("digest".to_owned(), "".into()),
        ("details".to_owned(), details(offer)),
        ("capabilities".to_owned(), json!(capabilities(offer))),
    ])
}

/// When the model's files were last changed.
fn changed(offer: &Offer) -> String {
    time::rfc3339(Duration::from_secs(offer.changed))
}

fn details(offer: &Offer) -> Value {
    let spec = &offer.description.spec;
    let (mut gguf, mut bytes) = (false, BTreeMap::<String, u64>::new());
    for piece in spec.tensors.iter().flat_map(|tensor| &tensor.pieces) {
        // the format has fixed names for what a layer has
        gguf |= piece.stored.name.starts_with("blk.");
        *bytes.entry(piece.stored.format.to_string()).or_default() += piece.bytes();
    }
    // of mixed formats, the one that most of the file is in
    let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes);
    json!({
        "parent_model": "",
        "format": if gguf { "gguf" } else { "safetensors" },
        "family": spec.architecture,
        "families": [spec.architecture],
        "parameter_size": short(spec.parameters()),
        "quantization_level": most.map(|(format, _)| format).unwrap_or_default(),
    })
}

/// A count as clients show it: `4.0B`, `596.05M`.
fn short(count: u64) -> String {
    let of = |unit: f64| count as f64 / unit;
    match count {
        1_000_000_000.. => format!("{:.1}B", of(1e9)),
        1_000_000.. => format!("{:.2}M", of(1e6)),
        1000.. => format!("{:.0}K", of(1e3)),
        _ => count.to_string(),
    }
}

/// What a model can be asked for, in the API's words.
fn capabilities(offer: &Offer) -> Vec<&'static str> {
    let Description { spec, tools, thinks, .. } = &offer.description;
    let writes = spec.head.is_some();
    let all = [
        ("completion", writes),
        ("tools", writes && *tools),
        ("thinking", writes && *thinks),
        ("embedding", spec.pooling.is_some()),
    ];
    all.iter().filter(|(_, can)| *can).map(|(name, _)| *name).collect()
}

/// `{model}` to `{details, model_info, capabilities, template, parameters, modified_at}`.
pub(crate) async fn show(State(app): State<Arc<App>>, body: Body) -> Response {
    shown(&app, body).await.map_or_else(super::error, |value| answer(&value))
}

async fn shown(app: &App, body: Body) -> Result<Value, Problem> {
    let mut fields = fields(app, body).await?;
    // the older name of the field
    let older: Option<String> = fields.optional("name")?;
    let model = match fields.optional::<String>("model")?.or(older) {
        Some(model) => model,
        None => return Err(Problem::field("model", "`model` is missing")),
    };
    if fields.optional::<bool>("verbose")? == Some(true) {
        let told = "`verbose` has no effect here: the vocabulary and the list of tensors are not told";
        fields.warnings.push(told.into());
    }
    fields.without_effect(&["system", "template", "options"]);
    let offer = &app.models.offers()[super::named(app, &model)?];
    // what the memory allows is known once it is loaded
    let loaded = app.models.loaded();
    let context = loaded.iter().find(|(other, ..)| other.id == offer.id);
    let context = context.map(|(_, served, _)| served.engine.about().context);
    let (spec, architecture) = (&offer.description.spec, &offer.description.spec.architecture);
    let mut info = Map::new();
    info.insert("general.architecture".into(), architecture.as_str().into());
    info.insert("general.basename".into(), spec.name.clone().into());
    info.insert("general.parameter_count".into(), spec.parameters().into());
    for (key, figure) in [
        ("block_count", spec.layers.len()),
        // what it was made for; what it is served with is in /api/ps
        ("context_length", spec.context),
        ("embedding_length", spec.hidden),
        ("vocab_size", spec.vocabulary),
    ] {
        info.insert(format!("{architecture}.{key}"), figure.into());
    }
    let document = json!({
        "details": details(offer),
        "model_info": info,
        "capabilities": capabilities(offer),
        // its text is not at hand once a model is loaded; POST /apply-template shows what it makes of a conversation
        "template": "",
        "parameters": parameters(&offer.description, context)?,
        "modified_at": changed(offer),
    });
    Ok(with_warnings(document, fields.finish()?))
}

/// The model's own settings, as lines of a Modelfile.
fn parameters(description: &Description, context: Option<usize>) -> Result<String, Problem> {
    let sampling =
        description.defaults.resolve(&Default::default()).map_err(ingle_engine::EngineError::from)?;
    let lines = [
        ("temperature", sampling.temperature.to_string()),
        ("top_k", sampling.top_k.to_string()),
        ("top_p", sampling.top_p.to_string()),
        ("min_p", sampling.min_p.to_string()),
        ("repeat_penalty", sampling.repetition_penalty.to_string()),
    ];
    let context = context.map(|context| ("num_ctx", context.to_string()));
    let lines: Vec<String> =
        lines.iter().chain(&context).map(|(name, value)| format!("{name:<30} {value}")).collect();
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short() {
        for (count, text) in [
            (12, "12"),
            (1499, "1K"),
            (595_776_512, "595.78M"),
            (4_022_468_096, "4.0B"),
            (70_553_706_496, "70.6B"),
        ] {
            assert_eq!(short(count), text);
        }
    }

    #[test]
    fn names_have_tags() {
        assert_eq!((tagged("ember"), tagged("a:4b")), ("ember:latest".into(), "a:4b".into()));
    }
}
