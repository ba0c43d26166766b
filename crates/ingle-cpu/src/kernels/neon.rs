//! 64-bit Arm with what all of them have: four registers for the 16 lanes, dot products in steps through 16 bits.
//!
//! The text is generic over the dot products of bytes, so that `neon_dotprod` and `neon_i8mm` can be the rest of it with
//! other ones.

// Contract of `lanes`.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::arch::aarch64::*;
use std::marker::PhantomData;

use super::lanes::{Lanes, kernel_table};
use super::{Isa, Kernels};

kernel_table!(Isa::Neon, Neon<Steps>, "neon");

/// The kernels: every 64-bit Arm processor has the instruction set.
pub(super) fn table() -> Option<&'static Kernels> {
    Some(&TABLE)
}

/// Four registers of 4 lanes, with the dot products of `D`.
#[derive(Clone, Copy)]
pub(super) struct Neon<D>(PhantomData<D>);

/// The dot products of bytes in 4 lanes: see the functions of the same names in [`Lanes`].
pub(super) trait Dots: Copy {
    const WIDE_OFFSET: i32;

    unsafe fn dot(sum: uint32x4_t, weights: uint32x4_t, activations: uint32x4_t) -> uint32x4_t;
    unsafe fn dot_wide(sum: uint32x4_t, weights: uint32x4_t, activations: uint32x4_t) -> uint32x4_t;
}

/// Products of bytes in 16 bits, summed in pairs there, and those sums in 32.
#[derive(Clone, Copy)]
struct Steps;

impl Dots for Steps {
    const WIDE_OFFSET: i32 = 0;

    /// The sum of two products fits 16 bits: at most 2 x 128 x 127.
    #[inline(always)]
    unsafe fn dot(sum: uint32x4_t, weights: uint32x4_t, activations: uint32x4_t) -> uint32x4_t {
        let (a, b) = (vreinterpretq_s8_u32(weights), vreinterpretq_s8_u32(activations));
        let low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
        let high = vmull_high_s8(a, b);
        vreinterpretq_u32_s32(vpadalq_s16(vreinterpretq_s32_u32(sum), vpaddq_s16(low, high)))
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: uint32x4_t, weights: uint32x4_t, activations: uint32x4_t) -> uint32x4_t {
        Self::dot(sum, signed(weights), activations)
    }
}

/// Bytes stored with 128 added, as signed ones.
#[inline(always)]
pub(super) unsafe fn signed(v: uint32x4_t) -> uint32x4_t {
    veorq_u32(v, vdupq_n_u32(0x8080_8080))
}

#[inline(always)]
unsafe fn dot_words(sum: uint32x4_t, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
    let (a, b) = (vreinterpretq_s16_u32(a), vreinterpretq_s16_u32(b));
    let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
    let high = vmull_high_s16(a, b);
    vaddq_u32(sum, vreinterpretq_u32_s32(vpaddq_s32(low, high)))
}

#[inline(always)]
unsafe fn low_nibbles(v: uint32x4_t) -> uint8x16_t {
    vandq_u8(vreinterpretq_u8_u32(v), vdupq_n_u8(15))
}

#[inline(always)]
unsafe fn high_nibbles(v: uint32x4_t) -> uint8x16_t {
    vshrq_n_u8::<4>(vreinterpretq_u8_u32(v))
}

#[inline(always)]
unsafe fn look_up(table: uint32x4_t, nibbles: uint8x16_t) -> uint32x4_t {
    vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_u32(table), nibbles))
}

#[inline(always)]
unsafe fn shift16(v: uint32x4_t, bits: i32) -> uint32x4_t {
    vreinterpretq_u32_u16(vshlq_u16(vreinterpretq_u16_u32(v), vdupq_n_s16(bits as i16)))
}

#[inline(always)]
unsafe fn shift32(v: uint32x4_t, bits: i32) -> uint32x4_t {
    vshlq_u32(v, vdupq_n_s32(bits))
}

#[inline(always)]
unsafe fn shift_signed(v: uint32x4_t, bits: i32) -> uint32x4_t {
    vreinterpretq_u32_s32(vshlq_s32(vreinterpretq_s32_u32(v), vdupq_n_s32(bits)))
}

#[inline(always)]
unsafe fn max_signed(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
    vreinterpretq_u32_s32(vmaxq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b)))
}

#[inline(always)]
unsafe fn load_words(from: *const u8) -> uint32x4_t {
    vmovl_u16(vreinterpret_u16_u8(vld1_u8(from)))
}

#[inline(always)]
unsafe fn load_halves(from: *const u8) -> float16x4_t {
    vreinterpret_f16_u8(vld1_u8(from))
}

#[inline(always)]
unsafe fn widen_bf16(bits: uint32x4_t) -> float32x4_t {
    vreinterpretq_f32_u32(vshlq_n_u32::<16>(bits))
}

/// The larger, `b` if it is not a number.
#[inline(always)]
unsafe fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

/// The smaller, `b` if it is not a number.
#[inline(always)]
unsafe fn smaller(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcltq_f32(a, b), a, b)
}

impl<D: Dots> Lanes for Neon<D> {
    type Ints = [uint32x4_t; 4];
    type Floats = [float32x4_t; 4];

    const ROWS: usize = 4;
    const PANEL: usize = 4;
    const WIDE_OFFSET: i32 = D::WIDE_OFFSET;

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self::Ints {
        [vdupq_n_u32(value as u32); 4]
    }
    #[inline(always)]
    unsafe fn splat_bytes(value: u8) -> Self::Ints {
        [vreinterpretq_u32_u8(vdupq_n_u8(value)); 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Ints {
        [
            vreinterpretq_u32_u8(vld1q_u8(from)),
            vreinterpretq_u32_u8(vld1q_u8(from.add(16))),
            vreinterpretq_u32_u8(vld1q_u8(from.add(32))),
            vreinterpretq_u32_u8(vld1q_u8(from.add(48))),
        ]
    }
    #[inline(always)]
    unsafe fn load_next(from: *const u8) -> Self::Ints {
        let from = from.cast::<uint32x4_t>();
        [
            from.read_volatile(),
            from.add(1).read_volatile(),
            from.add(2).read_volatile(),
            from.add(3).read_volatile(),
        ]
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self::Ints {
        let v = vld1q_u8(from);
        let (low, high) = (vmovl_u8(vget_low_u8(v)), vmovl_high_u8(v));
        [
            vmovl_u16(vget_low_u16(low)),
            vmovl_high_u16(low),
            vmovl_u16(vget_low_u16(high)),
            vmovl_high_u16(high),
        ]
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut i8, v: Self::Ints) {
        let low = vcombine_u16(vmovn_u32(v[0]), vmovn_u32(v[1]));
        let high = vcombine_u16(vmovn_u32(v[2]), vmovn_u32(v[3]));
        vst1q_u8(to.cast(), vcombine_u8(vmovn_u16(low), vmovn_u16(high)));
    }
    #[inline(always)]
    unsafe fn load_words(from: *const i8) -> Self::Ints {
        let (low, high) = (vld1q_s8(from), vld1q_s8(from.add(16)));
        [
            vreinterpretq_u32_s16(vmovl_s8(vget_low_s8(low))),
            vreinterpretq_u32_s16(vmovl_high_s8(low)),
            vreinterpretq_u32_s16(vmovl_s8(vget_low_s8(high))),
            vreinterpretq_u32_s16(vmovl_high_s8(high)),
        ]
    }
    #[inline(always)]
    unsafe fn store_words(to: *mut i16, v: Self::Ints) {
        vst1q_u16(to.cast(), vcombine_u16(vmovn_u32(v[0]), vmovn_u32(v[1])));
        vst1q_u16(to.add(8).cast(), vcombine_u16(vmovn_u32(v[2]), vmovn_u32(v[3])));
    }
    #[inline(always)]
    unsafe fn add_words(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        let add = |a, b| vreinterpretq_u32_u16(vaddq_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b)));
        [add(a[0], b[0]), add(a[1], b[1]), add(a[2], b[2]), add(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn mul_words(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        let mul = |a, b| vreinterpretq_u32_u16(vmulq_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b)));
        [mul(a[0], b[0]), mul(a[1], b[1]), mul(a[2], b[2]), mul(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn and(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [vandq_u32(a[0], b[0]), vandq_u32(a[1], b[1]), vandq_u32(a[2], b[2]), vandq_u32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn or(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [vorrq_u32(a[0], b[0]), vorrq_u32(a[1], b[1]), vorrq_u32(a[2], b[2]), vorrq_u32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn add(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [vaddq_u32(a[0], b[0]), vaddq_u32(a[1], b[1]), vaddq_u32(a[2], b[2]), vaddq_u32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [vmulq_u32(a[0], b[0]), vmulq_u32(a[1], b[1]), vmulq_u32(a[2], b[2]), vmulq_u32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn max(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [max_signed(a[0], b[0]), max_signed(a[1], b[1]), max_signed(a[2], b[2]), max_signed(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn shr16(v: Self::Ints, bits: i32) -> Self::Ints {
        [shift16(v[0], -bits), shift16(v[1], -bits), shift16(v[2], -bits), shift16(v[3], -bits)]
    }
    #[inline(always)]
    unsafe fn shl16(v: Self::Ints, bits: i32) -> Self::Ints {
        [shift16(v[0], bits), shift16(v[1], bits), shift16(v[2], bits), shift16(v[3], bits)]
    }
    #[inline(always)]
    unsafe fn shr(v: Self::Ints, bits: i32) -> Self::Ints {
        [shift32(v[0], -bits), shift32(v[1], -bits), shift32(v[2], -bits), shift32(v[3], -bits)]
    }
    #[inline(always)]
    unsafe fn shl(v: Self::Ints, bits: i32) -> Self::Ints {
        [shift32(v[0], bits), shift32(v[1], bits), shift32(v[2], bits), shift32(v[3], bits)]
    }
    #[inline(always)]
    unsafe fn sar(v: Self::Ints, bits: i32) -> Self::Ints {
        [
            shift_signed(v[0], -bits),
            shift_signed(v[1], -bits),
            shift_signed(v[2], -bits),
            shift_signed(v[3], -bits),
        ]
    }
    #[inline(always)]
    unsafe fn sum(v: Self::Ints) -> i32 {
        vaddvq_u32(vaddq_u32(vaddq_u32(v[0], v[1]), vaddq_u32(v[2], v[3]))) as i32
    }
    #[inline(always)]
    unsafe fn largest(v: Self::Ints) -> i32 {
        let v = max_signed(max_signed(v[0], v[1]), max_signed(v[2], v[3]));
        vmaxvq_s32(vreinterpretq_s32_u32(v))
    }
    #[inline(always)]
    unsafe fn dot(sum: Self::Ints, weights: Self::Ints, activations: Self::Ints) -> Self::Ints {
        [
            D::dot(sum[0], weights[0], activations[0]),
            D::dot(sum[1], weights[1], activations[1]),
            D::dot(sum[2], weights[2], activations[2]),
            D::dot(sum[3], weights[3], activations[3]),
        ]
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: Self::Ints, weights: Self::Ints, activations: Self::Ints) -> Self::Ints {
        [
            D::dot_wide(sum[0], weights[0], activations[0]),
            D::dot_wide(sum[1], weights[1], activations[1]),
            D::dot_wide(sum[2], weights[2], activations[2]),
            D::dot_wide(sum[3], weights[3], activations[3]),
        ]
    }
    #[inline(always)]
    unsafe fn dot_pairs(sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [
            dot_words(sum[0], a[0], b[0]),
            dot_words(sum[1], a[1], b[1]),
            dot_words(sum[2], a[2], b[2]),
            dot_words(sum[3], a[3], b[3]),
        ]
    }
    #[inline(always)]
    unsafe fn look_up_low(table: Self::Ints, v: Self::Ints) -> Self::Ints {
        [
            look_up(table[0], low_nibbles(v[0])),
            look_up(table[1], low_nibbles(v[1])),
            look_up(table[2], low_nibbles(v[2])),
            look_up(table[3], low_nibbles(v[3])),
        ]
    }
    #[inline(always)]
    unsafe fn look_up_high(table: Self::Ints, v: Self::Ints) -> Self::Ints {
        [
            look_up(table[0], high_nibbles(v[0])),
            look_up(table[1], high_nibbles(v[1])),
            look_up(table[2], high_nibbles(v[2])),
            look_up(table[3], high_nibbles(v[3])),
        ]
    }
    #[inline(always)]
    unsafe fn table(bytes: &[u8; 16]) -> Self::Ints {
        [vreinterpretq_u32_u8(vld1q_u8(bytes.as_ptr())); 4]
    }
    #[inline(always)]
    unsafe fn to_floats(v: Self::Ints) -> Self::Floats {
        [
            vcvtq_f32_s32(vreinterpretq_s32_u32(v[0])),
            vcvtq_f32_s32(vreinterpretq_s32_u32(v[1])),
            vcvtq_f32_s32(vreinterpretq_s32_u32(v[2])),
            vcvtq_f32_s32(vreinterpretq_s32_u32(v[3])),
        ]
    }
    #[inline(always)]
    unsafe fn round(v: Self::Floats) -> Self::Ints {
        [
            vreinterpretq_u32_s32(vcvtnq_s32_f32(v[0])),
            vreinterpretq_u32_s32(vcvtnq_s32_f32(v[1])),
            vreinterpretq_u32_s32(vcvtnq_s32_f32(v[2])),
            vreinterpretq_u32_s32(vcvtnq_s32_f32(v[3])),
        ]
    }
    #[inline(always)]
    unsafe fn from_bits(v: Self::Ints) -> Self::Floats {
        [
            vreinterpretq_f32_u32(v[0]),
            vreinterpretq_f32_u32(v[1]),
            vreinterpretq_f32_u32(v[2]),
            vreinterpretq_f32_u32(v[3]),
        ]
    }
    #[inline(always)]
    unsafe fn to_bits(v: Self::Floats) -> Self::Ints {
        [
            vreinterpretq_u32_f32(v[0]),
            vreinterpretq_u32_f32(v[1]),
            vreinterpretq_u32_f32(v[2]),
            vreinterpretq_u32_f32(v[3]),
        ]
    }
    #[inline(always)]
    unsafe fn splat_f(value: f32) -> Self::Floats {
        [vdupq_n_f32(value); 4]
    }
    #[inline(always)]
    unsafe fn load_f(from: *const f32) -> Self::Floats {
        [vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12))]
    }
    #[inline(always)]
    unsafe fn store_f(to: *mut f32, v: Self::Floats) {
        for (i, v) in v.into_iter().enumerate() {
            vst1q_f32(to.add(i * 4), v);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self::Floats {
        [
            vcvt_f32_f16(load_halves(from)),
            vcvt_f32_f16(load_halves(from.add(8))),
            vcvt_f32_f16(load_halves(from.add(16))),
            vcvt_f32_f16(load_halves(from.add(24))),
        ]
    }
    #[inline(always)]
    unsafe fn store_f16(to: *mut u8, v: Self::Floats) {
        // The thread's rounding mode is to nearest: code in Rust may not change it.
        for (i, v) in v.into_iter().enumerate() {
            vst1_u8(to.add(i * 8), vreinterpret_u8_f16(vcvt_f16_f32(v)));
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self::Floats {
        [
            widen_bf16(load_words(from)),
            widen_bf16(load_words(from.add(8))),
            widen_bf16(load_words(from.add(16))),
            widen_bf16(load_words(from.add(24))),
        ]
    }
    #[inline(always)]
    unsafe fn add_f(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1]), vaddq_f32(a[2], b[2]), vaddq_f32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn sub_f(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [vsubq_f32(a[0], b[0]), vsubq_f32(a[1], b[1]), vsubq_f32(a[2], b[2]), vsubq_f32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn mul_f(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1]), vmulq_f32(a[2], b[2]), vmulq_f32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn div_f(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [vdivq_f32(a[0], b[0]), vdivq_f32(a[1], b[1]), vdivq_f32(a[2], b[2]), vdivq_f32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn max_f(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [larger(a[0], b[0]), larger(a[1], b[1]), larger(a[2], b[2]), larger(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn min_f(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [smaller(a[0], b[0]), smaller(a[1], b[1]), smaller(a[2], b[2]), smaller(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        [
            vfmaq_f32(c[0], a[0], b[0]),
            vfmaq_f32(c[1], a[1], b[1]),
            vfmaq_f32(c[2], a[2], b[2]),
            vfmaq_f32(c[3], a[3], b[3]),
        ]
    }
    #[inline(always)]
    unsafe fn fnma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        [
            vfmsq_f32(c[0], a[0], b[0]),
            vfmsq_f32(c[1], a[1], b[1]),
            vfmsq_f32(c[2], a[2], b[2]),
            vfmsq_f32(c[3], a[3], b[3]),
        ]
    }
    #[inline(always)]
    unsafe fn sum_f(v: Self::Floats) -> f32 {
        vaddvq_f32(vaddq_f32(vaddq_f32(v[0], v[1]), vaddq_f32(v[2], v[3])))
    }
    #[inline(always)]
    unsafe fn largest_f(v: Self::Floats) -> f32 {
        vmaxvq_f32(vmaxq_f32(vmaxq_f32(v[0], v[1]), vmaxq_f32(v[2], v[3])))
    }
    #[inline(always)]
    unsafe fn prefetch(_at: *const u8) {
        // The intrinsic is not stable in Rust yet; these processors look far ahead by themselves.
    }
    #[inline(always)]
    unsafe fn prefetch_second(_at: *const u8) {
        // As above.
    }
}
