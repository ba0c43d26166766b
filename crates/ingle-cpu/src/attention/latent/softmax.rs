//! Online softmax of one query over tiles of 64 positions, in floats.

use crate::Cpu;
use crate::kernels::PAGE;
use std::ops::Range;

/// Running softmax of one query: the largest score so far, and the sum of the weights relative to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) largest: f32,
    pub(super) sum: f32,
}

impl Running {
    pub(super) const NOTHING: Running = Running { largest: f32::NEG_INFINITY, sum: 0.0 };
}

/// Turns a tile's scores into weights relative to the largest score so far, and scales what was summed before.
pub(super) fn weigh(
    cpu: &Cpu,
    scale: f32,
    scores: &mut [f32; PAGE],
    visible: Range<usize>,
    running: &mut Running,
    out: &mut [f32],
) {
    scores[..visible.start].fill(0.0);
    scores[visible.end..].fill(0.0);
    let scores = &mut scores[visible];
    if scores.is_empty() {
        return;
    }
    cpu.kernels.scale(scores, scale);
    let largest = running.largest.max(cpu.kernels.max(scores));
    if largest > running.largest {
        let shrink = (running.largest - largest).exp();
        running.sum *= shrink;
        cpu.kernels.scale(out, shrink);
        running.largest = largest;
    }
    running.sum += cpu.kernels.exp_sum(scores, largest);
}
