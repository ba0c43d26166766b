//! x86-64 with AVX-512: one register for the 16 lanes, 8-bit dot products in one instruction (VNNI).
//!
//! The text is generic over looking up, which VBMI (Intel since Ice Lake, AMD since Zen 4) does in fewer steps.

// Contract of `lanes`.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::lanes::{Lanes, kernel_table};
use super::{Isa, Kernels};

kernel_table!(
    Isa::Avx512,
    Avx512<Permute>,
    "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c"
);

/// Whether the processor has what all texts over [`Avx512`] need.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// The kernels, if the processor has the instruction set.
pub(super) fn table() -> Option<&'static Kernels> {
    (detected() && is_x86_feature_detected!("avx512vbmi")).then_some(&TABLE)
}

/// One register of 16 lanes, with the looking up of `T`.
#[derive(Clone, Copy)]
pub(super) struct Avx512<T>(PhantomData<T>);

/// Looking up: see [`Lanes::look_up_low`].
pub(super) trait LookUp: Copy {
    /// For each byte the entry of `table` that its low nibble names; its high nibble may be anything.
    unsafe fn look_up(table: __m512i, v: __m512i) -> __m512i;
}

/// With VBMI: 64 entries, so the high nibbles need not be cut off where the table repeats every 16 bytes.
#[derive(Clone, Copy)]
struct Permute;

impl LookUp for Permute {
    #[inline(always)]
    unsafe fn look_up(table: __m512i, v: __m512i) -> __m512i {
        _mm512_permutexvar_epi8(v, table)
    }
}

/// `vpdpwssd` by name: the compiler makes two instructions of some intrinsics, hoping for a shorter wait, which is slower
/// wherever many sums are under way.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn dot_words(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    asm!(
        "vpdpwssd {0}, {1}, {2}",
        inout(zmm_reg) sum, in(zmm_reg) a, in(zmm_reg) b,
        options(pure, nomem, nostack, preserves_flags)
    );
    sum
}

#[inline(always)]
unsafe fn count(bits: i32) -> __m128i {
    _mm_cvtsi32_si128(bits)
}

impl<T: LookUp> Lanes for Avx512<T> {
    type Ints = __m512i;
    type Floats = __m512;

    const ROWS: usize = 8;
    const PANEL: usize = 8;
    const WIDE_OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn splat(value: i32) -> __m512i {
        _mm512_set1_epi32(value)
    }
    #[inline(always)]
    unsafe fn splat_bytes(value: u8) -> __m512i {
        _mm512_set1_epi8(value as i8)
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        _mm512_loadu_si512(from.cast())
    }
    #[inline(always)]
    unsafe fn load_next(from: *const u8) -> __m512i {
        from.cast::<__m512i>().read_volatile()
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> __m512i {
        _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut i8, v: __m512i) {
        _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(v));
    }
    #[inline(always)]
    unsafe fn load_words(from: *const i8) -> __m512i {
        _mm512_cvtepi8_epi16(_mm256_loadu_si256(from.cast()))
    }
    #[inline(always)]
    unsafe fn store_words(to: *mut i16, v: __m512i) {
        _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(v));
    }
    #[inline(always)]
    unsafe fn add_words(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi16(a, b)
    }
    #[inline(always)]
    unsafe fn mul_words(a: __m512i, b: __m512i) -> __m512i {
        _mm512_mullo_epi16(a, b)
    }
    #[inline(always)]
    unsafe fn and(a: __m512i, b: __m512i) -> __m512i {
        _mm512_and_si512(a, b)
    }
    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        _mm512_or_si512(a, b)
    }
    #[inline(always)]
    unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m512i, b: __m512i) -> __m512i {
        _mm512_mullo_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn max(a: __m512i, b: __m512i) -> __m512i {
        _mm512_max_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn shr16(v: __m512i, bits: i32) -> __m512i {
        _mm512_srl_epi16(v, count(bits))
    }
    #[inline(always)]
    unsafe fn shl16(v: __m512i, bits: i32) -> __m512i {
        _mm512_sll_epi16(v, count(bits))
    }
    #[inline(always)]
    unsafe fn shr(v: __m512i, bits: i32) -> __m512i {
        _mm512_srl_epi32(v, count(bits))
    }
    #[inline(always)]
    unsafe fn shl(v: __m512i, bits: i32) -> __m512i {
        _mm512_sll_epi32(v, count(bits))
    }
    #[inline(always)]
    unsafe fn sar(v: __m512i, bits: i32) -> __m512i {
        _mm512_sra_epi32(v, count(bits))
    }
    #[inline(always)]
    unsafe fn sum(v: __m512i) -> i32 {
        _mm512_reduce_add_epi32(v)
    }
    #[inline(always)]
    unsafe fn largest(v: __m512i) -> i32 {
        _mm512_reduce_max_epi32(v)
    }
    #[inline(always)]
    unsafe fn dot(sum: __m512i, weights: __m512i, activations: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(sum, weights, activations)
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: __m512i, weights: __m512i, activations: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(sum, weights, activations)
    }
    #[inline(always)]
    unsafe fn dot_pairs(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        dot_words(sum, a, b)
    }
    #[inline(always)]
    unsafe fn look_up_low(table: __m512i, v: __m512i) -> __m512i {
        T::look_up(table, v)
    }
    #[inline(always)]
    unsafe fn look_up_high(table: __m512i, v: __m512i) -> __m512i {
        T::look_up(table, _mm512_srli_epi16::<4>(v))
    }
    #[inline(always)]
    unsafe fn table(bytes: &[u8; 16]) -> __m512i {
        _mm512_broadcast_i32x4(_mm_loadu_si128(bytes.as_ptr().cast()))
    }
    #[inline(always)]
    unsafe fn to_floats(v: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(v)
    }
    #[inline(always)]
    unsafe fn round(v: __m512) -> __m512i {
        _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v)
    }
    #[inline(always)]
    unsafe fn from_bits(v: __m512i) -> __m512 {
        _mm512_castsi512_ps(v)
    }
    #[inline(always)]
    unsafe fn to_bits(v: __m512) -> __m512i {
        _mm512_castps_si512(v)
    }
    #[inline(always)]
    unsafe fn splat_f(value: f32) -> __m512 {
        _mm512_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load_f(from: *const f32) -> __m512 {
        _mm512_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn store_f(to: *mut f32, v: __m512) {
        _mm512_storeu_ps(to, v);
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))
    }
    #[inline(always)]
    unsafe fn store_f16(to: *mut u8, v: __m512) {
        _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v));
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> __m512 {
        let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
    }
    #[inline(always)]
    unsafe fn add_f(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn sub_f(a: __m512, b: __m512) -> __m512 {
        _mm512_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul_f(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn div_f(a: __m512, b: __m512) -> __m512 {
        _mm512_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn fnma(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fnmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn max_f(a: __m512, b: __m512) -> __m512 {
        _mm512_max_ps(a, b)
    }
    #[inline(always)]
    unsafe fn min_f(a: __m512, b: __m512) -> __m512 {
        _mm512_min_ps(a, b)
    }
    #[inline(always)]
    unsafe fn sum_f(v: __m512) -> f32 {
        _mm512_reduce_add_ps(v)
    }
    #[inline(always)]
    unsafe fn largest_f(v: __m512) -> f32 {
        _mm512_reduce_max_ps(v)
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
