//! The `options` of a request: how tokens are chosen, when an answer ends, and what a server there would set up.

use crate::fields::Fields;
use crate::openai;
use crate::problem::Problem;
use ingle_engine::sampling::SamplingOverrides;
use serde_json::Value;

/// What sets up a server of Ollama's for a request, and samplers that it no longer has; its clients send them still.
pub(crate) const WITHOUT_EFFECT: [&str; 19] = [
    "draft_num_predict",
    "embedding_only",
    "f16_kv",
    "logits_all",
    "low_vram",
    "main_gpu",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "num_batch",
    "num_gpu",
    "num_keep",
    "num_thread",
    "numa",
    "penalize_newline",
    "tfs_z",
    "use_mlock",
    "use_mmap",
    "vocab_only",
];
/// What makes a difference where text is made.
pub(crate) const OF_ANSWERS: [&str; 12] = [
    "frequency_penalty",
    "min_p",
    "num_predict",
    "presence_penalty",
    "repeat_last_n",
    "repeat_penalty",
    "seed",
    "stop",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
];

/// Options, read. What is not said stays as the model's own settings have it.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) sampling: SamplingOverrides,
    pub(super) max_tokens: Option<usize>,
    pub(super) stop: Vec<String>,
}

/// Takes `options` of a request for text. `context` is what the model is served with, in tokens.
///
/// # Errors
/// An option that does not exist, one out of bounds, and a context that is not there.
pub(super) fn read(fields: &mut Fields, context: usize) -> Result<Options, Problem> {
    taken(fields, context, |options| {
        // fewer than none, as with none, are all
        let top_k = options.number::<i64>("top_k", -1, u32::MAX.into())?;
        let mut sampling = SamplingOverrides {
            temperature: options.number("temperature", 0.0, 100.0)?,
            top_p: options.number("top_p", 0.0, 1.0)?,
            top_k: top_k.map(|count| u32::try_from(count).unwrap_or(0)),
            min_p: options.number("min_p", 0.0, 1.0)?,
            typical_p: options.number("typical_p", 0.0, 1.0)?,
            presence_penalty: options.number("presence_penalty", -100.0, 100.0)?,
            frequency_penalty: options.number("frequency_penalty", -100.0, 100.0)?,
            repetition_penalty: options.number("repeat_penalty", 0.01, 100.0)?,
            // -1 asks for chance
            seed: openai::seed(options)?.filter(|&seed| seed != u64::MAX),
            ..SamplingOverrides::default()
        };
        openai::further(options, &mut sampling)?;
        // -1 is no limit and -2 the context's end, where answers end in any case
        let most = options.number::<i64>("num_predict", -2, i64::MAX)?;
        let max_tokens = most.and_then(|most| usize::try_from(most).ok());
        Ok(Options { sampling, max_tokens, stop: openai::stop(options, "stop")? })
    })
}

/// Takes `options` of a request for vectors, on which few have an influence.
///
/// # Errors
/// An option that does not exist, and a context that is not there.
pub(super) fn for_vectors(fields: &mut Fields, context: usize) -> Result<(), Problem> {
    taken(fields, context, |options| {
        options.without_effect(&OF_ANSWERS);
        Ok(())
    })
}

fn taken<T: Default>(
    fields: &mut Fields,
    context: usize,
    take: impl FnOnce(&mut Fields) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let Some(mut options) = fields.optional::<Value>("options")? else { return Ok(T::default()) };
    options.as_object_mut().into_iter().flatten().for_each(|(_, value)| make_whole(value));
    let mut options = Fields::of(options, "`options`")?;
    let taken = take(&mut options)?;
    // 0 leaves it to the server
    match options.number("num_ctx", 0, usize::MAX)? {
        Some(wanted) if wanted > context => {
            let message = format!(
                "`num_ctx` is {wanted}, and the model is served with a context of {context} tokens; ask for no more, or \
                 start the server with a larger --context"
            );
            return Err(Problem::field("num_ctx", message));
        }
        Some(wanted) if wanted != 0 && wanted < context => options
            .warnings
            .push(format!("`num_ctx` has no effect here: the context stays at {context} tokens")),
        _ => {}
    }
    options.without_effect(&WITHOUT_EFFECT);
    fields.warnings.extend(options.finish()?);
    Ok(taken)
}

/// Some clients write all numbers with a point (`"num_ctx": 4096.0`), and Ollama takes them.
fn make_whole(value: &mut Value) {
    const EXACT: f64 = 9_007_199_254_740_992.0; // the largest up to which all whole numbers are there
    if let Some(number) = value.as_f64().filter(|number| value.is_f64() && number.fract() == 0.0)
        && number.abs() <= EXACT
    {
        *value = (number as i64).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_engine::sampling::Window;
    use serde_json::json;

    fn fields(options: Value) -> Fields {
        Fields::of(json!({"options": options}), "the body").unwrap()
    }

    #[test]
    fn options_mean_what_they_mean_in_ollama() {
        let mut some = fields(json!({
            "temperature": 0.5, "top_k": 7, "repeat_penalty": 1.1, "repeat_last_n": -1, "num_predict": 9, "seed": 3,
            "stop": "end", "typical_p": 0.9, "dry_multiplier": 0.8, "num_ctx": 100, "use_mmap": null,
        }));
        let Options { sampling, max_tokens, stop } = read(&mut some, 100).unwrap();
        assert_eq!((sampling.temperature, sampling.top_k, sampling.seed), (Some(0.5), Some(7), Some(3)));
        assert_eq!((sampling.repetition_penalty, sampling.penalty_window), (Some(1.1), Some(Window::All)));
        assert_eq!((sampling.dry_multiplier, max_tokens, stop), (Some(0.8), Some(9), vec!["end".to_owned()]));
        assert!(some.finish().unwrap().is_empty());
        let defaults = json!({"num_predict": -1, "seed": -1, "top_k": -1, "num_ctx": 0});
        let Options { sampling, max_tokens, stop } = read(&mut fields(defaults), 100).unwrap();
        assert_eq!((sampling.top_k, sampling.seed, max_tokens, stop.len()), (Some(0), None, None, 0));
        assert_eq!(read(&mut fields(json!({"num_predict": -2})), 100).unwrap().max_tokens, None);
        let points =
            json!({"num_predict": 9.0, "top_k": 7.0, "seed": -1.0, "temperature": 1.0, "top_p": 0.5});
        let Options { sampling, max_tokens, .. } = read(&mut fields(points), 100).unwrap();
        assert_eq!((sampling.top_k, sampling.seed, sampling.temperature), (Some(7), None, Some(1.0)));
        assert_eq!((sampling.top_p, max_tokens), (Some(0.5), Some(9)));
        assert!(read(&mut fields(json!({"top_k": 7.5})), 100).is_err());
        assert_eq!(read(&mut fields(Value::Null), 100).unwrap().sampling, SamplingOverrides::default());
    }

    #[test]
    fn what_does_nothing_is_told_and_what_is_not_known_refused() {
        let mut some = fields(json!({"num_gpu": 1, "numa": false, "num_ctx": 50, "mirostat": 0}));
        read(&mut some, 100).unwrap();
        let told = some.finish().unwrap().join("\n");
        for name in
            ["`num_gpu`", "`numa`", "`num_ctx` has no effect here: the context stays at 100", "`mirostat`"]
        {
            assert!(told.contains(name), "{told}");
        }
        for (options, blamed) in [
            (json!({"tempereture": 1}), "tempereture"),
            (json!({"temperature": -1}), "temperature"),
            (json!({"num_ctx": 101}), "num_ctx"),
            (json!({"num_predict": -3}), "num_predict"),
            (json!({"top_k": -2}), "top_k"),
            (json!({"stop": [""]}), "stop"),
            (json!({"seed": "x"}), "seed"),
        ] {
            let problem = read(&mut fields(options.clone()), 100).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(blamed), "{options}");
        }
        assert!(read(&mut fields(json!([])), 100).is_err());
        let mut vectors = fields(json!({"temperature": 0, "num_thread": 2}));
        for_vectors(&mut vectors, 100).unwrap();
        assert_eq!(vectors.finish().unwrap().len(), 2);
        assert!(for_vectors(&mut fields(json!({"num_ctx": 101})), 100).is_err());
        assert!(for_vectors(&mut fields(json!({"colour": 1})), 100).is_err());
    }
}
