//! Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434) over cached rows `[c | k]`: a latent `c [rank]` from which
//! keys and values of every head are made, and a rotated key `k [rope]` that all heads share. Head `h` scores a position
//! with `scale * (q_nope . K_h c + q_rope . k)` and sums the values `V_h c`. Two forms compute it:
//!
//! - **absorbed**: `q = [K_h^T q_nope | q_rope]` scores the cached row itself, the row's first `rank` values are summed,
//!   and `V_h` is applied to the sum. Nothing is made per position, so that a row of a step costs little by itself, and
//!   much per position it sees.
//! - **expanded**: keys and values of the positions are made, once per head for all rows of a chunk, and attended to as
//!   in plain multi-head attention. It pays where many rows share the work.
//!
//! With `rows` rows that see `seen` positions in all, of the `end` positions there are, per head and in multiply-adds:
//!
//! ```text
//! absorbed:  rows * rank * (nope + value) + seen * (2 rank + rope)
//! expanded:  end  * rank * (nope + value) + seen * (nope + rope + value)
//! ```
//!
//! The cheaper is taken. In DeepSeek-V3's shape the expanded form wins for a prompt's chunks of more than about 170 rows
//! at any context, and for shorter ones early in the context.
//!
//! Sparse attention (DeepSeek-V3.2) lets every row choose its positions (`index`); their rows alone are gathered, in
//! absorbed form, because no two rows share a choice. A row that would choose all positions is dense.

pub(crate) mod absorbed;
pub(crate) mod cache;
pub(crate) mod expanded;
pub(crate) mod index;
mod softmax;
mod tile;
pub(crate) mod up;

#[cfg(test)]
mod tests;

use crate::Cpu;
use crate::sequences::Placed;
use cache::LatentKv;
use ingle_model::spec::LatentAttention;
use std::ops::Range;
use up::LatentUp;

/// Attention of one slice: rows of one sequence, whose rows are already in its cache.
pub(crate) struct Work<'a> {
    pub(crate) spec: &'a LatentAttention,
    pub(crate) up: &'a LatentUp,
    pub(crate) kv: &'a LatentKv,
    pub(crate) placed: &'a Placed,
    /// `[rows of the step, heads * (nope + rope)]`, rotated.
    pub(crate) queries: &'a [f32],
    /// For each row of the step the positions it chose, ascending; none for dense rows. May be shorter than the step.
    pub(crate) chosen: &'a [Vec<u32>],
}

impl Work<'_> {
    /// The query of a row's head, `[nope | rope]`.
    fn query(&self, row: usize, head: usize) -> &[f32] {
        let width = self.spec.nope_dim + self.spec.rope_dim;
        &self.queries[(row * self.spec.heads + head) * width..][..width]
    }

    /// The positions a row chose, if it did.
    fn chosen(&self, row: usize) -> Option<&[u32]> {
        self.chosen.get(row).map(Vec::as_slice).filter(|chosen| !chosen.is_empty())
    }
}

/// `out[row][head] = softmax(scale * q . k) v` for the slice's rows of `out`, `[rows, heads * value]`.
pub(crate) fn attend(cpu: &Cpu, work: &Work, scratch: &mut absorbed::Scratch, out: &mut [f32]) {
    let rows = work.placed.rows.clone();
    // choosing begins at some length, so the dense rows come first
    let dense = rows.start..rows.clone().find(|&row| work.chosen(row).is_some()).unwrap_or(rows.end);
    if expanding_is_cheaper(work, &dense) {
        expanded::attend(cpu, work, dense.clone(), out);
        absorbed::attend(cpu, work, dense.end..rows.end, scratch, out);
    } else {
        absorbed::attend(cpu, work, rows, scratch, out);
    }
}

/// Compares the costs of the two forms (see the head of this file) for dense rows.
fn expanding_is_cheaper(work: &Work, rows: &Range<usize>) -> bool {
    let LatentAttention { kv_rank, nope_dim, rope_dim, value_dim, .. } = *work.spec;
    let Some(last) = rows.clone().last() else { return false };
    let up = kv_rank as f64 * (nope_dim + value_dim) as f64;
    let end = (work.placed.position(last) + 1) as f64;
    let count = rows.len() as f64;
    let seen = count * (end + (work.placed.position(rows.start) + 1) as f64) / 2.0;
    let absorbed = count * up + seen * (2 * kv_rank + rope_dim) as f64;
    let expanded = end * up + seen * (nope_dim + rope_dim + value_dim) as f64;
    expanded < absorbed
}
