//! Ember, the demonstration model inside the program.

use ingle_model::{Result, Source};

/// Its name on the command line.
pub(crate) const NAME: &str = "ember";

static WEIGHTS: &[u8] = include_bytes!("../../../models/ember/ember-q8_0.gguf");
static GENERATION: &str = include_str!("../../../models/ember/model/generation_config.json");

/// Bytes of its weights.
pub(crate) fn bytes() -> u64 {
    WEIGHTS.len() as u64
}

/// Opens it. Its sampling settings and its second end token are not in the GGUF file, so they travel beside it.
pub(crate) fn open() -> Result<Source> {
    let mut source = Source::from_bytes(NAME, WEIGHTS)?;
    source.generation_config = serde_json::from_str(GENERATION).ok();
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ember_opens_with_its_own_settings() {
        let source = open().unwrap();
        let spec = ingle_model::families::describe(&source).unwrap();
        assert_eq!(spec.architecture, "qwen3");
        let settings = source.generation_config.unwrap();
        assert_eq!(settings["eos_token_id"], serde_json::json!([2041, 2039]));
    }
}
