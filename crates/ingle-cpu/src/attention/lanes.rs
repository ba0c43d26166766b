//! Vectors of 32-bit floats, as wide as an instruction set has them.
#![allow(unsafe_code)] // vector instructions

use half::f16;

/// A vector type and the few operations attention needs.
///
/// # Safety
/// The operations may only be called where the processor has the instruction set.
pub(super) unsafe trait Lanes {
    /// Floats in a vector.
    const COUNT: usize;
    /// The vector.
    type Vector: Copy;

    unsafe fn zero() -> Self::Vector;
    unsafe fn splat(value: f32) -> Self::Vector;
    /// Reads `COUNT` floats.
    unsafe fn load(from: *const f32) -> Self::Vector;
    /// Reads and widens `COUNT` 16-bit floats.
    unsafe fn widen(from: *const f16) -> Self::Vector;
    unsafe fn store(vector: Self::Vector, to: *mut f32);
    /// `a * b + c`.
    unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
}

/// One float at a time, on every processor.
pub(super) struct One;

// SAFETY: needs no instruction set.
unsafe impl Lanes for One {
    const COUNT: usize = 1;
    type Vector = f32;

    #[inline(always)]
    unsafe fn zero() -> f32 {
        0.0
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> f32 {
        value
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> f32 {
        // SAFETY: the caller passes a readable float.
        unsafe { *from }
    }
    #[inline(always)]
    unsafe fn widen(from: *const f16) -> f32 {
        // SAFETY: the caller passes a readable 16-bit float.
        unsafe { (*from).to_f32_const() }
    }
    #[inline(always)]
    unsafe fn store(vector: f32, to: *mut f32) {
        // SAFETY: the caller passes a writable float.
        unsafe { *to = vector }
    }
    #[inline(always)]
    unsafe fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Lanes, f16};
    use std::arch::x86_64::*;

    /// Eight floats: AVX2, FMA and F16C.
    pub(in crate::attention) struct Eight;

    // SAFETY: of all operations: the caller has checked for AVX2, FMA and F16C, and passes pointers to eight numbers.
    unsafe impl Lanes for Eight {
        const COUNT: usize = 8;
        type Vector = __m256;

        #[inline(always)]
        unsafe fn zero() -> __m256 {
            // SAFETY: see the head of the block.
            unsafe { _mm256_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> __m256 {
            // SAFETY: see the head of the block.
            unsafe { _mm256_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            // SAFETY: see the head of the block.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn widen(from: *const f16) -> __m256 {
            // SAFETY: see the head of the block.
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
        }
        #[inline(always)]
        unsafe fn store(vector: __m256, to: *mut f32) {
            // SAFETY: see the head of the block.
            unsafe { _mm256_storeu_ps(to, vector) }
        }
        #[inline(always)]
        unsafe fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: see the head of the block.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
    }

    /// Sixteen floats: AVX-512 F.
    pub(in crate::attention) struct Sixteen;

    // SAFETY: of all operations: the caller has checked for AVX-512 F, and passes pointers to sixteen numbers.
    unsafe impl Lanes for Sixteen {
        const COUNT: usize = 16;
        type Vector = __m512;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            // SAFETY: see the head of the block.
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> __m512 {
            // SAFETY: see the head of the block.
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            // SAFETY: see the head of the block.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn widen(from: *const f16) -> __m512 {
            // SAFETY: see the head of the block.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        }
        #[inline(always)]
        unsafe fn store(vector: __m512, to: *mut f32) {
            // SAFETY: see the head of the block.
            unsafe { _mm512_storeu_ps(to, vector) }
        }
        #[inline(always)]
        unsafe fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: see the head of the block.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Eight, Sixteen};
