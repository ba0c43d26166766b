//! Up to 64 cached rows, gathered for the page kernels: once with the position innermost, to be scored, and once as
//! they are, to be summed.

use crate::kernels::PAGE;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Rows brought together.
#[derive(Default)]
pub(super) struct Tile {
    /// `[width][64]`
    pub(super) keys: Vec<f16>,
    /// `[64][rank]`
    pub(super) values: Vec<f16>,
}

impl Tile {
    /// Takes 1 to 64 rows of equal width, of which the first `rank` values are summed. Places after the last row hold
    /// nothing that means anything.
    pub(super) fn fill(&mut self, rows: &[&[f16]], rank: usize) {
        let width = rows[0].len();
        self.keys.resize(width * PAGE, f16::ZERO);
        self.values.resize(rank * PAGE, f16::ZERO);
        for (row, values) in rows.iter().zip(self.values.chunks_exact_mut(rank)) {
            values.copy_from_slice(&row[..rank]);
        }
        let row = |slot: usize| -> &[u16] { rows.get(slot).unwrap_or(&rows[0]).reinterpret_cast() };
        let keys: &mut [u16] = self.keys.reinterpret_cast_mut();
        let whole = width - width % 4;
        for (at, columns) in keys.chunks_exact_mut(4 * PAGE).enumerate() {
            for slot in (0..PAGE).step_by(4) {
                let four = std::array::from_fn(|i| four(&row(slot + i)[4 * at..]));
                for (column, values) in columns.chunks_exact_mut(PAGE).zip(transposed(four)) {
                    for i in 0..4 {
                        column[slot + i] = (values >> (16 * i)) as u16;
                    }
                }
            }
        }
        for component in whole..width {
            for slot in 0..PAGE {
                keys[component * PAGE + slot] = row(slot)[component];
            }
        }
    }
}

/// Four numbers in one, the first lowest.
fn four(numbers: &[u16]) -> u64 {
    (0..4).fold(0, |all, i| all | u64::from(numbers[i]) << (16 * i))
}

/// Four rows of four numbers to four columns.
fn transposed([a, b, c, d]: [u64; 4]) -> [u64; 4] {
    const EVEN: u64 = 0x0000_ffff_0000_ffff;
    const LOW: u64 = 0xffff_ffff;
    let pairs = |x: u64, y: u64| (x & EVEN | (y & EVEN) << 16, x >> 16 & EVEN | y & !EVEN);
    let ((ab0, ab1), (cd0, cd1)) = (pairs(a, b), pairs(c, d));
    [ab0 & LOW | cd0 << 32, ab1 & LOW | cd1 << 32, ab0 >> 32 | cd0 & !LOW, ab1 >> 32 | cd1 & !LOW]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns_at_any_width_and_count() {
        for width in [1_usize, 3, 4, 5, 8, 48, 576] {
            for count in [1, 2, 63, 64] {
                let rows: Vec<Vec<f16>> = (0..count)
                    .map(|row| {
                        (0..width).map(|at| f16::from_bits(((row * 577 + at) % 0x7c00) as u16)).collect()
                    })
                    .collect();
                let rows: Vec<&[f16]> = rows.iter().map(Vec::as_slice).collect();
                let rank = width.div_ceil(2);
                let mut tile = Tile::default();
                tile.fill(&rows, rank);
                for (slot, row) in rows.iter().enumerate() {
                    let column: Vec<f16> = (0..width).map(|at| tile.keys[at * PAGE + slot]).collect();
                    assert_eq!(column, *row);
                    assert_eq!(tile.values[slot * rank..][..rank], row[..rank]);
                }
            }
        }
    }
}
