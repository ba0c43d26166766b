//! Tensors of a file that the described network does not use, told apart: parts for other things than text, and the rest.

use super::ModelSpec;

/// How names begin that belong to towers for images or sound, and to what joins them to the text network.
const OTHER_SENSES: &[&str] = &[
    "visual.",
    "vision_tower.",
    "vision_model.",
    "multi_modal_projector.",
    "embed_vision.",
    "audio_tower.",
    "embed_audio.",
    "v.",
    "mm.",
    "a.",
];

impl ModelSpec {
    /// Unused tensors of parts for images or sound: by design, as this program computes text.
    pub fn unused_senses(&self) -> usize {
        self.unused.iter().filter(|name| other_sense(name)).count()
    }

    /// Unused tensors that no part explains: perhaps the header is wrong.
    pub fn unused_unexplained(&self) -> Vec<&str> {
        self.unused.iter().map(String::as_str).filter(|name| !other_sense(name)).collect()
    }
}

fn other_sense(name: &str) -> bool {
    let bare = name.strip_prefix("model.").unwrap_or(name);
    OTHER_SENSES.iter().any(|start| bare.starts_with(start))
}
