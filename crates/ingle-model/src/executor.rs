//! What every executor can do, whatever hardware it runs on: take a step's rows through the network.
//!
//! The scalar reference is an executor too; every other is judged against it.

use crate::spec::ModelSpec;
use std::any::Any;
use std::io::{self, Read, Write};

/// One cached sequence inside an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u32);

/// Consecutive tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    /// Which sequence they continue.
    pub sequence: SequenceId,
    /// Their ids; the first one's position is the sequence's length.
    pub tokens: &'a [u32],
    /// Which of them want logits.
    pub logits: LogitRows,
}

/// Which rows of a slice want logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitRows {
    /// None: the slice only fills the cache.
    None,
    /// The last row.
    Last,
    /// Every row.
    All,
}

/// One step's work: slices of any number of sequences, computed together.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Each sequence at most once.
    pub slices: &'a [Slice<'a>],
    /// Which hidden rows to keep.
    pub hidden: Hidden,
    /// `[rows, hidden]`, the rows of another network that [join](crate::spec::Embedding::joined) the tokens'; empty for
    /// networks that take tokens alone.
    pub beside: &'a [f32],
}

/// Which hidden rows a step gives back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hidden {
    /// None.
    #[default]
    None,
    /// Those after the last layer, normed.
    Final,
    /// The residual stream after the embedding and after every layer, and the normed rows.
    All,
}

impl Batch<'_> {
    /// Rows in the step.
    pub fn rows(&self) -> usize {
        self.slices.iter().map(|slice| slice.tokens.len()).sum()
    }

    /// Indices of the rows that want logits, in order.
    pub fn logit_rows(&self) -> impl Iterator<Item = usize> {
        let mut first = 0;
        self.slices.iter().flat_map(move |slice| {
            let rows = first..first + slice.tokens.len();
            first = rows.end;
            match slice.logits {
                LogitRows::None => rows.end..rows.end,
                LogitRows::Last => rows.end.saturating_sub(1).max(rows.start)..rows.end,
                LogitRows::All => rows,
            }
        })
    }
}

/// What a step gives back. Buffers are reused from step to step.
#[derive(Clone, Debug, Default)]
pub struct StepOutput {
    /// `[rows that want logits, vocabulary]`.
    pub logits: Vec<f32>,
    /// What [`Batch::hidden`] asks for, each `[rows, hidden]`.
    pub hidden: Vec<Vec<f32>>,
}

/// Why an executor cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorError {
    /// The network has a block this executor does not compute.
    #[error("the {executor} executor cannot run this network: {what}")]
    Unsupported {
        /// Which executor.
        executor: &'static str,
        /// What it lacks.
        what: String,
    },
    /// The weights cannot be loaded.
    #[error(transparent)]
    Model(#[from] crate::Error),
    /// A token id outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    Token {
        /// The id.
        token: u32,
        /// Rows of the embedding.
        vocabulary: usize,
    },
    /// More positions than the sequence was opened for.
    #[error("the sequence was opened for {context} tokens, and {wanted} do not fit")]
    Context {
        /// What it was opened for.
        context: usize,
        /// Length the step would give it.
        wanted: usize,
    },
    /// The system has no memory for weights or cache.
    #[error("{what}")]
    Memory {
        /// For what, and how much.
        what: String,
    },
    /// Logits of a network that has no head.
    #[error("the network has no head: it makes embeddings of texts, and no logits")]
    NoHead,
    /// Rows to join the tokens' that are not as many, or that the network does not take.
    #[error("{held} numbers came beside the tokens, and the network takes {wanted} beside as many")]
    Beside {
        /// Numbers given.
        held: usize,
        /// Numbers it takes.
        wanted: usize,
    },
    /// A part of a sequence whose positions look at what comes after them.
    #[error(
        "positions of this network look at the whole sequence, which has to go through in one step; {held} of its \
         positions are computed already"
    )]
    WholeSequence {
        /// Positions the sequence holds.
        held: usize,
    },
    /// A sequence that was never opened, was closed, or comes twice in one step.
    #[error("sequence {0} is not open or comes twice in one step")]
    Sequence(u32),
    /// A step that failed half-way has changed what a recurrent layer keeps.
    #[error(
        "a step that failed half-way left sequence {0} without the state of its last token; take it back or close it"
    )]
    Interrupted(u32),
}

/// What a sequence has cached, apart from the executor that computed it: another thread can write it down, or read one.
pub trait CachedState: Any + Send {
    /// Positions it holds.
    fn length(&self) -> usize;

    /// Writes it down: the same bytes each time.
    ///
    /// # Errors
    /// Those of the writer.
    fn write(&self, to: &mut dyn Write) -> io::Result<()>;

    /// Takes the place of this empty state with what was written of one of `length` positions. Sizes are checked before
    /// memory is taken for them; the numbers themselves are taken as they are.
    ///
    /// # Errors
    /// Those of the reader, and [`io::ErrorKind::InvalidData`] for what is not a state of this network of that length.
    fn read(&mut self, length: usize, from: &mut dyn Read) -> io::Result<()>;
}

/// Computes a network.
pub trait Executor: Send {
    /// The network it was loaded with.
    fn spec(&self) -> &ModelSpec;

    /// A new, empty sequence of at most `context` positions. Memory grows as positions are filled.
    fn open(&mut self, context: usize) -> Result<SequenceId, ExecutorError>;

    /// A new sequence of at most `context` positions that begins with the first `length` of another, or with as many
    /// fewer as [`truncate`](Self::truncate) would leave, and their number. What both hold is held once.
    fn fork(
        &mut self,
        sequence: SequenceId,
        length: usize,
        context: usize,
    ) -> Result<(SequenceId, usize), ExecutorError>;

    /// Drops a sequence and what it cached.
    fn close(&mut self, sequence: SequenceId);

    /// Positions filled.
    fn length(&self, sequence: SequenceId) -> usize;

    /// Forgets all positions from `length` on; does nothing when there are fewer. Gives the sequence's length
    /// afterwards, which is shorter than asked for where a cache no longer holds what an earlier position needs
    /// (windows, recurrent states): the caller feeds again from there.
    fn truncate(&mut self, sequence: SequenceId, length: usize) -> Result<usize, ExecutorError>;

    /// Takes every row through the network. On an error no sequence has changed its length.
    fn step(&mut self, batch: &Batch, output: &mut StepOutput) -> Result<(), ExecutorError>;

    /// What a sequence has cached of its first `length` positions, or of as many fewer as
    /// [`truncate`](Self::truncate) would leave. It shares the sequence's memory, and the sequence goes on as if
    /// nothing had happened.
    ///
    /// # Errors
    /// [`ExecutorError::Unsupported`] where caches cannot be written down.
    fn state(&self, sequence: SequenceId, length: usize) -> Result<Box<dyn CachedState>, ExecutorError>;

    /// A state of no positions, to read a written one into.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    fn empty_state(&self) -> Result<Box<dyn CachedState>, ExecutorError>;

    /// A new sequence of at most `context` positions that goes on from a state of this network's.
    ///
    /// # Errors
    /// A state of another network or of more positions.
    fn resume(&mut self, state: Box<dyn CachedState>, context: usize) -> Result<SequenceId, ExecutorError>;

    /// An executor of the network's first further-token block, if its files have one
    /// ([`ModelSpec::next_token_network`]); it shares with this one what both use. Its sequences are its own.
    ///
    /// # Errors
    /// As loading a network.
    fn next_token(&self) -> Result<Option<Box<dyn Executor>>, ExecutorError>;

    /// Bytes of resident weights.
    fn weight_bytes(&self) -> u64;

    /// Bytes of cache now held; what several sequences share counts once.
    fn kv_bytes(&self) -> u64;
}
