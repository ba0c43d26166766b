//! Kernels touch nothing behind their slices: every slice ends where memory ends, so that the first byte too far ends the
//! test. (Asking for cache lines there is allowed and does nothing.)

use std::ops::{Deref, DerefMut};

use half::f16;
use ingle_model::Format;

use super::layout::group_bytes;
use super::*;

/// Numbers in memory of their own, up to the edge of a page that may not be touched.
struct Edged<T> {
    map: *mut libc::c_void,
    bytes: usize,
    first: *mut T,
    len: usize,
}

impl<T: Copy> Edged<T> {
    fn new(numbers: &[T]) -> Edged<T> {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let (len, edge) = (numbers.len(), size_of_val(numbers).next_multiple_of(page));
        let (bytes, access) = (edge + page, libc::PROT_READ | libc::PROT_WRITE);
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, at no address in particular.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
        assert!(map != libc::MAP_FAILED, "no memory");
        // SAFETY: the last page of the mapping. The numbers end before it, aligned, because sizes are multiples of
        // alignments.
        unsafe {
            assert_eq!(libc::mprotect(map.add(edge), page, libc::PROT_NONE), 0);
            let first = map.add(edge - size_of_val(numbers)).cast();
            std::ptr::copy_nonoverlapping(numbers.as_ptr(), first, len);
            Edged { map, bytes, first, len }
        }
    }
}

impl<T: Copy> Deref for Edged<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the numbers of `new`.
        unsafe { std::slice::from_raw_parts(self.first, self.len) }
    }
}

impl<T: Copy> DerefMut for Edged<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: the numbers of `new`.
        unsafe { std::slice::from_raw_parts_mut(self.first, self.len) }
    }
}

impl<T> Drop for Edged<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`.
        unsafe { libc::munmap(self.map, self.bytes) };
    }
}

fn edged<T: Copy>(number: T, len: usize) -> Edged<T> {
    Edged::new(&vec![number; len])
}

fn tables() -> impl Iterator<Item = &'static Kernels> {
    Isa::ALL.into_iter().filter_map(Kernels::for_isa)
}

struct Int8<const BLOCK: usize> {
    columns: usize,
    values: Edged<i8>,
    scales: Edged<f32>,
    sums: Edged<i32>,
    pairs: Edged<i32>,
}

impl<const BLOCK: usize> Int8<BLOCK> {
    fn new(rows: usize, columns: usize) -> Int8<BLOCK> {
        let sums = if BLOCK == 256 { 16 } else { BLOCK };
        let pairs = if BLOCK == 256 { rows * columns / 64 } else { 0 };
        Int8 {
            columns,
            values: edged(3, rows * columns),
            scales: edged(0.5, rows * columns / BLOCK),
            sums: edged(3 * sums as i32, rows * columns / sums),
            pairs: edged(96 | 96 << 16, pairs),
        }
    }

    fn rows(&self) -> Int8Rows<'_, BLOCK> {
        let Int8 { columns, values, scales, sums, pairs } = self;
        Int8Rows { columns: *columns, values, scales, sums, pairs }
    }
}

#[test]
fn products_stay_within_weights_and_activations() {
    for &format in Format::ALL {
        let widths: &[usize] = match format.block_len() {
            1 => &[1, 3, 33],
            32 => &[32, 64, 96, 160, 288],
            _ => &[256, 768],
        };
        for &columns in widths {
            let Some(bytes) = group_bytes(format, columns) else { continue };
            let weights = edged(0x11u8, bytes);
            for (kernels, rows) in tables().flat_map(|kernels| (1..=BATCH).map(move |rows| (kernels, rows))) {
                let mut tile = edged([[0.0; GROUP]; BATCH], 1);
                match kernels.group(format).expect("a packed format has a kernel") {
                    GroupKernel::Float(kernel) => {
                        let values = edged(0.5, rows * columns);
                        let input = FloatRows { columns, values: &values };
                        kernels.run_float(kernel, &weights, input, &mut tile[0]);
                    }
                    GroupKernel::Superblock(kernel) => {
                        let input = Int8::new(rows, columns);
                        kernels.run_superblock(kernel, &weights, input.rows(), &mut tile[0]);
                    }
                    GroupKernel::Block(kernel) => {
                        let input = Int8::new(rows, columns);
                        kernels.run_block(kernel, &weights, input.rows(), &mut tile[0]);
                    }
                }
                let what = format!("{format} {rows} x {columns}, {}", kernels.isa().name());
                let filled = tile[0][..rows].iter().flatten();
                assert!(filled.into_iter().all(|x| x.is_finite() && *x != 0.0), "{what}: {:?}", tile[0]);
            }
        }
    }
}

#[test]
fn tiles_and_panels_stay_within_theirs() {
    for &format in Format::ALL {
        let (block, widths): (usize, &[usize]) = match format.block_len() {
            256 => (256, &[256, 768]),
            32 => (32, &[32, 96, 288]),
            _ => continue,
        };
        for (&columns, kernels) in
            widths.iter().flat_map(|columns| tables().map(move |table| (columns, table)))
        {
            let Some(bytes) = group_bytes(format, columns) else { continue };
            let (Some(kernel), Some((widest, _))) = (kernels.tile(format), kernels.panel()) else { continue };
            let weights = edged(0x11u8, bytes);
            for first in [0, columns / 2 / block * block] {
                let mut tile = edged(0, tile_bytes(columns - first, block));
                kernels.unpack(kernel, &weights, first, &mut tile);
                for (width, count) in [(4, 1), (4, 3), (widest, 1), (widest, 2)] {
                    let all = width * count * columns;
                    let (values, scales) = (edged([3i8; 4], all / 4), edged(0.5, all / block));
                    let starts = edged(7, all / if block == 256 { 16 } else { 32 });
                    let pairs = edged(96 | 96 << 16, if block == 256 { all / 64 } else { 0 });
                    let sums = edged(48.0, if block == 32 { all / 32 } else { 0 });
                    let panels = Panels {
                        count,
                        width,
                        columns,
                        values: &values,
                        scales: &scales,
                        starts: &starts,
                        pairs: &pairs,
                        sums: &sums,
                    };
                    let mut out = edged(0.0, count * width * GROUP);
                    kernels.run_tile(kernel, &tile, first, &panels, &weights, &mut out);
                    let what =
                        format!("{format} {first} of {columns}, {count} x {width}, {}", kernels.isa().name());
                    assert!(out.iter().all(|x| x.is_finite() && *x != 0.0), "{what}: {:?}", &out[..]);
                }
            }
        }
    }
}

#[test]
fn rounding_stays_within_its_slices() {
    for kernels in tables() {
        for blocks in [1, 2, 3] {
            let x = edged(1.5, blocks * 256);
            let mut int8 = Int8::<256>::new(1, blocks * 256);
            kernels.quantise_256(&x, &mut int8.values, &mut int8.scales, &mut int8.sums, &mut int8.pairs);
            assert!(int8.values.iter().all(|&value| value == 127));
            let x = edged(1.5, blocks * 32);
            let mut int8 = Int8::<32>::new(1, blocks * 32);
            kernels.quantise_32(&x, &mut int8.values, &mut int8.scales, &mut int8.sums);
            assert!(int8.values.iter().all(|&value| value == 127));
        }
    }
}

#[test]
fn rows_of_floats_are_not_left() {
    for kernels in tables() {
        for len in [0, 1, 15, 16, 17, 31, 63, 65, 79] {
            let (x, y, mut out) = (edged(0.5, len), edged(2.0, len), edged(0.25, len));
            let (halves, mut half_out) = (edged(f16::ONE, len), edged(f16::ZERO, len));
            kernels.rms_norm(&x, &y, 1e-6, &mut out);
            kernels.rms_norm_in_place(&mut out, &y, 1e-6);
            kernels.silu_mul(&x, &y, &mut out);
            kernels.gelu_mul(&x, &y, &mut out);
            kernels.gelu_erf(&x, &mut out);
            kernels.clamped_swiglu(&x, &y, 1.702, 7.0, &mut out);
            kernels.sigmoid_mul(&mut out, &x);
            kernels.soft_cap(&mut out, 30.0);
            kernels.axpy(0.5, &x, &mut out);
            kernels.positive_axpy(0.5, &x, &mut out);
            kernels.axpy_f16(0.5, &halves, &mut out);
            kernels.add(&mut out, &x);
            kernels.scale(&mut out, 0.5);
            kernels.to_f16(&x, &mut half_out);
            kernels.softmax(&mut out);
            let name = kernels.isa().name();
            assert!(half_out.iter().all(|&x| x == f16::from_f32(0.5)), "{name} {len}");
            assert!(out.iter().all(|&x| (x - 1.0 / len as f32).abs() < 1e-6), "{name} {len}");
            assert_eq!((kernels.dot(&x, &y), kernels.dot_f16(&halves, &y)), (len as f32, 2.0 * len as f32));
            let taps = edged(0.5, 3 * len);
            let rows = Strided { values: &taps, stride: len };
            kernels.convolve(rows, rows, 3, &mut out);
            let exact = 0.75 / (1.0 + (-0.75f32).exp());
            assert!(out.iter().all(|&x| (x - exact).abs() < 1e-6), "{name} {len}");
        }
    }
}

#[test]
fn pages_and_states_are_not_left() {
    for kernels in tables() {
        for width in [1, 15, 16, 40, 65, 80] {
            let halves = edged(f16::ONE, width * PAGE);
            for count in [1, 3, QUERIES] {
                let query = edged(0.5, width);
                let queries: Vec<&[f32]> = (0..count).map(|_| &query[..]).collect();
                let mut scores = edged([[0.0; PAGE]; QUERIES], 1);
                kernels.page_scores(&queries, &halves, &halves, &mut scores[0]);
                let mut rows: Vec<Edged<f32>> = (0..count).map(|_| edged(0.0, width)).collect();
                let mut out: Vec<&mut [f32]> = rows.iter_mut().map(|row| &mut row[..]).collect();
                kernels.page_accumulate(&scores[0], &halves, PAGE, &halves, &mut out);
                let exact = (PAGE * width) as f32 / 2.0;
                assert!(rows.iter().flat_map(|row| row.iter()).all(|&x| x == exact), "{width} {count}");
            }
        }
        for (rows, columns) in [(1, 1), (24, 17), (64, DELTA_PANEL)] {
            let mut state = edged(0.0, rows * DELTA_PANEL);
            let (key, values, mut out) = (edged(0.5, rows), edged(1.0, columns), edged(f32::NAN, columns));
            let gates = DeltaGates { decay: 0.5, beta: 0.5, key_query: 0.25 * rows as f32 };
            kernels.delta_step(&mut state, &key, &key, gates, &values, &mut out);
            assert!(out.iter().all(|&x| x == 0.125 * rows as f32), "{rows} {columns}: {:?}", &out[..]);
        }
    }
}
