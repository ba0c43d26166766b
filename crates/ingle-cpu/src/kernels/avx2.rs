//! x86-64 with AVX2: two registers for the 16 lanes, 8-bit dot products in steps through 16 bits.
//!
//! The text is generic over the dot products alone, so that `avx_vnni` can be the rest of it with other ones.

// Contract of `lanes`.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::lanes::{Lanes, kernel_table};
use super::{Isa, Kernels};

kernel_table!(Isa::Avx2, Avx2<Steps>, "avx2,fma,f16c");

/// Whether the processor has what all texts over [`Avx2`] need.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// The kernels, if the processor has the instruction set.
pub(super) fn table() -> Option<&'static Kernels> {
    detected().then_some(&TABLE)
}

/// Two registers of 8 lanes, with the dot products of `D`.
#[derive(Clone, Copy)]
pub(super) struct Avx2<D>(PhantomData<D>);

/// The dot products of 8 lanes: see the functions of the same names in [`Lanes`].
pub(super) trait Dots: Copy {
    const WIDE_OFFSET: i32;
    const SHORT: bool = false;

    unsafe fn dot(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i;
    unsafe fn dot_wide(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i;
    unsafe fn dot_pairs(sum: __m256i, a: __m256i, b: __m256i) -> __m256i;
    unsafe fn dot_short(_sum: __m256i, _weights: __m256i, _activations: __m256i) -> __m256i {
        unreachable!("asked of instruction sets that say so")
    }
}

/// Products of bytes summed in pairs to 16 bits, and those to 32.
#[derive(Clone, Copy)]
struct Steps;

impl Dots for Steps {
    const WIDE_OFFSET: i32 = 0;
    const SHORT: bool = true;

    /// Pairs fit 16 signed bits: at most 2 x 127 x 128.
    #[inline(always)]
    unsafe fn dot(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
        let pairs = _mm256_maddubs_epi16(weights, activations);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
    /// Magnitudes of the one, signs moved to the other (from -127 to 127). A pair is at most 2 x 128 x 127, which fits.
    #[inline(always)]
    unsafe fn dot_wide(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
        let weights = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
        Self::dot(sum, _mm256_abs_epi8(weights), _mm256_sign_epi8(activations, weights))
    }
    #[inline(always)]
    unsafe fn dot_pairs(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
    }
    #[inline(always)]
    unsafe fn dot_short(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
        _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, activations))
    }
}

/// An operation on both halves.
macro_rules! both {
    ($f:ident($a:expr $(; $same:expr)?)) => { ($f($a.0 $(, $same)?), $f($a.1 $(, $same)?)) };
    ($f:ident($a:expr, $b:expr)) => { ($f($a.0, $b.0), $f($a.1, $b.1)) };
    ($f:path, $a:expr, $b:expr, $c:expr) => { ($f($a.0, $b.0, $c.0), $f($a.1, $b.1, $c.1)) };
}

#[inline(always)]
unsafe fn count(bits: i32) -> __m128i {
    _mm_cvtsi32_si128(bits)
}

#[inline(always)]
unsafe fn low_nibbles(v: __m256i) -> __m256i {
    _mm256_and_si256(v, _mm256_set1_epi8(15))
}

#[inline(always)]
unsafe fn high_nibbles(v: __m256i) -> __m256i {
    low_nibbles(_mm256_srli_epi16::<4>(v))
}

#[inline(always)]
unsafe fn widen_bf16(v: __m128i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(v)))
}

impl<D: Dots> Lanes for Avx2<D> {
    type Ints = (__m256i, __m256i);
    type Floats = (__m256, __m256);

    const ROWS: usize = 4;
    const PANEL: usize = 4;
    const WIDE_OFFSET: i32 = D::WIDE_OFFSET;
    const SHORT: bool = D::SHORT;

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self::Ints {
        let v = _mm256_set1_epi32(value);
        (v, v)
    }
    #[inline(always)]
    unsafe fn splat_bytes(value: u8) -> Self::Ints {
        let v = _mm256_set1_epi8(value as i8);
        (v, v)
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Ints {
        (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast()))
    }
    #[inline(always)]
    unsafe fn load_next(from: *const u8) -> Self::Ints {
        (from.cast::<__m256i>().read_volatile(), from.cast::<__m256i>().add(1).read_volatile())
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self::Ints {
        (
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())),
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.add(8).cast())),
        )
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut i8, v: Self::Ints) {
        // Packing works within 128-bit halves: the permutation puts their quarters in order.
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(v.0, v.1));
        let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        _mm_storeu_si128(to.cast(), bytes);
    }
    #[inline(always)]
    unsafe fn load_words(from: *const i8) -> Self::Ints {
        (
            _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())),
            _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(16).cast())),
        )
    }
    #[inline(always)]
    unsafe fn store_words(to: *mut i16, v: Self::Ints) {
        // as above
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(v.0, v.1));
        _mm256_storeu_si256(to.cast(), words);
    }
    #[inline(always)]
    unsafe fn add_words(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        both!(_mm256_add_epi16(a, b))
    }
    #[inline(always)]
    unsafe fn mul_words(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        both!(_mm256_mullo_epi16(a, b))
    }
    #[inline(always)]
    unsafe fn and(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        both!(_mm256_and_si256(a, b))
    }
    #[inline(always)]
    unsafe fn or(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        both!(_mm256_or_si256(a, b))
    }
    #[inline(always)]
    unsafe fn add(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        both!(_mm256_add_epi32(a, b))
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        both!(_mm256_mullo_epi32(a, b))
    }
    #[inline(always)]
    unsafe fn max(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        both!(_mm256_max_epi32(a, b))
    }
    #[inline(always)]
    unsafe fn shr16(v: Self::Ints, bits: i32) -> Self::Ints {
        both!(_mm256_srl_epi16(v; count(bits)))
    }
    #[inline(always)]
    unsafe fn shl16(v: Self::Ints, bits: i32) -> Self::Ints {
        both!(_mm256_sll_epi16(v; count(bits)))
    }
    #[inline(always)]
    unsafe fn shr(v: Self::Ints, bits: i32) -> Self::Ints {
        both!(_mm256_srl_epi32(v; count(bits)))
    }
    #[inline(always)]
    unsafe fn shl(v: Self::Ints, bits: i32) -> Self::Ints {
        both!(_mm256_sll_epi32(v; count(bits)))
    }
    #[inline(always)]
    unsafe fn sar(v: Self::Ints, bits: i32) -> Self::Ints {
        both!(_mm256_sra_epi32(v; count(bits)))
    }
    #[inline(always)]
    unsafe fn sum(v: Self::Ints) -> i32 {
        let v = _mm256_add_epi32(v.0, v.1);
        let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
        _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32::<1>(v)))
    }
    #[inline(always)]
    unsafe fn largest(v: Self::Ints) -> i32 {
        let v = _mm256_max_epi32(v.0, v.1);
        let v = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        let v = _mm_max_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
        _mm_cvtsi128_si32(_mm_max_epi32(v, _mm_shuffle_epi32::<1>(v)))
    }
    #[inline(always)]
    unsafe fn dot(sum: Self::Ints, weights: Self::Ints, activations: Self::Ints) -> Self::Ints {
        both!(D::dot, sum, weights, activations)
    }
    #[inline(always)]
    unsafe fn dot_short(sum: Self::Ints, weights: Self::Ints, activations: Self::Ints) -> Self::Ints {
        both!(D::dot_short, sum, weights, activations)
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: Self::Ints, weights: Self::Ints, activations: Self::Ints) -> Self::Ints {
        both!(D::dot_wide, sum, weights, activations)
    }
    #[inline(always)]
    unsafe fn dot_pairs(sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        both!(D::dot_pairs, sum, a, b)
    }
    #[inline(always)]
    unsafe fn look_up_low(table: Self::Ints, v: Self::Ints) -> Self::Ints {
        (_mm256_shuffle_epi8(table.0, low_nibbles(v.0)), _mm256_shuffle_epi8(table.1, low_nibbles(v.1)))
    }
    #[inline(always)]
    unsafe fn look_up_high(table: Self::Ints, v: Self::Ints) -> Self::Ints {
        (_mm256_shuffle_epi8(table.0, high_nibbles(v.0)), _mm256_shuffle_epi8(table.1, high_nibbles(v.1)))
    }
    #[inline(always)]
    unsafe fn table(bytes: &[u8; 16]) -> Self::Ints {
        let v = _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast()));
        (v, v)
    }
    #[inline(always)]
    unsafe fn to_floats(v: Self::Ints) -> Self::Floats {
        both!(_mm256_cvtepi32_ps(v))
    }
    #[inline(always)]
    unsafe fn round(v: Self::Floats) -> Self::Ints {
        // The thread's rounding mode is to nearest: code in Rust may not change it.
        both!(_mm256_cvtps_epi32(v))
    }
    #[inline(always)]
    unsafe fn from_bits(v: Self::Ints) -> Self::Floats {
        both!(_mm256_castsi256_ps(v))
    }
    #[inline(always)]
    unsafe fn to_bits(v: Self::Floats) -> Self::Ints {
        both!(_mm256_castps_si256(v))
    }
    #[inline(always)]
    unsafe fn splat_f(value: f32) -> Self::Floats {
        let v = _mm256_set1_ps(value);
        (v, v)
    }
    #[inline(always)]
    unsafe fn load_f(from: *const f32) -> Self::Floats {
        (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)))
    }
    #[inline(always)]
    unsafe fn store_f(to: *mut f32, v: Self::Floats) {
        _mm256_storeu_ps(to, v.0);
        _mm256_storeu_ps(to.add(8), v.1);
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self::Floats {
        (_mm256_cvtph_ps(_mm_loadu_si128(from.cast())), _mm256_cvtph_ps(_mm_loadu_si128(from.add(16).cast())))
    }
    #[inline(always)]
    unsafe fn store_f16(to: *mut u8, v: Self::Floats) {
        _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.0));
        _mm_storeu_si128(to.add(16).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.1));
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self::Floats {
        (widen_bf16(_mm_loadu_si128(from.cast())), widen_bf16(_mm_loadu_si128(from.add(16).cast())))
    }
    #[inline(always)]
    unsafe fn add_f(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        both!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    unsafe fn sub_f(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        both!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    unsafe fn mul_f(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        both!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    unsafe fn div_f(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        both!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    unsafe fn max_f(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        both!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    unsafe fn min_f(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        both!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        both!(_mm256_fmadd_ps, a, b, c)
    }
    #[inline(always)]
    unsafe fn fnma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        both!(_mm256_fnmadd_ps, a, b, c)
    }
    #[inline(always)]
    unsafe fn sum_f(v: Self::Floats) -> f32 {
        let v = _mm256_add_ps(v.0, v.1);
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
    }
    #[inline(always)]
    unsafe fn largest_f(v: Self::Floats) -> f32 {
        let v = _mm256_max_ps(v.0, v.1);
        let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps::<1>(v, v)))
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[inline(always)]
    unsafe fn prefetch_second(at: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
}
