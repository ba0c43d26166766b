//! 64-bit Arm with FEAT_I8MM (since 2021: Cortex-A510, Neoverse V1, Apple M2): the text of `neon` with dot products of
//! unsigned with signed bytes in one instruction, which takes weights as they are stored.
//!
//! The matrix instruction of the same feature (`usmmla`, 2 x 2 results of 8 columns each) would need 8 columns of a row
//! side by side where the layout has 4, so it is left out.

// Contract of `lanes`.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::lanes::kernel_table;
use super::neon::{Dots, Neon};
use super::{Isa, Kernels};

kernel_table!(Isa::NeonI8mm, Neon<Mixed>, "neon,i8mm");

/// The kernels, if the processor has the instruction set.
pub(super) fn table() -> Option<&'static Kernels> {
    is_aarch64_feature_detected!("i8mm").then_some(&TABLE)
}

/// Dot products of unsigned bytes with signed ones.
#[derive(Clone, Copy)]
struct Mixed;

impl Dots for Mixed {
    const WIDE_OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn dot(mut sum: uint32x4_t, weights: uint32x4_t, activations: uint32x4_t) -> uint32x4_t {
        // The intrinsic is not stable in Rust yet.
        asm!(
            "usdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sum, in(vreg) weights, in(vreg) activations,
            options(pure, nomem, nostack, preserves_flags)
        );
        sum
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: uint32x4_t, weights: uint32x4_t, activations: uint32x4_t) -> uint32x4_t {
        Self::dot(sum, weights, activations)
    }
}
