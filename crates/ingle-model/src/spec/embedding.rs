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
    /// What every layer is given of a token beside the residual stream.
    pub layer_inputs: Option<LayerInputs>,
    /// The norm of both parts where rows of another network join the token's: `x = join(concat(norm(x), norm(row)))`.
    pub joined: Option<Norm>,
}

/// A row per token and layer, for [`TokenBlock`](super::TokenBlock)s: with the first layer's input `x`, for layer `l`
/// `scale * (table_scale * table[id][l] + norm(projection_scale * (projection x)[l]))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerInputs {
    /// Rows of the table, one per token id; a row holds the parts of all layers, first to last.
    pub rows: usize,
    /// Width of a layer's part.
    pub width: usize,
    /// Table rows are multiplied by this.
    pub table_scale: f32,
    /// Projected rows are multiplied by this.
    pub projection_scale: f32,
    /// Of each layer's part of the projected rows, one weight for all.
    pub norm: Norm,
    /// On the sum.
    pub scale: f32,
}

impl Embedding {
    /// Token rows and nothing else.
    pub const PLAIN: Embedding = Embedding {
        scale: 1.0,
        positions: None,
        token_types: None,
        norm: None,
        layer_inputs: None,
        joined: None,
    };

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
