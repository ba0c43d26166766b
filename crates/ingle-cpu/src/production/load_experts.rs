//! From bound tensors to a mixture of experts.

use super::experts::{ApartNorms, ExpertProjection, ExpertsBlock, Shared};
use super::layer::Projection;
use super::load::{Loader, cannot_pack};
use crate::matrix::{Matrix, Stack};
use ingle_model::executor::ExecutorError;
use ingle_model::spec::{Apart, MixtureOfExperts, Role};
use ingle_model::{Error, Format};

impl Loader<'_> {
    pub(super) fn experts(
        &mut self,
        spec: &MixtureOfExperts,
        index: usize,
    ) -> Result<ExpertsBlock, ExecutorError> {
        let at = Some(index);
        let bias = |role| spec.expert_bias.then_some(role);
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
            gate: self.expert_projection(Role::ExpertGate, bias(Role::ExpertGateBias), index)?,
            up: self.expert_projection(Role::ExpertUp, bias(Role::ExpertUpBias), index)?,
            down: self.expert_projection(Role::ExpertDown, bias(Role::ExpertDownBias), index)?,
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

    /// One matrix per expert: file pages are given back expert by expert, so that little is in memory twice.
    fn expert_projection(
        &mut self,
        role: Role,
        bias: Option<Role>,
        index: usize,
    ) -> Result<ExpertProjection, ExecutorError> {
        let tensor = self.tensor(role, Some(index))?.clone();
        let [experts, rows, columns] = tensor.shape[..] else {
            return Err(Error::tensor(format!("{role:?}"), "must have three dimensions").into());
        };
        let packing = |error| cannot_pack(&tensor, error);
        let mut stack = Stack::zeroed(tensor.raw_format(), experts, rows, columns).map_err(packing)?;
        let mut gathered = Vec::new();
        let done = self.done;
        for expert in 0..experts {
            let range = expert * rows..(expert + 1) * rows;
            let bytes = self.source.raw_rows(&tensor, range.clone(), &mut gathered)?;
            stack.pack(expert, bytes, self.cpu).map_err(packing)?;
            self.source.release_rows(&tensor, range);
            self.report(done + tensor.bytes() * (expert as u64 + 1) / experts as u64);
        }
        let bias = bias.map(|bias| self.vector(bias, Some(index))).transpose()?;
        Ok(ExpertProjection { stack, bias })
    }
}
