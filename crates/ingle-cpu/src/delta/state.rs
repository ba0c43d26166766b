//! What a gated delta net keeps of one sequence: the last inputs of the convolution and a state per value head, in
//! 32-bit floats. Its size does not depend on the sequence's length.
//!
//! A state cannot be taken back, so one earlier copy of it (the mark) is kept: it is made before a step of several rows
//! when one row at a time came before (a new turn begins), when it has few rows (they may be guesses), or when
//! [`MARK_DISTANCE`] positions have passed since the last. Answering the same question again, or a changed last message, then costs at most a few hundred tokens instead
//! of the whole conversation. The price is the same memory once more and a copy per so many positions.
#![allow(unsafe_code)] // bytes of a buffer are read as floats

use crate::attention::cache::{own, written};
use crate::buffer::{Buffer, OutOfMemory};
use crate::kernels::DELTA_PANEL;
use crate::saved;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

/// Positions between marks while a long prompt is fed.
pub(crate) const MARK_DISTANCE: usize = 512;

/// Rows of a step that may be guesses, and have to be taken back then: a mark is made before every such step.
const GUESSED: usize = 9;

/// Positions of a state that a step is changing, or has left half changed.
const UNKNOWN: usize = usize::MAX;

/// Sizes of a layer's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeltaShape {
    /// Channels of the convolution.
    pub(crate) channels: usize,
    /// Inputs of the convolution kept: its taps less one.
    pub(crate) inputs: usize,
    pub(crate) value_heads: usize,
    pub(crate) key_dim: usize,
    pub(crate) value_dim: usize,
}

impl DeltaShape {
    /// Panels of a value head's state.
    pub(crate) fn panels(&self) -> usize {
        self.value_dim.div_ceil(DELTA_PANEL)
    }

    /// Numbers of a panel, `[key_dim][DELTA_PANEL]`.
    pub(crate) fn panel(&self) -> usize {
        self.key_dim * DELTA_PANEL
    }

    fn states(&self) -> usize {
        self.value_heads * self.panels() * self.panel()
    }

    fn bytes(&self) -> usize {
        (self.states() + self.inputs * self.channels) * size_of::<f32>()
    }
}

/// The memory after some position. A clone shares it.
#[derive(Clone, Debug)]
struct Memory {
    positions: usize,
    buffer: Arc<Buffer>,
}

impl Memory {
    fn zeroed(shape: &DeltaShape) -> Result<Memory, OutOfMemory> {
        Ok(Memory { positions: 0, buffer: Arc::new(Buffer::zeroed(shape.bytes())?) })
    }
}

/// A layer's state of one sequence. A clone shares its memory until either changes it.
#[derive(Clone, Debug)]
pub(crate) struct DeltaState {
    pub(crate) shape: DeltaShape,
    now: Option<Memory>,
    mark: Option<Memory>,
    /// The last step had several rows.
    long_step: bool,
}

/// The memory of a sequence while a step changes it.
pub(crate) struct Changing<'a> {
    /// `[value head][panel][key_dim][DELTA_PANEL]`; columns beyond the value width stay zero.
    pub(crate) states: &'a mut [f32],
    /// `[inputs][channels]`, the oldest first.
    pub(crate) inputs: &'a mut [f32],
}

impl DeltaState {
    pub(crate) fn new(shape: DeltaShape) -> DeltaState {
        DeltaState { shape, now: None, mark: None, long_step: false }
    }

    /// Makes ready for a step that fills `positions`.
    pub(crate) fn grow(&mut self, positions: Range<usize>) -> Result<(), OutOfMemory> {
        let now = match self.now.take() {
            Some(now) => now,
            None => Memory::zeroed(&self.shape)?,
        };
        let now = self.now.insert(now);
        let long_step = positions.len() > 1;
        let distance = now.positions.wrapping_sub(self.mark.as_ref().map_or(0, |mark| mark.positions));
        // an empty state is found again without a mark
        let due = !self.long_step || distance >= MARK_DISTANCE || positions.len() <= GUESSED;
        let wanted = long_step && due && now.positions > 0;
        if wanted && distance > 0 && now.positions == positions.start {
            self.mark = Some(now.clone());
        }
        self.long_step = long_step;
        own(&mut now.buffer)
    }

    /// The longest length, at most `positions`, whose state it has.
    pub(crate) fn earlier(&self, positions: usize) -> usize {
        let known = [&self.now, &self.mark].into_iter().flatten().map(|memory| memory.positions);
        known.filter(|&known| known <= positions).max().unwrap_or(0)
    }

    /// Goes back to `positions`, which [`earlier`](Self::earlier) has allowed.
    pub(crate) fn shrink(&mut self, positions: usize) {
        if self.now.as_ref().is_none_or(|now| now.positions == positions) {
            return;
        }
        // without a mark there, an empty state is made by the next step
        self.mark.take_if(|mark| mark.positions != positions);
        self.now = self.mark.clone();
        self.long_step = false;
    }

    /// The memory after `positions` positions, to change; `None` if it is not that: no room was made, or a step that
    /// failed half-way has left another. Until [`changed`](Self::changed) it counts as lost.
    pub(crate) fn change(&mut self, positions: usize) -> Option<Changing<'_>> {
        let now = self.now.as_mut().filter(|now| now.positions == positions)?;
        now.positions = UNKNOWN;
        let (states, inputs) = floats_mut(written(&mut now.buffer)).split_at_mut(self.shape.states());
        Some(Changing { states, inputs })
    }

    /// The step is done: the state is that after `positions` positions.
    pub(crate) fn changed(&mut self, positions: usize) {
        if let Some(now) = &mut self.now {
            now.positions = positions;
        }
    }

    /// Writes down the state, and the earlier one that is kept.
    pub(crate) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        saved::put(to, &self.kind())?;
        let memories =
            [&self.now, &self.mark].map(|memory| memory.as_ref().filter(|memory| memory.positions > 0));
        for memory in memories {
            saved::put(to, &[memory.map_or(0, |memory| memory.positions as u64)])?;
            memory.map_or(Ok(()), |memory| saved::put_page(to, &memory.buffer))?;
        }
        Ok(())
    }

    /// Takes the place of this empty state with what was written of one after `length` positions.
    pub(crate) fn read(&mut self, length: usize, from: &mut dyn Read) -> io::Result<()> {
        saved::expect(from, &self.kind())?;
        let mut memory = || -> io::Result<Option<Memory>> {
            let positions = saved::take_count(from, length)?;
            let buffer = (positions > 0).then(|| saved::take_page(from, self.shape.bytes())).transpose()?;
            Ok(buffer.map(|buffer| Memory { positions, buffer }))
        };
        let read = DeltaState { now: memory()?, mark: memory()?, ..DeltaState::new(self.shape) };
        if read.earlier(length) != length {
            return Err(saved::other());
        }
        *self = read;
        Ok(())
    }

    /// What has to be the same where it is read.
    fn kind(&self) -> [u64; 6] {
        let DeltaShape { channels, inputs, value_heads, key_dim, value_dim } = self.shape;
        let [channels, inputs, heads, key, value] =
            [channels, inputs, value_heads, key_dim, value_dim].map(|size| size as u64);
        [saved::DELTA_NET, channels, inputs, heads, key, value]
    }

    /// The memory it holds.
    pub(crate) fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        [&self.now, &self.mark].into_iter().flatten().map(|memory| memory.buffer.as_ref())
    }
}

fn floats_mut(bytes: &mut [u8]) -> &mut [f32] {
    // SAFETY: every bit pattern is an f32; `align_to_mut` splits off what is not aligned (nothing: buffers are aligned).
    unsafe { bytes.align_to_mut::<f32>().1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SHAPE: DeltaShape =
        DeltaShape { channels: 5, inputs: 3, value_heads: 2, key_dim: 4, value_dim: 40 };

    /// A step whose state is told by its length.
    fn step(state: &mut DeltaState, positions: Range<usize>) {
        state.grow(positions.clone()).unwrap();
        let changing = state.change(positions.start).unwrap();
        changing.states.fill(positions.end as f32);
        changing.inputs.fill(-(positions.end as f32));
        state.changed(positions.end);
    }

    fn told(state: &mut DeltaState, positions: usize) -> (f32, f32) {
        state.grow(positions..positions + 1).unwrap();
        let changing = state.change(positions).unwrap();
        let all =
            |values: &[f32]| values.iter().all(|&value| value == values[0]).then_some(values[0]).unwrap();
        let told = (all(changing.states), all(changing.inputs));
        state.changed(positions);
        told
    }

    /// States held, counted once each.
    fn held(state: &DeltaState) -> usize {
        let size = (2 * 2 * 4 * 32 + 15) * 4;
        let buffers: HashSet<*const Buffer> = state.buffers().map(std::ptr::from_ref).collect();
        assert!(state.buffers().all(|buffer| buffer.bytes().len() == size));
        buffers.len()
    }

    #[test]
    fn a_turn_begins_with_a_mark_that_is_found_again() {
        let mut state = DeltaState::new(SHAPE);
        assert_eq!((held(&state), state.earlier(7)), (0, 0));
        step(&mut state, 0..10);
        assert_eq!(held(&state), 1, "nothing to mark yet");
        (10..20).for_each(|at| step(&mut state, at..at + 1));
        step(&mut state, 20..26);
        step(&mut state, 26..40);
        (40..50).for_each(|at| step(&mut state, at..at + 1));
        assert_eq!(held(&state), 2);
        assert_eq!([50, 49, 20, 19].map(|positions| state.earlier(positions)), [50, 20, 20, 0]);
        state.shrink(50);
        assert_eq!(told(&mut state, 50), (50.0, -50.0));
        state.shrink(20);
        assert_eq!(told(&mut state, 20), (20.0, -20.0));
        step(&mut state, 20..21);
        assert_eq!(state.earlier(20), 20, "the mark can be used again");
        state.shrink(0);
        assert_eq!(told(&mut state, 0), (0.0, 0.0));
        assert_eq!((state.earlier(20), held(&state)), (0, 1));
    }

    #[test]
    fn a_clone_goes_its_own_way() {
        let mut state = DeltaState::new(SHAPE);
        step(&mut state, 0..10);
        let mut other = state.clone();
        assert_eq!(
            state.buffers().next().map(std::ptr::from_ref),
            other.buffers().next().map(std::ptr::from_ref)
        );
        step(&mut other, 10..11);
        assert_eq!((told(&mut state, 10), told(&mut other, 11)), ((10.0, -10.0), (11.0, -11.0)));
    }

    #[test]
    fn marks_move_with_a_long_prompt() {
        let mut state = DeltaState::new(SHAPE);
        for first in (0..2048).step_by(128) {
            step(&mut state, first..first + 128);
        }
        assert_eq!(state.earlier(2047), 1536);
        state.shrink(1536);
        assert_eq!(told(&mut state, 1536), (1536.0, -1536.0));
    }

    #[test]
    fn a_state_left_half_changed_is_not_taken_for_another() {
        let mut state = DeltaState::new(SHAPE);
        step(&mut state, 0..10);
        step(&mut state, 10..11);
        step(&mut state, 11..13);
        state.grow(13..14).unwrap();
        state.change(13).unwrap().states.fill(99.0);
        assert!(state.change(13).is_none());
        assert_eq!(state.earlier(13), 11);
        state.shrink(11);
        assert_eq!(told(&mut state, 11), (11.0, -11.0));
    }
}
