//! The sampling options: one table of fields, from which come the resolved options and the optional ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::SamplingError;

/// How many of the latest tokens a rule looks at. In JSON an integer: -1 is all, 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub enum Window {
    /// The whole history.
    All,
    /// The last so many tokens.
    Last(u32),
}

impl Window {
    /// The part of `history` the rule looks at.
    pub fn of<'a>(&self, history: &'a [u32]) -> &'a [u32] {
        match *self {
            Window::All => history,
            Window::Last(count) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                &history[history.len().saturating_sub(count)..]
            }
        }
    }
}

impl TryFrom<i64> for Window {
    type Error = String;

    fn try_from(count: i64) -> Result<Window, String> {
        match count {
            -1 => Ok(Window::All),
            _ => u32::try_from(count)
                .map(Window::Last)
                .map_err(|_| format!("a window of {count} tokens; allowed is -1 (all) or 0 to {}", u32::MAX)),
        }
    }
}

impl From<Window> for i64 {
    fn from(window: Window) -> i64 {
        match window {
            Window::All => -1,
            Window::Last(count) => i64::from(count),
        }
    }
}

/// Makes both structures from one table, so that a new option is one new row.
macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $neutral:expr,)*) => {
        /// Complete sampling options. The default of every field is neutral: the rule is off.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct SamplingOptions {
            $($(#[$doc])* pub $name: $type,)*
            /// Key of the random numbers; `None` draws one from the system
            /// ([`Sampler::seed`](super::Sampler::seed) tells which).
            pub seed: Option<u64>,
        }

        impl Default for SamplingOptions {
            fn default() -> SamplingOptions {
                SamplingOptions { $($name: $neutral,)* seed: None }
            }
        }

        /// Sampling options of which any may be unset, which is not the same as set to its neutral value:
        /// what a model recommends, or what a person asks for.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct SamplingOverrides {
            $(
                $(#[$doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$type>,
            )*
            /// Key of the random numbers.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub seed: Option<u64>,
        }

        impl SamplingOverrides {
            /// These options, and where they are unset those of `below`.
            pub fn over(&self, below: &SamplingOverrides) -> SamplingOverrides {
                SamplingOverrides {
                    $($name: self.$name.clone().or_else(|| below.$name.clone()),)*
                    seed: self.seed.or(below.seed),
                }
            }

            /// Complete options: what is unset becomes neutral.
            ///
            /// # Errors
            /// [`SamplingError::OutOfRange`] as by [`SamplingOptions::validate`].
            pub fn resolve(&self) -> Result<SamplingOptions, SamplingError> {
                let neutral = SamplingOptions::default();
                let options = SamplingOptions {
                    $($name: self.$name.clone().unwrap_or(neutral.$name),)*
                    seed: self.seed,
                };
                options.validate()?;
                Ok(options)
            }
        }
    };
}

options! {
    /// Divides the logits before the draw, 0 or more. 0 is greedy: the most likely token, no draw. Neutral: 1.
    temperature: f32 = 1.0,
    /// Keeps the so many most likely tokens. Neutral: 0, all.
    top_k: u32 = 0,
    /// Keeps the smallest set of most likely tokens whose probabilities sum to at least this, 0 to 1 (nucleus
    /// sampling). Neutral: 1.
    top_p: f32 = 1.0,
    /// Keeps tokens at least this many times as likely as the most likely one, 0 to 1. Neutral: 0.
    min_p: f32 = 0.0,
    /// Keeps the tokens whose surprise is nearest to the entropy, until their probabilities sum to at least this,
    /// 0 to 1 (locally typical sampling). Neutral: 1.
    typical_p: f32 = 1.0,
    /// Divides positive logits of tokens in the penalty window, multiplies negative ones; above 0. Neutral: 1.
    repetition_penalty: f32 = 1.0,
    /// Subtracted from the logit of every token in the penalty window. Neutral: 0.
    presence_penalty: f32 = 0.0,
    /// Subtracted from the logit once for each occurrence in the penalty window. Neutral: 0.
    frequency_penalty: f32 = 0.0,
    /// The tokens that the three penalties look at. Default: the last 64.
    penalty_window: Window = Window::Last(64),
    /// Strength of DRY, 0 or more: a token that would prolong a repetition of `n` tokens loses
    /// `dry_multiplier * dry_base^(n - dry_allowed_length)` from its logit. Neutral: 0.
    dry_multiplier: f32 = 0.0,
    /// Growth of the DRY penalty per repeated token, 1 or more. Default: 1.75.
    dry_base: f32 = 1.75,
    /// The longest repetition that DRY lets pass; one token more than this would be penalised. Default: 2.
    dry_allowed_length: u32 = 2,
    /// The tokens that DRY looks at. Default: all.
    dry_penalty_last_n: Window = Window::All,
    /// Token sequences that a repetition cannot cross for DRY (line ends, quotes, speaker names); resolved from
    /// text by the caller. Default: none.
    dry_sequence_breakers: Vec<Vec<u32>> = Vec::new(),
    /// The chance, 0 to 1, that XTC acts at a position. Neutral: 0.
    xtc_probability: f32 = 0.0,
    /// XTC removes every token at least this likely (0 to 1) except the least likely of them. Above 0.5 there is
    /// never a second such token, so nothing is removed. Default: 0.1.
    xtc_threshold: f32 = 0.1,
    /// Added to the logits of single tokens; minus infinity forbids a token. Neutral: empty.
    logit_bias: BTreeMap<u32, f32> = BTreeMap::new(),
}

impl SamplingOptions {
    /// Checks every field. Nothing is clamped.
    ///
    /// # Errors
    /// [`SamplingError::OutOfRange`] names the first field whose value makes no sense.
    pub fn validate(&self) -> Result<(), SamplingError> {
        let fraction =
            |field, value: f32| ensure(field, value, (0.0..=1.0).contains(&value), "a number from 0 to 1");
        let finite = |field, value: f32| ensure(field, value, value.is_finite(), "a finite number");
        let from_zero = |field, value: f32| {
            ensure(field, value, value.is_finite() && value >= 0.0, "a finite number, 0 or more")
        };

        from_zero("temperature", self.temperature)?;
        fraction("top_p", self.top_p)?;
        fraction("min_p", self.min_p)?;
        fraction("typical_p", self.typical_p)?;
        let repetition = self.repetition_penalty;
        ensure(
            "repetition_penalty",
            repetition,
            repetition.is_finite() && repetition > 0.0,
            "a finite number above 0",
        )?;
        finite("presence_penalty", self.presence_penalty)?;
        finite("frequency_penalty", self.frequency_penalty)?;
        from_zero("dry_multiplier", self.dry_multiplier)?;
        let base = self.dry_base;
        ensure("dry_base", base, base.is_finite() && base >= 1.0, "a finite number, 1 or more")?;
        if self.dry_sequence_breakers.iter().any(Vec::is_empty) {
            return Err(SamplingError::OutOfRange {
                field: "dry_sequence_breakers",
                value: "an empty sequence".into(),
                allowed: "sequences of at least one token",
            });
        }
        fraction("xtc_probability", self.xtc_probability)?;
        fraction("xtc_threshold", self.xtc_threshold)?;
        for &bias in self.logit_bias.values() {
            ensure("logit_bias", bias, bias < f32::INFINITY, "a finite number or minus infinity")?;
        }
        Ok(())
    }
}

fn ensure(field: &'static str, value: f32, holds: bool, allowed: &'static str) -> Result<(), SamplingError> {
    if holds { Ok(()) } else { Err(SamplingError::OutOfRange { field, value: value.to_string(), allowed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(overrides: &str) -> String {
        let overrides: SamplingOverrides = serde_json::from_str(overrides).unwrap();
        overrides.resolve().unwrap_err().to_string()
    }

    #[test]
    fn neutral_options_are_valid_and_survive_json() {
        let options = SamplingOptions::default();
        options.validate().unwrap();
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<SamplingOptions>(&text).unwrap(), options);
        assert_eq!(serde_json::from_str::<SamplingOptions>("{}").unwrap(), options);
    }

    #[test]
    fn a_refusal_names_field_value_and_range() {
        assert_eq!(
            refused(r#"{"top_p": 1.5}"#),
            "sampling option `top_p` is 1.5, allowed is a number from 0 to 1"
        );
        for (given, field) in [
            (r#"{"temperature": -0.5}"#, "temperature"),
            (r#"{"temperature": 1e300}"#, "temperature"),
            (r#"{"min_p": -0.1}"#, "min_p"),
            (r#"{"typical_p": 2}"#, "typical_p"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
            (r#"{"presence_penalty": 1e300}"#, "presence_penalty"),
            (r#"{"frequency_penalty": -1e300}"#, "frequency_penalty"),
            (r#"{"dry_multiplier": -1}"#, "dry_multiplier"),
            (r#"{"dry_base": 0.9}"#, "dry_base"),
            (r#"{"dry_sequence_breakers": [[1], []]}"#, "dry_sequence_breakers"),
            (r#"{"xtc_probability": 1.01}"#, "xtc_probability"),
            (r#"{"xtc_threshold": -0.01}"#, "xtc_threshold"),
            (r#"{"logit_bias": {"3": 1e300}}"#, "logit_bias"),
        ] {
            assert!(refused(given).contains(&format!("`{field}`")), "{given}: {}", refused(given));
        }
    }

    #[test]
    fn not_a_number_is_refused_everywhere() {
        type Set = fn(&mut SamplingOptions);
        let sets: [Set; 11] = [
            |o| o.temperature = f32::NAN,
            |o| o.top_p = f32::NAN,
            |o| o.min_p = f32::NAN,
            |o| o.typical_p = f32::NAN,
            |o| o.repetition_penalty = f32::NAN,
            |o| o.presence_penalty = f32::NAN,
            |o| o.frequency_penalty = f32::NAN,
            |o| o.dry_multiplier = f32::NAN,
            |o| o.dry_base = f32::NAN,
            |o| o.xtc_probability = f32::NAN,
            |o| o.xtc_threshold = f32::NAN,
        ];
        for (at, set) in sets.iter().enumerate() {
            let mut options = SamplingOptions::default();
            set(&mut options);
            assert!(options.validate().is_err(), "field {at}");
        }
        let bias = BTreeMap::from([(0, f32::NAN)]);
        assert!(SamplingOptions { logit_bias: bias, ..Default::default() }.validate().is_err());
    }

    #[test]
    fn windows_are_integers_in_json() {
        let read = |text: &str| serde_json::from_str::<Window>(text);
        assert_eq!(read("-1").unwrap(), Window::All);
        assert_eq!(read("0").unwrap(), Window::Last(0));
        assert_eq!(read("256").unwrap(), Window::Last(256));
        assert!(read("-2").unwrap_err().to_string().contains("-2"));
        assert!(read("5000000000").is_err());
        assert_eq!(serde_json::to_string(&Window::All).unwrap(), "-1");

        assert_eq!(Window::Last(2).of(&[7, 8, 9]), [8, 9]);
        assert_eq!(Window::Last(9).of(&[7, 8, 9]), [7, 8, 9]);
        assert!(Window::Last(0).of(&[7, 8, 9]).is_empty());
        assert_eq!(Window::All.of(&[7, 8, 9]), [7, 8, 9]);
    }

    #[test]
    fn an_unknown_option_is_an_error_not_a_silence() {
        let error = serde_json::from_str::<SamplingOverrides>(r#"{"temprature": 1}"#).unwrap_err();
        assert!(error.to_string().contains("temprature"));
    }

    #[test]
    fn unset_is_not_neutral() {
        let model = SamplingOverrides { top_k: Some(20), temperature: Some(0.7), ..Default::default() };
        let person = SamplingOverrides { top_k: Some(0), seed: Some(5), ..Default::default() };
        let both = person.over(&model).resolve().unwrap();
        assert_eq!(both.top_k, 0, "set to its neutral value by the person");
        assert_eq!(both.temperature, 0.7, "left to the model");
        assert_eq!(both.seed, Some(5));
    }
}
