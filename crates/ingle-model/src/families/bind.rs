//! Finds the tensors a network needs among those a file has.

use super::place::{Places, Run};
use super::{Dialect, Header, names};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::source::TensorInfo;
use crate::spec::{Encoding, KeyValues, LayerSpec, Mixer, ModelSpec, Need, Piece, Role, TensorSpec};
use std::collections::{HashMap, HashSet};

/// Weights per block of MXFP4, and the bytes that hold them.
const MXFP4_BLOCK: usize = 32;
const MXFP4_BYTES: usize = 16;

/// Fills `spec.tensors` and `spec.unused`; every needed tensor must be there with the needed shape.
pub(super) fn bind(
    spec: &mut ModelSpec,
    header: &Header,
    places: fn(Dialect, &ModelSpec, &Need) -> Places,
) -> Result<()> {
    let by_name: HashMap<_, _> = header.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let trunk = match header.dialect {
        Dialect::Gguf => "model.",
        Dialect::Hub => names::trunk(|name| by_name.contains_key(name)),
    };
    let mut file = File { header, by_name, trunk, used: HashSet::new() };
    let mut tensors = Vec::new();
    for need in spec.needs() {
        tensors.push(file.find(&need, places(header.dialect, spec, &need))?);
    }
    // a file may leave the further-token blocks out: nothing runs them unasked
    let further = spec.next_token_needs().into_iter();
    let further = further.map(|need| file.find(&need, places(header.dialect, spec, &need)));
    spec.next_token_tensors = further.collect::<Result<_>>().unwrap_or_default();
    let unused = header.tensors.iter().filter(|tensor| !file.used.contains(tensor.name.as_str()));
    let unused = unused.filter(|tensor| !of_further_token(&tensor.name, spec, trunk));
    let unused = unused.filter(|tensor| !names::spare(&tensor.name, header.dialect));
    let without: HashSet<String> = without_key_values(spec, header.dialect, trunk).collect();
    let unused = unused.filter(|tensor| !without.contains(&tensor.name));
    spec.unused = unused.map(|tensor| tensor.name.clone()).collect();
    spec.tensors = tensors;
    spec.unused.iter().try_for_each(|name| file.refuse_contradiction(name, spec.layers.len()))
}

/// True for tensors of blocks that predict further tokens, which may hold copies of the embedding and the head.
fn of_further_token(name: &str, spec: &ModelSpec, trunk: &str) -> bool {
    let own = ["blk.".to_owned(), format!("{trunk}layers.")];
    let number =
        own.iter().find_map(|start| name.strip_prefix(start)?.split('.').next()?.parse::<usize>().ok());
    let further = spec.layers.len()..spec.layers.len() + spec.next_token.len();
    number.is_some_and(|number| further.contains(&number))
        || (name.starts_with("mtp.") && !spec.next_token.is_empty())
}

/// Names of what layers that attend to an earlier layer's keys and values would make their own with: published files
/// hold such tensors, and no network uses them.
fn without_key_values(spec: &ModelSpec, dialect: Dialect, trunk: &str) -> impl Iterator<Item = String> {
    const ROLES: [Role; 5] = [Role::Key, Role::KeyBias, Role::KeyNorm, Role::Value, Role::ValueBias];
    let attends = |layer: &LayerSpec| matches!(&layer.mixer, Mixer::Attention(attention) if matches!(attention.key_values, KeyValues::OfLayer(_)));
    let layers = spec.layers.iter().enumerate().filter(move |(_, layer)| attends(layer));
    layers.flat_map(move |(layer, _)| {
        ROLES.map(|role| match dialect {
            Dialect::Gguf => names::gguf(role, Some(layer)),
            Dialect::Hub => names::placed(&names::hub(role, Some(layer)), trunk),
        })
    })
}

struct File<'a> {
    header: &'a Header<'a>,
    by_name: HashMap<&'a str, &'a TensorInfo>,
    /// What stands for `model.` in this file's names.
    trunk: &'static str,
    used: HashSet<&'a str>,
}

impl<'a> File<'a> {
    /// The first alternative that the file has (or has begun).
    fn find(&mut self, need: &Need, mut alternatives: Places) -> Result<TensorSpec> {
        if let (Role::PooledProjection(number), Dialect::Hub) = (need.role, self.header.dialect) {
            // whatever its folder is called
            let mut names = self.header.tensors.iter().map(|tensor| &tensor.name);
            let name = names.by_ref().filter(|name| name.ends_with("/linear.weight")).nth(number.into());
            alternatives.extend(name.map(|name| vec![Run::whole(name, need)]));
        }
        if self.trunk != "model." {
            let runs = alternatives.iter_mut().flatten();
            runs.for_each(|run| run.name = names::placed(&run.name, self.trunk));
        }
        let begun = |runs: &&Vec<Run>| runs.first().is_some_and(|run| self.stored(&run.name).is_some());
        let chosen = alternatives.iter().find(begun).or(alternatives.first());
        let mut pieces = Vec::new();
        for run in chosen.into_iter().flatten() {
            pieces.push(self.piece(run, need.columns())?);
        }
        let spec = TensorSpec { role: need.role, layer: need.layer, shape: need.shape.clone(), pieces };
        if spec.rows() != need.rows() {
            let name = spec.pieces.first().map_or("", |piece| &piece.stored.name);
            let what = format!("gives {} rows, and the network needs {}", spec.rows(), need.rows());
            return Err(Error::tensor(name, what));
        }
        Ok(spec)
    }

    /// A tensor, or the one with its MXFP4 blocks.
    fn stored(&self, name: &str) -> Option<&'a TensorInfo> {
        let blocks = || self.by_name.get(format!("{name}_blocks").as_str());
        self.by_name.get(name).or_else(blocks).copied()
    }

    fn piece(&mut self, run: &Run, columns: usize) -> Result<Piece> {
        let stored = self
            .stored(&run.name)
            .ok_or_else(|| Error::tensor(&run.name, "is missing from the file, and the network needs it"))?;
        let encoding = self.encoding(run, stored)?;
        let shape = match encoding {
            Encoding::SplitMxfp4 { .. } => split_shape(&run.shape),
            _ => Some(run.shape.clone()),
        };
        if shape.as_deref().map(squeezed) != Some(squeezed(&stored.shape)) {
            let what = format!(
                "has shape {:?}, and the network needs {:?}; the file's metadata and its tensors disagree",
                stored.shape,
                shape.as_ref().unwrap_or(&run.shape)
            );
            return Err(Error::tensor(&stored.name, what));
        }
        let stored_rows = run.shape.iter().product::<usize>() / columns.max(1);
        let last = run.first + run.rows.saturating_sub(1) * run.stride;
        if run.rows == 0 || last >= stored_rows {
            let what = format!("has {stored_rows} rows, and the network needs rows {} to {last}", run.first);
            return Err(Error::tensor(&stored.name, what));
        }
        self.used.insert(&stored.name);
        let Run { first, rows, stride, .. } = *run;
        Ok(Piece { stored: stored.clone(), encoding, first, rows, stride, stored_rows })
    }

    /// How a stored tensor's bytes become numbers, by the tensors beside it.
    fn encoding(&mut self, run: &Run, stored: &'a TensorInfo) -> Result<Encoding> {
        if stored.name != run.name {
            let name = format!("{}_scales", run.name);
            let scales =
                self.beside(&name).ok_or_else(|| Error::tensor(&name, "is missing from the file"))?;
            let blocks = split_shape(&run.shape).map(|shape| shape[..shape.len() - 1].to_vec());
            expect_shape(scales, blocks.as_deref().unwrap_or_default())?;
            return match (stored.format, scales.format) {
                (Format::U8, Format::U8) => Ok(Encoding::SplitMxfp4 { scales: scales.clone() }),
                _ => Err(Error::tensor(&stored.name, "must hold bytes, and so must its scales")),
            };
        }
        if matches!(stored.format, Format::I8 | Format::I16 | Format::I32 | Format::I64 | Format::U8) {
            let what = format!(
                "holds integers ({:?}), and this network's weights are floating-point numbers or blocks of them",
                stored.format
            );
            return Err(Error::tensor(&stored.name, what));
        }
        let inverse = format!("{}_scale_inv", run.name);
        if let Some(scales) = self.beside(&inverse) {
            let block = self.block_size()?;
            let mut shape = run.shape.clone();
            let Some([rows, columns]) = shape.last_chunk_mut::<2>() else {
                return Err(Error::tensor(&run.name, "has block scales, but is not a matrix"));
            };
            (*rows, *columns) = (rows.div_ceil(block[0]), columns.div_ceil(block[1]));
            expect_shape(scales, &shape)?;
            return Ok(Encoding::BlockScaled { scales: scales.clone(), block });
        }
        let sizes = self.header.keys.integers("quantization_config.weight_block_size")?;
        if stored.format == Format::F8_E4M3 && sizes.is_some() {
            let what =
                "is missing from the file, and the fp8 weight beside it means nothing without its scales";
            return Err(Error::tensor(&inverse, what));
        }
        self.refuse_scale(&run.name)?;
        Ok(Encoding::Plain)
    }

    /// A tensor that belongs to another one.
    fn beside(&mut self, name: &str) -> Option<&'a TensorInfo> {
        let tensor = *self.by_name.get(name)?;
        self.used.insert(&tensor.name);
        Some(tensor)
    }

    /// Rows and columns that share a scale in fp8 checkpoints.
    fn block_size(&self) -> Result<[usize; 2]> {
        let key = "quantization_config.weight_block_size";
        let sizes = self.header.keys.integers(key)?.unwrap_or_default();
        match sizes[..] {
            [rows @ 1..=65_536, columns @ 1..=65_536] => Ok([rows as usize, columns as usize]),
            [] => Err(Error::metadata(key, "is missing, and the fp8 weights have block scales")),
            _ => Err(Error::metadata(key, "must be two numbers from 1 to 65536")),
        }
    }

    /// A layer or a bias that the network as described has no place for: its configuration and its tensors disagree,
    /// and without it the answers would be wrong.
    fn refuse_contradiction(&self, name: &str, layers: usize) -> Result<()> {
        let starts = ["blk.".to_owned(), format!("{}layers.", self.trunk)];
        let numbered = starts.iter().find_map(|start| {
            Some((start, name.strip_prefix(start)?.split('.').next()?.parse::<usize>().ok()?))
        });
        if let Some((start, number)) = numbered
            && number >= layers
        {
            // a block that predicts further tokens may be there without a word in the configuration
            let further = ["eh_proj", "nextn.eh_proj"].map(|name| format!("{start}{number}.{name}.weight"));
            if further.iter().any(|name| self.by_name.contains_key(name.as_str())) {
                return Ok(());
            }
            let key = match self.header.dialect {
                Dialect::Gguf => "block_count",
                Dialect::Hub => "num_hidden_layers",
            };
            let what = format!(
                "is in the file, and the network has {layers} layers, numbered from 0, by its metadata (`{key}`); \
                 the file's metadata and its tensors disagree"
            );
            return Err(Error::tensor(name, what));
        }
        let Some((stem, "bias")) = name.rsplit_once('.') else { return Ok(()) };
        if self.used.contains(format!("{stem}.weight").as_str()) {
            let what = "is in the file, and the network as its metadata describes it has no such bias; the file's \
                        metadata and its tensors disagree";
            return Err(Error::tensor(name, what));
        }
        Ok(())
    }

    /// A weight with another kind of scale beside it means something else than its own numbers say.
    fn refuse_scale(&self, name: &str) -> Result<()> {
        let suffixes: &[&str] = match self.header.dialect {
            Dialect::Gguf => &["scale"],
            Dialect::Hub => &["weight_scale", "weight_scale_2"],
        };
        let Some(stem) = name.strip_suffix("weight") else { return Ok(()) };
        let scale = suffixes.iter().map(|suffix| format!("{stem}{suffix}"));
        match scale.into_iter().find(|scale| self.by_name.contains_key(scale.as_str())) {
            Some(scale) => {
                let what = format!(
                    "scales `{name}`, which this version cannot do; use another quantisation of this model"
                );
                Err(Error::tensor(scale, what))
            }
            None => Ok(()),
        }
    }
}

/// `[.., columns]` as MXFP4 bytes: `[.., columns / 32, 16]`.
fn split_shape(shape: &[usize]) -> Option<Vec<usize>> {
    let (columns, outer) = shape.split_last()?;
    let whole = columns.is_multiple_of(MXFP4_BLOCK).then_some(columns / MXFP4_BLOCK)?;
    Some([outer, &[whole, MXFP4_BYTES]].concat())
}

fn expect_shape(tensor: &TensorInfo, shape: &[usize]) -> Result<()> {
    if squeezed(&tensor.shape) == squeezed(shape) {
        return Ok(());
    }
    let what = format!("has shape {:?}, and the tensor it scales needs {shape:?}", tensor.shape);
    Err(Error::tensor(&tensor.name, what))
}

/// A shape without its dimensions of 1, which files add and drop freely.
fn squeezed(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&size| size != 1).collect()
}
