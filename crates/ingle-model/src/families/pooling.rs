//! How a file says that its hidden rows become vectors: the modules of a sentence-transformers folder, or a GGUF key.

use super::{Dialect, Header};
use crate::error::{Error, Result, printable};
use crate::metadata::{Metadata, Value};
use crate::source::{Module, Source};
use crate::spec::{ModelSpec, PooledRow, Pooling};

/// More matrices than any published model multiplies a pooled row by.
const MOST_PROJECTIONS: usize = 16;

/// What `modules.json` says; `None` for a folder without one.
///
/// # Errors
/// A module, a way of pooling or an activation that is not computed here, by name.
pub(super) fn from_folder(source: &Source) -> Result<Option<Pooling>> {
    let mut pooling: Option<Pooling> = None;
    let modules = source.modules()?;
    for Module { kind, path } in modules.iter().flatten() {
        match (kind.as_str(), &mut pooling) {
            ("Transformer", None) => {}
            ("Pooling", None) => {
                let row = pooled_row(path, &config(source, path)?)?;
                pooling = Some(Pooling { row, projections: Vec::new(), normalise: false, longest: None });
            }
            ("Dense", Some(pooling)) if !pooling.normalise => {
                if pooling.projections.len() == MOST_PROJECTIONS {
                    return Err(Error::metadata("modules.json", "has more Dense modules than any model"));
                }
                pooling.projections.push(dense_width(path, &config(source, path)?)?);
            }
            ("Normalize", Some(pooling)) => pooling.normalise = true,
            (other, _) => {
                let what = format!(
                    "has a module `{}` where it is not computed here; supported are Transformer, Pooling, any number \
                     of Dense, Normalize, in this order",
                    printable(other)
                );
                return Err(Error::metadata("modules.json", what));
            }
        }
    }
    if let Some(pooling) = &mut pooling
        && let Some(settings) = source.json_document("", "sentence_bert_config.json")?
    {
        pooling.longest = Metadata::from_json(&settings).count("max_seq_length")?;
    }
    Ok(pooling)
}

fn config(source: &Source, path: &str) -> Result<Metadata> {
    let json = source.json_document(path, "config.json")?;
    let key = format!("{path}/config.json");
    json.map(|json| Metadata::from_json(&json))
        .ok_or_else(|| Error::metadata(key, "is missing from the folder, and modules.json names it"))
}

/// The ways of pooling: older files have a flag for each, newer ones a word or a list of words.
const WAYS: [(&str, &str, Option<PooledRow>); 6] = [
    ("cls", "pooling_mode_cls_token", Some(PooledRow::First)),
    ("max", "pooling_mode_max_tokens", None),
    ("mean", "pooling_mode_mean_tokens", Some(PooledRow::Mean)),
    ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", None),
    ("weightedmean", "pooling_mode_weightedmean_tokens", None),
    ("lasttoken", "pooling_mode_lasttoken", Some(PooledRow::Last)),
];

fn pooled_row(path: &str, config: &Metadata) -> Result<PooledRow> {
    let refused = |what: String| Error::metadata(format!("{path}/config.json"), what);
    if config.flag("include_prompt")? == Some(false) {
        return Err(refused(
            "leaves the prompt's tokens out of the pooling, which is not computed here".into(),
        ));
    }
    let named: Vec<String> = match config.get("pooling_mode") {
        Some(Value::Strings(words)) => words.iter().map(str::to_owned).collect(),
        Some(_) => vec![config.string("pooling_mode")?.unwrap_or_default().to_owned()],
        None => {
            let mut named = Vec::new();
            for (word, flag, _) in WAYS {
                if config.flag(flag)? == Some(true) {
                    named.push(word.to_owned());
                }
            }
            named
        }
    };
    let row = match &named[..] {
        [] => Some(PooledRow::Mean), // as the format defines it
        [word] => WAYS.iter().find(|way| way.0 == word).and_then(|way| way.2),
        _ => None,
    };
    row.ok_or_else(|| {
        let words: Vec<String> = named.iter().map(|word| printable(word)).collect();
        refused(format!(
            "pools by `{}`; supported here: cls, mean or lasttoken, one of them",
            words.join(", ")
        ))
    })
}

/// Output width of a Dense module without bias and activation.
fn dense_width(path: &str, config: &Metadata) -> Result<usize> {
    let key = |name: &str| format!("{path}/config.json: {name}");
    if config.flag("bias")?.unwrap_or(true) {
        return Err(Error::metadata(
            key("bias"),
            "is true (or missing, which means that); supported here: false",
        ));
    }
    let activation = config.string("activation_function")?.unwrap_or("Tanh");
    if activation.rsplit('.').next() != Some("Identity") {
        let what =
            format!("is `{}`; supported here: torch.nn.modules.linear.Identity", printable(activation));
        return Err(Error::metadata(key("activation_function"), what));
    }
    let width = config.count("out_features")?;
    width.ok_or_else(|| Error::metadata(key("out_features"), "is missing"))
}

/// What a GGUF header says: `<architecture>.pooling_type`, and the matrices `dense_2`, `dense_3` and so on.
pub(super) fn from_header(header: &Header, architecture: &str) -> Result<Option<Pooling>> {
    if header.dialect == Dialect::Hub {
        return Ok(None);
    }
    let key = format!("{architecture}.pooling_type");
    let row = match header.keys.count(&key)? {
        None | Some(0) => return Ok(None),
        Some(1) => PooledRow::Mean,
        Some(2) => PooledRow::First,
        Some(3) => PooledRow::Last,
        Some(4) => return Ok(None), // a score of two texts, made by a head of its own
        Some(other) => {
            let what = format!("is {other}; known are 0 (none), 1 (mean), 2 (first), 3 (last) and 4 (rank)");
            return Err(Error::metadata(key, what));
        }
    };
    let width = |number: usize| {
        let name = format!("dense_{}.weight", number + 2);
        let tensor = header.tensors.iter().find(|tensor| tensor.name == name)?;
        tensor.shape.first().copied()
    };
    let projections = (0..MOST_PROJECTIONS).map_while(width).collect();
    Ok(Some(Pooling { projections, ..Pooling::of(row) }))
}

/// A network that makes embeddings has no head unless the file holds one: with tied matrices it would be packed for
/// nothing.
pub(super) fn drop_head(spec: &mut ModelSpec, header: &Header, architecture: &str) {
    let bare = header.dialect == Dialect::Hub && architecture.ends_with("Model");
    let stored =
        header.tensors.iter().any(|tensor| matches!(&*tensor.name, "output.weight" | "lm_head.weight"));
    if bare || (spec.pooling.is_some() && !stored) {
        spec.head = None;
    }
}
