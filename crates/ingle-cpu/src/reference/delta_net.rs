//! The gated delta net in plain arithmetic (Qwen3-Next; Gated DeltaNet, arXiv:2412.06464), one position after the other.
//!
//! ```text
//! y_t = silu(sum_i w_i * in_{t - taps + 1 + i})           per channel of [all q | all k | all v]
//! q, k = x / sqrt(sum x^2 + 1e-6) per head, q also / sqrt(key_dim)
//! beta = sigmoid(b), decay = exp(-rate * softplus(a + time bias)) per value head
//! S = decay * S;  S = S + k (beta * (v - S^T k))^T;  o = S^T q
//! out = rms_norm(o) * silu(z) per value head
//! ```

use super::{Reference, ops};
use crate::sequences::Placed;
use ingle_model::executor::ExecutorError;
use ingle_model::spec::{DecayForm, GatedDeltaNet, Role, ValueHeadOrder};

/// Added to the sum of squares of a query or key head.
const L2_EPSILON: f32 = 1e-6;

/// One layer of one sequence, after `positions` positions.
#[derive(Clone, Default)]
pub(super) struct Recurrent {
    positions: usize,
    /// The last `taps - 1` inputs of the convolution, `[taps - 1, channels]`; empty before the first step.
    inputs: Vec<f32>,
    /// `[value heads, key_dim, value_dim]`.
    state: Vec<f32>,
}

impl Recurrent {
    pub(super) fn bytes(&self) -> u64 {
        ((self.inputs.capacity() + self.state.capacity()) * size_of::<f32>()) as u64
    }

    pub(super) fn positions(&self) -> usize {
        self.positions
    }
}

impl Reference {
    pub(super) fn delta_net(
        &mut self,
        x: &[f32],
        delta: &GatedDeltaNet,
        layer: usize,
        placed: &[Placed],
    ) -> Result<Vec<f32>, ExecutorError> {
        let at = Some(layer);
        let mixed = self.project(x, Role::DeltaQueryKeyValue, None, at)?;
        let gates = self.project(x, Role::DeltaGate, None, at)?;
        let betas = self.project(x, Role::DeltaBeta, None, at)?;
        let alphas = self.project(x, Role::DeltaAlpha, None, at)?;
        let convolution = self.values(Role::DeltaConvolution, at)?;
        let time_bias = self.values(Role::DeltaTimeBias, at)?;
        let rates: Vec<f32> = self
            .values(Role::DeltaDecay, at)?
            .into_iter()
            .map(|stored| match delta.decay {
                DecayForm::LogRate => stored.exp(),
                DecayForm::NegativeRate => -stored,
            })
            .collect();
        let GatedDeltaNet { key_heads, key_dim, value_heads, value_dim, convolution: taps, .. } = *delta;
        let channels = 2 * key_heads * key_dim + value_heads * value_dim;
        let values_row = value_heads * value_dim;
        let mut out = vec![0.0; x.len() / self.spec.hidden * values_row];
        for slice in placed {
            let stored = self.sequences.get_mut(slice.sequence)?.kv[layer].recurrent();
            // a failed step may have left a state that is further than the sequence
            let mut cache = stored.iter().find(|cache| cache.positions == slice.first).cloned();
            let cache = cache.get_or_insert_default();
            cache.inputs.resize((taps - 1) * channels, 0.0);
            cache.state.resize(value_heads * key_dim * value_dim, 0.0);
            for row in slice.rows.clone() {
                cache.inputs.extend_from_slice(&mixed[row * channels..][..channels]);
                let mut y = convolve(&cache.inputs, &convolution, taps, channels);
                cache.inputs.drain(..channels);
                let (queries, rest) = y.split_at_mut(key_heads * key_dim);
                let (keys, values) = rest.split_at_mut(key_heads * key_dim);
                queries.chunks_exact_mut(key_dim).for_each(l2_norm);
                keys.chunks_exact_mut(key_dim).for_each(l2_norm);
                let scale = 1.0 / (key_dim as f32).sqrt();
                queries.iter_mut().for_each(|query| *query *= scale);
                for head in 0..value_heads {
                    let key_head = match delta.value_order {
                        ValueHeadOrder::Grouped => head / (value_heads / key_heads),
                        ValueHeadOrder::Interleaved => head % key_heads,
                    };
                    let scalar = row * value_heads + head;
                    let step = Step {
                        query: &queries[key_head * key_dim..][..key_dim],
                        key: &keys[key_head * key_dim..][..key_dim],
                        value: &values[head * value_dim..][..value_dim],
                        beta: ops::sigmoid(betas[scalar]),
                        decay: (-rates[head] * softplus(alphas[scalar] + time_bias[head])).exp(),
                    };
                    let state = &mut cache.state[head * key_dim * value_dim..][..key_dim * value_dim];
                    let out = &mut out[row * values_row + head * value_dim..][..value_dim];
                    step.run(state, out);
                }
            }
            cache.positions = slice.end();
            // the state before the step stays until the sequence has taken it
            let before = stored.iter().find(|cache| cache.positions == slice.first).cloned();
            *stored = before.into_iter().chain([cache.clone()]).collect();
        }
        let weight = self.values(Role::DeltaNorm, at)?;
        for (out, gate) in out.chunks_exact_mut(value_dim).zip(gates.chunks_exact(value_dim)) {
            ops::rms_norm(out, &weight, delta.output_norm.epsilon);
            out.iter_mut().zip(gate).for_each(|(out, gate)| *out *= gate * ops::sigmoid(*gate));
        }
        self.project(&out, Role::DeltaOutput, None, at)
    }
}

/// One position of one value head.
struct Step<'a> {
    query: &'a [f32],
    key: &'a [f32],
    value: &'a [f32],
    beta: f32,
    decay: f32,
}

impl Step<'_> {
    fn run(&self, state: &mut [f32], out: &mut [f32]) {
        let width = self.value.len();
        state.iter_mut().for_each(|state| *state *= self.decay);
        let mut error = self.value.to_vec();
        for (row, key) in state.chunks_exact(width).zip(self.key) {
            error.iter_mut().zip(row).for_each(|(error, state)| *error -= key * state);
        }
        error.iter_mut().for_each(|error| *error *= self.beta);
        for (row, key) in state.chunks_exact_mut(width).zip(self.key) {
            row.iter_mut().zip(&error).for_each(|(state, error)| *state += key * error);
        }
        for (row, query) in state.chunks_exact(width).zip(self.query) {
            out.iter_mut().zip(row).for_each(|(out, state)| *out += query * state);
        }
    }
}

/// The convolution's output at the last of `taps` inputs, SiLU applied.
fn convolve(inputs: &[f32], weights: &[f32], taps: usize, channels: usize) -> Vec<f32> {
    let channel = |channel: usize| {
        let sum: f32 =
            (0..taps).map(|tap| weights[channel * taps + tap] * inputs[tap * channels + channel]).sum();
        sum * ops::sigmoid(sum)
    };
    (0..channels).map(channel).collect()
}

fn l2_norm(head: &mut [f32]) {
    let scale = 1.0 / (ops::dot(head, head) + L2_EPSILON).sqrt();
    head.iter_mut().for_each(|value| *value *= scale);
}

/// `ln(1 + e^x)` without overflow.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
