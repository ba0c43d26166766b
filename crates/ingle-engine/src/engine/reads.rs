//! Bytes that steps read from memory, which bounds how fast answers are made.
//!
//! The counts are the network's own ([`ModelSpec::step_cost`]), remembered because they are asked for at every step.

use ingle_model::spec::{KvBytes, Load, ModelSpec};

/// Rows of a step whose bytes are remembered; more are a prompt, which arithmetic bounds.
const ROWS: usize = 32;
/// Positions that are counted alike.
const GRAIN: usize = 64;

/// What was counted so far.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Weight bytes of a step, by its rows.
    weights: Vec<Option<f64>>,
    /// Cache bytes of a sequence, by its length in grains.
    cache: Vec<Option<f64>>,
}

impl Reads {
    /// Bytes of a step of `rows` rows in sequences of these lengths.
    pub(super) fn of(
        &mut self,
        spec: &ModelSpec,
        kv: KvBytes,
        rows: usize,
        lengths: impl Iterator<Item = usize>,
    ) -> f64 {
        let weights = remembered(&mut self.weights, rows.min(ROWS), |rows| {
            let rows = rows as u64;
            let load = Load { tokens: rows, logits: rows, sequences: rows, context: 0 };
            spec.step_cost(&load, kv).weight_bytes
        });
        let cache = &mut self.cache;
        let of_one = |length: usize| {
            let grains = length.div_ceil(GRAIN);
            remembered(cache, grains, |grains| {
                spec.step_cost(&Load::decode((grains * GRAIN) as u64), kv).kv_bytes
            })
        };
        weights + lengths.map(of_one).sum::<f64>()
    }
}

fn remembered(known: &mut Vec<Option<f64>>, at: usize, count: impl FnOnce(usize) -> f64) -> f64 {
    if known.len() <= at {
        known.resize(at + 1, None);
    }
    *known[at].get_or_insert_with(|| count(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_model::Source;
    use ingle_model::families::describe;
    use std::path::Path;

    #[test]
    fn a_step_reads_the_weights_once_and_each_cache() {
        let ember = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/ember/ember-q8_0.gguf");
        let spec = describe(&Source::open(&ember).unwrap()).unwrap();
        let kv = KvBytes::F16;
        let alone = |context: u64| spec.step_cost(&Load::decode(context), kv);
        let mut reads = Reads::default();
        assert_eq!(reads.of(&spec, kv, 1, [128].into_iter()), alone(128).bytes());
        let two = reads.of(&spec, kv, 2, [128, 64].into_iter());
        let caches = alone(128).kv_bytes + alone(64).kv_bytes;
        assert!(
            two >= alone(0).weight_bytes + caches && two < 1.01 * alone(0).weight_bytes + caches,
            "{two}"
        );
        assert_eq!(two, reads.of(&spec, kv, 2, [127, 1].into_iter()), "counted by 64 positions");
    }
}
