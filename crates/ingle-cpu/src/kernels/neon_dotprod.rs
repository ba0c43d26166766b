//! 64-bit Arm with FEAT_DotProd (since 2018: Cortex-A76, Neoverse N1, Apple A11 and all M): the text of `neon` with dot
//! products of signed bytes in one instruction. Bytes stored with 128 added lose it by one exclusive or before.

// Contract of `lanes`.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::lanes::kernel_table;
use super::neon::{Dots, Neon, signed};
use super::{Isa, Kernels};

kernel_table!(Isa::NeonDotprod, Neon<Signed>, "neon,dotprod");

/// The kernels, if the processor has the instruction set.
pub(super) fn table() -> Option<&'static Kernels> {
    is_aarch64_feature_detected!("dotprod").then_some(&TABLE)
}

/// Dot products of signed bytes; those from 0 to 127 are such.
#[derive(Clone, Copy)]
struct Signed;

impl Dots for Signed {
    const WIDE_OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn dot(mut sum: uint32x4_t, weights: uint32x4_t, activations: uint32x4_t) -> uint32x4_t {
        // The intrinsic is not stable in Rust yet.
        asm!(
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sum, in(vreg) weights, in(vreg) activations,
            options(pure, nomem, nostack, preserves_flags)
        );
        sum
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: uint32x4_t, weights: uint32x4_t, activations: uint32x4_t) -> uint32x4_t {
        Self::dot(sum, signed(weights), activations)
    }
}
