//! A mixture of experts in plain arithmetic: `sum_e w_e * expert_e(x)` over the experts the router chose, plus the shared
//! expert.

use super::{Reference, ops};
use crate::routing::{Stored, route};
use ingle_model::executor::ExecutorError;
use ingle_model::spec::{MixtureOfExperts, Role, SharedExpert};

impl Reference {
    pub(super) fn experts(
        &self,
        x: &[f32],
        stream: &[f32],
        moe: &MixtureOfExperts,
        layer: usize,
    ) -> Result<Vec<f32>, ExecutorError> {
        let (at, hidden) = (Some(layer), self.spec.hidden);
        let router_bias = moe.gating.router_bias.then_some(Role::RouterBias);
        let (mut routed, mut asked) = (x.to_vec(), x.to_vec());
        if let Some(apart) = &moe.apart {
            routed = self.normed(stream, Some(apart.before_routed), Role::RoutedNorm, at)?;
            asked = self.normed(stream, Some(apart.router), Role::RouterNorm, at)?;
            asked.iter_mut().for_each(|value| *value *= apart.router_scale);
        }
        let logits = self.project(&asked, Role::Router, router_bias, at)?;
        let stored = |there: bool, role| there.then(|| self.values(role, at)).transpose();
        let bias = stored(moe.gating.selection_bias, Role::SelectionBias)?;
        let scale = stored(moe.gating.expert_scale, Role::ExpertScale)?;
        let stored = Stored { selection_bias: bias.as_deref(), expert_scale: scale.as_deref() };
        // for each row its experts with their weights, and for each of those what it gave
        let mut chosen = Vec::new();
        for logits in logits.chunks_exact(moe.experts) {
            let mut experts = Vec::new();
            route(&moe.gating, moe.used, logits, &stored, &mut experts);
            chosen.push(experts);
        }
        let mut given: Vec<Vec<Vec<f32>>> =
            chosen.iter().map(|experts| vec![Vec::new(); experts.len()]).collect();
        for expert in 0..moe.experts {
            let mut places = Vec::new();
            for (row, experts) in chosen.iter().enumerate() {
                let place = experts.iter().position(|(chosen, _)| *chosen == expert);
                places.extend(place.map(|place| (row, place)));
            }
            let rows: Vec<f32> =
                places.iter().flat_map(|&(row, _)| &routed[row * hidden..][..hidden]).copied().collect();
            let out = if rows.is_empty() { rows } else { self.expert(&rows, moe, expert, layer)? };
            for (&(row, place), out) in places.iter().zip(out.chunks_exact(hidden)) {
                given[row][place] = out.to_vec();
            }
        }
        let mut out = vec![0.0; x.len()];
        if let Some(shared) = moe.shared.filter(|_| moe.apart.is_none()) {
            out = self.shared(x, moe, shared, layer)?;
        }
        for (row, out) in out.chunks_exact_mut(hidden).enumerate() {
            for (&(_, weight), given) in chosen[row].iter().zip(&given[row]) {
                out.iter_mut().zip(given).for_each(|(out, given)| *out += weight * given);
            }
        }
        if let (Some(apart), Some(shared)) = (&moe.apart, moe.shared) {
            out = self.normed(&out, Some(apart.after_routed), Role::RoutedPostNorm, at)?;
            let shared = self.shared(x, moe, shared, layer)?;
            ops::add(&mut out, &self.normed(&shared, Some(apart.after_shared), Role::SharedPostNorm, at)?);
        }
        Ok(out)
    }

    fn expert(
        &self,
        x: &[f32],
        moe: &MixtureOfExperts,
        expert: usize,
        layer: usize,
    ) -> Result<Vec<f32>, ExecutorError> {
        let inner = expert * moe.inner..(expert + 1) * moe.inner;
        let outer = expert * self.spec.hidden..(expert + 1) * self.spec.hidden;
        let bias = |role| moe.expert_bias.then_some(role);
        let at = Some(layer);
        let mut gate =
            self.project_rows(x, Role::ExpertGate, bias(Role::ExpertGateBias), at, inner.clone())?;
        let up = self.project_rows(x, Role::ExpertUp, bias(Role::ExpertUpBias), at, inner)?;
        for (gate, up) in gate.iter_mut().zip(&up) {
            *gate = ops::activate(moe.activation, *gate, *up);
        }
        self.project_rows(&gate, Role::ExpertDown, bias(Role::ExpertDownBias), at, outer)
    }

    /// The expert every token uses, multiplied by `sigmoid(w . x)` where the network has such a gate.
    fn shared(
        &self,
        x: &[f32],
        moe: &MixtureOfExperts,
        shared: SharedExpert,
        layer: usize,
    ) -> Result<Vec<f32>, ExecutorError> {
        let roles = [Role::SharedGate, Role::SharedUp, Role::SharedDown];
        let mut out = self.gated(x, roles, moe.activation, layer)?;
        if shared.gated {
            let hidden = self.spec.hidden;
            let weight = self.values(Role::SharedRouter, Some(layer))?;
            for (out, x) in out.chunks_exact_mut(hidden).zip(x.chunks_exact(hidden)) {
                let gate = ops::sigmoid(ops::dot(&weight, x));
                out.iter_mut().for_each(|out| *out *= gate);
            }
        }
        Ok(out)
    }
}
