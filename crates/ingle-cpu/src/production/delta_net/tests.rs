//! The block against its definition in 64-bit floats, at awkward sizes and chunks.

use super::*;
use crate::kernels::{Isa, Kernels};
use crate::sequences::Placed;
use ingle_model::Format;
use ingle_model::executor::{Batch, Hidden, LogitRows, SequenceId, Slice};
use ingle_model::spec::{DecayForm, Norm, ValueHeadOrder};

const HIDDEN: usize = 20;
const EPSILON: f32 = 1e-5;
const POSITIONS: usize = 150;

/// Numbers from -`size` to `size`.
fn numbers(count: usize, size: f32, seed: u32) -> Vec<f32> {
    let number = |at: u32| {
        let mixed = (at + seed * 7919).wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503);
        (mixed.wrapping_mul(747_796_405) >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count as u32).map(|at| size * number(at)).collect()
}

/// Weights as they are before packing, `[rows][columns]`.
struct Weights {
    spec: GatedDeltaNet,
    mixed: Vec<f32>,
    gate: Vec<f32>,
    beta: Vec<f32>,
    alpha: Vec<f32>,
    output: Vec<f32>,
    /// `[taps][channels]`
    convolution: Vec<f32>,
    time_bias: Vec<f32>,
    rates: Vec<f32>,
    norm: Vec<f32>,
}

impl Weights {
    fn new(key_heads: usize, ratio: usize, taps: usize, value_order: ValueHeadOrder) -> Weights {
        let (key_dim, value_dim, value_heads) = (24, 40, key_heads * ratio);
        let spec = GatedDeltaNet {
            key_heads,
            key_dim,
            value_heads,
            value_dim,
            convolution: taps,
            value_order,
            decay: DecayForm::LogRate,
            output_norm: Norm::rms(EPSILON),
        };
        let channels = delta::shape(&spec).channels;
        Weights {
            spec,
            mixed: numbers(channels * HIDDEN, 0.3, 1),
            gate: numbers(value_heads * value_dim * HIDDEN, 0.3, 2),
            beta: numbers(value_heads * HIDDEN, 0.4, 3),
            alpha: numbers(value_heads * HIDDEN, 0.4, 4),
            output: numbers(HIDDEN * value_heads * value_dim, 0.1, 5),
            convolution: numbers(taps * channels, 0.8, 6),
            time_bias: numbers(value_heads, 1.0, 7),
            rates: numbers(value_heads, 0.2, 8).into_iter().map(|x| x + 0.21).collect(),
            norm: numbers(value_dim, 1.0, 9),
        }
    }

    fn pack(&self, cpu: &Cpu) -> DeltaBlock {
        let matrix = |values: &[f32], columns: usize| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Matrix::pack(Format::F32, values.len() / columns, columns, &bytes, cpu).unwrap()
        };
        DeltaBlock {
            spec: self.spec.clone(),
            mixed: matrix(&self.mixed, HIDDEN),
            gate: matrix(&self.gate, HIDDEN),
            beta: matrix(&self.beta, HIDDEN),
            alpha: matrix(&self.alpha, HIDDEN),
            output: matrix(&self.output, self.output.len() / HIDDEN),
            convolution: self.convolution.clone(),
            time_bias: self.time_bias.clone(),
            rates: self.rates.clone(),
            norm: NormWeight { weight: self.norm.clone(), bias: None, epsilon: EPSILON },
        }
    }

    /// The definition, position after position.
    fn exact(&self, x: &[f32]) -> Vec<f64> {
        let GatedDeltaNet { key_heads, key_dim, value_heads, value_dim, convolution: taps, .. } = self.spec;
        let channels = 2 * key_heads * key_dim + value_heads * value_dim;
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let project = |weights: &[f32], x: &[f64]| -> Vec<f64> {
            let rows = weights.chunks_exact(x.len());
            rows.map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum()).collect()
        };
        let mut inputs = vec![vec![0.0; channels]; taps - 1];
        let mut states = vec![vec![vec![0.0; value_dim]; key_dim]; value_heads];
        let mut out = Vec::new();
        for x in x.chunks_exact(HIDDEN) {
            let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
            inputs.push(project(&self.mixed, &x));
            let last = inputs.len() - taps;
            let y: Vec<f64> = (0..channels)
                .map(|c| {
                    let weight = |tap: usize| f64::from(self.convolution[tap * channels + c]);
                    let sum: f64 = (0..taps).map(|tap| weight(tap) * inputs[last + tap][c]).sum();
                    sum * sigmoid(sum)
                })
                .collect();
            let (gates, betas) = (project(&self.gate, &x), project(&self.beta, &x));
            let alphas = project(&self.alpha, &x);
            let unit = |head: &[f64]| -> Vec<f64> {
                let norm = (head.iter().map(|x| x * x).sum::<f64>() + 1e-6).sqrt();
                head.iter().map(|x| x / norm).collect()
            };
            let mut attended = Vec::new();
            for head in 0..value_heads {
                let key_head = match self.spec.value_order {
                    ValueHeadOrder::Grouped => head * key_heads / value_heads,
                    ValueHeadOrder::Interleaved => head % key_heads,
                };
                let query = unit(&y[key_head * key_dim..][..key_dim]);
                let key = unit(&y[(key_heads + key_head) * key_dim..][..key_dim]);
                let value = &y[2 * key_heads * key_dim + head * value_dim..][..value_dim];
                let drive = (1.0 + (alphas[head] + f64::from(self.time_bias[head])).exp()).ln();
                let decay = (-f64::from(self.rates[head]) * drive).exp();
                let state = &mut states[head];
                let mut read = vec![0.0; value_dim];
                for column in 0..value_dim {
                    let known: f64 = (0..key_dim).map(|d| decay * state[d][column] * key[d]).sum();
                    let error = sigmoid(betas[head]) * (value[column] - known);
                    for d in 0..key_dim {
                        state[d][column] = decay * state[d][column] + key[d] * error;
                        read[column] += state[d][column] * query[d] / (key_dim as f64).sqrt();
                    }
                }
                let mean = read.iter().map(|x| x * x).sum::<f64>() / value_dim as f64;
                for (column, read) in read.iter().enumerate() {
                    let normed = read / (mean + f64::from(EPSILON)).sqrt() * f64::from(self.norm[column]);
                    let gate = gates[head * value_dim + column];
                    attended.push(normed * gate * sigmoid(gate));
                }
            }
            out.extend(project(&self.output, &attended));
        }
        out
    }
}

/// A block with open sequences.
struct Run {
    cpu: Cpu,
    block: DeltaBlock,
    sequences: Sequences<Vec<LayerCache>>,
    scratch: layer::Scratch,
}

impl Run {
    fn new(weights: &Weights, isa: Isa) -> Option<Run> {
        let cpu = Cpu::with(2, Kernels::for_isa(isa)?);
        let block = weights.pack(&cpu);
        Some(Run { cpu, block, sequences: Sequences::default(), scratch: layer::Scratch::default() })
    }

    fn open(&mut self) -> SequenceId {
        let cache = LayerCache::DeltaNet(self.block.cache());
        self.sequences.open(POSITIONS, vec![cache])
    }

    /// One step: for each sequence its rows, `[rows][HIDDEN]`.
    fn step(&mut self, slices: &[(SequenceId, &[f32])]) -> Result<Vec<f32>, ExecutorError> {
        let tokens = vec![0; POSITIONS];
        let batch: Vec<Slice> = slices
            .iter()
            .map(|&(sequence, x)| {
                let tokens = &tokens[..x.len() / HIDDEN];
                Slice { sequence, tokens, logits: LogitRows::None }
            })
            .collect();
        let batch = Batch { slices: &batch, hidden: Hidden::None, beside: &[] };
        let mut placed: Vec<Placed> = Vec::new();
        self.sequences.place(&batch, 1, &mut placed)?;
        for slice in &placed {
            self.sequences.get_mut(slice.sequence)?.kv[0].grow(slice.first..slice.end()).unwrap();
        }
        self.scratch.resize(batch.rows(), HIDDEN);
        let x: Vec<f32> = slices.iter().flat_map(|(_, x)| *x).copied().collect();
        self.scratch.x.copy_from_slice(&x);
        let (cpu, rows) = (&self.cpu, batch.rows());
        let step = Step { cpu, placed: &placed, rotations: &[], rows, hidden: HIDDEN };
        self.block.run(&step, 0, &Seam::default(), &mut self.sequences, &mut self.scratch)?;
        for slice in &placed {
            self.sequences.get_mut(slice.sequence)?.length = slice.end();
        }
        Ok(self.scratch.block_out.clone())
    }
}

fn assert_close(ours: &[f32], exact: &[f64], what: &str) {
    assert_eq!(ours.len(), exact.len());
    let largest = exact.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    for (at, (ours, exact)) in ours.iter().zip(exact).enumerate() {
        let difference = (f64::from(*ours) - exact).abs();
        assert!(difference < 2e-5 * largest, "{what}, number {at}: {ours} is not {exact}");
    }
}

/// Sizes, in both orders where the order shows.
fn sizes() -> Vec<Weights> {
    use ValueHeadOrder::{Grouped, Interleaved};
    let plain = [(1, 1, 4), (1, 3, 2), (3, 1, 2)].map(|sizes| (sizes, Grouped));
    let ordered = [(3, 2, 4), (2, 3, 3)]
        .into_iter()
        .flat_map(|sizes| [Grouped, Interleaved].map(|order| (sizes, order)));
    let all = plain.into_iter().chain(ordered);
    all.map(|((key_heads, ratio, taps), order)| Weights::new(key_heads, ratio, taps, order)).collect()
}

#[test]
fn any_chunks_give_what_the_definition_says() {
    let x = numbers(POSITIONS * HIDDEN, 1.0, 10);
    for weights in sizes() {
        let exact = weights.exact(&x);
        for isa in Isa::ALL {
            for chunk in [1, 3, 48, 130, POSITIONS] {
                let Some(mut run) = Run::new(&weights, isa) else { continue };
                let sequence = run.open();
                let chunks = x.chunks(chunk * HIDDEN);
                let ours: Vec<f32> = chunks.flat_map(|x| run.step(&[(sequence, x)]).unwrap()).collect();
                assert_close(&ours, &exact, &format!("{isa:?}, chunks of {chunk}, {:?}", weights.spec));
            }
        }
    }
}

#[test]
fn sequences_in_one_step_do_not_meet() {
    let weights = Weights::new(3, 2, 4, ValueHeadOrder::Grouped);
    let (x, y) = (numbers(POSITIONS * HIDDEN, 1.0, 11), numbers(POSITIONS * HIDDEN, 1.0, 12));
    let (exact_x, exact_y) = (weights.exact(&x), weights.exact(&y));
    let mut run = Run::new(&weights, Kernels::best().isa()).unwrap();
    let (one, two) = (run.open(), run.open());
    let (mut at_x, mut at_y) = (0, 0);
    for (rows_x, rows_y) in [(1, 5), (2, 1), (48, 2), (1, 1), (3, 60)] {
        let (x, y) = (&x[at_x * HIDDEN..][..rows_x * HIDDEN], &y[at_y * HIDDEN..][..rows_y * HIDDEN]);
        let ours = run.step(&[(two, y), (one, x)]).unwrap();
        let (ours_y, ours_x) = ours.split_at(y.len());
        assert_close(ours_x, &exact_x[at_x * HIDDEN..][..x.len()], "the one");
        assert_close(ours_y, &exact_y[at_y * HIDDEN..][..y.len()], "the other");
        (at_x, at_y) = (at_x + rows_x, at_y + rows_y);
    }
}

#[test]
fn a_sequence_that_went_back_goes_on_as_if_nothing_had_been() {
    let weights = Weights::new(2, 2, 4, ValueHeadOrder::Interleaved);
    let x = numbers(POSITIONS * HIDDEN, 1.0, 13);
    let other = numbers(20 * HIDDEN, 1.0, 14);
    let exact = weights.exact(&x);
    let mut run = Run::new(&weights, Kernels::best().isa()).unwrap();
    let sequence = run.open();
    let rows = |from: usize, to: usize| &x[from * HIDDEN..to * HIDDEN];
    run.step(&[(sequence, rows(0, 30))]).unwrap();
    (30..40).for_each(|at| drop(run.step(&[(sequence, rows(at, at + 1))]).unwrap()));
    run.step(&[(sequence, &other)]).unwrap();
    let open = run.sequences.get_mut(sequence).unwrap();
    let back = open.kv[0].earlier(50);
    assert_eq!(back, 40, "the turn's beginning");
    open.kv[0].shrink(back);
    open.length = back;
    let ours = run.step(&[(sequence, rows(40, 150))]).unwrap();
    assert_close(&ours, &exact[40 * HIDDEN..], "after going back");
}

#[test]
fn a_state_that_is_not_the_sequences_is_refused() {
    let weights = Weights::new(1, 1, 4, ValueHeadOrder::Grouped);
    let x = numbers(9 * HIDDEN, 1.0, 15);
    let mut run = Run::new(&weights, Isa::Scalar).unwrap();
    let sequence = run.open();
    run.step(&[(sequence, &x)]).unwrap();
    run.sequences.get_mut(sequence).unwrap().length = 5;
    let error = run.step(&[(sequence, &x)]).unwrap_err();
    assert!(matches!(error, ExecutorError::Interrupted(_)), "{error}");
}
