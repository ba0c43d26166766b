//! The mixture-of-experts feed-forward: `sum over the chosen e of w_e * (down_e(activation(gate_e x, up_e x)) + b_e)`,
//! and a shared expert where there is one.
//!
//! A step's pairs of (row, chosen expert) are sorted by expert, so that each expert meets all its rows at once: one
//! region computes gate and up of every chosen expert, one down, whether there is one row or hundreds. Each row's
//! results are then added in the order in which its experts were chosen, whatever thread computed them.
//!
//! Where not all experts fit the memory (`paged`), they are computed in waves of as many as do, those first that are
//! there already. Waves change no result: each pair is computed as without them.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::dense::DenseBlock;
use super::layer::{self, Projection, Step};
use super::norm::NormWeight;
use super::paged::Paged;
use super::seam::Seam;
use crate::Cpu;
use crate::matrix::{Activations, Bucket, Matrix, Needs, Product, Stack, StackProduct, View};
use crate::matrix::{multiply, multiply_stacks};
use crate::pool::Shares;
use crate::routing::{Stored, route};
use ingle_model::executor::ExecutorError;
use ingle_model::spec::MixtureOfExperts;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Packed weights of a mixture of experts.
pub(super) struct ExpertsBlock {
    pub(super) spec: MixtureOfExperts,
    /// In plain floats: its result decides.
    pub(super) router: Projection,
    pub(super) selection_bias: Option<Vec<f32>>,
    pub(super) expert_scale: Option<Vec<f32>>,
    pub(super) gate: ExpertProjection,
    pub(super) up: ExpertProjection,
    pub(super) down: ExpertProjection,
    /// The experts where not all of them fit the memory: then the projections' own stacks are empty.
    pub(super) paged: Option<Mutex<Paged>>,
    pub(super) shared: Option<Shared>,
    /// Where the routed experts stand apart from the shared one.
    pub(super) apart: Option<ApartNorms>,
}

/// The norms of routed experts that read the residual stream themselves.
pub(super) struct ApartNorms {
    /// The factor on the router's logits is in its weight.
    pub(super) router: NormWeight,
    pub(super) before_routed: NormWeight,
    pub(super) after_routed: NormWeight,
    pub(super) after_shared: NormWeight,
}

/// One matrix per expert, and biases where the network has them.
pub(super) struct ExpertProjection {
    pub(super) stack: Stack,
    /// `[experts][rows]`
    pub(super) bias: Option<Vec<f32>>,
}

impl ExpertProjection {
    /// Adds an expert's bias to some columns of a row that its matrix made.
    fn add_bias(&self, cpu: &Cpu, expert: usize, columns: Range<usize>, row: &mut [f32]) {
        if let Some(bias) = &self.bias {
            cpu.kernels.add(row, &bias[expert * self.stack.rows()..][columns]);
        }
    }
}

/// The expert that every row uses.
pub(super) struct Shared {
    pub(super) dense: DenseBlock,
    /// Its output is multiplied by the sigmoid of this times the row.
    pub(super) gate: Option<Vec<f32>>,
}

/// A chosen expert of a row.
#[derive(Clone, Copy, Default)]
struct Choice {
    expert: usize,
    weight: f32,
    /// Where its pair is in the order of experts.
    pair: usize,
}

/// The expert of a choice that a row did not have.
const NONE: usize = usize::MAX;

/// Memory of a step. Pairs are of a row and one of its experts, in the order of experts.
#[derive(Default)]
pub(super) struct Scratch {
    logits: Vec<f32>,
    /// `[rows][used]`, in the order of choice.
    choices: Vec<Choice>,
    /// Where each expert's pairs start.
    starts: Vec<usize>,
    /// The row of each pair.
    pair_rows: Vec<usize>,
    /// The expert of each pair.
    pair_experts: Vec<usize>,
    buckets: Vec<Bucket>,
    /// All experts, in the order in which their pairs are.
    order: Vec<usize>,
    /// The buckets of a wave, and the same with their first pair as row 0.
    wave: [Vec<Bucket>; 2],
    input: Activations,
    inner: Activations,
    gate: Vec<f32>,
    up: Vec<f32>,
    down: Vec<f32>,
}

/// The experts of buckets.
fn experts<'a>(buckets: impl Iterator<Item = &'a Bucket> + Clone) -> impl Iterator<Item = usize> + Clone {
    buckets.map(|bucket| bucket.matrix)
}

/// A panic while it was locked left nothing half done that counts.
fn lock(paged: &Mutex<Paged>) -> MutexGuard<'_, Paged> {
    paged.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// The chosen experts of one row.
    static CHOSEN: RefCell<Vec<(usize, f32)>> = const { RefCell::new(Vec::new()) };
}

impl ExpertsBlock {
    /// All weights, for counting.
    pub(super) fn weights(&self) -> impl Iterator<Item = View<'_>> {
        let stacks = [&self.gate, &self.up, &self.down].map(|projection| projection.stack.whole());
        let shared = self.shared.iter().flat_map(|shared| shared.dense.matrices());
        [self.router.matrix.view()].into_iter().chain(stacks).chain(shared.map(Matrix::view))
    }

    /// Experts held at most.
    pub(super) fn held(&self) -> usize {
        self.paged.as_ref().map_or(self.spec.experts, |paged| lock(paged).slots())
    }

    /// Bytes of the slots of experts that come and go.
    pub(super) fn slot_bytes(&self) -> u64 {
        self.paged.as_ref().map_or(0, |paged| lock(paged).bytes())
    }

    /// Across the seam to `block_out`.
    ///
    /// # Errors
    /// When experts that are not in memory cannot be read.
    pub(super) fn run(
        &self,
        step: &Step,
        seam: &Seam,
        scratch: &mut layer::Scratch,
    ) -> Result<Option<&[f32]>, ExecutorError> {
        if let Some(apart) = &self.apart {
            self.run_apart(step, seam, apart, scratch)?;
            return Ok(None);
        }
        let (cpu, rows) = (step.cpu, step.rows);
        let expert_needs = self.gate.stack.needs() | self.up.stack.needs();
        let shared_needs = self.shared.as_ref().map_or(Needs::default(), |shared| shared.dense.needs());
        seam.cross(step, scratch, self.router.matrix.needs() | expert_needs | shared_needs);
        let layer::Scratch { normed, block_out, activations, dense, experts: own, .. } = scratch;

        self.route(cpu, rows, activations, own);
        own.input.gather(cpu, activations, &own.pair_rows, expert_needs);

        if let Some(shared) = &self.shared {
            shared.run(cpu, normed, rows, activations, dense, block_out);
        }
        self.compute_pairs(cpu, own)?;
        self.add_to_rows(cpu, own, self.shared.is_none(), block_out);
        Ok(None)
    }

    /// `after_shared(shared(normed)) + after_routed(routed(before_routed(x)))`; the router too reads the residual stream.
    fn run_apart(
        &self,
        step: &Step,
        seam: &Seam,
        apart: &ApartNorms,
        scratch: &mut layer::Scratch,
    ) -> Result<(), ExecutorError> {
        let (cpu, rows, hidden) = (step.cpu, step.rows, self.router.matrix.columns());
        let shared_needs = self.shared.as_ref().map_or(Needs::default(), |shared| shared.dense.needs());
        seam.cross(step, scratch, shared_needs);
        let layer::Scratch { x, normed, block_out, activations, dense, experts: own, .. } = scratch;
        if let Some(shared) = &self.shared {
            shared.run(cpu, normed, rows, activations, dense, block_out);
        }
        let row_of = |row: usize| row * hidden..(row + 1) * hidden;

        activations.prepare_rows(cpu, normed, rows, hidden, self.router.matrix.needs(), &|row, normed| {
            apart.router.apply(cpu, &x[row_of(row)], normed);
        });
        self.route(cpu, rows, activations, own);

        let needs = self.gate.stack.needs() | self.up.stack.needs();
        activations.prepare_rows(cpu, normed, rows, hidden, needs, &|row, normed| {
            apart.before_routed.apply(cpu, &x[row_of(row)], normed);
        });
        own.input.gather(cpu, activations, &own.pair_rows, needs);
        self.compute_pairs(cpu, own)?;
        // the routed experts' sums take the place of the rows that are used no more
        self.add_to_rows(cpu, own, true, normed);
        let (sums, out) = (Shares::new(normed), Shares::new(block_out));
        cpu.pool.for_chunks(rows, 4, &|_, range| {
            for row in range {
                // SAFETY: each row belongs to one task.
                let (sums, out) = unsafe { (sums.range(row_of(row)), out.range(row_of(row))) };
                apart.after_routed.apply_in_place(cpu, sums);
                if self.shared.is_some() {
                    apart.after_shared.apply_in_place(cpu, out);
                    cpu.kernels.add(out, sums);
                } else {
                    out.copy_from_slice(sums);
                }
            }
        });
        Ok(())
    }

    /// The pairs of the rows that `input` was prepared with.
    fn route(&self, cpu: &Cpu, rows: usize, input: &Activations, scratch: &mut Scratch) {
        scratch.logits.resize(rows * self.spec.experts, 0.0);
        multiply(cpu, input, &mut [Product::new(&self.router.matrix, &mut scratch.logits)]);
        self.router.add_bias(cpu, &mut scratch.logits);
        self.choose(cpu, rows, scratch);
        let order = &mut scratch.order;
        order.clear();
        order.extend(0..self.spec.experts);
        let Some(paged) = &self.paged else { return scratch.sort(self.spec.used) };
        let paged = lock(paged);
        order.sort_by_key(|&expert| !paged.holds(expert));
        scratch.sort(self.spec.used);
        paged.ask_for(experts(scratch.buckets.iter().take(paged.slots())));
    }

    /// Each row's experts and weights.
    fn choose(&self, cpu: &Cpu, rows: usize, scratch: &mut Scratch) {
        let MixtureOfExperts { experts, used, gating, .. } = &self.spec;
        let stored = Stored {
            selection_bias: self.selection_bias.as_deref(),
            expert_scale: self.expert_scale.as_deref(),
        };
        scratch.choices.clear();
        scratch.choices.resize(rows * used, Choice { expert: NONE, ..Choice::default() });
        let logits = &scratch.logits;
        let choices = Shares::new(&mut scratch.choices);
        cpu.pool.for_chunks(rows, 16, &|_, range| {
            CHOSEN.with_borrow_mut(|chosen| {
                for row in range {
                    route(gating, *used, &logits[row * experts..][..*experts], &stored, chosen);
                    // SAFETY: each row belongs to one task.
                    let choices = unsafe { choices.range(row * used..(row + 1) * used) };
                    for (choice, &(expert, weight)) in choices.iter_mut().zip(chosen.iter()) {
                        *choice = Choice { expert, weight, pair: 0 };
                    }
                }
            });
        });
    }

    /// The experts' outputs for all pairs.
    fn compute_pairs(&self, cpu: &Cpu, scratch: &mut Scratch) -> Result<(), ExecutorError> {
        let pairs = scratch.pair_experts.len();
        for buffer in [&mut scratch.gate, &mut scratch.up] {
            buffer.resize(pairs * self.gate.stack.rows(), 0.0);
        }
        scratch.down.resize(pairs * self.down.stack.rows(), 0.0);
        let buckets = std::mem::take(&mut scratch.buckets);
        let mut done = Ok(());
        match &self.paged {
            None => {
                let stacks = [&self.gate, &self.up, &self.down].map(|projection| &projection.stack);
                self.compute_wave(cpu, stacks, [&buckets, &buckets], 0..pairs, scratch);
            }
            Some(paged) => done = self.compute_in_waves(cpu, &mut lock(paged), &buckets, scratch),
        }
        scratch.buckets = buckets;
        done
    }

    /// The same with as many experts at a time as there are slots.
    fn compute_in_waves(
        &self,
        cpu: &Cpu,
        paged: &mut Paged,
        buckets: &[Bucket],
        scratch: &mut Scratch,
    ) -> Result<(), ExecutorError> {
        let slots = paged.slots().max(1);
        for first in (0..buckets.len()).step_by(slots) {
            let end = buckets.len().min(first + slots);
            let following = &buckets[end..buckets.len().min(end + slots)];
            paged.ask_for(experts(following.iter()));
            let buckets = &buckets[first..end];
            paged.hold(experts(buckets.iter()), cpu)?;
            let (Some(start), Some(last)) = (buckets.first(), buckets.last()) else { break };
            let pairs = start.rows.start..last.rows.end;
            let mut wave = std::mem::take(&mut scratch.wave);
            for (wave, back) in wave.iter_mut().zip([0, pairs.start]) {
                wave.clear();
                wave.extend(buckets.iter().map(|bucket| Bucket {
                    matrix: paged.slot(bucket.matrix),
                    rows: bucket.rows.start - back..bucket.rows.end - back,
                }));
            }
            self.compute_wave(cpu, paged.stacks.each_ref(), [&wave[0], &wave[1]], pairs, scratch);
            scratch.wave = wave;
        }
        Ok(())
    }

    /// The outputs of experts for pairs `pairs`: their buckets among all pairs, and counted from the first of these on.
    fn compute_wave(
        &self,
        cpu: &Cpu,
        [gates, ups, downs]: [&Stack; 3],
        [buckets, own_buckets]: [&[Bucket]; 2],
        pairs: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let Scratch { pair_experts, input, inner, gate, up, down, .. } = scratch;
        let (width, hidden, first) = (gates.rows(), downs.rows(), pairs.start);
        let products = &mut [StackProduct::new(gates, gate), StackProduct::new(ups, up)];
        multiply_stacks(cpu, input, buckets, products);
        // biases, then gate and up combined
        let (gate, up) = (Shares::new(gate), Shares::new(up));
        inner.prepare_numbers(cpu, pairs.len(), width, downs.needs(), &|pair, columns, inner| {
            let pair = first + pair;
            let own = pair * width + columns.start..pair * width + columns.end;
            // SAFETY: each number belongs to one task.
            let (gate, up) = unsafe { (gate.range(own.clone()), up.range(own)) };
            self.gate.add_bias(cpu, pair_experts[pair], columns.clone(), gate);
            self.up.add_bias(cpu, pair_experts[pair], columns, up);
            cpu.kernels.activate(self.spec.activation, gate, up, inner);
        });
        let down = &mut down[first * hidden..pairs.end * hidden];
        multiply_stacks(cpu, inner, own_buckets, &mut [StackProduct::new(downs, down)]);
    }

    /// Adds the weighted outputs to their rows, in the order of choice; to zeros where nothing is in the rows before.
    fn add_to_rows(&self, cpu: &Cpu, scratch: &mut Scratch, nothing_before: bool, out: &mut [f32]) {
        let Scratch { choices, down, .. } = scratch;
        let (hidden, used) = (self.down.stack.rows(), self.spec.used);
        let (out, down) = (Shares::new(out), Shares::new(down));
        let rows = choices.len() / used.max(1);
        let chunk = (16 * 1024 / (hidden * used).max(1)).max(1);
        cpu.pool.for_chunks(rows, chunk, &|_, range| {
            for row in range {
                // SAFETY: each row belongs to one task.
                let out = unsafe { out.range(row * hidden..(row + 1) * hidden) };
                if nothing_before {
                    out.fill(0.0);
                }
                for choice in &choices[row * used..(row + 1) * used] {
                    if choice.expert == NONE {
                        continue;
                    }
                    // SAFETY: each pair belongs to one row.
                    let values = unsafe { down.range(choice.pair * hidden..(choice.pair + 1) * hidden) };
                    self.down.add_bias(cpu, choice.expert, 0..hidden, values);
                    cpu.kernels.axpy(choice.weight, values, out);
                }
            }
        });
    }
}

impl Scratch {
    /// Sorts the choices by expert, in the order of `order`, rows of one expert in their order.
    fn sort(&mut self, used: usize) {
        let Scratch { choices, starts, pair_rows, pair_experts, buckets, order, .. } = self;
        starts.clear();
        starts.resize(order.len(), 0);
        let chosen = |choice: &&Choice| choice.expert != NONE;
        for choice in choices.iter().filter(chosen) {
            starts[choice.expert] += 1;
        }
        buckets.clear();
        let mut pairs = 0;
        for &expert in order.iter() {
            let rows = pairs..pairs + starts[expert];
            (starts[expert], pairs) = (rows.start, rows.end);
            if !rows.is_empty() {
                buckets.push(Bucket { matrix: expert, rows });
            }
        }
        pair_rows.resize(pairs, 0);
        pair_experts.resize(pairs, 0);
        for (at, choice) in choices.iter_mut().enumerate() {
            if choice.expert == NONE {
                continue;
            }
            choice.pair = starts[choice.expert];
            starts[choice.expert] += 1;
            pair_rows[choice.pair] = at / used;
            pair_experts[choice.pair] = choice.expert;
        }
    }
}

impl Shared {
    /// `out = sigmoid(gate . x) * dense(x)`; `input` was prepared with what the network needs.
    fn run(
        &self,
        cpu: &Cpu,
        x: &[f32],
        rows: usize,
        input: &mut Activations,
        scratch: &mut super::dense::Scratch,
        out: &mut [f32],
    ) {
        self.dense.run_prepared(cpu, rows, input, scratch, out);
        let Some(gate) = &self.gate else { return };
        let (width, out) = (gate.len(), Shares::new(out));
        cpu.pool.for_chunks(rows, 8, &|_, range| {
            for row in range {
                let own = row * width..(row + 1) * width;
                // SAFETY: each row belongs to one task.
                let out = unsafe { out.range(own.clone()) };
                cpu.kernels.scale(out, 1.0 / (1.0 + (-cpu.kernels.dot(gate, &x[own])).exp()));
            }
        });
    }
}
