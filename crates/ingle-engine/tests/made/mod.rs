//! Small models that are made for a test.

#[path = "../../../ingle-cpu/tests/goldens/block_files.rs"]
mod block_files;

use block_files::{Draft, random};
use std::path::{Path, PathBuf};

pub(crate) fn with_block(model: &str) -> Draft {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ingle-cpu/tests/fixtures/gguf");
    let mut draft = Draft::read(&fixtures.join(format!("{model}.gguf")));
    draft.add_block();
    draft
}

/// A model that counts: after a token comes the next number, and its block knows.
pub(crate) fn counting(model: &str) -> Draft {
    let mut draft = with_block(model);
    let width = draft.count("embedding_length");
    let own = format!("blk.{}.nextn", draft.count("block_count") - 1);
    for (entry, values) in &mut draft.tensors {
        let silent = ["attn_output.", "ssm_out.", "ffn_down"].iter().any(|part| entry.name.contains(part));
        let even = entry.name.starts_with(&own) || entry.name == "output_norm.weight";
        if silent {
            values.fill(0.0);
        } else if entry.name.contains("eh_proj") {
            // of its two inputs the embedding
            (0..values.len()).for_each(|at| values[at] = f32::from(at / (2 * width) == at % (2 * width)));
        } else if even {
            values.fill(1.0);
        } else if entry.name == "token_embd.weight" {
            values.fill_with(random(7));
        }
    }
    let mut next = draft.values("token_embd.weight").clone();
    next.rotate_right(width);
    *draft.values("output.weight") = next;
    draft
}

pub(crate) fn written(draft: &Draft, name: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    draft.write(&file);
    file
}
