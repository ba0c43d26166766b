//! Input rows interleaved in panels, as the tile kernels read them: see [`crate::kernels::Panels`].
#![allow(unsafe_code)] // threads fill panels of their own

use std::ops::Range;

use super::{Activations, Needs};
use crate::Cpu;
use crate::kernels::{Int8Rows, Panels, Raised};
use crate::pool::Shares;

/// Panels of one width that follow each other, and where they lie among the panels' rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// The first input row.
    pub(super) first: usize,
    /// Input rows, which leave room in the last panel where they are no multiple of the width.
    pub(super) rows: usize,
    width: usize,
    at: usize,
}

impl Run {
    /// Rows that the panels have room for.
    pub(super) fn room(&self) -> usize {
        self.rows.next_multiple_of(self.width)
    }
}

/// A step's rows in panels. Reuse one: it allocates only while it grows.
#[derive(Debug, Default)]
pub(super) struct Interleaved {
    runs: Vec<Run>,
    columns: usize,
    blocks_of_256: Parts,
    blocks_of_32: Parts,
}

/// Parts of all panels.
#[derive(Debug, Default)]
struct Parts {
    values: Vec<[i8; 4]>,
    scales: Vec<f32>,
    starts: Vec<i32>,
    pairs: Vec<i32>,
    sums: Vec<f32>,
}

/// How many columns each number of a part covers, if the part is there: of values, scales, starts, pairs, sums.
const fn columns_each(block: usize) -> [Option<usize>; 5] {
    match block {
        256 => [Some(4), Some(256), Some(16), Some(64), None],
        _ => [Some(4), Some(32), Some(32), None, Some(32)],
    }
}

/// Where the parts of `rows` rows from the `at`-th on lie.
fn parts(columns: usize, block: usize, at: usize, rows: usize) -> [Range<usize>; 5] {
    columns_each(block).map(|each| {
        let each = each.map_or(0, |each| columns / each);
        at * each..(at + rows) * each
    })
}

impl Interleaved {
    /// Interleaves the rows of the given ranges, which are in order, as the kernels' panels are and none with rows of
    /// two ranges, in the forms asked for. Nothing where there are no such kernels.
    pub(super) fn fill(
        &mut self,
        cpu: &Cpu,
        input: &Activations,
        ranges: impl Iterator<Item = Range<usize>>,
        needs: Needs,
    ) {
        let Some((widest, raised)) = cpu.kernels.panel() else { return };
        self.runs.clear();
        self.columns = input.columns();
        let mut at = 0;
        for Range { start, end } in ranges {
            // up to 4 rows that are left over take a narrower panel
            let left = (end - start) % widest;
            let wide = end - if left <= 4 { left } else { 0 };
            for (first, end, width) in [(start, wide, widest), (wide, end, 4)] {
                if first < end {
                    let run = Run { first, rows: end - first, width, at };
                    self.runs.push(run);
                    at += run.room();
                }
            }
        }
        if needs.blocks_of_256 {
            self.blocks_of_256.fill(cpu, &self.runs, at, &input.blocks_of_256(), raised);
        }
        if needs.blocks_of_32 {
            self.blocks_of_32.fill(cpu, &self.runs, at, &input.blocks_of_32(), raised);
        }
    }

    /// The runs of rows `rows`, a range that they were filled with: one or two.
    pub(super) fn of(&self, rows: &Range<usize>) -> &[Run] {
        let start = self.runs.partition_point(|run| run.first < rows.start);
        let end = self.runs.partition_point(|run| run.first < rows.end);
        &self.runs[start..end]
    }

    /// The panels of a run in blocks of 256 or 32.
    pub(super) fn panels(&self, run: &Run, block: usize) -> Panels<'_> {
        let all = if block == 256 { &self.blocks_of_256 } else { &self.blocks_of_32 };
        let [values, scales, starts, pairs, sums] = parts(self.columns, block, run.at, run.room());
        Panels {
            count: run.room() / run.width,
            width: run.width,
            columns: self.columns,
            values: &all.values[values],
            scales: &all.scales[scales],
            starts: &all.starts[starts],
            pairs: &all.pairs[pairs],
            sums: &all.sums[sums],
        }
    }
}

impl Parts {
    fn fill<const BLOCK: usize>(
        &mut self,
        cpu: &Cpu,
        runs: &[Run],
        all_rows: usize,
        input: &Int8Rows<'_, BLOCK>,
        raised: Raised,
    ) {
        let [values, scales, starts, pairs, sums] = parts(input.columns, BLOCK, 0, all_rows);
        self.values.resize(values.end, [0; 4]);
        self.scales.resize(scales.end, 0.0);
        self.starts.resize(starts.end, 0);
        self.pairs.resize(pairs.end, 0);
        self.sums.resize(sums.end, 0.0);
        let values = Shares::new(&mut self.values);
        let scales = Shares::new(&mut self.scales);
        let starts = Shares::new(&mut self.starts);
        let pairs = Shares::new(&mut self.pairs);
        let sums = Shares::new(&mut self.sums);
        // all widths are multiples of 4, so no panel starts between
        cpu.pool.for_chunks(all_rows / 4, 2, &|_, fours| {
            let claimed = 4 * fours.start..4 * fours.end;
            for (run, first) in starting(runs, &claimed) {
                let parts = parts(input.columns, BLOCK, run.at + first, run.width);
                let [own_values, own_scales, own_starts, own_pairs, own_sums] = parts;
                // SAFETY: each panel belongs to the task that claimed its first rows.
                let (values, scales, starts, pairs, sums) = unsafe {
                    (
                        values.range(own_values),
                        scales.range(own_scales),
                        starts.range(own_starts),
                        pairs.range(own_pairs),
                        sums.range(own_sums),
                    )
                };
                // Where rows are missing, the last is there again: what comes of it is nobody's.
                let row = |m: usize| input.slice(run.first + (first + m).min(run.rows - 1), 1);
                interleave(run.width, values, |m| row(m).values.as_chunks().0, |&four| four);
                interleave(run.width, scales, |m| row(m).scales, |&scale| scale);
                interleave(run.width, starts, |m| row(m).sums, |&sum| raised.start(BLOCK, sum));
                interleave(run.width, pairs, |m| row(m).pairs, |&pair| pair);
                if BLOCK == 32 {
                    interleave(run.width, sums, |m| row(m).sums, |&sum| sum as f32);
                    scales.iter().zip(sums).for_each(|(scale, sum)| *sum *= scale);
                }
            }
        });
    }
}

/// The panels that start within some of the panels' rows: their runs and first rows in them.
fn starting<'a>(runs: &'a [Run], rows: &Range<usize>) -> impl Iterator<Item = (&'a Run, usize)> {
    let rows = rows.clone();
    let from = runs.partition_point(|run| run.at + run.room() <= rows.start);
    let own = runs[from..].iter().take_while({
        let end = rows.end;
        move |run| run.at < end
    });
    own.flat_map(move |run| {
        let first = rows.start.saturating_sub(run.at).next_multiple_of(run.width);
        let end = run.room().min(rows.end - run.at);
        (first..end).step_by(run.width).map(move |first| (run, first))
    })
}

/// Numbers of a panel's rows one after the other.
fn interleave<'a, T: 'a, U>(
    width: usize,
    to: &mut [U],
    row: impl Fn(usize) -> &'a [T],
    number: impl Fn(&T) -> U,
) {
    match width {
        8 => interleave_rows::<T, U, 8>(to, row, number),
        _ => interleave_rows::<T, U, 4>(to, row, number),
    }
}

fn interleave_rows<'a, T: 'a, U, const WIDTH: usize>(
    to: &mut [U],
    row: impl Fn(usize) -> &'a [T],
    number: impl Fn(&T) -> U,
) {
    let (columns, rest) = to.as_chunks_mut::<WIDTH>();
    assert!(rest.is_empty());
    // of equal lengths, which spares looking at each
    let rows: [&[T]; WIDTH] = std::array::from_fn(|m| &row(m)[..columns.len()]);
    for (at, column) in columns.iter_mut().enumerate() {
        for m in 0..WIDTH {
            column[m] = number(&rows[m][at]);
        }
    }
}
