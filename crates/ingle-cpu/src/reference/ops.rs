//! Plain arithmetic, as the definitions say it.

use ingle_model::spec::{Activation, Pairing, PlainActivation, Rope};

/// `sum_i a[i] * b[i]`, in sixteen partial sums so that the error grows slowly with the length.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut partial = [0.0f32; 16];
    let (a_blocks, b_blocks) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a_blocks.remainder().iter().zip(b_blocks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_blocks.zip(b_blocks) {
        for lane in 0..16 {
            partial[lane] += a[lane] * b[lane];
        }
    }
    partial.iter().sum::<f32>() + rest
}

/// `x += y`.
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// `x * w / sqrt(mean(x^2) + epsilon)`.
pub(super) fn rms_norm(x: &mut [f32], weight: &[f32], epsilon: f32) {
    let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let scale = (1.0 / (squares / x.len() as f64 + f64::from(epsilon)).sqrt()) as f32;
    for (x, weight) in x.iter_mut().zip(weight) {
        *x *= scale * weight;
    }
}

/// `(x - mean) * w / sqrt(variance + epsilon) + b`.
pub(super) fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let count = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
    let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
    for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
        *x = ((f64::from(*x) - mean) * scale) as f32 * weight + bias;
    }
}

/// Gate and up combined.
pub(super) fn activate(activation: Activation, gate: f32, up: f32) -> f32 {
    match activation {
        Activation::Silu => gate * sigmoid(gate) * up,
        Activation::GeluTanh => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (gate + 0.044715 * gate * gate * gate);
            0.5 * gate * (1.0 + inner.tanh()) * up
        }
        Activation::ClampedSwiglu { alpha, limit } => {
            let gate = gate.min(limit);
            gate * sigmoid(alpha * gate) * (up.clamp(-limit, limit) + 1.0)
        }
    }
}

/// A single value activated.
pub(crate) fn activate_plain(activation: PlainActivation, x: f32) -> f32 {
    match activation {
        PlainActivation::GeluErf => {
            let x = f64::from(x);
            (0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))) as f32
        }
        PlainActivation::GeluTanh => activate(Activation::GeluTanh, x, 1.0),
        PlainActivation::Relu => x.max(0.0),
    }
}

/// `2 / sqrt(pi) * e^(-x^2) * sum_n 2^n x^(2n+1) / (1 * 3 * .. * (2n+1))`, whose terms all have one sign.
fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 6.0 {
        return if x.is_nan() { x } else { x.signum() };
    }
    let (mut term, mut sum) = (x, x);
    let mut odd = 1.0;
    while term.abs() > 1e-18 * sum.abs() {
        odd += 2.0;
        term *= 2.0 * x * x / odd;
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `exp(x - max) / sum`, where an extra logit, if given, joins the maximum and the sum only.
pub(super) fn softmax(scores: &mut [f32], sink: Option<f32>) {
    let largest = scores.iter().copied().fold(sink.unwrap_or(f32::NEG_INFINITY), f32::max);
    let mut sum = sink.map_or(0.0, |sink| f64::from((sink - largest).exp()));
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        sum += f64::from(*score);
    }
    for score in scores {
        *score = (f64::from(*score) / sum) as f32;
    }
}

/// A rotary table, ready to turn heads.
pub(super) struct Rotation {
    frequencies: Vec<f64>,
    pairing: Pairing,
    magnitude: f32,
}

impl Rotation {
    pub(super) fn new(rope: &Rope) -> Rotation {
        Rotation { frequencies: rope.frequencies(), pairing: rope.pairing, magnitude: rope.magnitude }
    }

    /// Turns the first values of a head to `position`.
    pub(super) fn turn(&self, head: &mut [f32], position: usize) {
        let pairs = self.frequencies.len();
        for (pair, frequency) in self.frequencies.iter().enumerate() {
            let (first, second) = match self.pairing {
                Pairing::Halves => (pair, pair + pairs),
                Pairing::Neighbours => (2 * pair, 2 * pair + 1),
            };
            let (sine, cosine) = (position as f64 * frequency).sin_cos();
            let (sine, cosine) = (sine as f32 * self.magnitude, cosine as f32 * self.magnitude);
            let (a, b) = (head[first], head[second]);
            head[first] = a * cosine - b * sine;
            head[second] = a * sine + b * cosine;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_has_its_tabulated_values() {
        for (x, value) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916_018_284_9),
            (0.5, 0.520_499_877_813_046_5),
            (-1.0, -0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.5, 0.999_999_256_901_627_7),
            (f64::INFINITY, 1.0),
        ] {
            assert!((erf(x) - value).abs() < 3e-15, "{x}: {}", erf(x));
        }
        assert!(erf(f64::NAN).is_nan());
    }
}
