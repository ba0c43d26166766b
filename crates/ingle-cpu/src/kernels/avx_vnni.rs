//! x86-64 with AVX2 and AVX-VNNI: the text of `avx2` with each dot product in one instruction.
//!
//! The same operations on 256 bits exist twice: AVX-VNNI (Intel since Alder Lake, AMD since Zen 5) encodes them the old
//! way, AVX-512 VNNI with VL the new way. The table is of the first. Where a processor lacks it and has the second, the
//! tests (and nothing else) take the second in its place: the text is then tested, the old encoding is not.
//!
//! The table itself has been run on no processor that has the instructions. Its compiled form has passed the tests of
//! products (all formats, all sums at their largest) on one that refuses them, with a signal handler that carried out
//! each refused instruction.

// Contract of `lanes`.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::arch::x86_64::*;

use super::avx2::{self, Avx2, Dots};
use super::lanes::kernel_table;
use super::{Isa, Kernels};

kernel_table!(Isa::AvxVnni, Avx2<Vnni>, "avx2,fma,f16c,avxvnni");

/// The kernels, if the processor has the instruction set.
pub(super) fn table() -> Option<&'static Kernels> {
    if avx2::detected() && is_x86_feature_detected!("avxvnni") {
        return Some(&TABLE);
    }
    #[cfg(test)]
    return evex::table();
    #[cfg(not(test))]
    None
}

/// Dot products in one instruction each, with unsigned bytes on the left.
#[derive(Clone, Copy)]
struct Vnni;

impl Dots for Vnni {
    const WIDE_OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn dot(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(sum, weights, activations)
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(sum, weights, activations)
    }
    #[inline(always)]
    unsafe fn dot_pairs(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        _mm256_dpwssd_avx_epi32(sum, a, b)
    }
}

/// The same operations in the encoding of AVX-512, by name of the instruction: with the intrinsics, the compiler would
/// also use AVX-512's other registers and masks, and the tests would see another program.
#[cfg(test)]
mod evex {
    use std::arch::asm;

    use super::*;

    kernel_table!(Isa::AvxVnni, Avx2<Evex>, "avx2,fma,f16c");

    pub(super) fn table() -> Option<&'static Kernels> {
        let has = avx2::detected()
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        has.then_some(&TABLE)
    }

    #[derive(Clone, Copy)]
    struct Evex;

    macro_rules! instruction {
        ($f:ident = $name:literal) => {
            #[inline]
            #[target_feature(enable = "avx2")]
            unsafe fn $f(mut sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
                asm!(
                    concat!("{{evex}} ", $name, " {0}, {1}, {2}"),
                    inout(ymm_reg) sum, in(ymm_reg) a, in(ymm_reg) b,
                    options(pure, nomem, nostack, preserves_flags)
                );
                sum
            }
        };
    }

    instruction!(dot_bytes = "vpdpbusd");
    instruction!(dot_words = "vpdpwssd");

    impl Dots for Evex {
        const WIDE_OFFSET: i32 = 128;

        #[inline(always)]
        unsafe fn dot(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
            dot_bytes(sum, weights, activations)
        }
        #[inline(always)]
        unsafe fn dot_wide(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
            dot_bytes(sum, weights, activations)
        }
        #[inline(always)]
        unsafe fn dot_pairs(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
            dot_words(sum, a, b)
        }
    }
}
