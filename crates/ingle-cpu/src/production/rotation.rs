//! Rotary tables for the rows of a step: sine and cosine are computed once per row and used by every head and layer.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use crate::Cpu;
use crate::pool::Shares;
use ingle_model::spec::{Pairing, Rope};

/// One rotary table with the sines and cosines of the current step's rows.
pub(super) struct Rotation {
    frequencies: Vec<f64>,
    pairing: Pairing,
    magnitude: f32,
    /// `[rows, pairs]`, cosine and sine.
    turns: Vec<(f32, f32)>,
}

impl Rotation {
    pub(super) fn new(rope: &Rope) -> Rotation {
        let (pairing, magnitude) = (rope.pairing, rope.magnitude);
        Rotation { frequencies: rope.frequencies(), pairing, magnitude, turns: Vec::new() }
    }

    /// Prepares for rows at these positions.
    pub(super) fn prepare(&mut self, cpu: &Cpu, positions: &[usize]) {
        let Rotation { frequencies, magnitude, turns, .. } = self;
        let pairs = frequencies.len();
        turns.resize(positions.len() * pairs, (0.0, 0.0));
        let turns = Shares::new(turns);
        cpu.pool.for_chunks(positions.len(), 8, &|_, range| {
            for row in range {
                let position = positions[row] as f64;
                // SAFETY: each row belongs to one task.
                let turns = unsafe { turns.range(row * pairs..(row + 1) * pairs) };
                for (turn, frequency) in turns.iter_mut().zip(&*frequencies) {
                    let (sine, cosine) = (position * frequency).sin_cos();
                    *turn = (cosine as f32 * *magnitude, sine as f32 * *magnitude);
                }
            }
        });
    }

    /// Turns a head of the step's row `row`.
    pub(super) fn turn(&self, head: &mut [f32], row: usize) {
        let pairs = self.frequencies.len();
        let turns = &self.turns[row * pairs..][..pairs];
        match self.pairing {
            Pairing::Halves => {
                let (first, second) = head[..2 * pairs].split_at_mut(pairs);
                for ((a, b), &(cosine, sine)) in first.iter_mut().zip(second).zip(turns) {
                    (*a, *b) = (*a * cosine - *b * sine, *a * sine + *b * cosine);
                }
            }
            Pairing::Neighbours => {
                for (pair, &(cosine, sine)) in head[..2 * pairs].chunks_exact_mut(2).zip(turns) {
                    let (a, b) = (pair[0], pair[1]);
                    (pair[0], pair[1]) = (a * cosine - b * sine, a * sine + b * cosine);
                }
            }
        }
    }
}
