//! Norms with their weights in memory.

use crate::Cpu;

/// An RMS norm: stored weight with its offset added, and epsilon.
pub(super) struct NormWeight {
    pub(super) weight: Vec<f32>,
    pub(super) epsilon: f32,
}

impl NormWeight {
    /// Rows of `x`, each of the weight's length, normed into `out`.
    pub(super) fn apply(&self, cpu: &Cpu, x: &[f32], out: &mut [f32]) {
        let width = self.weight.len();
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            cpu.kernels.rms_norm(x, &self.weight, self.epsilon, out);
        }
    }

    /// The same where the rows are.
    pub(super) fn apply_in_place(&self, cpu: &Cpu, x: &mut [f32]) {
        for row in x.chunks_exact_mut(self.weight.len()) {
            cpu.kernels.rms_norm_in_place(row, &self.weight, self.epsilon);
        }
    }
}
