//! Where a text enters the network, and where the vector of a whole text leaves it.

use super::Norm;

/// From token ids to the first layer's input: `norm(scale * tokens[id] + positions[p] + token_types[0])`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Embedding {
    /// Token rows are multiplied by this.
    pub scale: f32,
    /// Rows of a learned table of positions, which are the most positions a sequence can have.
    pub positions: Option<usize>,
    /// Rows of a table of token types (BERT's segments); a plain text is of the first type throughout.
    pub token_types: Option<usize>,
    /// On the sum.
    pub norm: Option<Norm>,
}

impl Embedding {
    /// Token rows and nothing else.
    pub const PLAIN: Embedding = Embedding { scale: 1.0, positions: None, token_types: None, norm: None };

    /// Token rows times a factor.
    pub fn scaled(scale: f32) -> Embedding {
        Embedding { scale, ..Embedding::PLAIN }
    }
}

/// From the hidden rows of a text to one vector: pick or average rows, project, divide by the length.
#[derive(Clone, Debug, PartialEq)]
pub struct Pooling {
    /// Which row stands for the text.
    pub row: PooledRow,
    /// Output widths of the matrices the row is multiplied by, first to last; they have no bias and no activation.
    pub projections: Vec<usize>,
    /// The vector is divided by its length.
    pub normalise: bool,
    /// Longest text in tokens, what the tokenizer adds included, where that is less than the model's context.
    pub longest: Option<usize>,
}

/// Which row stands for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PooledRow {
    /// The mean of all.
    Mean,
    /// The first (`[CLS]`).
    First,
    /// The last.
    Last,
}

impl Pooling {
    /// A pooled row, normalised, without projections.
    pub fn of(row: PooledRow) -> Pooling {
        Pooling { row, projections: Vec::new(), normalise: true, longest: None }
    }

    /// Width of the vector, for a network that is `hidden` wide.
    pub fn width(&self, hidden: usize) -> usize {
        self.projections.last().copied().unwrap_or(hidden)
    }
}
