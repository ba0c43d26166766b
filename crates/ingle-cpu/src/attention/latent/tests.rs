//! Both forms against a plain computation in `f64` over the same 16-bit rows, at awkward sizes.

use super::cache::LatentKv;
use super::index::{Choice, choose};
use super::up::LatentUp;
use super::{Work, absorbed, attend, expanded};
use crate::Cpu;
use crate::kernels::{Isa, Kernels};
use crate::sequences::Placed;
use half::f16;
use ingle_model::executor::SequenceId;
use ingle_model::spec::{KeyUpLayout, LatentAttention, Norm, NormKind, SparseIndexer};

/// Numbers from -`size` to `size`.
fn numbers(len: usize, size: f32, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| size * next()).collect()
}

/// The nearest 16-bit floats, as floats.
fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&value| f16::from_f32(value).to_f32()).collect()
}

fn halves(values: &[f32]) -> Vec<f16> {
    values.iter().map(|&value| f16::from_f32(value)).collect()
}

/// A layer's sizes, weights and cache, and a slice of rows at the end of it.
struct Case {
    spec: LatentAttention,
    /// `[heads, nope, rank]` and `[heads, value, rank]`
    key_up: Vec<f32>,
    value_up: Vec<f32>,
    /// `[positions, rank + rope]`
    cached: Vec<f32>,
    queries: Vec<f32>,
    up: LatentUp,
    kv: LatentKv,
    placed: Placed,
}

impl Case {
    /// `count` rows, the first at position `before`; the slice begins at row 2 of its step.
    fn new(heads: usize, kv_rank: usize, value_dim: usize, before: usize, count: usize) -> Case {
        let (nope_dim, rope_dim) = (12, 8);
        let spec = LatentAttention {
            heads,
            query_rank: None,
            kv_rank,
            nope_dim,
            rope_dim,
            value_dim,
            scale: 0.6,
            rope: 0,
            rank_norm: Norm::rms(1e-6),
            key_up: KeyUpLayout::Expanding,
            indexer: None,
        };
        let positions = before + count;
        let key_up = rounded(&numbers(heads * nope_dim * kv_rank, 0.4, 1));
        let value_up = rounded(&numbers(heads * value_dim * kv_rank, 0.4, 2));
        let cached = rounded(&numbers(positions * (kv_rank + rope_dim), 1.0, 3));
        let queries = numbers((count + 3) * heads * (nope_dim + rope_dim), 1.0, 4);
        let mut up = LatentUp::zeroed(heads, nope_dim, value_dim, kv_rank).unwrap();
        for (at, row) in key_up.chunks_exact(kv_rank).enumerate() {
            up.set_key_row(at / nope_dim, at % nope_dim, row);
        }
        for (at, row) in value_up.chunks_exact(kv_rank).enumerate() {
            up.set_value_row(at / value_dim, at % value_dim, row);
        }
        let mut kv = LatentKv::new(kv_rank + rope_dim, 0);
        kv.grow(0..positions).unwrap();
        for (position, row) in cached.chunks_exact(kv_rank + rope_dim).enumerate() {
            kv.store_row(position, &halves(row));
        }
        let placed = Placed { sequence: SequenceId(0), rows: 2..2 + count, first: before };
        Case { spec, key_up, value_up, cached, queries, up, kv, placed }
    }

    fn work<'a>(&'a self, chosen: &'a [Vec<u32>]) -> Work<'a> {
        let Case { spec, up, kv, placed, queries, .. } = self;
        Work { spec, up, kv, placed, queries, chosen }
    }

    fn out(&self) -> Vec<f32> {
        vec![f32::NAN; (self.placed.rows.end + 1) * self.spec.heads * self.spec.value_dim]
    }

    /// What a head of a row attends to, by the definition.
    fn plain(&self, row: usize, head: usize, positions: &[usize]) -> Vec<f64> {
        let LatentAttention { heads, kv_rank, nope_dim, rope_dim, value_dim, scale, .. } = self.spec;
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let width = nope_dim + rope_dim;
        let query = &self.queries[(row * heads + head) * width..][..width];
        let cached = |position: usize| {
            self.cached[position * (kv_rank + rope_dim)..][..kv_rank + rope_dim].split_at(kv_rank)
        };
        let rows = |up: &[f32], count: usize, latent: &[f32]| -> Vec<f32> {
            let rows = up[head * count * kv_rank..][..count * kv_rank].chunks_exact(kv_rank);
            rows.map(|row| dot(row, latent) as f32).collect()
        };
        let scores: Vec<f64> = positions
            .iter()
            .map(|&position| {
                let (latent, turned) = cached(position);
                let key = rows(&self.key_up, nope_dim, latent);
                f64::from(scale) * (dot(&query[..nope_dim], &key) + dot(&query[nope_dim..], turned))
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
        let mut out = vec![0.0; value_dim];
        for (&position, score) in positions.iter().zip(scores) {
            let values = rows(&self.value_up, value_dim, cached(position).0);
            let weight = (score - largest).exp() / sum;
            out.iter_mut().zip(values).for_each(|(out, value)| *out += weight * f64::from(value));
        }
        out
    }

    /// Panics unless the slice's rows of `out` are what they should be, and no other row was written.
    fn check(&self, out: &[f32], chosen: &[Vec<u32>], tolerance: f64, what: &str) {
        let LatentAttention { heads, value_dim, .. } = self.spec;
        for (row, values) in out.chunks_exact(heads * value_dim).enumerate() {
            if !self.placed.rows.contains(&row) {
                assert!(values.iter().all(|value| value.is_nan()), "{what}: row {row} is another slice's");
                continue;
            }
            let positions: Vec<usize> = match chosen.get(row) {
                Some(chosen) if !chosen.is_empty() => chosen.iter().map(|&at| at as usize).collect(),
                _ => (0..=self.placed.position(row)).collect(),
            };
            for (head, values) in values.chunks_exact(value_dim).enumerate() {
                for (value, exact) in values.iter().zip(self.plain(row, head, &positions)) {
                    let error = (f64::from(*value) - exact).abs();
                    assert!(error < tolerance, "{what}: row {row} head {head}: {value} is not {exact}");
                }
            }
        }
    }
}

fn cpus() -> Vec<Cpu> {
    let tables = Isa::ALL.into_iter().filter_map(Kernels::for_isa);
    tables.map(|kernels| Cpu::with(2, kernels)).collect()
}

#[test]
fn both_forms_are_the_definition() {
    let mut scratch = absorbed::Scratch::default();
    for cpu in cpus() {
        for (heads, rank, value, before, count) in [
            (1, 24, 20, 0, 1),
            (3, 40, 20, 63, 1),
            (5, 24, 8, 60, 7),
            (3, 72, 130, 0, 64),
            (2, 16, 64, 100, 130),
        ] {
            let case = Case::new(heads, rank, value, before, count);
            let what = format!("{} {heads} heads, rank {rank}, {before} + {count}", cpu.kernels.isa().name());
            let (work, rows) = (case.work(&[]), case.placed.rows.clone());
            let mut absorbed_out = case.out();
            absorbed::attend(&cpu, &work, rows.clone(), &mut scratch, &mut absorbed_out);
            case.check(&absorbed_out, &[], 1e-5, &what);
            // keys and values of the expanded form are rounded to 16 bits
            let mut expanded_out = case.out();
            expanded::attend(&cpu, &work, rows, &mut expanded_out);
            case.check(&expanded_out, &[], 3e-3, &what);
        }
    }
}

#[test]
fn more_heads_than_a_task_takes_and_more_positions_than_one_task_walks() {
    let cpu = Cpu::with(2, Kernels::best());
    let mut scratch = absorbed::Scratch::default();
    for (heads, before, count) in [(70, 900, 1), (130, 130, 2), (1, 3000, 3)] {
        let case = Case::new(heads, 24, 20, before, count);
        let mut out = case.out();
        absorbed::attend(&cpu, &case.work(&[]), case.placed.rows.clone(), &mut scratch, &mut out);
        case.check(&out, &[], 1e-5, &format!("{heads} heads"));
    }
}

#[test]
fn chosen_positions_alone_count() {
    let mut scratch = absorbed::Scratch::default();
    for cpu in cpus() {
        for (count, top_k) in [(1, 1), (1, 17), (7, 5), (70, 67), (130, 17)] {
            let case = Case::new(3, 40, 20, 150, count);
            // the first half dense, the others each with positions of their own
            let chosen: Vec<Vec<u32>> = (0..case.placed.rows.end)
                .map(|row| match row < 2 + count / 2 {
                    true => Vec::new(),
                    false => {
                        (0..top_k as u32).map(|at| at * (2 + row as u32 % 2 * (70 / top_k as u32))).collect()
                    }
                })
                .collect();
            let mut out = case.out();
            attend(&cpu, &case.work(&chosen), &mut scratch, &mut out);
            case.check(&out, &chosen, 3e-3, &format!("{count} rows choose {top_k}"));
        }
    }
}

#[test]
fn a_key_projection_set_by_columns_is_the_one_set_by_rows() {
    let kernels = Kernels::best();
    let (heads, nope, value, rank) = (2, 12, 20, 24);
    let key_up = rounded(&numbers(heads * nope * rank, 1.0, 5));
    let mut by_rows = LatentUp::zeroed(heads, nope, value, rank).unwrap();
    let mut by_columns = LatentUp::zeroed(heads, nope, value, rank).unwrap();
    for head in 0..heads {
        let matrix = &key_up[head * nope * rank..][..nope * rank];
        matrix
            .chunks_exact(rank)
            .enumerate()
            .for_each(|(row, values)| by_rows.set_key_row(head, row, values));
        for column in 0..rank {
            let values: Vec<f32> = matrix.chunks_exact(rank).map(|row| row[column]).collect();
            by_columns.set_key_column(head, column, &values);
        }
    }
    let query = numbers(nope, 1.0, 6);
    for head in 0..heads {
        let absorb = |up: &LatentUp| {
            let mut out = vec![f32::NAN; rank];
            up.absorb(kernels, head, &[&query], &mut [&mut out]);
            out
        };
        let exact: Vec<f32> = (0..rank)
            .map(|r| (0..nope).map(|d| key_up[(head * nope + d) * rank + r] * query[d]).sum())
            .collect();
        assert_eq!(absorb(&by_rows), absorb(&by_columns));
        absorb(&by_rows).iter().zip(exact).for_each(|(got, exact)| assert!((got - exact).abs() < 1e-5));
    }
}

#[test]
fn the_indexer_chooses_the_best_and_only_where_there_is_a_choice() {
    for cpu in cpus() {
        for (heads, top_k, before, count) in [(1, 1, 0, 3), (3, 5, 2, 7), (20, 17, 700, 2), (4, 130, 100, 64)]
        {
            let head_dim = 20;
            let spec = SparseIndexer {
                heads,
                head_dim,
                top_k,
                rope: 0,
                key_norm: Norm { kind: NormKind::Layer, epsilon: 1e-6, weight_offset: 0.0 },
            };
            let positions = before + count;
            let keys = rounded(&numbers(positions * head_dim, 1.0, 7));
            let mut kv = LatentKv::new(1, head_dim);
            kv.grow(0..positions).unwrap();
            for (position, key) in keys.chunks_exact(head_dim).enumerate() {
                kv.store_index_key(position, &halves(key));
            }
            let placed = Placed { sequence: SequenceId(0), rows: 1..1 + count, first: before };
            let queries = numbers((count + 1) * heads * head_dim, 1.0, 8);
            let weights = numbers((count + 1) * heads, 1.0, 9);
            let choice =
                Choice { spec: &spec, kv: &kv, placed: &placed, queries: &queries, weights: &weights };
            let mut chosen = vec![vec![7]; count + 2];
            choose(&cpu, &choice, &mut Vec::new(), &mut chosen);
            assert_eq!((&chosen[0], &chosen[count + 1]), (&vec![7], &vec![7]), "other slices' rows");
            for row in placed.rows.clone() {
                let seen = placed.position(row) + 1;
                if seen <= top_k {
                    assert!(chosen[row].is_empty(), "{seen} positions are no more than {top_k}");
                    continue;
                }
                let score = |position: usize| -> f64 {
                    let key = &keys[position * head_dim..][..head_dim];
                    let of = |head: usize| -> f64 {
                        let query = &queries[(row * heads + head) * head_dim..][..head_dim];
                        let dot: f64 =
                            query.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                        f64::from(weights[row * heads + head]) * dot.max(0.0)
                    };
                    (0..heads).map(of).sum()
                };
                let mut best: Vec<usize> = (0..seen).collect();
                best.sort_by(|&a, &b| score(b).partial_cmp(&score(a)).unwrap().then(a.cmp(&b)));
                best.truncate(top_k);
                best.sort_unstable();
                let chosen: Vec<usize> = chosen[row].iter().map(|&at| at as usize).collect();
                assert_eq!(chosen, best, "{} row {row}", cpu.kernels.isa().name());
            }
        }
    }
}
