//! From bound tensors to a mixture of experts.

use super::experts::{ApartNorms, ExpertProjection, ExpertsBlock, Shared};
use super::layer::Projection;
use super::load::{Loader, TensorRows, cannot_pack};
use super::paged::Paged;
use crate::matrix::{Matrix, Stack};
use ingle_model::executor::ExecutorError;
use ingle_model::spec::{Apart, MixtureOfExperts, Role};
use ingle_model::{Error, Format};
use std::sync::{Arc, Mutex};

fn not_a_stack(role: Role) -> ExecutorError {
    Error::tensor(format!("{role:?}"), "must have three dimensions").into()
}

/// Bytes after which the one who waits hears how far it is.
const REPORT_BYTES: usize = 64 << 20;

impl Loader<'_> {
    pub(super) fn experts(
        &mut self,
        spec: &MixtureOfExperts,
        index: usize,
    ) -> Result<ExpertsBlock, ExecutorError> {
        let at = Some(index);
        let bias = |role| spec.expert_bias.then_some(role);
        let slots = self.slots(spec);
        Ok(ExpertsBlock {
            spec: spec.clone(),
            router: self.router(spec.gating.router_bias, index)?,
            selection_bias: match spec.gating.selection_bias {
                true => Some(self.vector(Role::SelectionBias, at)?),
                false => None,
            },
            expert_scale: match spec.gating.expert_scale {
                true => Some(self.vector(Role::ExpertScale, at)?),
                false => None,
            },
            apart: spec.apart.map(|apart| self.apart(&apart, index)).transpose()?,
            gate: self.expert_projection(Role::ExpertGate, bias(Role::ExpertGateBias), index, slots)?,
            up: self.expert_projection(Role::ExpertUp, bias(Role::ExpertUpBias), index, slots)?,
            down: self.expert_projection(Role::ExpertDown, bias(Role::ExpertDownBias), index, slots)?,
            paged: slots.map(|slots| self.paged(slots, spec.experts, index)).transpose()?,
            shared: match spec.shared {
                Some(shared) => Some(Shared {
                    dense: self.dense(
                        spec.activation,
                        [Role::SharedGate, Role::SharedUp, Role::SharedDown],
                        index,
                    )?,
                    gate: shared.gated.then(|| self.vector(Role::SharedRouter, at)).transpose()?,
                }),
                None => None,
            },
        })
    }

    fn apart(&mut self, apart: &Apart, index: usize) -> Result<ApartNorms, ExecutorError> {
        let mut norm = |norm, role| self.norm(norm, role, Some(index));
        let mut router = norm(apart.router, Role::RouterNorm)?;
        // the logits' factor, on the side where there are fewer numbers to multiply
        router.weight.iter_mut().for_each(|weight| *weight *= apart.router_scale);
        Ok(ApartNorms {
            router,
            before_routed: norm(apart.before_routed, Role::RoutedNorm)?,
            after_routed: norm(apart.after_routed, Role::RoutedPostNorm)?,
            after_shared: norm(apart.after_shared, Role::SharedPostNorm)?,
        })
    }

    /// The router keeps its floats; a quantised one is decoded, so that choices depend on nothing but the file.
    fn router(&mut self, bias: bool, index: usize) -> Result<Projection, ExecutorError> {
        let at = Some(index);
        let plain = |format| matches!(format, Format::F32 | Format::F16 | Format::BF16);
        let tensor = self.tensor(Role::Router, at)?.clone();
        let matrix = if plain(tensor.raw_format()) {
            self.matrix(Role::Router, at)?
        } else {
            let (rows, columns) = (tensor.rows(), tensor.columns());
            let values: Vec<u8> =
                self.vector(Role::Router, at)?.iter().flat_map(|v| v.to_le_bytes()).collect();
            let packed = Matrix::pack(Format::F32, rows, columns, &values, self.cpu);
            packed.map_err(|error| cannot_pack(&tensor, error))?
        };
        let bias = bias.then(|| self.vector(Role::RouterBias, at)).transpose()?;
        Ok(Projection { matrix, bias })
    }

    /// How many experts of a layer are held, if not all of them.
    fn slots(&self, spec: &MixtureOfExperts) -> Option<usize> {
        let share = self.expert_share?;
        let slots = ((spec.experts as f64 * share) as usize).max(spec.used).max(1);
        (slots < spec.experts).then_some(slots)
    }

    /// Room for `slots` experts that come and go.
    fn paged(&mut self, slots: usize, experts: usize, index: usize) -> Result<Mutex<Paged>, ExecutorError> {
        let (mut tensors, mut stacks) = (Vec::new(), Vec::new());
        for role in [Role::ExpertGate, Role::ExpertUp, Role::ExpertDown] {
            let tensor = self.tensor(role, Some(index))?.clone();
            let [_, rows, columns] = tensor.shape[..] else { return Err(not_a_stack(role)) };
            let stack = Stack::zeroed(tensor.raw_format(), slots, rows, columns);
            stacks.push(stack.map_err(|error| cannot_pack(&tensor, error))?);
            self.report(self.done + tensor.bytes());
            tensors.push(tensor);
        }
        let (Ok(tensors), Ok(stacks)) = (tensors.try_into(), stacks.try_into()) else {
            return Err(not_a_stack(Role::ExpertGate));
        };
        Ok(Mutex::new(Paged::new(Arc::clone(self.source), tensors, stacks, experts)))
    }

    /// One matrix per expert; none where experts come and go.
    fn expert_projection(
        &mut self,
        role: Role,
        bias: Option<Role>,
        index: usize,
        slots: Option<usize>,
    ) -> Result<ExpertProjection, ExecutorError> {
        let tensor = self.tensor(role, Some(index))?.clone();
        let [experts, rows, columns] = tensor.shape[..] else {
            return Err(not_a_stack(role));
        };
        let packing = |error| cannot_pack(&tensor, error);
        let experts = if slots.is_some() { 0 } else { experts };
        let mut stack = Stack::zeroed(tensor.raw_format(), experts, rows, columns).map_err(packing)?;
        let from = TensorRows { source: self.source, tensor: &tensor, in_order: true };
        let done = self.done;
        let each = (tensor.bytes() as usize / experts.max(1)).max(1);
        let at_once = REPORT_BYTES.div_ceil(each);
        for first in (0..experts).step_by(at_once) {
            let end = experts.min(first + at_once);
            let moves: Vec<(usize, usize)> = (first..end).map(|expert| (expert, expert)).collect();
            stack.read(&moves, &from, self.cpu).map_err(packing)?;
            self.report(done + tensor.bytes() * end as u64 / experts as u64);
        }
        self.source.release_tensor(&tensor);
        let bias = bias.map(|bias| self.vector(bias, Some(index))).transpose()?;
        Ok(ExpertProjection { stack, bias })
    }
}
