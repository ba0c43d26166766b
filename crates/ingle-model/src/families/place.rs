//! Where a needed tensor's rows may lie in a file, as each family says it.

use super::{Dialect, names};
use crate::spec::{Need, Role};

/// Consecutive rows of a needed tensor, taken from one stored tensor. Outer dimensions of the stored tensor are
/// flattened to rows; rows of a vector (or of experts' biases) are single numbers.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// The stored tensor.
    pub(super) name: String,
    /// The shape it must have, dimensions of 1 aside. MXFP4 pairs: the shape of the numbers, not of their bytes.
    pub(super) shape: Vec<usize>,
    /// First row taken.
    pub(super) first: usize,
    /// Rows taken.
    pub(super) rows: usize,
    /// Distance between two.
    pub(super) stride: usize,
}

impl Run {
    /// The whole of a stored tensor.
    pub(super) fn whole(name: impl Into<String>, need: &Need) -> Run {
        Run { name: name.into(), shape: need.shape.clone(), first: 0, rows: need.rows(), stride: 1 }
    }

    /// Rows `first .. first + rows` of a tensor of this shape.
    pub(super) fn rows(name: impl Into<String>, shape: &[usize], first: usize, rows: usize) -> Run {
        Run { name: name.into(), shape: shape.to_vec(), first, rows, stride: 1 }
    }
}

/// Alternatives in order of preference, each the runs that make up the tensor.
pub(super) type Places = Vec<Vec<Run>>;

/// Where most families keep a tensor: whole, under the common name.
pub(super) fn usual(dialect: Dialect, need: &Need) -> Places {
    let name = match dialect {
        Dialect::Gguf => names::gguf(need.role, need.layer),
        Dialect::Hub => names::hub(need.role, need.layer),
    };
    vec![vec![Run::whole(name, need)]]
}

/// Rows of GGUF's `attn_qkv`, which holds query, key and value one after the other. `rows` are theirs.
pub(super) fn fused_qkv(need: &Need, hidden: usize, rows: [usize; 3]) -> Option<Vec<Run>> {
    let [queries, keys, values] = rows;
    let (first, suffix) = match need.role {
        Role::Query => (0, "weight"),
        Role::Key => (queries, "weight"),
        Role::Value => (queries + keys, "weight"),
        Role::QueryBias => (0, "bias"),
        Role::KeyBias => (queries, "bias"),
        Role::ValueBias => (queries + keys, "bias"),
        _ => return None,
    };
    let all = queries + keys + values;
    let shape: &[usize] = if suffix == "weight" { &[all, hidden] } else { &[all] };
    Some(vec![Run::rows(names::gguf_fused_qkv(need.layer?, suffix), shape, first, need.rows())])
}
