//! Grouped-query attention in plain arithmetic, with its cache.

use super::{Reference, ops};
use crate::sequences::Placed;
use ingle_model::executor::ExecutorError;
use ingle_model::spec::{Attention, KeyValues, Role};
use std::ops::Range;

/// Keys and values of one layer, position by position: `[positions, kv_heads * dim]`.
#[derive(Clone, Default)]
pub(super) struct KeyValueCache {
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

impl Reference {
    pub(super) fn attention(
        &mut self,
        x: &[f32],
        attention: &Attention,
        layer: usize,
        placed: &[Placed],
    ) -> Result<Vec<f32>, ExecutorError> {
        let at = Some(layer);
        let bias = |role| attention.qkv_bias.then_some(role);
        let mut queries = self.project(x, Role::Query, bias(Role::QueryBias), at)?;
        let mut gates = Vec::new();
        if attention.output_gate {
            (queries, gates) = split_gates(&queries, attention.key_dim);
        }
        let mut queries = self.normed(&queries, attention.qk_norm, Role::QueryNorm, at)?;
        // none of its own: those of an earlier layer stay as they are
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        if attention.cached_by(layer) == layer {
            let raw = self.project(x, Role::Key, bias(Role::KeyBias), at)?;
            values = match attention.key_values {
                KeyValues::Joint => raw.clone(),
                _ => self.project(x, Role::Value, bias(Role::ValueBias), at)?,
            };
            values = self.normed(&values, attention.value_norm, Role::ValueNorm, at)?;
            keys = self.normed(&raw, attention.qk_norm, Role::KeyNorm, at)?;
        }
        let sinks = if attention.sinks { self.values(Role::Sinks, at)? } else { Vec::new() };

        let (query_row, key_row) =
            (attention.heads * attention.key_dim, attention.kv_heads * attention.key_dim);
        let (value_row, out_row) =
            (attention.kv_heads * attention.value_dim, attention.heads * attention.value_dim);
        let mut out = vec![0.0; x.len() / self.spec.hidden * out_row];
        for slice in placed {
            let rows = &slice.rows;
            for row in rows.clone() {
                let position = slice.position(row);
                if let Some(rope) = attention.rope {
                    let heads = queries[row * query_row..][..query_row].chunks_exact_mut(attention.key_dim);
                    heads.for_each(|head| self.rotations[rope].turn(head, position));
                    let heads = keys.chunks_exact_mut(key_row).nth(row).into_iter();
                    let heads = heads.flat_map(|row| row.chunks_exact_mut(attention.key_dim));
                    heads.for_each(|head| self.rotations[rope].turn(head, position));
                }
            }
            let kv = &mut self.sequences.get_mut(slice.sequence)?.kv;
            let cache = kv[attention.cached_by(layer)].key_values();
            if !keys.is_empty() {
                cache.keys.truncate(slice.first * key_row); // a failed step may have left rows behind
                cache.values.truncate(slice.first * value_row);
                cache.keys.extend_from_slice(&keys[rows.start * key_row..rows.end * key_row]);
                cache.values.extend_from_slice(&values[rows.start * value_row..rows.end * value_row]);
            }
            for row in rows.clone() {
                let seen = attention.seen(slice.position(row), slice.end());
                for head in 0..attention.heads {
                    let query = &queries[row * query_row + head * attention.key_dim..][..attention.key_dim];
                    let out = &mut out[row * out_row + head * attention.value_dim..][..attention.value_dim];
                    attend_head(attention, cache, query, head, seen.clone(), sinks.get(head).copied(), out);
                }
            }
        }
        for (out, gate) in out.iter_mut().zip(&gates) {
            *out *= ops::sigmoid(*gate);
        }
        self.project(&out, Role::Output, attention.output_bias.then_some(Role::OutputBias), at)
    }
}

/// One query head against the positions it sees.
fn attend_head(
    attention: &Attention,
    cache: &KeyValueCache,
    query: &[f32],
    head: usize,
    seen: Range<usize>,
    sink: Option<f32>,
    out: &mut [f32],
) {
    let kv_head = head / (attention.heads / attention.kv_heads);
    let mut scores: Vec<f32> = seen
        .clone()
        .map(|seen| {
            let at = (seen * attention.kv_heads + kv_head) * attention.key_dim;
            let score = attention.scale * ops::dot(query, &cache.keys[at..][..attention.key_dim]);
            attention.soft_cap.map_or(score, |cap| cap * (score / cap).tanh())
        })
        .collect();
    ops::softmax(&mut scores, sink);
    for (seen, weight) in seen.zip(scores) {
        let at = (seen * attention.kv_heads + kv_head) * attention.value_dim;
        for (out, value) in out.iter_mut().zip(&cache.values[at..][..attention.value_dim]) {
            *out += weight * value;
        }
    }
}

/// `[query | gate]` per head to all queries and all gates.
fn split_gates(packed: &[f32], dim: usize) -> (Vec<f32>, Vec<f32>) {
    let halves = packed.chunks_exact(2 * dim).map(|head| head.split_at(dim));
    let (queries, gates): (Vec<&[f32]>, Vec<&[f32]>) = halves.unzip();
    (queries.concat(), gates.concat())
}
