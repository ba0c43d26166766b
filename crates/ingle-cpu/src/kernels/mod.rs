//! The innermost loops, once per instruction set, and the table through which everything else calls them.
//!
//! `scalar` is the plain meaning of each kernel. The others are one text (`superblocks`, `blocks`, `floats`, and for many
//! input rows `tiles` and `panels`; `vectors`, `gates`, `pages`, `delta`, `peaks`) written over the 16 lanes of
//! `lanes::Lanes`, compiled once for each instruction set that implements it.
//! Tests hold every table against the scalar one and against arithmetic in `f64`.
#![allow(unsafe_code)]

mod ahead;
mod blocks;
mod cached;
mod delta;
mod features;
mod floats;
mod gates;
mod lanes;
pub mod layout;
mod pages;
mod panels;
mod peaks;
mod scalar;
mod superblocks;
mod table;
mod tiles;
mod vectors;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_dotprod;
#[cfg(target_arch = "aarch64")]
mod neon_i8mm;

#[cfg(all(test, unix))]
mod bounds_tests;
#[cfg(test)]
mod tests;

pub(crate) use cached::{CACHE_BLOCK, CachedKernels, RowLimits, Softmax};
pub use features::features;
pub(crate) use panels::{Panels, Raised};
pub use table::{Isa, Kernels};
pub(crate) use tiles::tile_bytes;

/// Rows of a weight matrix that one kernel call computes, one per lane.
pub const GROUP: usize = 16;
/// Most input rows of one kernel call.
pub const BATCH: usize = 8;
/// Cached positions in a page.
pub const PAGE: usize = 64;
/// Most queries of one call over a page of floats.
pub const QUERIES: usize = 16;
/// Scores or weights of some queries at the positions of a page.
pub type PageWeights = [[f32; PAGE]; QUERIES];
/// Columns of a delta net's state that are updated together.
pub const DELTA_PANEL: usize = 32;

/// Rows that lie `stride` numbers apart.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a> {
    /// From the first number of the first row on.
    pub values: &'a [f32],
    /// From a row to the next.
    pub stride: usize,
}

impl Strided<'_> {
    /// Whether there are `rows` rows of `width` numbers.
    fn holds(&self, rows: usize, width: usize) -> bool {
        let before = rows.saturating_sub(1).checked_mul(self.stride);
        rows == 0
            || before.and_then(|before| before.checked_add(width)).is_some_and(|all| all <= self.values.len())
    }
}

/// What drives one position of a delta net's recurrence.
#[derive(Clone, Copy, Debug)]
pub struct DeltaGates {
    /// Factor on the state before the position.
    pub decay: f32,
    /// Share of the error that is corrected.
    pub beta: f32,
    /// `k . q`.
    pub key_query: f32,
}

/// Results of one kernel call: for each input row, the products with the 16 weight rows.
pub type Tile = [[f32; GROUP]; BATCH];

/// Input rows as floats.
#[derive(Clone, Copy, Debug)]
pub struct FloatRows<'a> {
    /// Columns of each row.
    pub columns: usize,
    /// `[rows][columns]`
    pub values: &'a [f32],
}

impl<'a> FloatRows<'a> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// The `count` rows from `first` on.
    #[inline]
    pub fn slice(&self, first: usize, count: usize) -> FloatRows<'a> {
        let columns = self.columns;
        FloatRows { columns, values: &self.values[first * columns..(first + count) * columns] }
    }

    /// Panics unless kernels may read the rows without looking further.
    fn check(&self) {
        assert!((1..=BATCH).contains(&self.rows()) && self.values.len() == self.rows() * self.columns);
    }
}

/// Input rows as 8-bit integers with one scale per block, and the sums that offset formats need.
///
/// `BLOCK` is 256 for superblock formats (sums of 16, and of 32 in pairs) and 32 for the others (sums of 32, no pairs).
#[derive(Clone, Copy, Debug)]
pub struct Int8Rows<'a, const BLOCK: usize> {
    /// Columns of each row, a multiple of `BLOCK`.
    pub columns: usize,
    /// `[rows][columns]`, within -127 to 127
    pub values: &'a [i8],
    /// `[rows][columns / BLOCK]`
    pub scales: &'a [f32],
    /// Sums of values: `[rows][columns / 16]` for blocks of 256, `[rows][columns / 32]` for blocks of 32.
    pub sums: &'a [i32],
    /// For blocks of 256, `[rows][columns / 64]`: sums of 32 values as two 16-bit numbers, of the sub-blocks
    /// (0, 2), (1, 3), (4, 6) and (5, 7) of a block, the first in the low half.
    pub pairs: &'a [i32],
}

impl<'a, const BLOCK: usize> Int8Rows<'a, BLOCK> {
    const SUM: usize = if BLOCK == 256 { 16 } else { 32 };

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// The `count` rows from `first` on.
    #[inline]
    pub fn slice(&self, first: usize, count: usize) -> Int8Rows<'a, BLOCK> {
        let (columns, last) = (self.columns, first + count);
        let (scales, sums) = (columns / BLOCK, columns / Self::SUM);
        let pairs = if BLOCK == 256 { columns / 64 } else { 0 };
        Int8Rows {
            columns,
            values: &self.values[first * columns..last * columns],
            scales: &self.scales[first * scales..last * scales],
            sums: &self.sums[first * sums..last * sums],
            pairs: &self.pairs[first * pairs..last * pairs],
        }
    }

    /// Panics unless kernels may read the rows without looking further.
    fn check(&self) {
        let (rows, columns) = (self.rows(), self.columns);
        assert!((1..=BATCH).contains(&rows) && columns % BLOCK == 0 && self.values.len() == rows * columns);
        assert!(self.scales.len() == rows * columns / BLOCK && self.sums.len() == rows * columns / Self::SUM);
        assert!(BLOCK != 256 || self.pairs.len() == rows * columns / 64);
    }
}

/// Products of 16 packed float rows with the input rows.
pub(crate) type FloatKernel = unsafe fn(&[u8], FloatRows<'_>, &mut Tile);
/// Products of 16 packed rows of a superblock format with the input rows.
pub(crate) type SuperblockKernel = unsafe fn(&[u8], Int8Rows<'_, 256>, &mut Tile);
/// Products of 16 packed rows of a format in blocks of 32 with the input rows.
pub(crate) type BlockKernel = unsafe fn(&[u8], Int8Rows<'_, 32>, &mut Tile);

/// The kernel of a packed format, by the input it takes.
///
/// All read 16 interleaved rows (see [`layout`]) and fill the tile's first rows. Unsafe to call where the processor
/// lacks the instruction set of the table they come from; they check lengths themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GroupKernel {
    Float(FloatKernel),
    Superblock(SuperblockKernel),
    Block(BlockKernel),
}

/// The two steps of products with many input rows. Unsafe to call where the processor lacks the instruction set; they
/// check lengths themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileKernel {
    /// From 16 packed rows, the columns from the given one on that the tile has room for: see [`tiles`].
    pub(crate) unpack: unsafe fn(&[u8], usize, &mut [u8]),
    /// Adds the products of a tile, which has the columns from the given one on, with panels to `[panels][width][16]`, and
    /// brings other bytes into the cache: see [`panels`].
    pub(crate) multiply: unsafe fn(&[u8], usize, &Panels<'_>, &[u8], &mut [f32]),
    /// Least input rows for which this is faster than the kernels for few rows.
    pub(crate) least: usize,
}

/// The tile kernels of an instruction set, in the order of its group kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileKernels {
    /// Most rows of a panel.
    pub(crate) panel: usize,
    /// What a panel's sums have to undo.
    pub(crate) raised: Raised,
    pub(crate) superblock: [TileKernel; 4],
    pub(crate) block: [TileKernel; 6],
}
