//! Where the shared material lies, and what to say when it does not.
#![allow(dead_code, unreachable_pub)] // each test binary uses its part

use std::io::Write;
use std::path::{Path, PathBuf};

use ingle_model::Source;
use ingle_text::Tokenizer;

/// The path of shared material, or `None` with a line saying that the test did not run.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(path);
    if path.exists() {
        return Some(path);
    }
    // straight to the stream: the test runner hides what a passing test prints, and this must be seen
    let _ = writeln!(std::io::stderr(), "{} absent: skipped", path.display());
    None
}

/// A folder with a tokenizer that lies in the repository: `ember`, or `qwen3`, `gpt_oss`, `deepseek_v3` with 256 bytes,
/// 16 merges and 16 control tokens each.
pub fn fixture(name: &str) -> PathBuf {
    if name == "ember" {
        return Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/ember/model")).to_owned();
    }
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

/// The tokenizer of a GGUF file.
pub fn from_gguf(path: &Path) -> Tokenizer {
    let source = Source::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Tokenizer::from_metadata(&source.metadata).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tokenizer of a Hugging Face folder.
pub fn from_folder(path: &Path) -> Tokenizer {
    let tokenizer = std::fs::read(path.join("tokenizer.json")).unwrap();
    let config = std::fs::read(path.join("tokenizer_config.json")).ok();
    Tokenizer::from_json(&tokenizer, config.as_deref())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Strings that tokenizers trip over.
pub fn awkward() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "  ",
        "\n",
        "\r\n\r\n",
        "\t\t x",
        " \n \n  a  b",
        "Hello, world!",
        "it's we'LL I'M 'S \u{2019}s",
        "0 1 12 123 1234 12345 1,234.5 ½ Ⅻ ٣٤٥",
        "HTTPServer camelCase snake_case ALLCAPS x86_64",
        "a/b//c\n/d https://example.org/?q=1&r=[2]#3",
        "...---!!!???///\n\n\n",
        "你好，世界。こんにちは 안녕하세요",
        "ação naïve Ünïcödé ŁÓDŹ",
        "नमस्ते दुनिया ไทย",
        "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪",
        "\u{0}\u{1}\u{7f}\u{80}\u{ad}\u{200b}\u{feff}\u{fffd}\u{10ffff}",
        "ĠhelloĊ ▁under ## <0x0A>",
        "<|im_start|>user\nhi<|im_end|>\n<think>\n\n</think>",
        "<｜begin▁of▁sentence｜>x<｜User｜>",
        "<bos><start_of_turn>user",
        "x\u{2028}y\u{85}z\u{a0}\u{3000}w",
        "trailing   ",
        "   leading",
        "def f(x):\n    return x ** 2\n\n\nclass A:\n\tpass\n",
    ]
    .map(str::to_owned)
    .into();
    texts.push("a".repeat(300));
    texts.push(" ".repeat(300) + "x");
    texts.push("ab1 ".repeat(200));
    texts
}
