//! Options that choose how answers are made.

use super::count;
use clap::Args;
use ingle_engine::sampling::{SamplingOverrides, Window};

/// How answers are made. What is not given is as the model recommends.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Answers")]
pub(crate) struct SamplingArgs {
    /// Spread of the choice; 0 always takes the most likely token
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Choose among the K most likely tokens; 0 is all
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = count)]
    top_k: Option<u32>,
    /// Choose among the most likely tokens that together have this probability
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Leave out tokens less likely than this times the most likely one
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Choose among tokens of typical surprise that together have this probability
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    typical_p: Option<f32>,
    /// Make tokens said before less likely by this factor; 1 is off
    #[arg(long, value_name = "R", visible_alias = "repetition-penalty", allow_negative_numbers = true)]
    repeat_penalty: Option<f32>,
    /// Take this from the logit of tokens said before
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Take this from the logit of a token for each time it was said
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// How many of the latest tokens the three penalties look at; -1 is all
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = window)]
    penalty_window: Option<Window>,
    /// Strength of DRY, which hinders longer repetitions; 0 is off
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    dry_multiplier: Option<f32>,
    /// Growth of the DRY penalty per repeated token
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    dry_base: Option<f32>,
    /// Longest repetition that DRY lets pass
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    dry_allowed_length: Option<u32>,
    /// How many of the latest tokens DRY looks at; -1 is all
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = window)]
    dry_window: Option<Window>,
    /// Chance that XTC leaves out the most likely tokens at a position
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    xtc_probability: Option<f32>,
    /// How likely a token must be for XTC to leave it out
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    xtc_threshold: Option<f32>,
    /// Add to the logit of a token, as ID=BIAS; -inf forbids it
    #[arg(long, value_name = "ID=BIAS", value_parser = bias)]
    logit_bias: Vec<(u32, f32)>,
    /// Make the choices repeatable: the same seed gives the same answer
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = seed)]
    seed: Option<u64>,
}

impl SamplingArgs {
    /// What the person set.
    pub(crate) fn overrides(&self) -> SamplingOverrides {
        SamplingOverrides {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            repetition_penalty: self.repeat_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            penalty_window: self.penalty_window,
            dry_multiplier: self.dry_multiplier,
            dry_base: self.dry_base,
            dry_allowed_length: self.dry_allowed_length,
            dry_penalty_last_n: self.dry_window,
            dry_sequence_breakers: None,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            logit_bias: (!self.logit_bias.is_empty()).then(|| self.logit_bias.iter().copied().collect()),
            seed: self.seed,
        }
    }
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("a whole number from 0 to {} is needed", u64::MAX))
}

fn window(text: &str) -> Result<Window, String> {
    let count: i64 = text.parse().map_err(|_| "a number is needed; -1 is all".to_owned())?;
    Window::try_from(count)
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let parsed = text.split_once('=').and_then(|(id, bias)| Some((id.parse().ok()?, bias.parse().ok()?)));
    parsed.ok_or_else(|| "a token id and a number are needed, as in 151643=-5".to_owned())
}
