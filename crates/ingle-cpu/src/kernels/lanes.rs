//! Sixteen lanes of 32 bits: what the fast kernels are written over, and what an instruction set must offer.
//!
//! Every function is unsafe under one contract: the processor has the instruction set, pointers are good for the 64 (or
//! as many as stated) bytes that they are read or written for, alignment does not matter. All are inlined into functions
//! that are compiled for the instruction set.

// One contract for all, stated above; a comment at each operation would say nothing more.
#![allow(clippy::undocumented_unsafe_blocks)]

use super::layout::LINE;

/// One instruction set.
pub(super) trait Lanes: Copy {
    /// 16 integers of 32 bits, or 64 bytes.
    type Ints: Copy;
    /// 16 floats.
    type Floats: Copy;

    /// Most input rows whose sums stay in registers.
    const ROWS: usize;
    /// Most rows of a panel ([`panels`](super::panels)), each of which takes two registers: 4 or 8.
    const PANEL: usize;
    /// What [`dot_wide`](Self::dot_wide) adds to each weight: 128 where it takes the bytes as they are stored.
    const WIDE_OFFSET: i32;
    /// Whether products of small weights are best summed in 16 bits first ([`dot_short`](Self::dot_short)): where a dot
    /// product takes several steps, most of them are left to one for several products.
    const SHORT: bool = false;

    unsafe fn splat(value: i32) -> Self::Ints;
    unsafe fn splat_bytes(value: u8) -> Self::Ints;
    unsafe fn load(from: *const u8) -> Self::Ints;
    /// The same from a multiple of 64, after all such loads before it in the text.
    ///
    /// Weights are read line after line by these: compilers like to reorder loads, and the processor's prefetchers,
    /// which follow streams, then lose up to two thirds of the bandwidth.
    unsafe fn load_next(from: *const u8) -> Self::Ints;
    /// 16 bytes, each extended with zeros to a lane.
    unsafe fn load_bytes(from: *const u8) -> Self::Ints;
    /// 16 integers within -128 to 127 as bytes. Others are cut off somehow.
    unsafe fn store_bytes(to: *mut i8, v: Self::Ints);
    /// 32 signed bytes as 16-bit numbers, two to a lane.
    unsafe fn load_words(from: *const i8) -> Self::Ints;
    /// 16 integers of 16 signed bits. Others are cut off somehow.
    unsafe fn store_words(to: *mut i16, v: Self::Ints);
    /// Sums of 16-bit numbers, two to a lane, which wrap around.
    unsafe fn add_words(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// The low halves of products of 16-bit numbers, two to a lane.
    unsafe fn mul_words(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn and(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn or(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn add(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn mul(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// The larger of signed lanes.
    unsafe fn max(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// Shifts of 16-bit halves (so that bits never reach another row).
    unsafe fn shr16(v: Self::Ints, bits: i32) -> Self::Ints;
    unsafe fn shl16(v: Self::Ints, bits: i32) -> Self::Ints;
    /// Shifts of lanes.
    unsafe fn shr(v: Self::Ints, bits: i32) -> Self::Ints;
    unsafe fn shl(v: Self::Ints, bits: i32) -> Self::Ints;
    /// Arithmetic shift: copies of the sign come in.
    unsafe fn sar(v: Self::Ints, bits: i32) -> Self::Ints;
    /// Sum of all lanes.
    unsafe fn sum(v: Self::Ints) -> i32;
    /// Largest of signed lanes.
    unsafe fn largest(v: Self::Ints) -> i32;

    /// `sum + weights . activations` in each lane, over its 4 bytes: weights from 0 to 127, activations signed.
    unsafe fn dot(sum: Self::Ints, weights: Self::Ints, activations: Self::Ints) -> Self::Ints;
    /// `sum + weights . activations` in each half of 16 bits, over its 2 bytes: for as many turns as the sum fits,
    /// [`short_turns`].
    unsafe fn dot_short(_sum: Self::Ints, _weights: Self::Ints, _activations: Self::Ints) -> Self::Ints {
        unreachable!("asked of instruction sets that say so")
    }
    /// The same for weights stored with 128 added: `sum + (weights - 128 + WIDE_OFFSET) . activations`.
    unsafe fn dot_wide(sum: Self::Ints, weights: Self::Ints, activations: Self::Ints) -> Self::Ints;
    /// `sum + a . b` in each lane, over its two signed 16-bit numbers.
    unsafe fn dot_pairs(sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// For each byte the entry of `table` (16 bytes) that its low nibble names.
    unsafe fn look_up_low(table: Self::Ints, v: Self::Ints) -> Self::Ints;
    /// For each byte the entry of `table` that its high nibble names.
    unsafe fn look_up_high(table: Self::Ints, v: Self::Ints) -> Self::Ints;
    /// The 16 bytes four times.
    unsafe fn table(bytes: &[u8; 16]) -> Self::Ints;

    unsafe fn to_floats(v: Self::Ints) -> Self::Floats;
    /// To the nearest integers, halves to even. Not defined for what does not fit.
    unsafe fn round(v: Self::Floats) -> Self::Ints;
    /// The bits of the lanes, taken for floats.
    unsafe fn from_bits(v: Self::Ints) -> Self::Floats;
    unsafe fn to_bits(v: Self::Floats) -> Self::Ints;
    unsafe fn splat_f(value: f32) -> Self::Floats;
    unsafe fn load_f(from: *const f32) -> Self::Floats;
    unsafe fn store_f(to: *mut f32, v: Self::Floats);
    /// 16 half-precision numbers (32 bytes).
    unsafe fn load_f16(from: *const u8) -> Self::Floats;
    /// To 16 half-precision numbers (32 bytes), rounded to nearest, halves to even.
    unsafe fn store_f16(to: *mut u8, v: Self::Floats);
    /// 16 bfloat16 numbers (32 bytes).
    unsafe fn load_bf16(from: *const u8) -> Self::Floats;
    unsafe fn add_f(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn sub_f(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn mul_f(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn div_f(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `c - a * b`, rounded once.
    unsafe fn fnma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// The larger, `b` if it is not a number.
    unsafe fn max_f(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The smaller, `b` if it is not a number.
    unsafe fn min_f(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Sum of all lanes.
    unsafe fn sum_f(v: Self::Floats) -> f32;
    /// Largest lane.
    unsafe fn largest_f(v: Self::Floats) -> f32;

    /// Asks for the cache line at any address, even a bad one.
    unsafe fn prefetch(at: *const u8);
    /// The same, into the second-level cache only, which takes more requests at a time.
    unsafe fn prefetch_second(at: *const u8);
}

/// One function with the features of an instruction set around a text that is inlined into it.
macro_rules! compile {
    ($features:literal $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $text:expr) => {
        #[target_feature(enable = $features)]
        unsafe fn $name($($arg: $type),*) $(-> $result)? {
            // SAFETY: the caller says that the features are there, and keeps the text's contract.
            unsafe { $text($($arg),*) }
        }
    };
}

/// Defines `TABLE`: the [`Kernels`](super::Kernels) made of the common texts, compiled for an instruction set.
macro_rules! kernel_table {
    ($isa:expr, $lanes:ty, $features:literal) => {
        static TABLE: $crate::kernels::Kernels = {
            use half::{bf16, f16};

            use $crate::kernels::lanes::compile;
            use $crate::kernels::panels::{self, Exact, Higher, Panels, Raised, Wide};
            use $crate::kernels::{CachedKernels, RowLimits, Softmax, TileKernel, TileKernels};
            use $crate::kernels::{DeltaGates, FloatRows, Int8Rows, PAGE, PageWeights, Strided, Tile};
            use $crate::kernels::{blocks, cached, delta, floats, gates, pages, peaks, superblocks, tiles, vectors};

            type L = $lanes;
            compile!($features float_f32(w: &[u8], x: FloatRows<'_>, t: &mut Tile) = floats::multiply::<L, floats::F32>);
            compile!($features float_f16(w: &[u8], x: FloatRows<'_>, t: &mut Tile) = floats::multiply::<L, floats::F16>);
            compile!($features float_bf16(w: &[u8], x: FloatRows<'_>, t: &mut Tile) = floats::multiply::<L, floats::Bf16>);
            compile!($features q4_k(w: &[u8], x: Int8Rows<'_, 256>, t: &mut Tile) = superblocks::with_minima::<L, false>);
            compile!($features q5_k(w: &[u8], x: Int8Rows<'_, 256>, t: &mut Tile) = superblocks::with_minima::<L, true>);
            compile!($features q6_k(w: &[u8], x: Int8Rows<'_, 256>, t: &mut Tile) = superblocks::q6_k::<L>);
            compile!($features iq4_xs(w: &[u8], x: Int8Rows<'_, 256>, t: &mut Tile) = superblocks::iq4_xs::<L>);
            compile!($features q8_0(w: &[u8], x: Int8Rows<'_, 32>, t: &mut Tile) = blocks::multiply::<L, blocks::Q8_0>);
            compile!($features q4_0(w: &[u8], x: Int8Rows<'_, 32>, t: &mut Tile) = blocks::multiply::<L, blocks::Q4_0>);
            compile!($features q4_1(w: &[u8], x: Int8Rows<'_, 32>, t: &mut Tile) = blocks::multiply::<L, blocks::Q4_1>);
            compile!($features q5_0(w: &[u8], x: Int8Rows<'_, 32>, t: &mut Tile) = blocks::multiply::<L, blocks::Q5_0>);
            compile!($features iq4_nl(w: &[u8], x: Int8Rows<'_, 32>, t: &mut Tile) = blocks::multiply::<L, blocks::Iq4Nl>);
            compile!($features mxfp4(w: &[u8], x: Int8Rows<'_, 32>, t: &mut Tile) = blocks::multiply::<L, blocks::Mxfp4>);
            compile!($features unpack_q4_k(w: &[u8], c: usize, t: &mut [u8]) = tiles::with_minima::<L, false>);
            compile!($features unpack_q5_k(w: &[u8], c: usize, t: &mut [u8]) = tiles::with_minima::<L, true>);
            compile!($features unpack_q6_k(w: &[u8], c: usize, t: &mut [u8]) = tiles::q6_k::<L>);
            compile!($features unpack_iq4_xs(w: &[u8], c: usize, t: &mut [u8]) = tiles::iq4_xs::<L>);
            compile!($features unpack_q8_0(w: &[u8], c: usize, t: &mut [u8]) = tiles::blocks::<L, blocks::Q8_0, true>);
            compile!($features unpack_q4_0(w: &[u8], c: usize, t: &mut [u8]) = tiles::blocks::<L, blocks::Q4_0, false>);
            compile!($features unpack_q4_1(w: &[u8], c: usize, t: &mut [u8]) = tiles::blocks::<L, blocks::Q4_1, false>);
            compile!($features unpack_q5_0(w: &[u8], c: usize, t: &mut [u8]) = tiles::blocks::<L, blocks::Q5_0, false>);
            compile!($features unpack_iq4_nl(w: &[u8], c: usize, t: &mut [u8]) = tiles::blocks::<L, blocks::Iq4Nl, true>);
            compile!($features unpack_mxfp4(w: &[u8], c: usize, t: &mut [u8]) = tiles::blocks::<L, blocks::Mxfp4, false>);
            compile!($features panel_minima(
                t: &[u8], c: usize, p: &Panels<'_>, ahead: &[u8], out: &mut [f32]
            ) = panels::superblocks::<L, Exact, 32, true>);
            compile!($features panel_spans_of_16(
                t: &[u8], c: usize, p: &Panels<'_>, ahead: &[u8], out: &mut [f32]
            ) = panels::superblocks::<L, Higher, 16, false>);
            compile!($features panel_wide_superblocks(
                t: &[u8], c: usize, p: &Panels<'_>, ahead: &[u8], out: &mut [f32]
            ) = panels::superblocks::<L, Wide, 32, false>);
            compile!($features panel_wide(t: &[u8], c: usize, p: &Panels<'_>, ahead: &[u8], out: &mut [f32]) = panels::blocks::<L, Wide, false>);
            compile!($features panel_raised(
                t: &[u8], c: usize, p: &Panels<'_>, ahead: &[u8], out: &mut [f32]
            ) = panels::blocks::<L, Higher, false>);
            compile!($features panel_minimum(t: &[u8], c: usize, p: &Panels<'_>, ahead: &[u8], out: &mut [f32]) = panels::blocks::<L, Higher, true>);
            compile!($features quantise_256(
                x: &[f32], values: &mut [i8], scales: &mut [f32], sums: &mut [i32], pairs: &mut [i32]
            ) = vectors::quantise_256::<L>);
            compile!($features quantise_32(
                x: &[f32], values: &mut [i8], scales: &mut [f32], sums: &mut [i32]
            ) = vectors::quantise_32::<L>);
            compile!($features square_sum(x: &[f32]) -> f32 = vectors::square_sum::<L>);
            compile!($features scaled_mul(
                x: *const f32, weight: &[f32], factor: f32, out: *mut f32
            ) = vectors::scaled_mul::<L>);
            compile!($features silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) = vectors::silu_mul::<L>);
            compile!($features gelu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) = gates::gelu_mul::<L>);
            compile!($features clamped_swiglu(
                gate: &[f32], up: &[f32], alpha: f32, limit: f32, out: &mut [f32]
            ) = gates::clamped_swiglu::<L>);
            compile!($features gelu_erf(x: &[f32], out: &mut [f32]) = gates::gelu_erf::<L>);
            compile!($features sigmoid_mul(x: &mut [f32], gate: &[f32]) = gates::sigmoid_mul::<L>);
            compile!($features soft_cap(x: &mut [f32], cap: f32) = gates::soft_cap::<L>);
            compile!($features convolve(
                inputs: Strided<'_>, weights: Strided<'_>, taps: usize, out: &mut [f32]
            ) = delta::convolve::<L>);
            compile!($features delta_step(
                state: &mut [f32], key: &[f32], query: &[f32], gates: DeltaGates, values: &[f32], out: &mut [f32]
            ) = delta::step::<L>);
            compile!($features axpy(factor: f32, x: &[f32], y: &mut [f32]) = vectors::axpy::<L>);
            compile!($features add(x: &mut [f32], y: &[f32]) = vectors::add::<L>);
            compile!($features scale(x: &mut [f32], factor: f32) = vectors::scale::<L>);
            compile!($features dot(x: &[f32], y: &[f32]) -> f32 = vectors::dot::<L>);
            compile!($features dot_f16(x: &[f16], y: &[f32]) -> f32 = vectors::dot_f16::<L>);
            compile!($features axpy_f16(factor: f32, x: &[f16], y: &mut [f32]) = vectors::axpy_f16::<L>);
            compile!($features positive_axpy(factor: f32, x: &[f32], y: &mut [f32]) = vectors::positive_axpy::<L>);
            compile!($features to_f16(x: &[f32], out: &mut [f16]) = vectors::to_f16::<L>);
            compile!($features max(x: &[f32]) -> f32 = vectors::max::<L>);
            compile!($features exp_sum(x: &mut [f32], shift: f32) -> f32 = vectors::exp_sum::<L>);
            compile!($features page_scores(
                queries: &[&[f32]], keys: &[f16], ahead: &[f16], out: &mut PageWeights
            ) = pages::scores::<L>);
            compile!($features page_accumulate(
                weights: &PageWeights, values: &[f16], positions: usize, ahead: &[f16], out: &mut [&mut [f32]]
            ) = pages::accumulate::<L>);
            compile!($features dots(
                queries: &[i16], keys: &[i16], ahead: &[u8], out: &mut [[i32; PAGE]]
            ) = cached::text::dots::<L>);
            compile!($features weigh(
                dots: &[[i32; PAGE]], key_scales: &[bf16; PAGE], value_scales: &[bf16; PAGE],
                soft_cap: Option<f32>, rows: &mut [Softmax], weights: &mut [[i16; PAGE]]
            ) = cached::text::weigh::<L>);
            compile!($features sum_values(
                weights: &[[i16; PAGE]], rows: &[Softmax], values: &[i16], positions: usize, ahead: &[u8],
                out: &mut [f32]
            ) = cached::text::sum_values::<L>);
            compile!($features to_words(
                x: &[f32], limits: RowLimits, out: &mut [i16]
            ) -> f32 = cached::text::to_words::<L>);
            compile!($features to_bytes(
                x: &[f32], limits: RowLimits, out: &mut [i8], factors: &mut [u8]
            ) -> f32 = cached::text::to_bytes::<L>);
            compile!($features widen_keys(
                bytes: &[i8], factors: &[u8], ahead: &[u8], out: &mut [i16]
            ) = cached::text::widen_keys::<L>);
            compile!($features widen_values(
                bytes: &[i8], factors: &[u8], positions: usize, ahead: &[u8], out: &mut [i16]
            ) = cached::text::widen_values::<L>);
            compile!($features widen_key_nibbles(
                bytes: &[u8], factors: &[u8], ahead: &[u8], out: &mut [i16]
            ) = cached::text::widen_key_nibbles::<L>);
            compile!($features widen_value_nibbles(
                bytes: &[u8], factors: &[u8], positions: usize, ahead: &[u8], out: &mut [i16]
            ) = cached::text::widen_value_nibbles::<L>);
            compile!($features peak_integers(rounds: usize) -> u64 = peaks::integers::<L>);
            compile!($features peak_words(rounds: usize) -> u64 = peaks::words::<L>);
            compile!($features peak_floats(rounds: usize) -> u64 = peaks::floats::<L>);
            compile!($features read(bytes: &[u8]) = peaks::read::<L>);

            $crate::kernels::Kernels {
                isa: $isa,
                float: [float_f32, float_f16, float_bf16],
                superblock: [q4_k, q5_k, q6_k, iq4_xs],
                block: [q8_0, q4_0, q5_0, iq4_nl, mxfp4, q4_1],
                tile: Some(TileKernels {
                    panel: <$lanes as $crate::kernels::lanes::Lanes>::PANEL,
                    raised: Raised::of::<$lanes>(),
                    superblock: [
                        TileKernel { unpack: unpack_q4_k, multiply: panel_minima, least: panels::least::<L>([40, usize::MAX]) },
                        TileKernel { unpack: unpack_q5_k, multiply: panel_minima, least: panels::least::<L>([24, usize::MAX]) },
                        TileKernel { unpack: unpack_q6_k, multiply: panel_spans_of_16, least: panels::least::<L>([12, 24]) },
                        TileKernel { unpack: unpack_iq4_xs, multiply: panel_wide_superblocks, least: panels::least::<L>([128, 16]) },
                    ],
                    block: [
                        TileKernel { unpack: unpack_q8_0, multiply: panel_wide, least: panels::least::<L>([24, usize::MAX]) },
                        TileKernel { unpack: unpack_q4_0, multiply: panel_raised, least: panels::least::<L>([40, usize::MAX]) },
                        TileKernel { unpack: unpack_q5_0, multiply: panel_raised, least: panels::least::<L>([24, usize::MAX]) },
                        TileKernel { unpack: unpack_iq4_nl, multiply: panel_wide, least: panels::least::<L>([40, usize::MAX]) },
                        TileKernel { unpack: unpack_mxfp4, multiply: panel_raised, least: panels::least::<L>([40, usize::MAX]) },
                        TileKernel { unpack: unpack_q4_1, multiply: panel_minimum, least: panels::least::<L>([40, usize::MAX]) },
                    ],
                }),
                quantise_256,
                quantise_32,
                square_sum,
                scaled_mul,
                silu_mul,
                gelu_mul,
                clamped_swiglu,
                axpy,
                gelu_erf,
                sigmoid_mul,
                soft_cap,
                convolve,
                delta_step,
                add,
                scale,
                dot,
                dot_f16,
                axpy_f16,
                positive_axpy,
                to_f16,
                max,
                exp_sum,
                page_scores,
                page_accumulate,
                cached: CachedKernels {
                    dots,
                    weigh,
                    sum_values,
                    to_words,
                    to_bytes,
                    widen_keys,
                    widen_values,
                    widen_key_nibbles,
                    widen_value_nibbles,
                },
                peak_integers,
                peak_words,
                peak_floats,
                read,
            }
        };
    };
}
pub(super) use {compile, kernel_table};

/// Calls `$text::<L, .., M>` with `M` the number of input rows, in parts of at most `L::ROWS`.
macro_rules! by_rows {
    ($l:ty, $rows:expr, |$first:ident, $m:ident| $call:expr) => {{
        let (rows, mut $first) = ($rows, 0);
        while $first < rows {
            let count = <$l as $crate::kernels::lanes::Lanes>::ROWS.min(rows - $first);
            macro_rules! part {
                ($count:literal) => {{
                    const $m: usize = $count;
                    $call
                }};
            }
            match count {
                1 => part!(1),
                2 => part!(2),
                3 => part!(3),
                4 => part!(4),
                5 if <$l>::ROWS > 4 => part!(5),
                6 if <$l>::ROWS > 4 => part!(6),
                7 if <$l>::ROWS > 4 => part!(7),
                8 if <$l>::ROWS > 4 => part!(8),
                _ => unreachable!("at most {} rows at once", <$l>::ROWS),
            }
            $first += count;
        }
    }};
}
pub(super) use by_rows;

/// Asks for `lines` lines, `ahead` of `at`, for `M` input rows; for none if that is zero.
#[inline(always)]
pub(super) unsafe fn prefetch<L: Lanes, const M: usize>(at: *const u8, ahead: usize, lines: usize) {
    if ahead > 0 {
        for line in 0..lines {
            let line = at.wrapping_add(ahead + line * LINE);
            match M {
                1 => unsafe { L::prefetch(line) },
                _ => unsafe { L::prefetch_second(line) },
            }
        }
    }
}

/// A number that the compiler does not know, for the turns of loops that it shall not unroll.
///
/// In long straight code what belongs together is drawn apart, and registers are spilled.
#[inline(always)]
pub(super) fn turns(count: usize) -> usize {
    std::hint::black_box(count)
}

/// Reads a byte of each of some lines that are used later, which is what [`Lanes::load_next`] is to the lines after them.
#[inline(always)]
pub(super) unsafe fn touch(at: *const u8, lines: usize) {
    for line in 0..lines {
        _ = unsafe { at.add(line * LINE).read_volatile() };
    }
}

/// A number times the weights' offset, in all lanes: `-offset * sum` with the sum of at most 32 activations in memory.
#[inline(always)]
pub(super) unsafe fn start<L: Lanes>(offset: i32, sum: *const i32) -> L::Ints {
    if offset == 0 {
        return unsafe { L::splat(0) };
    }
    // The lower 16 bits hold all of such a sum. By a product of 16-bit numbers it never passes through a scalar
    // register.
    unsafe { L::dot_pairs(L::splat(0), L::splat(-offset & 0xffff), L::splat(*sum)) }
}

/// Products with weights of at most `largest` whose sum fits 16 signed bits, of 1, 2, 4 or 8.
pub(super) const fn short_turns(largest: usize) -> usize {
    match i16::MAX as usize / (2 * 128 * largest) {
        8.. => 8,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// The lower 16 bits of each lane in both halves of it.
#[inline(always)]
pub(super) unsafe fn in_pairs<L: Lanes>(v: L::Ints) -> L::Ints {
    unsafe { L::or(L::and(v, L::splat(0xffff)), L::shl(v, 16)) }
}

/// The dword at `index` of activations, in all lanes.
#[inline(always)]
pub(super) unsafe fn broadcast<L: Lanes>(from: *const i8, index: usize) -> L::Ints {
    unsafe { L::splat(from.cast::<i32>().add(index).read_unaligned()) }
}
