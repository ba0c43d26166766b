//! Rotary tables from both spellings: `rope.*` keys of GGUF; `rope_scaling`, `rope_parameters` and their nested forms
//! in `config.json`. A kind nobody here computes is refused, and so is a setting whose meaning is unknown.

use super::Dialect;
use super::keys::Keys;
use crate::error::{Error, Result};
use crate::spec::{AxisLayout, AxisSections, Pairing, Rope, RopeScaling, Yarn};

/// What a family knows of a table before it is read.
pub(super) struct Table<'a> {
    /// Values of a head that turn.
    pub(super) dims: usize,
    pub(super) pairing: Pairing,
    /// The model's context: what YaRN started from, where the file does not say.
    pub(super) context: usize,
    /// Key and, in `config.json`, family's value of the base.
    pub(super) base: (&'a str, f64),
    /// `config.json`: the layer type whose settings these are, where they are nested by type.
    pub(super) layer_type: Option<&'a str>,
    /// Context extension concerns this table.
    pub(super) extended: bool,
    /// Whether YaRN's ramp ends on whole pairs, where the file does not say.
    pub(super) truncate: bool,
    /// GGUF: how positions on three axes share the pairs.
    pub(super) axes: AxisLayout,
}

impl Table<'_> {
    /// A table like most. `base` is what the family's configuration class supplies.
    pub(super) fn usual(dialect: Dialect, dims: usize, context: usize, base: f64) -> Table<'static> {
        let key = match dialect {
            Dialect::Gguf => "rope.freq_base",
            Dialect::Hub => "rope_theta",
        };
        Table {
            dims,
            pairing: Pairing::Halves,
            context,
            base: (key, base),
            layer_type: None,
            extended: true,
            truncate: true,
            axes: AxisLayout::Chunked,
        }
    }
}

/// A table, and what of its settings concerns the attention's scale.
pub(super) struct Read {
    pub(super) rope: Rope,
    /// DeepSeek's `mscale_all_dim`, where it is given and not zero.
    pub(super) scale_all: Option<f64>,
}

/// `0.1 m ln(factor) + 1`, which is how YaRN grows magnitudes with the context.
pub(super) fn growth(factor: f64, m: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 }
}

/// From either spelling.
pub(super) fn read(keys: &Keys, table: &Table) -> Result<Read> {
    match keys.dialect {
        Dialect::Gguf => Ok(Read { rope: gguf(keys, table)?, scale_all: None }),
        Dialect::Hub => hub(keys, table),
    }
}

/// From GGUF keys. `base` names the key of the base, 10000 where absent, as the format has it.
fn gguf(keys: &Keys, table: &Table) -> Result<Rope> {
    let base = keys.float(table.base.0)?.unwrap_or(10_000.0);
    let mut rope = Rope::plain(table.dims, base, table.pairing);
    if let Some(sections) = keys.integers("rope.dimension_sections")? {
        let key = "rope.dimension_sections";
        rope.sections = Some(axis_sections(keys, key, &sections, table.axes, table.dims)?);
    }
    if !table.extended {
        return Ok(rope);
    }
    rope.magnitude = keys.float("rope.scaling.attn_factor")?.unwrap_or(1.0) as f32;
    let factor = match keys.float("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.float("rope.scale_linear")?,
    };
    match (keys.text("rope.scaling.type")?.unwrap_or("linear"), factor) {
        ("none", _) | ("linear" | "yarn", None | Some(0.0 | 1.0)) => {}
        ("linear", Some(factor)) => rope.scaling = RopeScaling::Linear { factor },
        ("yarn", Some(factor)) => {
            let original = keys.count("rope.scaling.original_context_length")?.unwrap_or(table.context);
            let float = |name: &str| keys.float(&format!("rope.scaling.{name}"));
            rope.magnitude *= growth(factor, 1.0) as f32;
            rope.scaling = RopeScaling::Yarn(Yarn {
                factor,
                original_context: original as f64,
                beta_fast: float("yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: float("yarn_beta_slow")?.unwrap_or(1.0),
                truncate: table.truncate,
            });
        }
        (other, _) => {
            return Err(keys.refused(
                "rope.scaling.type",
                crate::error::printable(other),
                "none, linear, yarn",
            ));
        }
    }
    Ok(rope)
}

/// Settings of `config.json` whose meaning is known here.
const SETTINGS: &[&str] = &[
    "rope_type",
    "type",
    "rope_theta",
    "partial_rotary_factor",
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "mrope_section",
    "mrope_interleaved",
    "finetuned",
];

/// Where a configuration keeps the settings of a table, if it has any.
fn group(keys: &Keys, table: &Table) -> Option<String> {
    let nested = table.layer_type.map(|kind| format!("rope_parameters.{kind}"));
    if let Some(nested) = nested.filter(|group| keys.under(group).next().is_some()) {
        return Some(nested);
    }
    let plain = ["rope_scaling", "rope_parameters"].into_iter().filter(|_| table.extended);
    plain.map(str::to_owned).find(|group| keys.under(group).next().is_some())
}

/// Share of a head that turns: within the settings or beside them.
pub(super) fn hub_rotated_share(keys: &Keys) -> Result<Option<f64>> {
    for name in ["rope_scaling.partial_rotary_factor", "rope_parameters.partial_rotary_factor"] {
        if let Some(share) = keys.float(name)? {
            return Ok(Some(share));
        }
    }
    keys.float("partial_rotary_factor")
}

/// Settings are a JSON object (or `null`, or absent); a number or a word in their place would be passed over.
fn expect_objects(keys: &Keys, table: &Table) -> Result<()> {
    let nested = table.layer_type.map(|kind| format!("rope_parameters.{kind}"));
    let names = nested.into_iter().chain(["rope_scaling", "rope_parameters"].map(str::to_owned));
    match names.into_iter().find(|name| keys.get(name).is_some()) {
        Some(name) => {
            let what = "must be an object with rope settings, such as {\"rope_type\": \"yarn\", \"factor\": 4.0}, \
                        or null";
            Err(Error::metadata(keys.full(&name), what))
        }
        None => Ok(()),
    }
}

/// From `config.json`.
fn hub(keys: &Keys, table: &Table) -> Result<Read> {
    expect_objects(keys, table)?;
    let group = group(keys, table);
    let inside = |name: &str| group.as_ref().map(|group| format!("{group}.{name}"));
    let float = |name: &str| inside(name).map_or(Ok(None), |name| keys.float(&name));
    if let Some(group) = &group
        && let Some(strange) = keys.under(group).find(|name| !SETTINGS.contains(name))
    {
        let key = keys.full(&format!("{group}.{strange}"));
        let what = format!("is a rope setting unknown here; known are {}", SETTINGS.join(", "));
        return Err(Error::metadata(key, what));
    }
    let (base_key, usual) = table.base;
    let base = match float("rope_theta")? {
        Some(base) => base,
        None => keys.or_assume(base_key, keys.float(base_key)?, usual),
    };
    let mut rope = Rope::plain(table.dims, base, table.pairing);
    let mut scale_all = None;
    if let Some(group) = &group {
        let kind = kind(keys, group)?;
        if let Some(sections) = keys.integers(&format!("{group}.mrope_section"))? {
            let interleaved = keys.flag(&format!("{group}.mrope_interleaved"))?.unwrap_or(false);
            let layout = if interleaved { AxisLayout::Interleaved } else { AxisLayout::Chunked };
            let key = format!("{group}.mrope_section");
            rope.sections = Some(axis_sections(keys, &key, &sections, layout, table.dims)?);
        }
        scale_all = float("mscale_all_dim")?.filter(|&m| m != 0.0);
        match kind {
            Kind::Default => scale_all = None,
            Kind::Linear => {
                let factor = keys.required_float(&format!("{group}.factor"))?;
                rope.scaling = RopeScaling::Linear { factor };
            }
            Kind::Yarn => {
                let yarn = yarn(keys, group, table)?;
                let m = float("mscale")?.filter(|&m| m != 0.0);
                rope.magnitude = match (float("attention_factor")?, m, scale_all) {
                    (Some(stated), ..) => stated,
                    (None, Some(m), Some(all)) => growth(yarn.factor, m) / growth(yarn.factor, all),
                    // mscale alone has no effect in the reference library
                    _ => growth(yarn.factor, 1.0),
                } as f32;
                rope.scaling = RopeScaling::Yarn(yarn);
            }
        }
    }
    Ok(Read { rope, scale_all })
}

fn yarn(keys: &Keys, group: &str, table: &Table) -> Result<Yarn> {
    let float = |name: &str| keys.float(&format!("{group}.{name}"));
    let stated = match keys.float("original_max_position_embeddings")? {
        Some(beside) => Some(beside),
        None => float("original_max_position_embeddings")?,
    };
    let factor = match (float("factor")?, stated) {
        (Some(factor), _) => factor,
        (None, Some(original)) if original > 0.0 => table.context as f64 / original,
        (None, _) => keys.required_float(&format!("{group}.factor"))?,
    };
    Ok(Yarn {
        factor,
        original_context: stated.unwrap_or(table.context as f64),
        beta_fast: float("beta_fast")?.unwrap_or(32.0),
        beta_slow: float("beta_slow")?.unwrap_or(1.0),
        truncate: keys.flag(&format!("{group}.truncate"))?.unwrap_or(table.truncate),
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Default,
    Linear,
    Yarn,
}

/// `rope_type`, formerly `type`; `mrope` was the name of plain rotation with positions on three axes.
fn kind(keys: &Keys, group: &str) -> Result<Kind> {
    let known = [
        ("default", Kind::Default),
        ("linear", Kind::Linear),
        ("yarn", Kind::Yarn),
        ("mrope", Kind::Default),
    ];
    let (newer_key, older_key) = (format!("{group}.rope_type"), format!("{group}.type"));
    match (keys.one_of(&newer_key, &known)?, keys.one_of(&older_key, &known)?) {
        (Some(newer), Some(older)) if newer != older => {
            let what = format!("contradicts `{}`", keys.full(&older_key));
            Err(Error::metadata(keys.full(&newer_key), what))
        }
        (Some(kind), _) | (None, Some(kind)) => Ok(kind),
        (None, None) if keys.get(&format!("{group}.factor")).is_some() => {
            let what =
                "is missing, and a factor without a kind says nothing; supported here: default, linear, yarn";
            Err(Error::metadata(keys.full(&newer_key), what))
        }
        (None, None) => Ok(Kind::Default),
    }
}

fn axis_sections(
    keys: &Keys,
    key: &str,
    pairs: &[i64],
    layout: AxisLayout,
    dims: usize,
) -> Result<AxisSections> {
    let counted: Option<Vec<usize>> = pairs.iter().map(|&n| usize::try_from(n).ok()).collect();
    let three = match counted.as_deref() {
        Some(&[time, height, width] | &[time, height, width, 0]) => Some([time, height, width]),
        _ => None,
    };
    let whole = |sections: &[usize; 3]| {
        let sum = sections.iter().fold(0usize, |sum, &n| sum.saturating_add(n));
        sum == dims / 2
    };
    match three.filter(whole) {
        Some(pairs) => Ok(AxisSections { pairs, layout }),
        None => {
            let what = format!("is {pairs:?}; it must be three counts of pairs that add up to {}", dims / 2);
            Err(Error::metadata(keys.full(key), what))
        }
    }
}
