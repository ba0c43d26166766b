//! What a person can change about the answers, by name.

use super::slash::nearest;
use crate::{messages, opening};
use anyhow::{Context, Result, anyhow, bail};
use ingle_engine::sampling::{GenerationDefaults, SamplingOptions, SamplingOverrides};
use ingle_engine::{GenerateOptions, Reading};
use serde_json::{Map, Value, json};

/// The settings of a conversation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// How tokens are chosen, where the person has a say.
    pub(crate) sampling: SamplingOverrides,
    /// Most tokens of an answer.
    pub(crate) max_tokens: Option<usize>,
    /// Texts that end an answer.
    pub(crate) stop: Vec<String>,
    /// Whether the model reasons first, for templates that ask.
    pub(crate) think: Option<bool>,
    /// How long it reasons, for templates that ask.
    pub(crate) effort: Option<Effort>,
    /// Tools it is offered.
    pub(crate) tools: Vec<Value>,
}

/// How long a model reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Effort {
    Low,
    Medium,
    High,
}

impl Effort {
    /// As templates and people write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
        }
    }
}

const MAX_TOKENS: &str = "max_tokens";
const STOP: &str = "stop";
const THINK: &str = "think";
const EFFORT: &str = "reasoning_effort";
/// The word that unsets.
const DEFAULT: &str = "default";

/// A setting as it is listed.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) value: String,
    /// Set by the person.
    pub(super) own: bool,
}

impl Settings {
    /// What the engine is asked for.
    pub(crate) fn options(&self, defaults: &GenerationDefaults) -> Result<GenerateOptions> {
        Ok(GenerateOptions {
            sampling: defaults.resolve(&self.sampling)?,
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            reading: Reading::Message { tools: self.tools.clone() },
            ..GenerateOptions::default()
        })
    }

    /// The variables of the chat template.
    pub(crate) fn variables(&self) -> Map<String, Value> {
        // families call it by either name
        let think =
            self.think.into_iter().flat_map(|think| opening::THINKING.map(|name| (name, json!(think))));
        let effort = self.effort.map(|effort| (opening::EFFORT, json!(effort.name())));
        think.chain(effort).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Every setting and its value now.
    pub(super) fn list(&self, defaults: &GenerationDefaults) -> Result<Vec<Listed>> {
        let own = fields(serde_json::to_string(&self.sampling))?;
        let resolved = fields(serde_json::to_string(&defaults.resolve(&self.sampling)?))?;
        let mut list: Vec<Listed> = resolved
            .into_iter()
            .map(|(name, value)| {
                let value = if value.is_null() { "by chance".into() } else { value.to_string() };
                Listed { own: own.get(&name).is_some_and(|value| !value.is_null()), name, value }
            })
            .collect();
        let mut add = |name: &str, own: bool, value: String| {
            list.push(Listed { name: name.into(), value, own });
        };
        add(
            MAX_TOKENS,
            self.max_tokens.is_some(),
            self.max_tokens.map_or("none".into(), |most| most.to_string()),
        );
        add(STOP, !self.stop.is_empty(), json!(self.stop).to_string());
        let think = self.think.map_or("the model's choice", |think| if think { "on" } else { "off" });
        add(THINK, self.think.is_some(), think.into());
        let effort = self.effort.map_or("the model's choice", Effort::name);
        add(EFFORT, self.effort.is_some(), effort.into());
        Ok(list)
    }

    /// Changes one setting; `default` takes the change back.
    ///
    /// # Errors
    /// An unknown name or an impossible value; nothing has changed then.
    pub(super) fn set(&mut self, name: &str, value: &str, defaults: &GenerationDefaults) -> Result<()> {
        let name = canonical(name);
        let unset = value == DEFAULT;
        match name.as_str() {
            MAX_TOKENS => {
                let parse = || value.parse().ok().filter(|&most: &usize| most > 0);
                let parse =
                    || parse().ok_or_else(|| anyhow!("`{name}` must be a number above 0, or `default`"));
                self.max_tokens = if unset { None } else { Some(parse()?) };
            }
            STOP if unset => self.stop.clear(),
            STOP => {
                let stop = match serde_json::from_str(value) {
                    Ok(Value::String(text)) => vec![text],
                    Ok(Value::Array(_)) => {
                        serde_json::from_str(value).context("`stop` must be a list of texts")?
                    }
                    _ => vec![value.to_owned()],
                };
                if stop.iter().any(String::is_empty) {
                    bail!(messages::EMPTY_STOP);
                }
                self.stop = stop;
            }
            "system" => bail!(messages::SET_SYSTEM),
            THINK if unset => self.think = None,
            THINK => {
                self.think = Some(match value.to_lowercase().as_str() {
                    "on" | "true" | "yes" => true,
                    "off" | "false" | "no" => false,
                    _ => bail!("`think` is on or off"),
                });
            }
            EFFORT if unset => self.effort = None,
            EFFORT => {
                let effort = <Effort as clap::ValueEnum>::from_str(value, true);
                self.effort = Some(effort.map_err(|_| anyhow!("`{EFFORT}` is low, medium or high"))?);
            }
            "context" | "threads" | "isa" => bail!(messages::fixed_at_start(&name)),
            _ => self.sampling = self.changed_sampling(&name, (!unset).then_some(value), defaults)?,
        }
        Ok(())
    }

    fn changed_sampling(
        &self,
        name: &str,
        value: Option<&str>,
        defaults: &GenerationDefaults,
    ) -> Result<SamplingOverrides> {
        let known = fields(serde_json::to_string(&SamplingOptions::default()))?;
        if !known.contains_key(name) {
            let names = known.keys().map(String::as_str).chain([MAX_TOKENS, STOP, THINK, EFFORT]);
            bail!(messages::unknown_setting(name, nearest(name, names)));
        }
        let mut own = fields(serde_json::to_string(&self.sampling))?;
        match value {
            None => drop(own.remove(name)),
            Some(text) => {
                let parsed: Value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
                own.insert(name.to_owned(), parsed);
            }
        }
        let changed: SamplingOverrides = serde_json::from_value(Value::Object(own))
            .with_context(|| format!("`{name}` cannot be `{}`", value.unwrap_or(DEFAULT)))?;
        defaults.resolve(&changed)?;
        Ok(changed)
    }
}

/// A setting's own name: options of the command line and other spellings mean it too.
pub(super) fn canonical(name: &str) -> String {
    let name = name.trim_start_matches("--").to_lowercase().replace('-', "_");
    match name.as_str() {
        "repeat_penalty" => "repetition_penalty".into(),
        "dry_window" => "dry_penalty_last_n".into(),
        _ => name,
    }
}

/// The fields of a structure written as JSON, by name. Through text, so that 0.7 stays 0.7 and does not become its nearest 64-bit float.
fn fields(written: serde_json::Result<String>) -> Result<Map<String, Value>> {
    Ok(serde_json::from_str(&written?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> GenerationDefaults {
        let sampling = SamplingOverrides { temperature: Some(0.7), top_k: Some(20), ..Default::default() };
        GenerationDefaults { sampling, ..Default::default() }
    }

    fn value(settings: &Settings, name: &str) -> (String, bool) {
        let list = settings.list(&model()).unwrap();
        let listed = list.into_iter().find(|listed| listed.name == name).unwrap();
        (listed.value, listed.own)
    }

    #[test]
    fn settings_change_and_change_back() {
        let mut settings = Settings::default();
        assert_eq!(value(&settings, "temperature"), ("0.7".into(), false));
        settings.set("temperature", "0.2", &model()).unwrap();
        settings.set("top-p", "0.5", &model()).unwrap();
        settings.set("seed", "18446744073709551615", &model()).unwrap();
        settings.set("max_tokens", "12", &model()).unwrap();
        settings.set("think", "off", &model()).unwrap();
        settings.set("stop", "THE END", &model()).unwrap();
        settings.set("reasoning-effort", "High", &model()).unwrap();
        assert_eq!(value(&settings, "temperature"), ("0.2".into(), true));
        assert_eq!(value(&settings, "think"), ("off".into(), true));
        let options = settings.options(&model()).unwrap();
        assert_eq!(
            (options.sampling.temperature, options.sampling.top_p, options.sampling.top_k),
            (0.2, 0.5, 20)
        );
        assert_eq!((options.sampling.seed, options.max_tokens), (Some(u64::MAX), Some(12)));
        assert_eq!(options.stop, ["THE END"]);
        let variables = settings.variables();
        assert_eq!((&variables["enable_thinking"], &variables["thinking"]), (&json!(false), &json!(false)));
        assert_eq!(variables["reasoning_effort"], "high");

        for name in ["temperature", "top_p", "seed", "max_tokens", "think", "stop", "reasoning_effort"] {
            settings.set(name, "default", &model()).unwrap();
        }
        assert_eq!(value(&settings, "temperature"), ("0.7".into(), false));
        assert!(settings.variables().is_empty());
        let options = settings.options(&model()).unwrap();
        assert_eq!(options.sampling, Settings::default().options(&model()).unwrap().sampling);
        assert!(options.max_tokens.is_none() && options.stop.is_empty());
    }

    #[test]
    fn options_of_the_command_line_are_settings_too() {
        let mut settings = Settings::default();
        for (option, name) in [
            ("--repeat-penalty", "repetition_penalty"),
            ("repetition-penalty", "repetition_penalty"),
            ("penalty-window", "penalty_window"),
            ("dry-window", "dry_penalty_last_n"),
            ("--top-k", "top_k"),
            ("Max-Tokens", "max_tokens"),
        ] {
            settings.set(option, "3", &model()).unwrap();
            assert!(value(&settings, name).1, "{option}");
            settings.set(name, "default", &model()).unwrap();
        }
    }

    #[test]
    fn a_refused_value_changes_nothing_and_says_why() {
        let mut settings = Settings::default();
        settings.set("temperature", "0.2", &model()).unwrap();
        for (name, value, said) in [
            ("stop", "\"\"", "empty"),
            ("system", "Be brief.", "/system"),
            ("temperature", "-1", "temperature"),
            ("temperature", "hot", "hot"),
            ("top_p", "2", "top_p"),
            ("temprature", "1", "temperature"),
            ("think", "maybe", "on or off"),
            ("reasoning_effort", "enormous", "low, medium or high"),
            ("max_tokens", "0", "above 0"),
            ("context", "100", "--context"),
            ("zzz", "1", "/set"),
        ] {
            let error = settings.set(name, value, &model()).unwrap_err();
            assert!(crate::errors::line(&error).contains(said), "{name} {value}: {error:#}");
        }
        assert_eq!(settings.sampling.temperature, Some(0.2));
    }
}
