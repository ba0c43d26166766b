//! How 16 rows of a matrix lie in memory: interleaved, so that a vector's lane is a row.
//!
//! A vector of 64 bytes holds 4 consecutive columns of each of the 16 rows (nibble vectors 8: low nibbles hold columns
//! `8t..8t+4`, high nibbles `8t+4..8t+8`). One load feeds 16 rows, no sum ever crosses lanes, and everything of one
//! (super)block lies in one forward stream: a second stream for scales cost a quarter of the bandwidth.
//!
//! | format | per 16 rows |
//! |---|---|
//! | Q4_K, Q5_K | per 256 columns: 16 f16 scales, 16 f16 minimum scales, three vectors of 6-bit scales and minima (see `SCALE_LINES`), then per 32 columns 4 nibble vectors (Q5_K: and 1 vector of fifth bits) |
//! | Q6_K | per 256 columns: 16 f32 scales, 4 vectors of i8 scales, then per 16 columns 2 nibble vectors and 1 of the upper 2 bits |
//! | IQ4_XS | per 256 columns: 16 f16 scales, two vectors' worth of 6-bit scales (see `IQ4_XS_SCALES`), then per 32 columns 4 nibble vectors |
//! | Q8_0, Q4_0, Q5_0, IQ4_NL | per 64 columns: 2 x 16 f16 scales, then per 32 columns 8 vectors of bytes (+128), or 4 nibble vectors (Q5_0: and 1 of fifth bits) |
//! | Q4_1 | per 32 columns: 16 f16 scales, 16 f16 minima, 4 nibble vectors |
//! | MXFP4 | per 128 columns: 4 x 16 E8M0 scales, then per 32 columns 4 nibble vectors |
//! | F32, F16, BF16 | per column: 16 numbers |
//!
//! The last 64 or 128 columns of a row may hold fewer blocks of 32; their scales still take 64 bytes.
//! Upper bits: bit (or bit pair) `t` of a vector's byte belongs to the column that the same byte of the `t`-th vector
//! of 4 columns holds.

use ingle_model::Format;

use super::GROUP;

/// Columns of a superblock.
pub(crate) const SUPERBLOCK: usize = 256;
/// Columns of a block of the formats without superblocks.
pub(crate) const BLOCK: usize = 32;
/// Bytes of a vector, and of a cache line.
pub(crate) const LINE: usize = 64;

/// Where the scale vectors A, B, C of a Q4_K or Q5_K superblock start. Byte `x` of lane `r` is of row `r`: the low 6
/// bits of A and B are scales `x` and `4 + x`, of C minimum `x`; the upper 2 bits of A, B and C, in this order from the
/// least significant on, are minimum `4 + x`.
pub(crate) const SCALE_LINES: usize = 64;
/// Where the numbers of a Q4_K or Q5_K superblock start.
pub(crate) const NUMBERS: usize = 256;
/// Bytes of 16 superblocks of Q4_K.
pub(crate) const Q4_K_BYTES: usize = NUMBERS + 8 * 4 * LINE;
/// Bytes of 16 superblocks of Q5_K.
pub(crate) const Q5_K_BYTES: usize = NUMBERS + 8 * 5 * LINE;
/// Where the i8 scales of a Q6_K superblock start: byte `x` of lane `r` of vector `v` is scale `4v + x` of row `r`.
pub(crate) const Q6_K_SCALES: usize = 64;
/// Where the numbers of a Q6_K superblock start.
pub(crate) const Q6_K_NUMBERS: usize = Q6_K_SCALES + 4 * LINE;
/// Bytes of 16 superblocks of Q6_K.
pub(crate) const Q6_K_BYTES: usize = Q6_K_NUMBERS + 16 * 3 * LINE;

/// Where the upper bits of the scales of an IQ4_XS superblock start, 16 bits of each row; the lower bits, 32 of each
/// row, follow them. Byte `x` of a row's 32 holds the lower 4 bits of scale `x` and, as its high nibble, of scale
/// `4 + x`. The upper 2 bits of these two lie side by side in byte `x % 2` of the row's 16, in the low nibble for `x`
/// below 2, else in the high one. Bit 5 is flipped against the file, which makes 6-bit two's complements of numbers
/// that the file keeps 32 too large.
pub(crate) const IQ4_XS_SCALES: usize = 32;
/// Where the numbers of an IQ4_XS superblock start.
pub(crate) const IQ4_XS_NUMBERS: usize = IQ4_XS_SCALES + 32 + LINE;
/// Bytes of 16 superblocks of IQ4_XS.
pub(crate) const IQ4_XS_BYTES: usize = IQ4_XS_NUMBERS + 8 * 4 * LINE;

/// Values of the codes of IQ4_NL and IQ4_XS.
pub(crate) const IQ4_NL_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// Twice the values of the codes of MXFP4.
pub(crate) const MXFP4_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// A format in blocks of 32 columns, as it is packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockLayout {
    /// Bytes of the scales (and minima) of 16 blocks.
    pub(crate) scale: usize,
    /// Bytes of the numbers of 16 blocks.
    pub(crate) numbers: usize,
}

impl BlockLayout {
    pub(crate) const Q8_0: BlockLayout = BlockLayout { scale: 32, numbers: 8 * LINE };
    pub(crate) const Q4_0: BlockLayout = BlockLayout { scale: 32, numbers: 4 * LINE };
    pub(crate) const Q4_1: BlockLayout = BlockLayout { scale: 64, numbers: 4 * LINE };
    pub(crate) const Q5_0: BlockLayout = BlockLayout { scale: 32, numbers: 5 * LINE };
    pub(crate) const IQ4_NL: BlockLayout = BlockLayout::Q4_0;
    pub(crate) const MXFP4: BlockLayout = BlockLayout { scale: 16, numbers: 4 * LINE };

    /// Blocks whose scales share a line.
    pub(crate) const fn run(self) -> usize {
        LINE / self.scale
    }

    /// Bytes of a line of scales and the numbers of all its blocks.
    pub(crate) const fn run_bytes(self) -> usize {
        LINE + self.run() * self.numbers
    }

    /// Where the scales and the numbers of a block are.
    pub(crate) const fn find(self, block: usize) -> (usize, usize) {
        let (run, inside) = (block / self.run() * self.run_bytes(), block % self.run());
        (run + inside * self.scale, run + LINE + inside * self.numbers)
    }

    /// Bytes of 16 rows of that many blocks.
    pub(crate) const fn bytes(self, blocks: usize) -> Option<usize> {
        let lines = blocks.div_ceil(self.run()) * LINE;
        match blocks.checked_mul(self.numbers) {
            Some(numbers) => numbers.checked_add(lines),
            None => None,
        }
    }
}

/// Bytes of 16 packed rows; `None` for formats that are not packed, and for columns that are not whole blocks.
pub fn group_bytes(format: Format, columns: usize) -> Option<usize> {
    let blocks = columns / format.block_len();
    if blocks * format.block_len() != columns {
        return None;
    }
    match format {
        Format::F32 | Format::F16 | Format::BF16 => columns.checked_mul(GROUP * format.block_bytes()),
        Format::Q4_K => blocks.checked_mul(Q4_K_BYTES),
        Format::Q5_K => blocks.checked_mul(Q5_K_BYTES),
        Format::Q6_K => blocks.checked_mul(Q6_K_BYTES),
        Format::IQ4_XS => blocks.checked_mul(IQ4_XS_BYTES),
        Format::Q8_0 => BlockLayout::Q8_0.bytes(blocks),
        Format::Q4_0 => BlockLayout::Q4_0.bytes(blocks),
        Format::Q4_1 => BlockLayout::Q4_1.bytes(blocks),
        Format::Q5_0 => BlockLayout::Q5_0.bytes(blocks),
        Format::IQ4_NL => BlockLayout::IQ4_NL.bytes(blocks),
        Format::MXFP4 => BlockLayout::MXFP4.bytes(blocks),
        _ => None,
    }
}

/// Blocks of activations whose largest magnitude is below this are rounded to zero: dividing by it could overflow.
pub(crate) const SMALLEST: f32 = 1e-30;
