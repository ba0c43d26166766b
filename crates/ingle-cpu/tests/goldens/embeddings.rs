//! Networks that make embeddings: every hidden row of three texts.

use super::{Golden, largest_difference, nmse, production, reference};
use ingle_cpu::kernels::Isa;
use ingle_model::executor::{Batch, Executor, ExecutorError, Hidden, LogitRows, Slice, StepOutput};

const MODELS: [&str; 4] = ["bert_mean", "bert_cls", "qwen3_embedding", "embeddinggemma"];
const TEXTS: [&str; 3] = ["t0", "t1", "t2"];

/// The final rows of texts that go through together, and all stages' rows where `hidden` says so.
fn rows(executor: &mut dyn Executor, texts: &[Vec<u32>], hidden: Hidden) -> Vec<Vec<f32>> {
    let sequences: Vec<_> = texts.iter().map(|text| executor.open(text.len()).unwrap()).collect();
    let slice = |(&sequence, tokens)| Slice { sequence, tokens, logits: LogitRows::None };
    let slices: Vec<Slice> = sequences.iter().zip(texts.iter().map(Vec::as_slice)).map(slice).collect();
    let mut output = StepOutput::default();
    executor.step(&Batch { slices: &slices, hidden }, &mut output).unwrap();
    assert!(output.logits.is_empty());
    sequences.into_iter().for_each(|sequence| executor.close(sequence));
    output.hidden
}

#[test]
fn reference_rows_equal_the_reference_library_at_every_layer() {
    for model in MODELS {
        let golden = Golden::read(model);
        let mut executor = reference(model);
        assert!(executor.spec().pooling.is_some() && executor.spec().head.is_none(), "{model}");
        let mut largest = 0.0f32;
        for text in TEXTS {
            let stages = rows(&mut executor, &[golden.ids(&format!("{text}.input_ids"))], Hidden::All);
            let layers = executor.spec().layers.len();
            assert_eq!(stages.len(), layers + 2);
            for (at, stage) in stages.iter().enumerate() {
                let key = match at {
                    0 => format!("{text}.embed"),
                    at if at <= layers => format!("{text}.layer.{}", at - 1),
                    _ => format!("{text}.last_hidden"),
                };
                let difference = largest_difference(stage, &golden.floats(&key));
                assert!(difference < 1e-4, "{model} {key}: {difference}");
                largest = largest.max(difference);
            }
        }
        println!("{model}: largest difference of a hidden value {largest:e}");
    }
}

#[test]
fn production_rows_stay_close_alone_and_together() {
    for isa in Isa::ALL {
        for model in MODELS {
            let golden = Golden::read(model);
            let Some(mut executor) = production(model, isa, 2) else { continue };
            let texts = TEXTS.map(|text| golden.ids(&format!("{text}.input_ids")));
            let exact: Vec<f32> =
                TEXTS.iter().flat_map(|text| golden.floats(&format!("{text}.last_hidden"))).collect();
            let together = rows(&mut executor, &texts, Hidden::Final);
            assert_eq!(together.len(), 1);
            let error = nmse(&together[0], &exact);
            println!("{model} {}: NMSE {error:e}", isa.name());
            assert!(error < 1e-3, "{model} {isa:?}: {error}");
            let alone =
                texts.iter().map(|text| rows(&mut executor, std::slice::from_ref(text), Hidden::Final));
            let alone: Vec<f32> = alone.flat_map(|mut rows| rows.remove(0)).collect();
            assert!(nmse(&alone, &exact) < 1e-3 && nmse(&alone, &together[0]) < 1e-6, "{model} {isa:?}");
            assert_eq!(executor.kv_bytes(), 0);
        }
    }
}

#[test]
fn what_an_encoder_cannot_do_is_an_error_of_its_own() {
    let executors: [Box<dyn Executor>; 2] =
        [Box::new(reference("bert_cls")), Box::new(production("bert_cls", Isa::Scalar, 1).unwrap())];
    for mut executor in executors {
        let sequence = executor.open(200).unwrap();
        let mut output = StepOutput::default();
        let mut step = |executor: &mut dyn Executor, tokens: &[u32], logits| {
            let slices = [Slice { sequence, tokens, logits }];
            executor.step(&Batch { slices: &slices, hidden: Hidden::Final }, &mut output)
        };
        let logits = step(&mut *executor, &[2, 3], LogitRows::Last);
        assert!(matches!(logits, Err(ExecutorError::NoHead)), "{logits:?}");
        let long = step(&mut *executor, &[5; 129], LogitRows::None);
        assert!(matches!(long, Err(ExecutorError::Context { context: 128, wanted: 129 })), "{long:?}");
        step(&mut *executor, &[2, 9, 3], LogitRows::None).unwrap();
        let more = step(&mut *executor, &[9], LogitRows::None);
        assert!(matches!(more, Err(ExecutorError::WholeSequence { held: 3 })), "{more:?}");
        assert_eq!(executor.truncate(sequence, 0).unwrap(), 0);
        step(&mut *executor, &[2, 9, 3], LogitRows::None).unwrap();
    }
}

/// Rows look as far as the window says, on both sides and no further.
#[test]
fn a_window_reaches_both_ways() {
    let mut executor = reference("embeddinggemma");
    let spec = executor.spec();
    let windows: Vec<usize> = spec
        .layers
        .iter()
        .filter_map(|layer| match &layer.mixer {
            ingle_model::spec::Mixer::Attention(attention) => attention.window,
            _ => None,
        })
        .collect();
    assert_eq!(windows, [5, 5, 5], "half of 8 on either side, and the row itself");
    let base: Vec<u32> = (0..20).collect();
    let mut changed = base.clone();
    changed[10] = 99;
    let (base, changed) =
        (rows(&mut executor, &[base], Hidden::All), rows(&mut executor, &[changed], Hidden::All));
    let width = executor.spec().hidden;
    let differs: Vec<usize> = (0..20)
        .filter(|row| base[1][row * width..(row + 1) * width] != changed[1][row * width..(row + 1) * width])
        .collect();
    assert_eq!(differs, (6..=14).collect::<Vec<_>>());
}
