//! Gates, activations and soft caps over rows of floats:
//!
//! ```text
//! gelu_mul        out = gelu(gate) * up      gelu(x) = x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3)
//! gelu_erf        out = x (1 + erf(x / sqrt(2))) / 2 = max(x, 0) - |x| q,  q = erfc(|x| / sqrt(2)) / 2
//! clamped_swiglu  out = g / (1 + exp(-alpha g)) * (u + 1)    g = min(gate, limit), u = up within limit on both sides
//! sigmoid_mul     x   = x / (1 + exp(-gate))
//! soft_cap        x   = cap tanh(x / cap)    tanh(y) = m / (m + 2), m = exp(2 y) - 1
//! ```
//!
//! The first is the tanh form of GELU, since `(1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u))`. In `gelu_erf`, erfc is
//! the approximation 7.1.26 of Abramowitz and Stegun, which is exact to 1.5e-7.

// Contract of `lanes`; besides, callers pass slices of equal lengths.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use super::lanes::Lanes;
use super::vectors::{Power, exp, load_part, power, store_part, whole};

/// `sqrt(2 / pi)`, twice.
const TWICE_ROOT: f32 = (std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::SQRT_2) as f32;

/// How a gate and an up row combine, element by element.
trait Combine: Copy {
    unsafe fn combine<L: Lanes>(self, gate: L::Floats, up: L::Floats) -> L::Floats;
}

#[inline(always)]
unsafe fn combined<L: Lanes>(gate: &[f32], up: &[f32], out: &mut [f32], rule: impl Combine) {
    let (len, gate, up, out) = (gate.len(), gate.as_ptr(), up.as_ptr(), out.as_mut_ptr());
    let whole = whole(len);
    for i in (0..whole).step_by(16) {
        L::store_f(out.add(i), rule.combine::<L>(L::load_f(gate.add(i)), L::load_f(up.add(i))));
    }
    if whole < len {
        let left = len - whole;
        let (gate, up) =
            (load_part::<L>(gate.add(whole), left, 0.0), load_part::<L>(up.add(whole), left, 0.0));
        store_part::<L>(out.add(whole), left, rule.combine::<L>(gate, up));
    }
}

#[derive(Clone, Copy)]
struct GeluTanh;

impl Combine for GeluTanh {
    #[inline(always)]
    unsafe fn combine<L: Lanes>(self, gate: L::Floats, up: L::Floats) -> L::Floats {
        let cube = L::mul_f(L::mul_f(gate, gate), gate);
        let u = L::fma(cube, L::splat_f(0.044_715), gate);
        L::mul_f(gated::<L>(gate, L::mul_f(u, L::splat_f(TWICE_ROOT))), up)
    }
}

#[inline(always)]
pub(super) unsafe fn gelu_mul<L: Lanes>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    combined::<L>(gate, up, out, GeluTanh);
}

#[derive(Clone, Copy)]
struct ClampedSwiglu {
    alpha: f32,
    limit: f32,
}

impl Combine for ClampedSwiglu {
    #[inline(always)]
    unsafe fn combine<L: Lanes>(self, gate: L::Floats, up: L::Floats) -> L::Floats {
        let limit = L::splat_f(self.limit);
        let gate = L::min_f(limit, gate);
        let up = L::max_f(L::splat_f(-self.limit), L::min_f(limit, up));
        let activated = gated::<L>(gate, L::mul_f(gate, L::splat_f(self.alpha)));
        L::mul_f(activated, L::add_f(up, L::splat_f(1.0)))
    }
}

#[inline(always)]
pub(super) unsafe fn clamped_swiglu<L: Lanes>(
    gate: &[f32],
    up: &[f32],
    alpha: f32,
    limit: f32,
    out: &mut [f32],
) {
    combined::<L>(gate, up, out, ClampedSwiglu { alpha, limit });
}

/// `t = 1 / (1 + ERFC_T z)`, `erfc(z) = t (c0 + t (c1 + ..)) exp(-z^2)`.
pub(super) const ERFC_T: f32 = 0.327_591_1;
/// Highest power first.
pub(super) const ERFC: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];

#[inline(always)]
pub(super) unsafe fn gelu_erf<L: Lanes>(x: &[f32], out: &mut [f32]) {
    let (len, x, out) = (x.len(), x.as_ptr(), out.as_mut_ptr());
    let whole = whole(len);
    for i in (0..whole).step_by(16) {
        L::store_f(out.add(i), erf_gelu::<L>(L::load_f(x.add(i))));
    }
    if whole < len {
        let left = len - whole;
        store_part::<L>(out.add(whole), left, erf_gelu::<L>(load_part::<L>(x.add(whole), left, 0.0)));
    }
}

#[inline(always)]
unsafe fn erf_gelu<L: Lanes>(x: L::Floats) -> L::Floats {
    let (zero, one) = (L::splat_f(0.0), L::splat_f(1.0));
    let size = L::max_f(L::sub_f(zero, x), x);
    let t = L::div_f(one, L::fma(size, L::splat_f(ERFC_T * std::f32::consts::FRAC_1_SQRT_2), one));
    let mut sum = L::splat_f(ERFC[0]);
    for factor in &ERFC[1..] {
        sum = L::fma(sum, t, L::splat_f(*factor));
    }
    let power = exp::<L>(L::mul_f(L::mul_f(size, size), L::splat_f(-0.5)));
    let q = L::mul_f(L::mul_f(L::mul_f(sum, t), power), L::splat_f(0.5));
    L::sub_f(L::max_f(zero, x), L::mul_f(size, q))
}

#[inline(always)]
pub(super) unsafe fn sigmoid_mul<L: Lanes>(x: &mut [f32], gate: &[f32]) {
    let (len, x, gate) = (x.len(), x.as_mut_ptr(), gate.as_ptr());
    let whole = whole(len);
    for i in (0..whole).step_by(16) {
        L::store_f(x.add(i), gated::<L>(L::load_f(x.add(i)), L::load_f(gate.add(i))));
    }
    if whole < len {
        let left = len - whole;
        let (value, gate) =
            (load_part::<L>(x.add(whole), left, 0.0), load_part::<L>(gate.add(whole), left, 0.0));
        store_part::<L>(x.add(whole), left, gated::<L>(value, gate));
    }
}

/// `x / (1 + exp(-gate))`
#[inline(always)]
unsafe fn gated<L: Lanes>(x: L::Floats, gate: L::Floats) -> L::Floats {
    let power = exp::<L>(L::sub_f(L::splat_f(0.0), gate));
    L::div_f(x, L::add_f(L::splat_f(1.0), power))
}

#[inline(always)]
pub(super) unsafe fn soft_cap<L: Lanes>(x: &mut [f32], cap: f32) {
    let (len, x) = (x.len(), x.as_mut_ptr());
    let (twice_inverse, cap) = (L::splat_f(2.0 / cap), L::splat_f(cap));
    let whole = whole(len);
    for i in (0..whole).step_by(16) {
        L::store_f(x.add(i), capped::<L>(L::load_f(x.add(i)), twice_inverse, cap));
    }
    if whole < len {
        let left = len - whole;
        let value = load_part::<L>(x.add(whole), left, 0.0);
        store_part::<L>(x.add(whole), left, capped::<L>(value, twice_inverse, cap));
    }
}

/// `cap tanh(x / cap)` for `2 / cap` and `cap`.
#[inline(always)]
pub(super) unsafe fn capped<L: Lanes>(x: L::Floats, twice_inverse: L::Floats, cap: L::Floats) -> L::Floats {
    // exp(2 y) - 1 = 2^n (e^r - 1) + (2^n - 1): nothing is lost near zero, where n is 0
    let Power { less_one, two_n } = power::<L>(L::mul_f(x, twice_inverse));
    let m = L::fma(two_n, less_one, L::sub_f(two_n, L::splat_f(1.0)));
    L::mul_f(cap, L::div_f(m, L::add_f(m, L::splat_f(2.0))))
}
