//! Finds the tensors a network needs among those a file has.

use super::{Dialect, Header, names};
use crate::error::{Error, Result};
use crate::source::TensorInfo;
use crate::spec::{Mixer, ModelSpec, Role, TensorSpec};
use std::collections::{HashMap, HashSet};

/// Fills `spec.tensors` and `spec.unused`; every needed tensor must be there with the needed shape.
pub(super) fn bind(
    spec: &mut ModelSpec,
    header: &Header,
    name: fn(Dialect, Role, Option<usize>) -> String,
) -> Result<()> {
    let by_name: HashMap<&str, &TensorInfo> =
        header.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut used = HashSet::new();
    let mut tensors = Vec::new();
    for need in spec.needs() {
        let own = name(header.dialect, need.role, need.layer);
        refuse_scale(&own, header.dialect, &by_name)?;
        let stored = match by_name.get(own.as_str()) {
            Some(&tensor) => tensor.clone(),
            None => fused_rows(spec, header, &by_name, need.role, need.layer)
                .ok_or_else(|| Error::tensor(&own, "is missing from the file, and the network needs it"))??,
        };
        if stored.shape != need.shape {
            let what = format!(
                "has shape {:?}, and the network needs {:?}; the file's metadata and its tensors disagree",
                stored.shape, need.shape
            );
            return Err(Error::tensor(&stored.name, what));
        }
        used.insert(stored.name.clone());
        tensors.push(TensorSpec { role: need.role, layer: need.layer, stored });
    }
    let unused = header.tensors.iter().map(|tensor| &tensor.name).filter(|name| !used.contains(*name));
    spec.unused = unused.cloned().collect();
    spec.tensors = tensors;
    Ok(())
}

/// A weight with a scale beside it means something else than its own numbers say; nothing here applies such scales yet.
fn refuse_scale(name: &str, dialect: Dialect, by_name: &HashMap<&str, &TensorInfo>) -> Result<()> {
    let suffixes: &[&str] = match dialect {
        Dialect::Gguf => &["scale"],
        Dialect::Hub => &["weight_scale_inv", "weight_scale", "weight_scale_2"],
    };
    let Some(stem) = name.strip_suffix("weight") else { return Ok(()) };
    match suffixes
        .iter()
        .map(|suffix| format!("{stem}{suffix}"))
        .find(|scale| by_name.contains_key(scale.as_str()))
    {
        Some(scale) => {
            let what = format!(
                "scales `{name}`, which this version cannot do; use another quantisation of this model"
            );
            Err(Error::tensor(scale, what))
        }
        None => Ok(()),
    }
}

/// Rows of a tensor that holds query, key and value one after the other (`attn_qkv`), as some GGUF files do.
fn fused_rows(
    spec: &ModelSpec,
    header: &Header,
    by_name: &HashMap<&str, &TensorInfo>,
    role: Role,
    layer: Option<usize>,
) -> Option<Result<TensorInfo>> {
    if header.dialect != Dialect::Gguf {
        return None;
    }
    let Mixer::Attention(attention) = &spec.layers[layer?].mixer else { return None };
    let queries = attention.heads * attention.key_dim;
    let keys = attention.kv_heads * attention.key_dim;
    let values = attention.kv_heads * attention.value_dim;
    let (first, rows, suffix) = match role {
        Role::Query => (0, queries, "weight"),
        Role::Key => (queries, keys, "weight"),
        Role::Value => (queries + keys, values, "weight"),
        Role::QueryBias => (0, queries, "bias"),
        Role::KeyBias => (queries, keys, "bias"),
        Role::ValueBias => (queries + keys, values, "bias"),
        _ => return None,
    };
    let fused = *by_name.get(names::gguf_fused_qkv(layer?, suffix).as_str())?;
    Some(row_range(fused, first, rows))
}

/// Rows `first .. first + rows` of a stored tensor as a tensor of its own.
fn row_range(tensor: &TensorInfo, first: usize, rows: usize) -> Result<TensorInfo> {
    let (stored_rows, columns) = match tensor.shape[..] {
        [rows] => (rows, 1),
        [rows, columns] => (rows, columns),
        _ => return Err(Error::tensor(&tensor.name, "must have one or two dimensions")),
    };
    let row_bytes = tensor.format.row_bytes(columns);
    let fits = first.checked_add(rows).is_some_and(|end| end <= stored_rows);
    let (Some(row_bytes), true) = (row_bytes, fits) else {
        return Err(Error::tensor(
            &tensor.name,
            format!("is too small to hold rows {first} to {}", first + rows),
        ));
    };
    let mut shape = tensor.shape.clone();
    shape[0] = rows;
    let (offset, bytes) = (tensor.offset + first * row_bytes, rows * row_bytes);
    Ok(TensorInfo { shape, offset, bytes, ..tensor.clone() })
}
