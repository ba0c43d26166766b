//! Products with many input rows: some columns of 16 matrix rows are unpacked once, for all panels of input rows.
//!
//! ```text
//! for some groups of 16 rows:  for 256 columns (or more):  unpack each group;  for each panel: add up the products
//! ```
//!
//! What was unpacked of the groups stays in the first-level cache until all panels have met it; the panels and sums, which
//! stream past, come from the second.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use std::cell::RefCell;
use std::ops::Range;

use super::View;
use super::panels::Interleaved;
use crate::Cpu;
use crate::kernels::layout::group_bytes;
use crate::kernels::{GROUP, TileKernel, tile_bytes};
use crate::pool::Shares;

/// Columns that are unpacked at once, whole blocks (and lines of scales) of every format.
const COLUMNS: usize = 256;
/// Most groups that meet the panels together.
const GROUPS: usize = 4;

/// Input rows up to which all of their panels that a tile meets stay in the first-level cache, so that more groups would
/// only take room.
const FEW_ROWS: usize = 64;

/// A cache line, so that tiles start at one.
#[derive(Clone, Copy)]
#[repr(align(64))]
#[allow(dead_code)] // read as bytes
struct Line([u8; 64]);

/// What a thread works in.
#[derive(Default)]
struct Scratch {
    /// Some columns of some groups, unpacked.
    tiles: Vec<Line>,
    /// Their products: `[groups][panels' rows][16]`.
    sums: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// `out[m][r] = sum over k of input[m][k] * matrix[r][k]` for some groups of 16 matrix rows `r` and the panels of input
/// rows `rows`.
pub(super) fn multiply_tiles(
    cpu: &Cpu,
    kernel: TileKernel,
    input: &Interleaved,
    rows: &Range<usize>,
    matrix: View<'_>,
    groups: Range<usize>,
    out: &Shares<'_, f32>,
) {
    let layout = matrix.layout;
    let block = if layout.format.block_len() == 256 { 256 } else { 32 };
    let few = rows.len() <= FEW_ROWS;
    let (at_once, width) = if few { (1, 2 * COLUMNS) } else { (GROUPS, COLUMNS) };
    let packed = group_bytes(layout.format, width).unwrap_or(0);
    let runs = input.of(rows);
    let panels = [runs.first(), runs.get(1)].map(|run| run.map(|run| input.panels(run, block)));
    let room: usize = runs.iter().map(|run| run.room()).sum();
    SCRATCH.with_borrow_mut(|Scratch { tiles, sums }| {
        tiles.resize(at_once * tile_bytes(width, block).div_ceil(64), Line([0; 64]));
        sums.resize(at_once * room * GROUP, 0.0);
        // SAFETY: lines are arrays of bytes without padding.
        let tiles = unsafe { tiles.align_to_mut::<u8>().1 };
        for first in groups.clone().step_by(at_once) {
            let some = first..groups.end.min(first + at_once);
            sums.fill(0.0);
            for column in (0..layout.columns).step_by(width) {
                let bytes = tile_bytes(width.min(layout.columns - column), block);
                for (group, tile) in some.clone().zip(tiles.chunks_exact_mut(bytes)) {
                    cpu.kernels.unpack(kernel, matrix.group(group), column, tile);
                }
                // what is unpacked next: of the same group or, behind that, of the next
                let next = packed * (column / width + 1);
                let mut at = 0;
                for (run, panels) in runs.iter().zip(panels.iter().flatten()) {
                    let tiles = tiles.chunks_exact(bytes).zip(sums.chunks_exact_mut(room * GROUP));
                    for (group, (tile, sums)) in some.clone().zip(tiles) {
                        let ahead = if at == 0 { matrix.from(group, next) } else { &[] };
                        let ahead = &ahead[..ahead.len().min(packed)];
                        let sums = &mut sums[at * GROUP..(at + run.room()) * GROUP];
                        cpu.kernels.run_tile(kernel, tile, column, panels, ahead, sums);
                    }
                    at += run.room();
                }
            }
            let columns = some.start * GROUP..layout.rows.min(some.end * GROUP);
            let mut at = 0;
            for run in runs {
                for m in 0..run.rows {
                    let start = (run.first + m) * layout.rows;
                    // SAFETY: no other thread has these groups of this matrix for these input rows, and ranges of other
                    // groups and rows do not overlap this one.
                    let out = unsafe { out.range(start + columns.start..start + columns.end) };
                    let mut sums = sums[(at + m) * GROUP..].chunks(room * GROUP);
                    // a length that the compiler knows is one move
                    let (whole, rest) = out.as_chunks_mut::<GROUP>();
                    for (out, sums) in whole.iter_mut().zip(&mut sums) {
                        out.copy_from_slice(&sums[..GROUP]);
                    }
                    if let (false, Some(sums)) = (rest.is_empty(), sums.next()) {
                        rest.copy_from_slice(&sums[..rest.len()]);
                    }
                }
                at += run.room();
            }
        }
    });
}
