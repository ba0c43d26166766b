//! The pre-tokenisers that `tokenizer.ggml.pre` names: how each family cuts text into words before merging.
//!
//! The expressions are those of the families' published tokenizer.json files. The engine that matches them gives up
//! on a run of more than a million spaces, and the rest of the run is then one word: all the text is still there, in
//! other tokens than the reference's.

use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::pipeline::component;
use crate::error::{Error, Result};

/// A pre-tokeniser, as data.
struct Pre {
    /// The values of `tokenizer.ggml.pre` that mean it.
    names: &'static [&'static str],
    /// Applied one after the other, each to the pieces the ones before left.
    expressions: &'static [&'static str],
    /// Whether text is brought to normal form C first.
    composes: bool,
    /// Whether a word that is itself a token is that token, whatever the merges say.
    whole_words_first: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const PRES: &[Pre] = &[
    Pre { names: &["gpt-2"], expressions: &[GPT2], composes: false, whole_words_first: false },
    // What files written before the key existed are read as.
    Pre {
        names: &["default"],
        expressions: &[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
        composes: false,
        whole_words_first: false,
    },
    Pre {
        names: &["qwen2", "deepseek-r1-qwen"],
        expressions: &[QWEN2],
        composes: true,
        whole_words_first: false,
    },
    Pre { names: &["qwen35"], expressions: &[QWEN35], composes: false, whole_words_first: false },
    Pre {
        names: &["llama-bpe", "llama3", "llama-v3"],
        expressions: &[LLAMA3],
        composes: false,
        whole_words_first: true,
    },
    Pre { names: &["gpt-4o", "o200k"], expressions: &[O200K], composes: false, whole_words_first: false },
    Pre {
        names: &["deepseek-llm"],
        expressions: &[
            r"[\r\n]",
            // Letters with case, of the blocks and of the Unicode version the family was trained with.
            concat!(
                r"\s?[",
                r"\x{41}-\x{5A}\x{61}-\x{7A}\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}",
                r"\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}",
                r"\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}",
                r"\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}",
                r"\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}",
                r"\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}",
                r"\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}",
                r"\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}",
                r"\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}",
                r"\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}",
                r"\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}",
                r"\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}",
                r"\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}",
                r"\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}",
                r"\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}",
                r"\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}",
                r"\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}",
                r"]+"
            ),
            r"\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+",
            r"\s+$",
            r"[一-龥ࠀ-一가-\u{D7FF}]+",
            r"\p{N}",
        ],
        composes: false,
        whole_words_first: false,
    },
    Pre {
        names: &["deepseek-v3"],
        expressions: &[
            r"\p{N}{1,3}",
            r"[一-龥\u{3040}-ゟ゠-ヿ]+",
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
        ],
        composes: false,
        whole_words_first: false,
    },
];

/// What a `tokenizer.ggml.pre` value stands for.
pub(crate) struct PreTokeniser {
    pub(crate) normaliser: Option<NormalizerWrapper>,
    pub(crate) pre_tokeniser: PreTokenizerWrapper,
    pub(crate) whole_words_first: bool,
}

/// The pre-tokeniser called `name`, byte alphabet included; unknown names are an error that lists the known ones.
pub(crate) fn build(name: &str) -> Result<PreTokeniser> {
    let Some(pre) = PRES.iter().find(|pre| pre.names.contains(&name)) else {
        let known: Vec<&str> = PRES.iter().flat_map(|pre| pre.names).copied().collect();
        return Err(Error::UnknownPre { pre: crate::error::excerpt(name), known: known.join(", ") });
    };
    let mut parts = Vec::with_capacity(pre.expressions.len() + 1);
    for expression in pre.expressions {
        let pattern = SplitPattern::Regex((*expression).to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(component)?;
        parts.push(PreTokenizerWrapper::Split(split));
    }
    parts.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)));
    Ok(PreTokeniser {
        normaliser: pre.composes.then_some(NormalizerWrapper::NFC(NFC)),
        pre_tokeniser: PreTokenizerWrapper::Sequence(Sequence::new(parts)),
        whole_words_first: pre.whole_words_first,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_builds_and_is_used_once() {
        let mut seen = std::collections::HashSet::new();
        for name in PRES.iter().flat_map(|pre| pre.names) {
            assert!(seen.insert(name), "{name}");
            build(name).unwrap();
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let message = build("viking-9000").err().unwrap().to_string();
        assert!(message.contains("viking-9000") && message.contains("deepseek-v3"), "{message}");
    }
}
