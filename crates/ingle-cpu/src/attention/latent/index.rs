//! The lightning indexer (DeepSeek-V3.2): every cached position gets a score from a few narrow heads that share one key
//! per position,
//!
//! ```text
//! score(t, s) = sum_h weight_h(t) * max(q_h(t) . k(s), 0)
//! ```
//!
//! and attention goes to the `top_k` best. Scoring is all that still grows with the context; it runs over pages in which
//! the position is innermost, so that heads are summed without leaving the vectors.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::cache::LatentKv;
use crate::Cpu;
use crate::attention::select::top_positions;
use crate::kernels::{PAGE, PageWeights, QUERIES};
use crate::pool::Shares;
use crate::sequences::Placed;
use ingle_model::spec::SparseIndexer;

/// Pages of a task.
const PAGES: usize = 8;
/// Scores kept at once: bounds the memory of long chunks over long contexts.
const SCORES: usize = 4 << 20;

/// Choosing for one slice, whose indexer keys are already in its cache.
pub(crate) struct Choice<'a> {
    pub(crate) spec: &'a SparseIndexer,
    pub(crate) kv: &'a LatentKv,
    pub(crate) placed: &'a Placed,
    /// `[rows of the step, heads * head_dim]`, rotated.
    pub(crate) queries: &'a [f32],
    /// `[rows of the step, heads]`
    pub(crate) weights: &'a [f32],
}

/// Fills `chosen[row]` for the slice's rows that see more than `top_k` positions; empties it for the others.
pub(crate) fn choose(cpu: &Cpu, choice: &Choice, scores: &mut Vec<f32>, chosen: &mut [Vec<u32>]) {
    let Choice { placed, spec, .. } = *choice;
    let rows = placed.rows.clone();
    chosen[rows.clone()].iter_mut().for_each(Vec::clear);
    let first = rows.clone().find(|&row| placed.position(row) >= spec.top_k).unwrap_or(rows.end);
    let width = placed.end().next_multiple_of(PAGE);
    let together = (SCORES / width).max(1);
    for first in (first..rows.end).step_by(together) {
        let rows = first..rows.end.min(first + together);
        scores.resize(rows.len() * width, 0.0);
        score(cpu, choice, rows.start, width, scores);
        let chosen = Shares::new(&mut chosen[rows.clone()]);
        let scores = &*scores;
        cpu.pool.for_chunks(rows.len(), 1, &|_, range| {
            for at in range {
                // SAFETY: each row belongs to one task.
                let chosen = unsafe { chosen.range(at..at + 1) };
                let seen = placed.position(rows.start + at) + 1;
                top_positions(&scores[at * width..][..seen], spec.top_k, &mut chosen[0]);
            }
        });
    }
}

/// Scores of rows from `first` on, `[rows, width]`, up to the last page that each row sees.
fn score(cpu: &Cpu, choice: &Choice, first: usize, width: usize, scores: &mut [f32]) {
    let Choice { kv, placed, queries, weights, .. } = *choice;
    let SparseIndexer { heads, head_dim, .. } = *choice.spec;
    let parts = width.div_ceil(PAGES * PAGE);
    let rows = scores.len() / width;
    let shares = Shares::new(scores);
    cpu.pool.for_chunks(rows * parts, 1, &|_, range| {
        let mut products: PageWeights = [[0.0; PAGE]; QUERIES];
        for task in range {
            let (at, part) = (task / parts, task % parts);
            let row = first + at;
            let pages = (placed.position(row) + 1).div_ceil(PAGE);
            let weights = &weights[row * heads..][..heads];
            for page in (part * PAGES..(part + 1) * PAGES).take_while(|&page| page < pages) {
                let start = at * width + page * PAGE;
                // SAFETY: each page of each row belongs to one task.
                let scores = unsafe { shares.range(start..start + PAGE) };
                scores.fill(0.0);
                let (keys, mut ahead) = (kv.index_page(page), kv.index_page(page + 1));
                for (group, weights) in weights.chunks(QUERIES).enumerate() {
                    let mut from: [&[f32]; QUERIES] = [&[]; QUERIES];
                    let heads = queries[(row * heads + group * QUERIES) * head_dim..].chunks_exact(head_dim);
                    from.iter_mut().zip(heads).for_each(|(from, head)| *from = head);
                    cpu.kernels.page_scores(&from[..weights.len()], keys, ahead, &mut products);
                    ahead = &[];
                    for (products, weight) in products.iter().zip(weights) {
                        cpu.kernels.positive_axpy(*weight, products, scores);
                    }
                }
            }
        }
    });
}
