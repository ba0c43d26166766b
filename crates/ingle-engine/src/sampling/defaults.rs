//! What a model says about its own generation: sampling options and the tokens that end an answer.
//!
//! Two places say it: `generation_config.json` of a Hugging Face folder, and the keys `general.sampling.*` and
//! `tokenizer.ggml.*_token_id` of a GGUF file.

use ingle_model::Metadata;
use ingle_model::Source;
use serde_json::Value as Json;

use super::error::SamplingError;
use super::options::{SamplingOptions, SamplingOverrides, Window};

/// A model's own recommendations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    /// The options the model sets; all others are unset.
    pub sampling: SamplingOverrides,
    /// Tokens that end an answer, in the order given, without repetitions.
    pub end_tokens: Vec<u32>,
    /// Settings of the model that have an effect elsewhere but none here, for a notice to the person.
    pub ignored: Vec<String>,
}

/// Settings of `generation_config.json` that would change the answers and are not implemented, each with the number
/// that means "off" (absent, null, false and an empty list always do).
const UNSUPPORTED: [(&str, f64); 16] = [
    ("num_beams", 1.0),
    ("penalty_alpha", 0.0),
    ("no_repeat_ngram_size", 0.0),
    ("encoder_repetition_penalty", 1.0),
    ("encoder_no_repeat_ngram_size", 0.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("top_h", 1.0),
    ("guidance_scale", 1.0),
    ("exponential_decay_length_penalty", 0.0),
    ("bad_words_ids", 0.0),
    ("force_words_ids", 0.0),
    ("sequence_bias", 0.0),
    ("suppress_tokens", 0.0),
    ("begin_suppress_tokens", 0.0),
    ("min_new_tokens", 0.0),
];

impl GenerationDefaults {
    /// Of an opened model, from wherever it has them.
    ///
    /// # Errors
    /// As of the two kinds of files.
    pub fn of(source: &Source) -> Result<GenerationDefaults, SamplingError> {
        match &source.generation_config {
            Some(config) => GenerationDefaults::from_generation_config(config),
            None => GenerationDefaults::from_metadata(&source.metadata),
        }
    }

    /// Reads a parsed `generation_config.json`. `do_sample: false` is greedy, whatever else is set, as it is for the
    /// library that wrote the file. That library applies its repetition penalty to the whole history, so the penalty
    /// window is [`Window::All`] when the file sets one.
    ///
    /// # Errors
    /// [`SamplingError::GenerationConfig`] for a value of the wrong type, [`SamplingError::OutOfRange`] for one that
    /// makes no sense.
    pub fn from_generation_config(config: &Json) -> Result<GenerationDefaults, SamplingError> {
        let Some(config) = config.as_object() else {
            return Err(wrong("(the file)", "must be a JSON object"));
        };
        let number = |key: &str| match config.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(key, "must be a number")),
            },
        };
        let float = |key: &str| Ok::<_, SamplingError>(number(key)?.map(|n| n as f32));

        let mut sampling = SamplingOverrides {
            temperature: float("temperature")?,
            top_k: number("top_k")?.map(|n| whole_top_k(n).ok_or_else(|| not_whole("top_k"))).transpose()?,
            top_p: float("top_p")?,
            min_p: float("min_p")?,
            typical_p: float("typical_p")?,
            repetition_penalty: float("repetition_penalty")?,
            ..Default::default()
        };
        if sampling.repetition_penalty.is_some_and(|penalty| penalty != 1.0) {
            sampling.penalty_window = Some(Window::All);
        }
        match config.get("do_sample") {
            None | Some(Json::Null | Json::Bool(true)) => {}
            Some(Json::Bool(false)) => sampling.temperature = Some(0.0),
            Some(_) => return Err(wrong("do_sample", "must be true or false")),
        }
        sampling.resolve()?;

        let ignored = UNSUPPORTED.iter().filter(|(key, off)| config.get(*key).is_some_and(|v| acts(v, *off)));
        Ok(GenerationDefaults {
            sampling,
            end_tokens: end_tokens(config.get("eos_token_id"))?,
            ignored: ignored.map(|(key, _)| (*key).to_owned()).collect(),
        })
    }

    /// Reads the metadata of a GGUF file.
    ///
    /// # Errors
    /// [`SamplingError::Metadata`] for a value of the wrong type, [`SamplingError::OutOfRange`] for one that makes no
    /// sense.
    pub fn from_metadata(metadata: &Metadata) -> Result<GenerationDefaults, SamplingError> {
        let number = |name: &str| metadata.float(&format!("general.sampling.{name}"));
        let float = |name: &str| Ok::<_, SamplingError>(number(name)?.map(|n| n as f32));
        let bad = |name: &str, what: &str| {
            SamplingError::from(ingle_model::Error::metadata(format!("general.sampling.{name}"), what))
        };

        let top_k = match number("top_k")? {
            None => None,
            Some(n) => Some(whole_top_k(n).ok_or_else(|| bad("top_k", "must be an integer"))?),
        };
        let penalty_window = match number("penalty_last_n")? {
            None => None,
            Some(n) if n.fract() == 0.0 => Some(
                Window::try_from(n as i64).map_err(|what| bad("penalty_last_n", &format!("holds {what}")))?,
            ),
            Some(_) => return Err(bad("penalty_last_n", "must be an integer")),
        };
        let sampling = SamplingOverrides {
            temperature: float("temp")?.map(|t| if t < 0.0 { 0.0 } else { t }), // below 0 means greedy in GGUF
            top_k,
            top_p: float("top_p")?,
            min_p: float("min_p")?,
            xtc_probability: float("xtc_probability")?,
            xtc_threshold: float("xtc_threshold")?,
            repetition_penalty: float("penalty_repeat")?,
            penalty_window,
            ..Default::default()
        };
        sampling.resolve()?;

        let mut ignored = Vec::new();
        if metadata.get("general.sampling.sequence").is_some() {
            ignored.push("general.sampling.sequence".to_owned());
        }
        if number("mirostat")?.is_some_and(|kind| kind != 0.0) {
            ignored.push("general.sampling.mirostat".to_owned());
        }
        let mut end_tokens = Vec::new();
        for name in ["eos", "eot", "eom"] {
            let key = format!("tokenizer.ggml.{name}_token_id");
            if let Some(id) = metadata.count(&key)? {
                let id = u32::try_from(id).map_err(|_| {
                    ingle_model::Error::metadata(&key, format!("is {id}, which is no token id"))
                })?;
                if !end_tokens.contains(&id) {
                    end_tokens.push(id);
                }
            }
        }
        Ok(GenerationDefaults { sampling, end_tokens, ignored })
    }

    /// The options to run with: what the person set, else what the model set, else neutral. For a model that
    /// recommends nothing about temperature or truncation, the moderate [`SamplingOverrides::everyday`] stand in,
    /// because sampling an untruncated distribution goes astray.
    ///
    /// # Errors
    /// [`SamplingError::OutOfRange`] for an option of the person that makes no sense.
    pub fn resolve(&self, person: &SamplingOverrides) -> Result<SamplingOptions, SamplingError> {
        let model = &self.sampling;
        let recommends = model.temperature.is_some()
            || model.top_k.is_some()
            || model.top_p.is_some()
            || model.min_p.is_some()
            || model.typical_p.is_some();
        let below = if recommends { model.clone() } else { model.over(&SamplingOverrides::everyday()) };
        person.over(&below).resolve()
    }
}

impl SamplingOverrides {
    /// Moderate sampling for models that recommend nothing: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05.
    pub fn everyday() -> SamplingOverrides {
        SamplingOverrides {
            temperature: Some(0.8),
            top_k: Some(40),
            top_p: Some(0.95),
            min_p: Some(0.05),
            ..Default::default()
        }
    }
}

/// A top-k as files write it: an integer, of which 0 and below mean all.
fn whole_top_k(number: f64) -> Option<u32> {
    (number.fract() == 0.0 && number <= f64::from(u32::MAX)).then_some(number.max(0.0) as u32)
}

/// One id or a list of them.
fn end_tokens(value: Option<&Json>) -> Result<Vec<u32>, SamplingError> {
    let list = match value {
        None | Some(Json::Null) => &[],
        Some(Json::Array(list)) => list.as_slice(),
        Some(single) => std::slice::from_ref(single),
    };
    let mut ids = Vec::new();
    for id in list {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| wrong("eos_token_id", "must be a token id or a list of token ids"))?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// True when a setting's value is not one of those that mean "off".
fn acts(value: &Json, off: f64) -> bool {
    match value {
        Json::Null | Json::Bool(false) => false,
        Json::Number(number) => number.as_f64() != Some(off),
        Json::Array(list) => !list.is_empty(),
        Json::Object(map) => !map.is_empty(),
        Json::Bool(true) | Json::String(_) => true,
    }
}

fn wrong(key: &str, what: &str) -> SamplingError {
    SamplingError::GenerationConfig { key: key.into(), what: what.into() }
}

fn not_whole(key: &str) -> SamplingError {
    wrong(key, "must be an integer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_model::Value;
    use ingle_model::metadata::IntegerWidth;
    use serde_json::json;

    #[test]
    fn a_generation_config_is_read() {
        let defaults = GenerationDefaults::from_generation_config(&json!({
            "bos_token_id": 151643, "do_sample": true, "eos_token_id": [151645, 151643, 151645],
            "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": null, "num_beams": 1,
            "transformers_version": "4.51.0"
        }))
        .unwrap();
        assert_eq!(
            defaults.sampling,
            SamplingOverrides {
                temperature: Some(0.6),
                top_k: Some(20),
                top_p: Some(0.95),
                ..Default::default()
            }
        );
        assert_eq!(defaults.end_tokens, [151645, 151643]);
        assert!(defaults.ignored.is_empty());
    }

    #[test]
    fn do_sample_false_is_greedy() {
        let config = json!({"do_sample": false, "temperature": 0.6, "eos_token_id": 2});
        let defaults = GenerationDefaults::from_generation_config(&config).unwrap();
        assert_eq!(defaults.sampling.temperature, Some(0.0));
        assert_eq!(defaults.end_tokens, [2]);
    }

    #[test]
    fn a_repetition_penalty_looks_at_everything_as_in_transformers() {
        let read = |penalty: f64| {
            GenerationDefaults::from_generation_config(&json!({"repetition_penalty": penalty}))
                .unwrap()
                .sampling
        };
        assert_eq!(read(1.05).penalty_window, Some(Window::All));
        assert_eq!(read(1.0).penalty_window, None);
    }

    #[test]
    fn what_has_no_effect_here_is_reported() {
        let config =
            json!({"num_beams": 4, "no_repeat_ngram_size": 0, "suppress_tokens": [1], "top_h": null});
        let defaults = GenerationDefaults::from_generation_config(&config).unwrap();
        assert_eq!(defaults.ignored, ["num_beams", "suppress_tokens"]);
    }

    #[test]
    fn unusable_configs_are_refused_by_name() {
        for (config, named) in [
            (json!([1]), "object"),
            (json!({"temperature": "hot"}), "`temperature`"),
            (json!({"temperature": -1}), "`temperature`"),
            (json!({"top_k": 2.5}), "`top_k`"),
            (json!({"top_k": 1e18}), "`top_k`"),
            (json!({"top_p": 7}), "`top_p`"),
            (json!({"do_sample": 1}), "`do_sample`"),
            (json!({"eos_token_id": -1}), "`eos_token_id`"),
            (json!({"eos_token_id": [1, "x"]}), "`eos_token_id`"),
            (json!({"eos_token_id": 1u64 << 40}), "`eos_token_id`"),
        ] {
            let error = GenerationDefaults::from_generation_config(&config).unwrap_err().to_string();
            assert!(error.contains(named), "{config}: {error}");
        }
    }

    fn metadata(entries: &[(&str, Value)]) -> Metadata {
        let mut metadata = Metadata::default();
        for (key, value) in entries {
            metadata.insert(*key, value.clone());
        }
        metadata
    }

    #[test]
    fn gguf_metadata_is_read() {
        let whole = |n| Value::Signed(n, IntegerWidth::W32);
        let id = |n| Value::Unsigned(n, IntegerWidth::W32);
        let defaults = GenerationDefaults::from_metadata(&metadata(&[
            ("general.sampling.temp", Value::F32(0.6)),
            ("general.sampling.top_k", whole(20)),
            ("general.sampling.top_p", Value::F32(0.95)),
            ("general.sampling.min_p", Value::F32(0.0)),
            ("general.sampling.xtc_probability", Value::F32(0.5)),
            ("general.sampling.xtc_threshold", Value::F32(0.2)),
            ("general.sampling.penalty_repeat", Value::F32(1.1)),
            ("general.sampling.penalty_last_n", whole(-1)),
            ("general.sampling.sequence", Value::String("kp".into())),
            ("general.sampling.mirostat", whole(2)),
            ("tokenizer.ggml.eos_token_id", id(7)),
            ("tokenizer.ggml.eot_token_id", id(7)),
            ("tokenizer.ggml.eom_token_id", id(9)),
        ]))
        .unwrap();
        assert_eq!(
            defaults.sampling,
            SamplingOverrides {
                temperature: Some(0.6),
                top_k: Some(20),
                top_p: Some(0.95),
                min_p: Some(0.0),
                xtc_probability: Some(0.5),
                xtc_threshold: Some(0.2),
                repetition_penalty: Some(1.1),
                penalty_window: Some(Window::All),
                ..Default::default()
            }
        );
        assert_eq!(defaults.end_tokens, [7, 9]);
        assert_eq!(defaults.ignored, ["general.sampling.sequence", "general.sampling.mirostat"]);
    }

    #[test]
    fn unusable_metadata_is_refused_by_key() {
        for (key, value) in [
            ("general.sampling.temp", Value::String("0.6".into())),
            ("general.sampling.top_k", Value::F32(0.5)),
            ("general.sampling.penalty_last_n", Value::Signed(-7, IntegerWidth::W32)),
            ("general.sampling.penalty_last_n", Value::F32(f32::NAN)),
            ("tokenizer.ggml.eos_token_id", Value::Unsigned(u64::MAX, IntegerWidth::W64)),
        ] {
            let error =
                GenerationDefaults::from_metadata(&metadata(&[(key, value)])).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
        let top_p = metadata(&[("general.sampling.top_p", Value::F32(-3.0))]);
        assert!(GenerationDefaults::from_metadata(&top_p).unwrap_err().to_string().contains("`top_p`"));
    }

    #[test]
    fn person_before_model_before_everyday() {
        let silent = GenerationDefaults::default();
        let options = silent.resolve(&SamplingOverrides::default()).unwrap();
        assert_eq!((options.temperature, options.top_k), (0.8, 40));
        let person = SamplingOverrides { temperature: Some(0.0), ..Default::default() };
        assert_eq!(silent.resolve(&person).unwrap().temperature, 0.0);

        let sampling = SamplingOverrides { temperature: Some(0.6), ..Default::default() };
        let model = GenerationDefaults { sampling, ..Default::default() };
        let options = model.resolve(&SamplingOverrides::default()).unwrap();
        assert_eq!((options.temperature, options.top_k), (0.6, 0), "everyday values do not mix in");
        let bad = SamplingOverrides { top_p: Some(2.0), ..Default::default() };
        assert!(model.resolve(&bad).is_err());
    }
}
