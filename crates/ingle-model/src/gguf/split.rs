//! A model spread over several GGUF files: their names and the metadata keys that tie them together.
//!
//! Files of a set are called `NAME-00001-of-00003.gguf`. Each carries its number (from 0), the number of files and
//! the number of tensors in the whole set; the first also carries the model's metadata.

use crate::metadata::{IntegerWidth, Metadata, Value};
use std::path::{Path, PathBuf};

/// Key of the file's number in the set, from 0 (u16).
pub const NUMBER_KEY: &str = "split.no";
/// Key of the number of files in the set (u16).
pub const COUNT_KEY: &str = "split.count";
/// Key of the number of tensors in all files of the set (i32).
pub const TENSORS_KEY: &str = "split.tensors.count";

/// The name of one file of a set, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitName {
    /// What stands before `-00001-of-00003.gguf`.
    pub prefix: String,
    /// From 1, as in the name.
    pub number: usize,
    /// Files in the set.
    pub count: usize,
}

impl SplitName {
    /// Takes a path's file name apart; `None` if it is not that of a file of a set.
    pub fn parse(path: &Path) -> Option<SplitName> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| {
            (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
        };
        let (number, count) = (digits(number)?, digits(count)?);
        (1 <= number && number <= count).then(|| SplitName { prefix: prefix.into(), number, count })
    }

    /// The file name with another number, from 1.
    pub fn file_name(&self, number: usize) -> String {
        format!("{}-{number:05}-of-{:05}.gguf", self.prefix, self.count)
    }
}

/// Paths of the `count` files that `path` (with or without `.gguf`) becomes when it is split.
pub fn paths(path: &Path, count: usize) -> Vec<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("model");
    let prefix = name.strip_suffix(".gguf").unwrap_or(name).to_owned();
    let name = SplitName { prefix, number: 1, count };
    (1..=count).map(|number| path.with_file_name(name.file_name(number))).collect()
}

/// `metadata` without the keys of a set.
pub(super) fn without_keys(metadata: &Metadata) -> Metadata {
    let mut whole = Metadata::default();
    for (key, value) in metadata.iter().filter(|(key, _)| ![NUMBER_KEY, COUNT_KEY, TENSORS_KEY].contains(key))
    {
        whole.insert(key, value.clone());
    }
    whole
}

/// Adds the keys of file `number` (from 0) of `count`.
pub(super) fn add_keys(metadata: &mut Metadata, number: u16, count: u16, tensors: i32) {
    metadata.insert(NUMBER_KEY, Value::Unsigned(number.into(), IntegerWidth::W16));
    metadata.insert(COUNT_KEY, Value::Unsigned(count.into(), IntegerWidth::W16));
    metadata.insert(TENSORS_KEY, Value::Signed(tensors.into(), IntegerWidth::W32));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_set_are_taken_apart_and_put_together() {
        let name = SplitName::parse(Path::new("/models/a-b-00002-of-00003.gguf")).expect("a name of a set");
        assert_eq!(name, SplitName { prefix: "a-b".into(), number: 2, count: 3 });
        assert_eq!(name.file_name(3), "a-b-00003-of-00003.gguf");
        let made: Vec<PathBuf> = paths(Path::new("/x/m.gguf"), 2);
        assert_eq!(made[1], Path::new("/x/m-00002-of-00002.gguf"));
    }

    #[test]
    fn other_names_are_not_of_a_set() {
        for name in [
            "m.gguf",
            "m-1-of-3.gguf",
            "m-00000-of-00003.gguf",
            "m-00004-of-00003.gguf",
            "m-00001-of-00003.bin",
            "m-0000a-of-00003.gguf",
            "00001-of-00003.gguf",
        ] {
            assert_eq!(SplitName::parse(Path::new(name)), None, "{name}");
        }
    }
}
