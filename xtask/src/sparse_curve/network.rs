//! A slice of DeepSeek-V3.2: layers of the real dimensions, with small feed-forwards and vocabulary and synthetic
//! weights, built in memory. Only its arithmetic is the real model's.

use anyhow::{Context, Result};
use ingle_model::gguf::{Entry, Writer};
use ingle_model::spec::{
    Activation, Dense, Embedding, Encoding, FeedForward, Head, KeyUpLayout, LatentAttention, LayerNorms,
    LayerSpec, Mixer, ModelSpec, Need, Norm, NormKind, Pairing, Piece, Role, Rope, SparseIndexer, TensorSpec,
};
use ingle_model::{Format, Metadata, Source};
use std::path::Path;
use std::sync::Arc;

/// Positions that the model chooses.
pub(super) const TOP_K: usize = 2048;
/// Rows of the embedding: enough to have tokens.
pub(super) const VOCABULARY: usize = 256;

/// The description; nothing is bound yet.
pub(super) fn describe(layers: usize, top_k: usize, context: usize) -> ModelSpec {
    let norm = Norm::rms(1e-6);
    let mixer = Mixer::Latent(LatentAttention {
        heads: 128,
        query_rank: Some(1536),
        kv_rank: 512,
        nope_dim: 128,
        rope_dim: 64,
        value_dim: 128,
        scale: 0.135_234,
        rope: 0,
        rank_norm: norm,
        key_up: KeyUpLayout::Expanding,
        indexer: Some(SparseIndexer {
            heads: 64,
            head_dim: 128,
            top_k,
            rope: 1,
            key_norm: Norm { kind: NormKind::Layer, epsilon: 1e-6, weight_offset: 0.0 },
        }),
    });
    let feed_forward = FeedForward::Dense(Dense { inner: 256, activation: Activation::Silu });
    let layer = LayerSpec::new(mixer, feed_forward, LayerNorms::before(norm));
    ModelSpec {
        architecture: "slice of DeepSeek-V3.2".into(),
        name: None,
        hidden: 7168,
        vocabulary: VOCABULARY,
        context,
        embedding: Embedding::PLAIN,
        ropes: vec![Rope::plain(64, 1e4, Pairing::Neighbours), Rope::plain(64, 1e4, Pairing::Halves)],
        layers: vec![layer; layers],
        final_norm: Some(norm),
        head: Some(Head { tied: true, bias: false, soft_cap: None }),
        pooling: None,
        next_token: Vec::new(),
        next_token_tensors: Vec::new(),
        tensors: Vec::new(),
        unused: Vec::new(),
        notices: Vec::new(),
    }
}

/// A file in memory with weights for the description: matrices in 4 bits, as models of this size are run.
pub(super) fn weights(spec: &ModelSpec, random: &mut Random) -> Result<Arc<Source>> {
    let needs = spec.needs();
    let entries = needs.iter().map(|need| Entry {
        name: name(need),
        shape: need.shape.clone(),
        format: format_of(need),
    });
    let entries: Vec<Entry> = entries.collect();
    let mut writer = Writer::new(Vec::new(), Path::new("slice"), 3, &Metadata::default(), &entries)?;
    for need in &needs {
        writer.tensor(&stored(need, random))?;
    }
    Ok(Arc::new(Source::from_bytes("slice", writer.finish()?.leak())?))
}

/// The description with its tensors bound.
pub(super) fn bind(mut spec: ModelSpec, source: &Source) -> Result<ModelSpec> {
    for need in spec.needs() {
        let stored = source.require(&name(&need)).context("the slice was made for this description")?.clone();
        let rows = need.rows();
        let piece = Piece { stored, encoding: Encoding::Plain, first: 0, rows, stride: 1, stored_rows: rows };
        spec.tensors.push(TensorSpec {
            role: need.role,
            layer: need.layer,
            shape: need.shape,
            pieces: vec![piece],
        });
    }
    Ok(spec)
}

fn name(need: &Need) -> String {
    format!("{:?}.{:?}", need.role, need.layer)
}

fn format_of(need: &Need) -> Format {
    if need.shape.len() == 1 || need.role == Role::IndexWeights { Format::F32 } else { Format::Q4_0 }
}

/// Random bytes of a tensor: rows keep about their size from layer to layer.
fn stored(need: &Need, random: &mut Random) -> Vec<u8> {
    let columns = need.columns() as f32;
    let elements = need.elements() as usize;
    let mut bytes = Vec::new();
    if format_of(need) == Format::Q4_0 {
        // codes of 4 bits deviate by 4.6 steps
        let step = half::f16::from_f32(1.0 / (4.6 * columns.sqrt())).to_le_bytes();
        bytes.reserve(elements / 32 * 18);
        for _ in 0..elements / 32 {
            bytes.extend(step);
            bytes.extend(random.bits().to_le_bytes());
            bytes.extend(random.bits().to_le_bytes());
        }
        return bytes;
    }
    let (size, middle) = if need.shape.len() == 1 { (0.1, 1.0) } else { (1.7 / columns.sqrt(), 0.0) };
    let middle = if need.role == Role::IndexKeyNormBias { 0.0 } else { middle };
    for _ in 0..elements {
        bytes.extend((middle + size * random.number()).to_le_bytes());
    }
    bytes
}

/// Random numbers, the same at every run (xorshift64*).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From -1 to 1.
    pub(super) fn number(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
