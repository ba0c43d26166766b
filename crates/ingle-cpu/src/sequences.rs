//! The sequences an executor holds, and the checks every step starts with.
#![allow(unsafe_code)] // threads change sequences of their own

use crate::pool::{Pool, Shares};
use ingle_model::executor::{Batch, ExecutorError, LogitRows, SequenceId};
use ingle_model::spec::ModelSpec;
use std::ops::Range;

/// Open sequences, each with its cache `Kv`. Closed places are reused.
pub(crate) struct Sequences<Kv> {
    places: Vec<Option<Sequence<Kv>>>,
}

/// Where a slice of a step stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) sequence: SequenceId,
    /// Its rows in the step.
    pub(crate) rows: Range<usize>,
    /// Position of the first of them.
    pub(crate) first: usize,
}

impl Placed {
    /// Position of a row of the step.
    pub(crate) fn position(&self, row: usize) -> usize {
        self.first + row - self.rows.start
    }

    /// Length of the sequence after the step.
    pub(crate) fn end(&self) -> usize {
        self.first + self.rows.len()
    }
}

/// One open sequence.
pub(crate) struct Sequence<Kv> {
    context: usize,
    /// Positions filled.
    pub(crate) length: usize,
    /// What the layers cached of them.
    pub(crate) kv: Kv,
}

impl<Kv> Sequence<Kv> {
    /// Most positions it takes.
    pub(crate) fn context(&self) -> usize {
        self.context
    }
}

impl<Kv> Default for Sequences<Kv> {
    fn default() -> Self {
        Sequences { places: Vec::new() }
    }
}

impl<Kv> Sequences<Kv> {
    pub(crate) fn open(&mut self, context: usize, kv: Kv) -> SequenceId {
        let sequence = Some(Sequence { context, length: 0, kv });
        let free = self.places.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = sequence;
        SequenceId(place as u32)
    }

    pub(crate) fn close(&mut self, id: SequenceId) {
        if let Some(place) = self.places.get_mut(id.0 as usize) {
            *place = None;
        }
    }

    pub(crate) fn get(&self, id: SequenceId) -> Option<&Sequence<Kv>> {
        self.places.get(id.0 as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: SequenceId) -> Result<&mut Sequence<Kv>, ExecutorError> {
        self.places.get_mut(id.0 as usize).and_then(Option::as_mut).ok_or(ExecutorError::Sequence(id.0))
    }

    /// Changes the caches of the slices of a step, which [`place`](Self::place) has looked up, one thread each.
    ///
    /// # Errors
    /// A slice whose sequence is not open, or comes twice; nothing has changed then.
    pub(crate) fn change(
        &mut self,
        pool: &Pool,
        placed: &[Placed],
        change: &(impl Fn(&mut Kv, &Placed) + Sync),
    ) -> Result<(), ExecutorError>
    where
        Kv: Send,
    {
        for (at, slice) in placed.iter().enumerate() {
            let id = slice.sequence;
            if self.get(id).is_none() || placed[..at].iter().any(|earlier| earlier.sequence == id) {
                return Err(ExecutorError::Sequence(id.0));
            }
        }
        let places = Shares::new(&mut self.places);
        pool.for_chunks(placed.len(), 1, &|_, range| {
            for slice in &placed[range] {
                let at = slice.sequence.0 as usize;
                // SAFETY: each slice belongs to one task, and no other has the same sequence, as was just looked up.
                let place = unsafe { places.range(at..at + 1) };
                if let Some(sequence) = &mut place[0] {
                    change(&mut sequence.kv, slice);
                }
            }
        });
        Ok(())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sequence<Kv>> {
        self.places.iter().flatten()
    }

    /// Refuses a batch as [`place`](Self::place) does, and what the network cannot do.
    pub(crate) fn check(
        &self,
        batch: &Batch,
        spec: &ModelSpec,
        placed: &mut Vec<Placed>,
    ) -> Result<(), ExecutorError> {
        if spec.head.is_none() && batch.slices.iter().any(|slice| slice.logits != LogitRows::None) {
            return Err(ExecutorError::NoHead);
        }
        let wanted = if spec.embedding.joined.is_some() { batch.rows() * spec.hidden } else { 0 };
        if batch.beside.len() != wanted {
            return Err(ExecutorError::Beside { held: batch.beside.len(), wanted });
        }
        self.place(batch, spec.vocabulary, placed)?;
        let (positions, looks_ahead) = (spec.embedding.positions.unwrap_or(usize::MAX), spec.looks_ahead());
        for slice in placed.iter().filter(|slice| !slice.rows.is_empty()) {
            if slice.end() > positions {
                return Err(ExecutorError::Context { context: positions, wanted: slice.end() });
            }
            if looks_ahead && slice.first > 0 {
                return Err(ExecutorError::WholeSequence { held: slice.first });
            }
        }
        Ok(())
    }

    /// Refuses a batch with unknown tokens, closed or repeated sequences, or rows that do not fit. Gives each slice's
    /// rows and positions in `placed`.
    pub(crate) fn place(
        &self,
        batch: &Batch,
        vocabulary: usize,
        placed: &mut Vec<Placed>,
    ) -> Result<(), ExecutorError> {
        placed.clear();
        let mut first_row = 0;
        for slice in batch.slices {
            let id = slice.sequence;
            let sequence = self.get(id).ok_or(ExecutorError::Sequence(id.0))?;
            if placed.iter().any(|earlier| earlier.sequence == id) {
                return Err(ExecutorError::Sequence(id.0));
            }
            let wanted = sequence.length + slice.tokens.len();
            if wanted > sequence.context {
                return Err(ExecutorError::Context { context: sequence.context, wanted });
            }
            if let Some(&token) = slice.tokens.iter().find(|&&token| token as usize >= vocabulary) {
                return Err(ExecutorError::Token { token, vocabulary });
            }
            let rows = first_row..first_row + slice.tokens.len();
            first_row = rows.end;
            placed.push(Placed { sequence: id, rows, first: sequence.length });
        }
        Ok(())
    }
}
