//! The experts of a layer where not all of them fit the memory: as many as there are slots are held packed, those used
//! last; the others stay in the mapped file until they are chosen.
//!
//! Every layer has the same share of the slots, because every token uses as many experts in each. Experts that the last
//! tokens chose are thereby held, which is the simplest guess of what the next one chooses.

use super::load::{TensorRows, cannot_pack};
use crate::Cpu;
use crate::matrix::Stack;
use ingle_model::Source;
use ingle_model::executor::ExecutorError;
use ingle_model::spec::TensorSpec;
use std::sync::Arc;

/// The expert of a slot without one, and the slot of an expert that is not held.
const NONE: usize = usize::MAX;

/// Packed experts in slots.
pub(super) struct Paged {
    source: Arc<Source>,
    /// Gate, up and down as the file has them.
    tensors: [TensorSpec; 3],
    /// Their packed matrices, one per slot.
    pub(super) stacks: [Stack; 3],
    slot_of: Vec<usize>,
    expert_of: Vec<usize>,
    /// When each slot was wanted last.
    used_at: Vec<u64>,
    clock: u64,
    /// What is to be packed where. Memory to reuse.
    moves: Vec<(usize, usize)>,
}

impl Paged {
    /// Nothing held yet. `stacks` have one matrix per slot.
    pub(super) fn new(
        source: Arc<Source>,
        tensors: [TensorSpec; 3],
        stacks: [Stack; 3],
        experts: usize,
    ) -> Paged {
        let slots = stacks[0].count();
        Paged {
            source,
            tensors,
            stacks,
            slot_of: vec![NONE; experts],
            expert_of: vec![NONE; slots],
            used_at: vec![0; slots],
            clock: 0,
            moves: Vec::new(),
        }
    }

    /// Experts held at most.
    pub(super) fn slots(&self) -> usize {
        self.expert_of.len()
    }

    /// Bytes of the slots.
    pub(super) fn bytes(&self) -> u64 {
        self.stacks.iter().map(|stack| stack.whole().bytes() as u64).sum()
    }

    /// Whether an expert is held.
    pub(super) fn holds(&self, expert: usize) -> bool {
        self.slot_of[expert] != NONE
    }

    /// The slot of an expert that is [held](Self::hold).
    pub(super) fn slot(&self, expert: usize) -> usize {
        self.slot_of[expert]
    }

    /// Asks the system for the pages of those that are not held, all at once, and does not wait for them.
    pub(super) fn ask_for(&self, experts: impl Iterator<Item = usize>) {
        for expert in experts.filter(|&expert| !self.holds(expert)) {
            for (tensor, stack) in self.tensors.iter().zip(&self.stacks) {
                self.source.will_need_rows(tensor, expert * stack.rows()..(expert + 1) * stack.rows());
            }
        }
    }

    /// Sees to it that `wanted`, no more than there are slots and none twice, are held. Those go that were not wanted
    /// for longest.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn hold(
        &mut self,
        wanted: impl Iterator<Item = usize> + Clone,
        cpu: &Cpu,
    ) -> Result<(), ExecutorError> {
        self.clock += 1;
        for slot in wanted.clone().map(|expert| self.slot_of[expert]).filter(|&slot| slot != NONE) {
            self.used_at[slot] = self.clock;
        }
        self.moves.clear();
        for expert in wanted {
            if self.slot_of[expert] != NONE {
                continue;
            }
            let free = (0..self.slots()).filter(|&slot| self.used_at[slot] < self.clock);
            let Some(slot) = free.min_by_key(|&slot| self.used_at[slot]) else { break };
            if self.expert_of[slot] != NONE {
                self.slot_of[self.expert_of[slot]] = NONE;
            }
            self.expert_of[slot] = NONE;
            self.used_at[slot] = self.clock;
            self.moves.push((expert, slot));
        }
        for (tensor, stack) in self.tensors.iter().zip(&mut self.stacks) {
            let from = TensorRows { source: &self.source, tensor, in_order: false };
            stack.read(&self.moves, &from, cpu).map_err(|error| cannot_pack(tensor, error))?;
        }
        // only what was read whole counts as held
        for &(expert, slot) in &self.moves {
            self.expert_of[slot] = expert;
            self.slot_of[expert] = slot;
        }
        Ok(())
    }
}
