//! Stacks against matrices of their own, over awkward sizes.

use ingle_model::Format;

use super::tests::{Random, random_input, random_matrix, tables};
use super::*;

/// Matrices of a stack, each also alone.
fn stack(format: Format, count: usize, rows: usize, columns: usize, cpu: &Cpu) -> (Stack, Vec<Matrix>) {
    let mut random = Random(0xabcdef + (count * rows * columns) as u64);
    let mut stack = Stack::zeroed(format, count, rows, columns).unwrap();
    let mut alone = Vec::new();
    for index in 0..count {
        let raw = random_matrix(format, rows, columns, &mut random);
        stack.pack(index, &raw, cpu).unwrap();
        alone.push(Matrix::pack(format, rows, columns, &raw, cpu).unwrap());
    }
    (stack, alone)
}

fn prepared(cpu: &Cpu, x: &[f32], columns: usize, needs: Needs) -> Activations {
    let mut input = Activations::new();
    input.prepare(cpu, x, x.len() / columns, columns, needs);
    input
}

/// `of[matrix]` input rows for each matrix.
fn buckets(of: &[usize]) -> (Vec<Bucket>, usize) {
    let mut end = 0;
    let bucket = |(matrix, &count): (usize, &usize)| {
        end += count;
        Bucket { matrix, rows: end - count..end }
    };
    let buckets = of.iter().enumerate().map(bucket).filter(|bucket| !bucket.rows.is_empty()).collect();
    (buckets, end)
}

/// Two stacks over the same buckets give, bit by bit, what their matrices give alone.
fn check(formats: [Format; 2], rows: [usize; 2], columns: usize, of: &[usize]) {
    for kernels in tables() {
        let cpu = Cpu::with(3, kernels);
        let (first, first_alone) = stack(formats[0], of.len(), rows[0], columns, &cpu);
        let (second, second_alone) = stack(formats[1], of.len(), rows[1], columns, &cpu);
        let (buckets, total) = buckets(of);
        let x = random_input(total, columns, &mut Random(7));
        let input = prepared(&cpu, &x, columns, first.needs() | second.needs());
        let mut out = [vec![f32::NAN; total * rows[0]], vec![f32::NAN; total * rows[1]]];
        let [a, b] = &mut out;
        let products = &mut [StackProduct::new(&first, a), StackProduct::new(&second, b)];
        multiply_stacks(&cpu, &input, &buckets, products);
        for (alone, out) in [first_alone, second_alone].iter().zip(&out) {
            for bucket in &buckets {
                let matrix = &alone[bucket.matrix];
                let x = &x[bucket.rows.start * columns..bucket.rows.end * columns];
                let input = prepared(&cpu, x, columns, matrix.needs());
                let mut wanted = vec![f32::NAN; bucket.rows.len() * matrix.rows()];
                multiply(&cpu, &input, &mut [Product::new(matrix, &mut wanted)]);
                let got = &out[bucket.rows.start * matrix.rows()..bucket.rows.end * matrix.rows()];
                assert!(got == wanted, "{} {bucket:?} {}", matrix.format(), kernels.isa().name());
            }
        }
    }
}

#[test]
fn every_format_and_any_number_of_rows_per_matrix() {
    for format in [Format::Q4_K, Format::Q6_K, Format::Q8_0, Format::MXFP4, Format::BF16, Format::Q3_K] {
        check([format, format], [33, 33], 256, &[1, 0, 3, 9, 0, 17, 8]);
        check([format, format], [1, 40], 256, &[1, 1, 1, 1]);
        check([format, Format::Q5_0], [16, 100], 512, &[0, 0, 5, 0]);
    }
}

#[test]
fn widths_that_are_no_whole_groups_or_blocks_of_256() {
    for columns in [32, 96, 2880] {
        check([Format::MXFP4, Format::Q8_0], [17, 2], columns, &[2, 0, 1, 70]);
    }
    for columns in [1, 40, 48] {
        check([Format::F32, Format::F16], [40, 48], columns, &[1, 9, 0, 2]);
    }
}

#[test]
fn no_rows_no_matrices_and_rows_in_no_bucket() {
    check([Format::Q4_K, Format::F32], [20, 20], 256, &[0, 0]);
    check([Format::Q4_K, Format::F32], [0, 20], 256, &[1, 2]);
    let cpu = Cpu::new(2);
    let (one, _) = stack(Format::F32, 1, 3, 2, &cpu);
    let input = prepared(&cpu, &[1.0; 8], 2, one.needs());
    let mut out = [7.0; 12];
    let bucket = Bucket { matrix: 0, rows: 1..3 };
    multiply_stacks(&cpu, &input, &[bucket], &mut [StackProduct::new(&one, &mut out)]);
    assert!(out[..3] == [7.0; 3] && out[9..] == [7.0; 3] && !out[3..9].contains(&7.0), "{out:?}");
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let results = [1, 2, 5].map(|threads| {
        let cpu = Cpu::new(threads);
        let (stack, _) = stack(Format::Q4_K, 6, 100, 512, &cpu);
        let (buckets, total) = buckets(&[3, 0, 1, 30, 1, 8]);
        let x = random_input(total, 512, &mut Random(3));
        let input = prepared(&cpu, &x, 512, stack.needs());
        let mut out = vec![f32::NAN; total * 100];
        multiply_stacks(&cpu, &input, &buckets, &mut [StackProduct::new(&stack, &mut out)]);
        out
    });
    assert!(results[0] == results[1] && results[0] == results[2]);
}

#[test]
fn gathered_rows_are_the_rows() {
    let cpu = Cpu::new(3);
    let all = Needs { floats: true, blocks_of_256: true, blocks_of_32: true };
    let x = random_input(5, 512, &mut Random(1));
    let from = prepared(&cpu, &x, 512, all);
    for rows in [vec![], vec![4], vec![3, 3, 0, 4], (0..200).map(|i| i * 7 % 5).collect()] {
        let picked: Vec<f32> = rows.iter().flat_map(|&row| &x[row * 512..][..512]).copied().collect();
        let wanted = prepared(&cpu, &picked, 512, all);
        let mut got = Activations::new();
        got.gather(&cpu, &from, &rows, all);
        assert_eq!(got.rows(), rows.len());
        assert_eq!(format!("{:?}", got.floats()), format!("{:?}", wanted.floats()));
        assert_eq!(format!("{:?}", got.blocks_of_256()), format!("{:?}", wanted.blocks_of_256()));
        assert_eq!(format!("{:?}", got.blocks_of_32()), format!("{:?}", wanted.blocks_of_32()));
    }
}

#[test]
fn what_is_no_stack_is_refused() {
    let cpu = Cpu::new(1);
    assert!(matches!(Stack::zeroed(Format::Q4_K, 2, 3, 100), Err(PackError::Columns { .. })));
    assert!(matches!(Stack::zeroed(Format::Q4_K, 2, usize::MAX, 256), Err(PackError::Memory(_))));
    assert!(matches!(Stack::zeroed(Format::F32, usize::MAX, 3, 256), Err(PackError::Memory(_))));
    let mut stack = Stack::zeroed(Format::F32, 2, 3, 1).unwrap();
    assert!(matches!(stack.pack(1, &[0; 11], &cpu), Err(PackError::Bytes { .. })));
    assert!(stack.pack(1, &[0; 12], &cpu).is_ok());
}

#[test]
#[should_panic(expected = "overlaps")]
fn rows_of_two_buckets_are_refused() {
    let cpu = Cpu::new(1);
    let (stack, _) = stack(Format::F32, 2, 3, 2, &cpu);
    let input = prepared(&cpu, &[1.0; 8], 2, stack.needs());
    let buckets = [0..2, 1..3].map(|rows| Bucket { matrix: 0, rows });
    multiply_stacks(&cpu, &input, &buckets, &mut [StackProduct::new(&stack, &mut [0.0; 12])]);
}
