//! Products of one unpacked tile ([`tiles`](super::tiles)) with panels of input rows.
//!
//! The rows of a panel lie interleaved, a dword of 4 columns of each after the other, so that what a vector of weights
//! meets next is next in memory:
//!
//! ```text
//! acc[m] = start[m];  for each of 8 vectors of weights: acc[m] += weights . splat(values[m])
//! ```
//!
//! What is added up and in which order is as in [`superblocks`](super::superblocks) and [`blocks`](super::blocks), so a
//! row's result does not depend on how many others are with it.
//!
//! On Zen 4, where a product of a whole register takes a cycle, 8 rows with one tile reach 80 % of the peak (the rest is
//! scales and minima); 12 rows, or 2 tiles with 4 to 6, are no better, and more than 12 sums are worse, since each of
//! them takes two registers.

// Contract of `lanes`; besides, each function asserts the lengths that its pointers rely on.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use super::GROUP;
use super::lanes::{Lanes, in_pairs, short_turns, turns};
use super::layout::{BLOCK, LINE, SUPERBLOCK};
use super::tiles::{
    BLOCK_MINIMUM, BLOCK_RECORD, BLOCK_SCALE, FLOAT_SCALE, MINIMA, MINIMA_SCALE, SCALES, SUPERBLOCK_RECORD,
};

/// Input rows, interleaved in panels of `width`: every part is `[panels][columns / ..][width]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels<'a> {
    /// Panels.
    pub(crate) count: usize,
    /// Rows of a panel: 4, or where the instruction set has registers for them 8.
    pub(crate) width: usize,
    /// Columns of a row.
    pub(crate) columns: usize,
    /// 4 columns of each row.
    pub(crate) values: &'a [[i8; 4]],
    /// Per block of 256 or 32.
    pub(crate) scales: &'a [f32],
    /// What undoes that the numbers of a tile are too large: sums of 16 columns (blocks of 256) or 32, as
    /// [`Raised::start`] has them.
    pub(crate) starts: &'a [i32],
    /// For blocks of 256: as [`Int8Rows::pairs`](super::Int8Rows::pairs).
    pub(crate) pairs: &'a [i32],
    /// For blocks of 32: their sums, scaled.
    pub(crate) sums: &'a [f32],
}

/// What the numbers of tiles are too large by, except those of formats with minima in superblocks, and those stored with
/// 128 added where the instruction set takes these as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raised {
    pub(crate) superblocks: u8,
    pub(crate) blocks: u8,
    /// Whether superblocks take starts in halves.
    short: bool,
}

impl Raised {
    /// 128 where dot products take such numbers, else as little as serves all formats.
    pub(super) const fn of<L: Lanes>() -> Raised {
        match L::WIDE_OFFSET {
            128 => Raised { superblocks: 128, blocks: 128, short: false },
            _ => Raised { superblocks: 32, blocks: 16, short: L::SHORT },
        }
    }

    /// What a sum of activations starts a sum of products with, in blocks of 256 or 32 columns: its product with the
    /// negative of what the numbers are too large by; or, to be multiplied in pairs of 16 bits, half of that twice, which
    /// for 16 columns and 32 is at most 16 x 127 x 16.
    pub(crate) fn start(&self, block: usize, sum: i32) -> i32 {
        match block {
            SUPERBLOCK if self.short => {
                let half = (-i32::from(self.superblocks) / 2 * sum) & 0xffff;
                half | (half << 16)
            }
            SUPERBLOCK => -i32::from(self.superblocks) * sum,
            _ => -i32::from(self.blocks) * sum,
        }
    }
}

/// Least input rows for which unpacking into tiles pays, from measurements where a dot product is one instruction
/// (AVX-512 on Zen 4) and where it takes several (AVX2 there, which has too few registers for more than 4 rows).
///
/// Up to 8 rows share what the kernels for few rows unpack, at no cost where the multipliers are the limit: formats that
/// are unpacked in few operations gain late, or not at all.
pub(super) const fn least<L: Lanes>([one, several]: [usize; 2]) -> usize {
    if L::WIDE_OFFSET == 128 { one } else { several }
}

impl Panels<'_> {
    /// Panics unless kernels may read `blocks` blocks from column `first` on and write `[panels][width][16]` results to
    /// `out` without looking further.
    #[inline(always)]
    fn check(&self, first: usize, blocks: usize, block: usize, out: &[f32]) {
        let &Panels { count, width, columns, values, scales, starts, pairs, sums } = self;
        let (rows, last) = (count * width, first + blocks * block);
        assert!(out.len() == rows * GROUP && values.len() == rows * columns / 4);
        assert!([columns, first].iter().all(|columns| columns.is_multiple_of(block)) && last <= columns);
        assert!(scales.len() == rows * columns / block);
        match block {
            SUPERBLOCK => assert!(starts.len() == rows * columns / 16 && pairs.len() == rows * columns / 64),
            _ => assert!(starts.len() == rows * columns / BLOCK && sums.len() == rows * columns / BLOCK),
        }
    }
}

/// Calls `$call` with `M` the panel's width.
macro_rules! by_width {
    ($l:ty, $width:expr, $m:ident => $call:expr) => {
        match $width {
            4 => by_width!(@ 4, $m, $call),
            8 if <$l>::PANEL >= 8 => by_width!(@ 8, $m, $call),
            width => unreachable!("panels of {width} rows"),
        }
    };
    (@ $count:literal, $m:ident, $call:expr) => {{
        const $m: usize = $count;
        $call
    }};
}

/// `$body` with `$t` 0 to 3, and 4 to 7 if `$eight`. Left to themselves, compilers unroll such loops or not from version
/// to version, at a cost of 20 %.
macro_rules! unrolled {
    ($eight:expr, $t:ident => $body:block) => {
        unrolled!(@ $t, $body, 0, 1, 2, 3);
        if $eight {
            unrolled!(@ $t, $body, 4, 5, 6, 7);
        }
    };
    (@ $t:ident, $body:block, $($count:literal),*) => {
        $({
            const $t: usize = $count;
            $body
        })*
    };
}

/// What the numbers of a tile are.
pub(super) trait Numbers {
    /// Whether they are small enough for [`dot_short`](Lanes::dot_short).
    const SMALL: bool = true;

    /// Whether a sum starts with what undoes that they are too large.
    fn start<L: Lanes>() -> bool;
    /// `sum + weights . activations`, the 4 columns of a row at `value` in all lanes.
    unsafe fn dot<L: Lanes>(sum: L::Ints, weights: L::Ints, value: *const [i8; 4]) -> L::Ints;
}

#[inline(always)]
unsafe fn splat_at<L: Lanes>(value: *const [i8; 4]) -> L::Ints {
    L::splat(value.cast::<i32>().read_unaligned())
}

/// From 0 to 127, as they are.
pub(super) struct Exact;

impl Numbers for Exact {
    fn start<L: Lanes>() -> bool {
        false
    }

    #[inline(always)]
    unsafe fn dot<L: Lanes>(sum: L::Ints, weights: L::Ints, value: *const [i8; 4]) -> L::Ints {
        L::dot(sum, weights, splat_at::<L>(value))
    }
}

/// Too large by [`Raised`].
pub(super) struct Higher;

impl Numbers for Higher {
    fn start<L: Lanes>() -> bool {
        true
    }

    #[inline(always)]
    unsafe fn dot<L: Lanes>(sum: L::Ints, weights: L::Ints, value: *const [i8; 4]) -> L::Ints {
        match L::WIDE_OFFSET {
            128 => L::dot_wide(sum, weights, splat_at::<L>(value)),
            _ => L::dot(sum, weights, splat_at::<L>(value)),
        }
    }
}

/// Stored with 128 added.
pub(super) struct Wide;

impl Numbers for Wide {
    const SMALL: bool = false;

    fn start<L: Lanes>() -> bool {
        L::WIDE_OFFSET == 128
    }

    #[inline(always)]
    unsafe fn dot<L: Lanes>(sum: L::Ints, weights: L::Ints, value: *const [i8; 4]) -> L::Ints {
        L::dot_wide(sum, weights, splat_at::<L>(value))
    }
}

/// Asks for one of `count` equal parts of some bytes: all at once would wait for each other.
#[inline(always)]
unsafe fn ask_for_part<L: Lanes>(bytes: &[u8], part: usize, count: usize) {
    let lines = bytes.len() / LINE;
    for line in part * lines / count..(part + 1) * lines / count {
        L::prefetch(bytes.as_ptr().add(line * LINE));
    }
}

/// `dots += scale *` the products of `N` vectors of numbers from 0 to `LARGEST`, summed in 16 bits as far as they fit;
/// the scale [in pairs](in_pairs).
#[inline(always)]
unsafe fn short_span<L: Lanes, const LARGEST: usize, const N: usize, const M: usize>(
    dots: &mut [L::Ints; M],
    numbers: *const u8,
    values: *const [i8; 4],
    scale: L::Ints,
) {
    let turns = const { short_turns(LARGEST) };
    for first in (0..N).step_by(turns) {
        let mut sums = [L::splat(0); M];
        for t in first..first + turns {
            let weights = L::load(numbers.add(t * LINE));
            for m in 0..M {
                sums[m] = L::dot_short(sums[m], weights, splat_at::<L>(values.add(t * M + m)));
            }
        }
        for m in 0..M {
            dots[m] = L::dot_pairs(dots[m], sums[m], scale);
        }
    }
}

/// `out[panel][row of the panel][row of the tile] +=` the products with a tile of the columns from `first` on, for
/// superblocks whose scales span `SPAN` columns. Meanwhile brings `ahead` into the cache.
#[inline(always)]
pub(super) unsafe fn superblocks<L: Lanes, N: Numbers, const SPAN: usize, const WITH_MINIMA: bool>(
    tile: &[u8],
    first: usize,
    panels: &Panels<'_>,
    ahead: &[u8],
    out: &mut [f32],
) {
    let blocks = tile.len() / SUPERBLOCK_RECORD;
    panels.check(first, blocks, SUPERBLOCK, out);
    for panel in 0..panels.count {
        ask_for_part::<L>(ahead, panel, panels.count);
        let at = panel * panels.columns + first;
        by_width!(L, panels.width, M => superblock_rows::<L, N, SPAN, WITH_MINIMA, M>(
            tile.as_ptr(), blocks, panels, at, out.as_mut_ptr().add(panel * M * GROUP)
        ));
    }
}

/// `at` counts the columns of panels.
#[inline(always)]
unsafe fn superblock_rows<
    L: Lanes,
    N: Numbers,
    const SPAN: usize,
    const WITH_MINIMA: bool,
    const M: usize,
>(
    tile: *const u8,
    blocks: usize,
    panels: &Panels<'_>,
    at: usize,
    out: *mut f32,
) {
    let (mut values, mut starts) =
        (panels.values.as_ptr().add(at / 4 * M), panels.starts.as_ptr().add(at / 16 * M));
    let (mut pairs, mut scales) =
        (panels.pairs.as_ptr().add(at / 64 * M), panels.scales.as_ptr().add(at / SUPERBLOCK * M));
    let spans = turns(SUPERBLOCK / SPAN);
    for s in 0..blocks {
        let record = tile.add(s * SUPERBLOCK_RECORD);
        let (mut numbers, mut scale) = (record, record.add(SCALES));
        let mut dots = [L::splat(0); M];
        for _ in 0..spans {
            let own = L::load(scale);
            if L::SHORT && N::SMALL {
                let own = in_pairs::<L>(own);
                if N::start::<L>() {
                    for m in 0..M {
                        dots[m] = L::dot_pairs(dots[m], L::splat(*starts.add(m)), own);
                    }
                }
                // 5 bits, or 6 where a scale spans 16 columns
                match SPAN {
                    32 => short_span::<L, 31, 8, M>(&mut dots, numbers, values, own),
                    _ => short_span::<L, 63, 4, M>(&mut dots, numbers, values, own),
                }
            } else {
                let mut acc = [L::splat(0); M];
                if N::start::<L>() {
                    for m in 0..M {
                        acc[m] = L::splat(*starts.add(m));
                        if SPAN == 32 {
                            acc[m] = L::add(acc[m], L::splat(*starts.add(M + m)));
                        }
                    }
                }
                unrolled!(SPAN == 32, T => {
                    let weights = L::load(numbers.add(T * LINE));
                    for m in 0..M {
                        acc[m] = N::dot::<L>(acc[m], weights, values.add(T * M + m));
                    }
                });
                for m in 0..M {
                    dots[m] = L::add(dots[m], L::mul(acc[m], own));
                }
            }
            (numbers, scale) = (numbers.add(SPAN / 4 * LINE), scale.add(LINE));
            (values, starts) = (values.add(SPAN / 4 * M), starts.add(SPAN / 16 * M));
        }
        let scale = L::load_f(record.add(FLOAT_SCALE).cast());
        for m in 0..M {
            let mut value = L::mul_f(L::to_floats(dots[m]), scale);
            if WITH_MINIMA {
                let mut offsets = L::splat(0);
                for i in 0..4 {
                    let minima = L::load(record.add(MINIMA + i * LINE));
                    offsets = L::dot_pairs(offsets, minima, L::splat(*pairs.add(i * M + m)));
                }
                let minima_scale = L::load_f(record.add(MINIMA_SCALE).cast());
                value = L::sub_f(value, L::mul_f(L::to_floats(offsets), minima_scale));
            }
            let result = L::load_f(out.add(m * GROUP));
            L::store_f(out.add(m * GROUP), L::fma(value, L::splat_f(*scales.add(m)), result));
        }
        (pairs, scales) = (pairs.add(4 * M), scales.add(M));
    }
}

/// As [`superblocks`], for blocks of 32.
#[inline(always)]
pub(super) unsafe fn blocks<L: Lanes, N: Numbers, const WITH_MINIMUM: bool>(
    tile: &[u8],
    first: usize,
    panels: &Panels<'_>,
    ahead: &[u8],
    out: &mut [f32],
) {
    let blocks = tile.len() / BLOCK_RECORD;
    panels.check(first, blocks, BLOCK, out);
    for panel in 0..panels.count {
        ask_for_part::<L>(ahead, panel, panels.count);
        let at = panel * panels.columns + first;
        by_width!(L, panels.width, M => block_rows::<L, N, WITH_MINIMUM, M>(
            tile.as_ptr(), blocks, panels, at, out.as_mut_ptr().add(panel * M * GROUP)
        ));
    }
}

/// `at` counts the columns of panels.
#[inline(always)]
unsafe fn block_rows<L: Lanes, N: Numbers, const WITH_MINIMUM: bool, const M: usize>(
    tile: *const u8,
    blocks: usize,
    panels: &Panels<'_>,
    at: usize,
    out: *mut f32,
) {
    let mut results = [L::splat_f(0.0); M];
    for m in 0..M {
        results[m] = L::load_f(out.add(m * GROUP));
    }
    let (mut record, mut values) = (tile, panels.values.as_ptr().add(at / 4 * M));
    let (mut starts, mut scales) =
        (panels.starts.as_ptr().add(at / BLOCK * M), panels.scales.as_ptr().add(at / BLOCK * M));
    let mut sums = panels.sums.as_ptr().add(at / BLOCK * M);
    for _ in 0..blocks {
        let mut acc = [L::splat(0); M];
        if N::start::<L>() {
            for m in 0..M {
                acc[m] = L::splat(*starts.add(m));
            }
        }
        if L::SHORT && N::SMALL {
            short_span::<L, 31, 8, M>(&mut acc, record, values, L::splat(0x0001_0001));
        } else {
            unrolled!(true, T => {
                let weights = L::load(record.add(T * LINE));
                for m in 0..M {
                    acc[m] = N::dot::<L>(acc[m], weights, values.add(T * M + m));
                }
            });
        }
        let scale = L::load_f(record.add(BLOCK_SCALE).cast());
        for m in 0..M {
            let scale = L::mul_f(scale, L::splat_f(*scales.add(m)));
            results[m] = L::fma(L::to_floats(acc[m]), scale, results[m]);
            if WITH_MINIMUM {
                let minimum = L::load_f(record.add(BLOCK_MINIMUM).cast());
                results[m] = L::fma(minimum, L::splat_f(*sums.add(m)), results[m]);
            }
        }
        (record, values) = (record.add(BLOCK_RECORD), values.add(8 * M));
        (starts, scales, sums) = (starts.add(M), scales.add(M), sums.add(M));
    }
    for m in 0..M {
        L::store_f(out.add(m * GROUP), results[m]);
    }
}
