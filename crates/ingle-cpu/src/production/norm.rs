//! Norms with their weights in memory.

use crate::Cpu;

/// A norm: stored weight with its offset added, and epsilon.
pub(super) struct NormWeight {
    pub(super) weight: Vec<f32>,
    /// Of a layer norm; an RMS norm has none.
    pub(super) bias: Option<Vec<f32>>,
    pub(super) epsilon: f32,
}

impl NormWeight {
    /// Rows of `x`, each of the weight's length, normed into `out`.
    pub(super) fn apply(&self, cpu: &Cpu, x: &[f32], out: &mut [f32]) {
        let width = self.weight.len();
        if self.bias.is_some() {
            out.copy_from_slice(x);
            return self.apply_in_place(cpu, out);
        }
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            cpu.kernels.rms_norm(x, &self.weight, self.epsilon, out);
        }
    }

    /// The same where the rows are.
    pub(super) fn apply_in_place(&self, cpu: &Cpu, x: &mut [f32]) {
        for row in x.chunks_exact_mut(self.weight.len()) {
            match &self.bias {
                None => cpu.kernels.rms_norm_in_place(row, &self.weight, self.epsilon),
                Some(bias) => {
                    // an RMS norm of what is left without the mean
                    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / row.len() as f64;
                    row.iter_mut().for_each(|x| *x = (f64::from(*x) - mean) as f32);
                    cpu.kernels.rms_norm_in_place(row, &self.weight, self.epsilon);
                    cpu.kernels.add(row, bias);
                }
            }
        }
    }
}
