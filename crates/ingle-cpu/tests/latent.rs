//! Latent attention and sparse attention of the production executor on networks of awkward sizes, against the reference
//! executor; and what is cached against what the specification counts.

use ingle_cpu::kernels::{Isa, Kernels};
use ingle_cpu::{Cpu, Production, Reference};
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, SequenceId, Slice, StepOutput};
use ingle_model::gguf::{Entry, Writer};
use ingle_model::spec::{
    Activation, Dense, Embedding, Encoding, FeedForward, Head, KeyUpLayout, KvBytes, LatentAttention,
    LayerNorms, LayerSpec, Mixer, ModelSpec, Norm, NormKind, Pairing, Piece, Role, Rope, SparseIndexer,
    TensorSpec,
};
use ingle_model::{Format, Metadata, Source};
use std::path::Path;
use std::sync::Arc;

const VOCABULARY: usize = 40;

/// Sizes that differ from case to case.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    heads: usize,
    query_rank: Option<usize>,
    kv_rank: usize,
    key_up: KeyUpLayout,
    /// `(heads, top_k)`
    indexer: Option<(usize, usize)>,
}

fn network(sizes: Sizes, layers: usize) -> ModelSpec {
    let norm = Norm::rms(1e-6);
    let Sizes { heads, query_rank, kv_rank, key_up, indexer } = sizes;
    let key_norm = Norm { kind: NormKind::Layer, epsilon: 1e-6, weight_offset: 0.0 };
    let mixer = Mixer::Latent(LatentAttention {
        heads,
        query_rank,
        kv_rank,
        nope_dim: 12,
        rope_dim: 8,
        value_dim: 20,
        scale: 1.3 / 20.0_f32.sqrt(),
        rope: 0,
        rank_norm: norm,
        key_up,
        indexer: indexer.map(|(heads, top_k)| SparseIndexer {
            heads,
            head_dim: 24,
            top_k,
            rope: 1,
            key_norm,
        }),
    });
    let feed_forward = FeedForward::Dense(Dense { inner: 24, activation: Activation::Silu });
    let layer = LayerSpec::new(mixer, feed_forward, LayerNorms::before(norm));
    ModelSpec {
        architecture: "synthetic".into(),
        name: None,
        hidden: 32,
        vocabulary: VOCABULARY,
        context: 4096,
        embedding: Embedding::PLAIN,
        ropes: vec![Rope::plain(8, 1e4, Pairing::Neighbours), Rope::plain(8, 1e4, Pairing::Halves)],
        layers: vec![layer; layers],
        final_norm: Some(norm),
        head: Some(Head { tied: true, bias: false, soft_cap: None }),
        pooling: None,
        next_token: Vec::new(),
        next_token_tensors: Vec::new(),
        notices: Vec::new(),
        tensors: Vec::new(),
        unused: Vec::new(),
    }
}

/// Gives a network random weights.
fn filled(mut spec: ModelSpec) -> (ModelSpec, Arc<Source>) {
    let needs = spec.needs();
    let name = |role: Role, layer: Option<usize>| format!("{role:?}.{layer:?}");
    let entries: Vec<Entry> = needs
        .iter()
        .map(|need| Entry {
            name: name(need.role, need.layer),
            shape: need.shape.clone(),
            format: Format::F32,
        })
        .collect();
    let mut writer =
        Writer::new(Vec::new(), Path::new("synthetic"), 3, &Metadata::default(), &entries).unwrap();
    let mut state = 88_172_645_463_325_252u64;
    for need in &needs {
        // about as large as keeps a row's size; norms about 1
        let (size, middle) = match need.shape.len() {
            1 => (0.3, if need.role == Role::IndexKeyNormBias { 0.0 } else { 1.0 }),
            _ => (1.7 / (need.columns() as f32).sqrt(), 0.0),
        };
        let mut bytes = Vec::new();
        for _ in 0..need.elements() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let number = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            bytes.extend((middle + size * number).to_le_bytes());
        }
        writer.tensor(&bytes).unwrap();
    }
    let source = Source::from_bytes("synthetic", writer.finish().unwrap().leak()).unwrap();
    spec.tensors = needs
        .into_iter()
        .map(|need| {
            let (rows, stored) = (need.rows(), source.require(&name(need.role, need.layer)).unwrap().clone());
            let piece =
                Piece { stored, encoding: Encoding::Plain, first: 0, rows, stride: 1, stored_rows: rows };
            TensorSpec { role: need.role, layer: need.layer, shape: need.shape, pieces: vec![piece] }
        })
        .collect();
    (spec, Arc::new(source))
}

fn production(spec: &ModelSpec, source: &Arc<Source>, kernels: &'static Kernels) -> Production {
    Production::load(spec.clone(), source.clone(), Cpu::with(2, kernels), &mut |_| {}).unwrap()
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).map(|at| (at * 7919 + at * at * 31 + 13) % VOCABULARY as u32).collect()
}

/// Logits of all rows of a step of one slice.
fn step(executor: &mut dyn Executor, sequence: SequenceId, tokens: &[u32]) -> Vec<f32> {
    let mut output = StepOutput::default();
    let slices = [Slice { sequence, tokens, logits: LogitRows::All }];
    executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output).unwrap();
    output.logits
}

/// Logits of one step, and of the same tokens in chunks.
fn chunked(executor: &mut dyn Executor, tokens: &[u32], chunk: usize) -> Vec<f32> {
    let sequence = executor.open(tokens.len()).unwrap();
    let logits = tokens.chunks(chunk).flat_map(|chunk| step(executor, sequence, chunk)).collect();
    executor.close(sequence);
    logits
}

/// How many rows differ by more than rounding. Where positions are chosen, two nearly equal scores may be ordered
/// differently by the rounding of cached keys; nothing else makes rows differ.
fn differing(a: &[f32], b: &[f32]) -> usize {
    assert_eq!(a.len(), b.len());
    let differs = |(a, b): &(&[f32], &[f32])| a.iter().zip(*b).any(|(a, b)| (a - b).abs() > 0.02);
    a.chunks_exact(VOCABULARY).zip(b.chunks_exact(VOCABULARY)).filter(differs).count()
}

const CASES: [Sizes; 5] = [
    Sizes { heads: 1, query_rank: None, kv_rank: 24, key_up: KeyUpLayout::Expanding, indexer: None },
    Sizes { heads: 5, query_rank: Some(16), kv_rank: 40, key_up: KeyUpLayout::Absorbing, indexer: None },
    Sizes {
        heads: 3,
        query_rank: Some(20),
        kv_rank: 40,
        key_up: KeyUpLayout::Expanding,
        indexer: Some((12, 17)),
    },
    Sizes { heads: 3, query_rank: None, kv_rank: 24, key_up: KeyUpLayout::Absorbing, indexer: Some((12, 5)) },
    Sizes {
        heads: 5,
        query_rank: Some(16),
        kv_rank: 24,
        key_up: KeyUpLayout::Expanding,
        indexer: Some((20, 70)),
    },
];

#[test]
fn production_is_the_reference_whatever_the_chunks() {
    let tokens = tokens(200);
    for sizes in CASES {
        let (spec, source) = filled(network(sizes, 1));
        let expected = chunked(&mut Reference::load(spec.clone(), source.clone()).unwrap(), &tokens, 200);
        let allowed = if sizes.indexer.is_some() { 4 } else { 0 };
        for kernels in Isa::ALL.into_iter().filter_map(Kernels::for_isa) {
            let mut executor = production(&spec, &source, kernels);
            for chunk in [1, 7, 64, 130, 200] {
                let ours = chunked(&mut executor, &tokens, chunk);
                let rows = differing(&ours, &expected);
                println!("{} {sizes:?} chunks of {chunk}: {rows} rows differ", kernels.isa().name());
                assert!(rows <= allowed, "{} {sizes:?} chunks of {chunk}: {rows} rows", kernels.isa().name());
            }
        }
    }
}

#[test]
fn choosing_the_best_one_is_not_choosing_all() {
    let tokens = tokens(100);
    let sizes = |top_k| Sizes { indexer: Some((12, top_k)), ..CASES[2] };
    let logits = |top_k| {
        let (spec, source) = filled(network(sizes(top_k), 1));
        chunked(&mut production(&spec, &source, Kernels::best()), &tokens, 100)
    };
    let all = logits(usize::MAX);
    assert_eq!(differing(&logits(100), &all), 0, "as many as there are");
    let one = logits(1);
    assert_eq!(differing(&one[..VOCABULARY], &all[..VOCABULARY]), 0, "the first row sees only itself");
    assert!(differing(&one, &all) > 90);
}

#[test]
fn sequences_share_steps_and_can_go_back() {
    let (a, b) = (tokens(90), tokens(100)[10..].to_vec());
    for sizes in [CASES[1], CASES[2]] {
        let (spec, source) = filled(network(sizes, 2));
        let mut executor = production(&spec, &source, Kernels::best());
        let (alone_a, alone_b) = (chunked(&mut executor, &a, 9), chunked(&mut executor, &b, 1));
        let (one, two) = (executor.open(100).unwrap(), executor.open(100).unwrap());
        step(&mut executor, two, &a[..70]);
        assert_eq!(executor.truncate(two, 0).unwrap(), 0);
        step(&mut executor, one, &a[..30]);
        step(&mut executor, one, &b[..50]);
        assert_eq!(executor.truncate(one, 30).unwrap(), 30);
        step(&mut executor, two, &b[..69]);
        let mut output = StepOutput::default();
        let slices = [
            Slice { sequence: two, tokens: &b[69..], logits: LogitRows::All },
            Slice { sequence: one, tokens: &a[30..], logits: LogitRows::All },
        ];
        executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output).unwrap();
        let (ours_b, ours_a) = output.logits.split_at(21 * VOCABULARY);
        let allowed = if sizes.indexer.is_some() { 2 } else { 0 };
        assert!(differing(ours_b, &alone_b[69 * VOCABULARY..]) <= allowed);
        assert!(differing(ours_a, &alone_a[30 * VOCABULARY..]) <= allowed);
    }
}

#[test]
fn a_cache_takes_what_the_specification_counts() {
    for sizes in [CASES[1], CASES[4]] {
        let (spec, source) = filled(network(sizes, 3));
        let mut executor = production(&spec, &source, Kernels::best());
        let sequence = executor.open(1000).unwrap();
        assert_eq!(executor.kv_bytes(), 0);
        step(&mut executor, sequence, &tokens(64));
        assert_eq!(executor.kv_bytes() as f64, spec.kv_bytes(64, KvBytes::F16));
        step(&mut executor, sequence, &tokens(1));
        assert_eq!(executor.kv_bytes() as f64, spec.kv_bytes(128, KvBytes::F16), "pages of 64");
        executor.truncate(sequence, 64).unwrap();
        assert_eq!(executor.kv_bytes() as f64, spec.kv_bytes(64, KvBytes::F16));
    }
}

#[test]
fn sizes_that_cannot_be_are_refused_by_name() {
    let refused = |change: fn(&mut LatentAttention)| {
        let (mut spec, source) = filled(network(CASES[2], 1));
        let Mixer::Latent(latent) = &mut spec.layers[0].mixer else { unreachable!() };
        change(latent);
        match Production::load(spec, source, Cpu::new(1), &mut |_| {}) {
            Ok(_) => panic!("it was loaded"),
            Err(error) => error.to_string(),
        }
    };
    assert!(refused(|latent| latent.value_dim = 0).contains("size of zero"));
    assert!(refused(|latent| latent.rope = 7).contains("rotates"));
    assert!(refused(|latent| latent.indexer.as_mut().unwrap().top_k = 0).contains("indexer"));
    assert!(refused(|latent| latent.indexer.as_mut().unwrap().head_dim = 4).contains("indexer"));
}
