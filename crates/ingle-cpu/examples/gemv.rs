//! Bandwidth of decode products beside the bandwidth of plain reading, sampled in turns.
//!
//! `cargo run --release -p ingle-cpu --example gemv -- [GB of weights] [input rows] [instruction set] [matrix rows]
//! [formats]`
//!
//! A small number of GB and of rows shows what the kernels reach where memory is no limit.
//!
//! Other work on the machine moves the figures from second to second, so plain reading of another matrix follows on
//! each product. Rates are those that the fastest tenth exceeded; the share is the median over these pairs.

use std::time::Instant;

use ingle_cpu::Cpu;
use ingle_cpu::kernels::{Isa, Kernels};
use ingle_cpu::matrix::{Activations, Matrix, Product, multiply};
use ingle_model::Format;

const COLUMNS: usize = 4096;
/// Products of each format at least.
const PRODUCTS: usize = 140;
const FORMATS: [Format; 13] = [
    Format::Q4_K,
    Format::Q5_K,
    Format::Q6_K,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::IQ4_NL,
    Format::IQ4_XS,
    Format::MXFP4,
    Format::F16,
    Format::BF16,
    Format::F32,
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let gigabytes: f64 = arguments.next().map_or(0.6, |s| s.parse().expect("a number of GB"));
    let m: usize = arguments.next().map_or(1, |s| s.parse().expect("a number of input rows"));
    let kernels = arguments.next().map_or_else(Kernels::best, |name| {
        let isa = Isa::parse(&name).expect("an instruction set, such as avx2");
        Kernels::for_isa(isa).expect("an instruction set of this processor")
    });
    let rows: usize = arguments.next().map_or(4096, |s| s.parse().expect("a number of matrix rows"));
    let named: Option<String> = arguments.next();
    println!("{} kernels, {m} input rows, matrices of {rows} x {COLUMNS}", kernels.isa().name());
    println!(
        "{:>7} {:>7} {:>9} {:>9} {:>7} {:>9}",
        "format", "threads", "GB/s", "read GB/s", "share", "GMAC/s"
    );
    for format in FORMATS {
        if named.as_deref().is_some_and(|named| !named.split(',').any(|name| name == format.name())) {
            continue;
        }
        let raw = random_bytes(rows * format.row_bytes(COLUMNS).expect("whole blocks"));
        let count = ((gigabytes * 1e9) as usize / raw.len()).max(1);
        let rounds = PRODUCTS.div_ceil(count);
        let packer = Cpu::new(0);
        let matrices: Vec<Matrix> = (0..count)
            .map(|_| Matrix::pack(format, rows, COLUMNS, &raw, &packer).expect("a matrix"))
            .collect();
        for threads in [1, 2] {
            let cpu = Cpu::with(threads, kernels);
            let x: Vec<f32> = (0..m * COLUMNS).map(|i| (i % 17) as f32 - 8.0).collect();
            let mut input = Activations::new();
            let mut out = vec![0.0; m * rows];
            let (mut times, mut read_times, mut shares) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds {
                for (i, matrix) in matrices.iter().enumerate() {
                    input.prepare(&cpu, &x, m, COLUMNS, matrix.needs());
                    let start = Instant::now();
                    multiply(&cpu, &input, &mut [Product::new(matrix, &mut out)]);
                    let time = start.elapsed().as_secs_f64();
                    let start = Instant::now();
                    read(&cpu, &matrices[(i + count / 2) % count]);
                    let read_time = start.elapsed().as_secs_f64();
                    times.push(time);
                    read_times.push(read_time);
                    shares.push(read_time / time);
                }
            }
            let (time, read_time) = (tenth(&mut times), tenth(&mut read_times));
            let rate = |seconds: f64| matrices[0].bytes() as f64 / seconds / 1e9;
            println!(
                "{format:>7} {threads:>7} {:>9.1} {:>9.1} {:>6.0}% {:>9.1}",
                rate(time),
                rate(read_time),
                100.0 * median(&mut shares),
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

fn median(shares: &mut [f64]) -> f64 {
    shares.sort_by(f64::total_cmp);
    shares[shares.len() / 2]
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
