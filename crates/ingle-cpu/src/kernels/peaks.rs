//! What the processor could do at most: the products of the other kernels without anything around them, and reading
//! without products. Each round multiplies one line of 16 weight rows with as many activations as keep the multipliers
//! busy; weights and activations come from the first-level cache and every sum stays in a register.

// One contract for all, stated in `lanes`.
#![allow(clippy::undocumented_unsafe_blocks)]

use std::hint::black_box;

use super::lanes::Lanes;

/// Lines of weights that are multiplied in turn.
const LINES: usize = 16;

/// Products of 8-bit integers: `rounds` times 16 lines. Gives the number of multiply-adds.
#[inline(always)]
pub(super) unsafe fn integers<L: Lanes>(rounds: usize) -> u64 {
    unsafe {
        match L::ROWS {
            5.. => integers_of::<L, 12>(rounds),
            _ => integers_of::<L, 6>(rounds),
        }
    }
}

#[inline(always)]
unsafe fn integers_of<L: Lanes, const SUMS: usize>(rounds: usize) -> u64 {
    let weights: [[u8; 64]; LINES] = std::array::from_fn(|line| [(3 + line) as u8; 64]);
    let activations: [i32; SUMS] = std::array::from_fn(|at| 0x0102_0304 + at as i32);
    unsafe {
        let mut sums = [L::splat(black_box(0)); SUMS];
        for _ in 0..rounds {
            // hidden from the compiler, which would otherwise multiply once and add the product again and again
            let (weights, activations) = (black_box(&weights), black_box(&activations));
            if L::SHORT {
                short::<L, SUMS>(&mut sums, weights, activations);
                continue;
            }
            for line in weights {
                let line = L::load(line.as_ptr());
                for (sum, &activation) in sums.iter_mut().zip(activations) {
                    *sum = L::dot(*sum, line, L::splat(activation));
                }
            }
        }
        let sum = sums.iter().fold(0i32, |all, &sum| all.wrapping_add(L::sum(sum)));
        black_box(sum);
    }
    (rounds * LINES * SUMS * 64) as u64
}

/// The same for weights of 5 bits, where four lines are best summed in 16 bits first.
#[inline(always)]
unsafe fn short<L: Lanes, const SUMS: usize>(
    sums: &mut [L::Ints; SUMS],
    weights: &[[u8; 64]; LINES],
    activations: &[i32; SUMS],
) {
    unsafe {
        for four in weights.as_chunks::<4>().0 {
            for (sum, &activation) in sums.iter_mut().zip(activations) {
                let mut short = L::splat(0);
                for line in four {
                    short = L::dot_short(short, L::load(line.as_ptr()), L::splat(activation));
                }
                *sum = L::dot_pairs(*sum, short, L::splat(0x0001_0001));
            }
        }
    }
}

/// The same with 16-bit integers.
#[inline(always)]
pub(super) unsafe fn words<L: Lanes>(rounds: usize) -> u64 {
    unsafe {
        match L::ROWS {
            5.. => words_of::<L, 12>(rounds),
            _ => words_of::<L, 6>(rounds),
        }
    }
}

#[inline(always)]
unsafe fn words_of<L: Lanes, const SUMS: usize>(rounds: usize) -> u64 {
    let keys: [[i16; 32]; LINES] = std::array::from_fn(|line| [(3 + line) as i16; 32]);
    let queries: [i32; SUMS] = std::array::from_fn(|at| 0x0102_0304 + at as i32);
    unsafe {
        let mut sums = [L::splat(black_box(0)); SUMS];
        for _ in 0..rounds {
            let (keys, queries) = (black_box(&keys), black_box(&queries));
            for line in keys {
                let line = L::load(line.as_ptr().cast());
                for (sum, &query) in sums.iter_mut().zip(queries) {
                    *sum = L::dot_pairs(*sum, line, L::splat(query));
                }
            }
        }
        let sum = sums.iter().fold(0i32, |all, &sum| all.wrapping_add(L::sum(sum)));
        black_box(sum);
    }
    (rounds * LINES * SUMS * 32) as u64
}

/// The same with 32-bit floats.
#[inline(always)]
pub(super) unsafe fn floats<L: Lanes>(rounds: usize) -> u64 {
    unsafe {
        match L::ROWS {
            5.. => floats_of::<L, 12>(rounds),
            _ => floats_of::<L, 6>(rounds),
        }
    }
}

#[inline(always)]
unsafe fn floats_of<L: Lanes, const SUMS: usize>(rounds: usize) -> u64 {
    let weights: [[f32; 16]; LINES] = std::array::from_fn(|line| [line as f32 * 1e-9; 16]);
    let activations: [f32; SUMS] = std::array::from_fn(|at| 1.0 + at as f32);
    unsafe {
        let mut sums = [L::splat_f(black_box(0.0)); SUMS];
        for _ in 0..rounds {
            let (weights, activations) = (black_box(&weights), black_box(&activations));
            for line in weights {
                let line = L::load_f(line.as_ptr());
                for (sum, &activation) in sums.iter_mut().zip(activations) {
                    *sum = L::fma(line, L::splat_f(activation), *sum);
                }
            }
        }
        let sum: f32 = sums.iter().map(|&sum| L::sum_f(sum)).sum();
        black_box(sum);
    }
    (rounds * LINES * SUMS * 16) as u64
}

/// Reads all whole 256 bytes of `bytes`. The processor's own prefetcher follows so plain a stream better than any advice.
#[inline(always)]
pub(super) unsafe fn read<L: Lanes>(bytes: &[u8]) {
    unsafe {
        let mut any = [L::splat(0); 4];
        for block in bytes.as_chunks::<256>().0 {
            let at = block.as_ptr();
            for (line, any) in any.iter_mut().enumerate() {
                *any = L::or(*any, L::load(at.add(64 * line)));
            }
        }
        let [a, b, c, d] = any;
        black_box(L::sum(L::or(L::or(a, b), L::or(c, d))));
    }
}
