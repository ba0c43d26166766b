//! Bandwidth of decode products beside the bandwidth of plain reading, sampled in turns.
//!
//! `cargo run --release -p ingle-cpu --example gemv -- [GB of weights] [input rows] [instruction set] [matrix rows]`
//!
//! A small number of GB and of rows shows what the kernels reach where memory is no limit.
//!
//! Other work on the machine moves the figures from second to second: each is the one that the fastest tenth of all
//! matrices exceeded, and plain reading takes turns with the products.

use std::time::Instant;

use ingle_cpu::Cpu;
use ingle_cpu::kernels::{Isa, Kernels};
use ingle_cpu::matrix::{Activations, Matrix, Product, multiply};
use ingle_model::Format;

const COLUMNS: usize = 4096;
const ROUNDS: usize = 7;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let gigabytes: f64 = arguments.next().map_or(0.6, |s| s.parse().expect("a number of GB"));
    let m: usize = arguments.next().map_or(1, |s| s.parse().expect("a number of input rows"));
    let kernels = arguments.next().map_or_else(Kernels::best, |name| {
        let isa = Isa::parse(&name).expect("an instruction set, such as avx2");
        Kernels::for_isa(isa).expect("an instruction set of this processor")
    });
    let rows: usize = arguments.next().map_or(4096, |s| s.parse().expect("a number of matrix rows"));
    println!("{} kernels, {m} input rows, matrices of {rows} x {COLUMNS}", kernels.isa().name());
    println!(
        "{:>7} {:>7} {:>9} {:>9} {:>7} {:>9}",
        "format", "threads", "GB/s", "read GB/s", "share", "GMAC/s"
    );
    for format in [
        Format::Q4_K,
        Format::Q6_K,
        Format::Q8_0,
        Format::BF16,
        Format::Q5_K,
        Format::Q4_0,
        Format::MXFP4,
        Format::Q4_1,
        Format::IQ4_XS,
    ] {
        let raw = random_bytes(rows * format.row_bytes(COLUMNS).expect("whole blocks"));
        let count = ((gigabytes * 1e9) as usize / raw.len()).max(1);
        let packer = Cpu::new(0);
        let matrices: Vec<Matrix> = (0..count)
            .map(|_| Matrix::pack(format, rows, COLUMNS, &raw, &packer).expect("a matrix"))
            .collect();
        for threads in [1, 2] {
            let cpu = Cpu::with(threads, kernels);
            let x: Vec<f32> = (0..m * COLUMNS).map(|i| (i % 17) as f32 - 8.0).collect();
            let mut input = Activations::new();
            let mut out = vec![0.0; m * rows];
            let (mut times, mut read_times) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                for matrix in &matrices {
                    let start = Instant::now();
                    input.prepare(&cpu, &x, m, COLUMNS, matrix.needs());
                    multiply(&cpu, &input, &mut [Product::new(matrix, &mut out)]);
                    times.push(start.elapsed().as_secs_f64());
                }
                for matrix in &matrices {
                    let start = Instant::now();
                    read(&cpu, matrix);
                    read_times.push(start.elapsed().as_secs_f64());
                }
            }
            let (time, read_time) = (tenth(&mut times), tenth(&mut read_times));
            let rate = |seconds: f64| matrices[0].bytes() as f64 / seconds / 1e9;
            println!(
                "{format:>7} {threads:>7} {:>9.1} {:>9.1} {:>6.0}% {:>9.1}",
                rate(time),
                rate(read_time),
                100.0 * read_time / time,
                (m * rows * COLUMNS) as f64 / time / 1e9
            );
        }
    }
}

fn random_bytes(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The time that a tenth of all stayed below.
fn tenth(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 10]
}

/// Reads all bytes of a matrix once.
fn read(cpu: &Cpu, matrix: &Matrix) {
    let bytes = matrix.packed();
    cpu.pool.for_shares(bytes.len() / 4096, 32, &|_, range| {
        let mut sums = [0u64; 16];
        for block in bytes[range.start * 4096..range.end * 4096].as_chunks::<128>().0 {
            for (sum, word) in sums.iter_mut().zip(block.as_chunks::<8>().0) {
                *sum |= u64::from_le_bytes(*word);
            }
        }
        std::hint::black_box(sums);
    });
}
