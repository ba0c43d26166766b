//! The block against the definition, computed pair by pair in `f64` from the decoded weights.

use super::dense::DenseBlock;
use super::experts::{ExpertProjection, ExpertsBlock, Shared};
use super::layer::{Projection, Scratch, Step};
use super::seam::Seam;
use crate::Cpu;
use crate::matrix::{Matrix, Stack};
use crate::routing::{Stored, route};
use ingle_model::Format;
use ingle_model::format::{dequantise, quantise};
use ingle_model::spec::{
    Activation, ExpertGroups, Gating, GroupScore, MixtureOfExperts, Scoring, SharedExpert,
};

/// Numbers from -1 to 1 without a pattern.
struct Random(u64);

impl Random {
    fn numbers(&mut self, count: usize, size: f32) -> Vec<f32> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            size * ((self.0 >> 40) as f32 / 8_388_608.0 - 1.0)
        };
        (0..count).map(|_| next()).collect()
    }

    /// Rows as a file holds them, and what they stand for.
    fn stored(&mut self, format: Format, rows: usize, columns: usize) -> (Vec<u8>, Vec<f32>) {
        let mut numbers = self.numbers(rows * columns, 2.0 / (columns as f32).sqrt());
        let mut raw = vec![0; rows * format.row_bytes(columns).unwrap()];
        quantise(format, &numbers, &mut raw).unwrap();
        dequantise(format, &raw, &mut numbers).unwrap();
        (raw, numbers)
    }
}

/// `W x` for `W` of `x.len()` columns, plus a bias.
fn product(weights: &[f32], x: &[f64], bias: Option<&[f32]>) -> Vec<f64> {
    let rows = weights.chunks_exact(x.len());
    let dot = |row: &[f32]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
    rows.enumerate().map(|(at, row)| dot(row) + bias.map_or(0.0, |bias| f64::from(bias[at]))).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn activate(activation: Activation, gate: f64, up: f64) -> f64 {
    match activation {
        Activation::Silu => gate * sigmoid(gate) * up,
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (gate + 0.044715 * gate.powi(3));
            0.5 * gate * (1.0 + inner.tanh()) * up
        }
        Activation::ClampedSwiglu { alpha, limit } => {
            let (gate, limit) = (gate.min(f64::from(limit)), f64::from(limit));
            gate * sigmoid(f64::from(alpha) * gate) * (up.clamp(-limit, limit) + 1.0)
        }
    }
}

/// Matrices of a projection, as numbers, one expert after the other, and their biases.
struct Plain {
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    rows: usize,
}

impl Plain {
    fn apply(&self, expert: usize, x: &[f64]) -> Vec<f64> {
        let size = self.rows * x.len();
        let bias = self.bias.as_ref().map(|bias| &bias[expert * self.rows..][..self.rows]);
        product(&self.weights[expert * size..][..size], x, bias)
    }
}

/// A block and its definition.
struct Case {
    block: ExpertsBlock,
    router: Plain,
    projections: [Plain; 3],
    shared: Option<([Plain; 3], Vec<f32>)>,
    hidden: usize,
}

fn case(spec: &MixtureOfExperts, hidden: usize, format: Format, cpu: &Cpu) -> Case {
    let random = &mut Random(spec.experts as u64 * 7 + hidden as u64);
    let mut stack = |rows: usize, columns: usize| {
        let mut stack = Stack::zeroed(format, spec.experts, rows, columns).unwrap();
        let mut weights = Vec::new();
        for expert in 0..spec.experts {
            let (raw, numbers) = random.stored(format, rows, columns);
            stack.pack(expert, &raw, cpu).unwrap();
            weights.extend(numbers);
        }
        let bias = spec.expert_bias.then(|| random.numbers(spec.experts * rows, 0.5));
        (ExpertProjection { stack, bias: bias.clone() }, Plain { weights, bias, rows })
    };
    let (gate, plain_gate) = stack(spec.inner, hidden);
    let (up, plain_up) = stack(spec.inner, hidden);
    let (down, plain_down) = stack(hidden, spec.inner);
    let mut matrix = |format, rows: usize, columns: usize| {
        let (raw, weights) = random.stored(format, rows, columns);
        (Matrix::pack(format, rows, columns, &raw, cpu).unwrap(), Plain { weights, bias: None, rows })
    };
    let (router, mut plain_router) = matrix(Format::F32, spec.experts, hidden);
    let (shared, plain_shared) = match spec.shared {
        None => (None, None),
        Some(shared) => {
            let (gate, plain_gate) = matrix(format, shared.inner, hidden);
            let (up, plain_up) = matrix(format, shared.inner, hidden);
            let (down, plain_down) = matrix(format, hidden, shared.inner);
            let dense = DenseBlock { activation: spec.activation, gate, up, down };
            let weights = random.numbers(hidden, 0.3);
            let gate = shared.gated.then(|| weights.clone());
            (Some(Shared { dense, gate }), Some(([plain_gate, plain_up, plain_down], weights)))
        }
    };
    let bias = spec.gating.router_bias.then(|| random.numbers(spec.experts, 0.5));
    plain_router.bias.clone_from(&bias);
    let selection_bias = spec.gating.selection_bias.then(|| random.numbers(spec.experts, 0.5));
    let block = ExpertsBlock {
        spec: spec.clone(),
        router: Projection { matrix: router, bias },
        selection_bias,
        expert_scale: None,
        apart: None,
        gate,
        up,
        down,
        paged: None,
        shared,
    };
    let projections = [plain_gate, plain_up, plain_down];
    Case { block, router: plain_router, projections, shared: plain_shared, hidden }
}

impl Case {
    fn run(&self, cpu: &Cpu, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.hidden;
        let mut scratch = Scratch::default();
        // what a longer step left behind must not matter
        for rows in [rows + 3, rows] {
            scratch.resize(rows, self.hidden);
            scratch.x.fill(f32::NAN);
            scratch.x[..x.len()].copy_from_slice(x);
            scratch.block_out.fill(f32::NAN);
            let step = Step { cpu, placed: &[], rotations: &[], rows, hidden: self.hidden };
            self.block.run(&step, &Seam::default(), &mut scratch).unwrap();
        }
        scratch.block_out
    }

    fn definition(&self, x: &[f32]) -> Vec<f64> {
        let spec = &self.block.spec;
        let feed_forward = |[gate, up, down]: &[Plain; 3], expert: usize, x: &[f64]| {
            let (gate, up) = (gate.apply(expert, x), up.apply(expert, x));
            let inner = gate.iter().zip(up).map(|(&gate, up)| activate(spec.activation, gate, up));
            down.apply(expert, &inner.collect::<Vec<_>>())
        };
        let row = |x: &[f32]| {
            let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let logits: Vec<f32> = self.router.apply(0, &x).iter().map(|&logit| logit as f32).collect();
            let mut chosen = Vec::new();
            let selection_bias = self.block.selection_bias.as_deref();
            let stored = Stored { selection_bias, expert_scale: None };
            route(&spec.gating, spec.used, &logits, &stored, &mut chosen);
            let mut out = vec![0.0; self.hidden];
            let mut add = |weight: f64, y: Vec<f64>| {
                out.iter_mut().zip(y).for_each(|(out, y)| *out += weight * y);
            };
            for (expert, weight) in chosen {
                add(f64::from(weight), feed_forward(&self.projections, expert, &x));
            }
            if let (Some((shared, gate)), Some(expert)) = (&self.shared, spec.shared) {
                let weight = if expert.gated { sigmoid(product(gate, &x, None)[0]) } else { 1.0 };
                add(weight, feed_forward(shared, 0, &x));
            }
            out
        };
        x.chunks_exact(self.hidden).flat_map(row).collect()
    }
}

/// Normalised mean square error.
fn nmse(got: &[f32], wanted: &[f64]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let error: f64 = got.iter().zip(wanted).map(|(&got, wanted)| (f64::from(got) - wanted).powi(2)).sum();
    error / wanted.iter().map(|wanted| wanted * wanted).sum::<f64>()
}

fn spec(experts: usize, used: usize, inner: usize) -> MixtureOfExperts {
    MixtureOfExperts {
        experts,
        used,
        inner,
        activation: Activation::Silu,
        gating: Gating {
            scoring: Scoring::Softmax,
            router_bias: false,
            selection_bias: false,
            groups: None,
            normalise: true,
            expert_scale: false,
            scale: 1.0,
        },
        expert_bias: false,
        shared: None,
        apart: None,
    }
}

/// The kinds of the families, small.
fn kinds(inner: usize) -> Vec<MixtureOfExperts> {
    let plain = spec(8, 3, inner);
    let mut biased = spec(4, 2, inner);
    biased.activation = Activation::ClampedSwiglu { alpha: 1.702, limit: 0.7 };
    (biased.expert_bias, biased.gating.router_bias, biased.gating.normalise) = (true, true, false);
    biased.gating.scoring = Scoring::SoftmaxOfSelected;
    let mut grouped = spec(12, 4, inner);
    grouped.gating = Gating {
        scoring: Scoring::Sigmoid,
        selection_bias: true,
        groups: Some(ExpertGroups { count: 4, used: 2, score: GroupScore::TwoBest }),
        scale: 2.5,
        ..grouped.gating
    };
    grouped.shared = Some(SharedExpert { inner: 2 * inner, gated: false });
    let mut gated = spec(5, 5, inner);
    gated.activation = Activation::GeluTanh;
    gated.gating.scoring = Scoring::SqrtSoftplus;
    gated.shared = Some(SharedExpert { inner, gated: true });
    vec![plain, biased, grouped, gated]
}

#[test]
fn plain_floats_give_what_the_definition_says() {
    let cpu = Cpu::new(3);
    for inner in [40, 48, 7] {
        for spec in kinds(inner) {
            for (format, hidden) in [(Format::F32, 24), (Format::BF16, 33), (Format::F16, 16)] {
                let case = case(&spec, hidden, format, &cpu);
                for rows in [1, 2, 37] {
                    let x = Random(rows as u64).numbers(rows * hidden, 1.5);
                    let error = nmse(&case.run(&cpu, &x), &case.definition(&x));
                    assert!(error < 1e-11, "{format}, {rows} rows of {spec:?}: {error:e}");
                }
            }
        }
    }
}

#[test]
fn block_formats_differ_by_the_rounding_of_activations_only() {
    let cpu = Cpu::new(2);
    for (format, hidden, inner, kinds_of) in [
        (Format::MXFP4, 96, 96, 0..4),
        (Format::Q8_0, 64, 160, 0..4),
        // these take long to write
        (Format::Q4_K, 256, 512, 1..2),
        (Format::Q6_K, 512, 256, 3..4),
        (Format::Q2_K, 256, 256, 0..1), // no kernel of its own
    ] {
        for spec in kinds(inner).drain(kinds_of) {
            let case = case(&spec, hidden, format, &cpu);
            for rows in [1, 21] {
                let x = Random(rows as u64).numbers(rows * hidden, 1.5);
                let error = nmse(&case.run(&cpu, &x), &case.definition(&x));
                assert!(error < 3e-4, "{format}, {rows} rows of {spec:?}: {error:e}");
            }
        }
    }
}

#[test]
fn fewer_experts_than_used_and_many_that_nobody_chooses() {
    let cpu = Cpu::new(2);
    // the two groups that stay hold 4 experts, 6 are wanted
    let mut few = spec(8, 6, 40);
    few.gating.groups = Some(ExpertGroups { count: 4, used: 2, score: GroupScore::Best });
    for spec in [few, spec(300, 2, 16), spec(1, 1, 16)] {
        let case = case(&spec, 20, Format::F32, &cpu);
        for rows in [1, 5] {
            let x = Random(9).numbers(rows * 20, 1.0);
            let error = nmse(&case.run(&cpu, &x), &case.definition(&x));
            assert!(error < 1e-11, "{} experts: {error:e}", spec.experts);
        }
    }
}

#[test]
fn neither_threads_nor_companions_change_a_row() {
    for spec in kinds(96) {
        let cpu = Cpu::new(1);
        let case = case(&spec, 64, Format::Q8_0, &cpu);
        let x = Random(4).numbers(50 * 64, 1.0);
        let wanted = case.run(&cpu, &x);
        for threads in [2, 4] {
            assert!(case.run(&Cpu::new(threads), &x) == wanted, "{threads} threads");
        }
        let alone = case.run(&cpu, &x[7 * 64..8 * 64]);
        let error = nmse(&wanted[7 * 64..8 * 64], &alone.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        assert!(error < 1e-11, "{error:e}");
    }
}
