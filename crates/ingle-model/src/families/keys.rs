//! A header's keys as a family reads them: under the architecture's prefix (GGUF) or the text network's (`config.json`),
//! with one way to refuse a value and one way to say that a value was assumed.

use super::{Dialect, Header, names};
use crate::error::{Error, Result};
use crate::metadata::{Metadata, Value};
use crate::source::TensorInfo;
use crate::spec::Activation;
use crate::string_list::StringList;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;

/// The keys and tensor names of a header.
pub(super) struct Keys<'a> {
    pub(super) dialect: Dialect,
    metadata: &'a Metadata,
    prefix: String,
    tensors: HashMap<&'a str, &'a TensorInfo>,
    assumed: RefCell<Vec<String>>,
    notices: RefCell<Vec<String>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(header: &'a Header, architecture: &str) -> Keys<'a> {
        let nested = || header.keys.iter().any(|(key, _)| key.starts_with("text_config."));
        let prefix = match header.dialect {
            Dialect::Gguf => format!("{architecture}."),
            Dialect::Hub if nested() => "text_config.".to_owned(),
            Dialect::Hub => String::new(),
        };
        Keys {
            dialect: header.dialect,
            metadata: header.keys,
            prefix,
            tensors: header.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect(),
            assumed: RefCell::default(),
            notices: RefCell::default(),
        }
    }

    /// A key as the file spells it.
    pub(super) fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Keys outside the prefix: `general.name`, or a multimodal configuration's own.
    pub(super) fn outer(&self) -> &'a Metadata {
        self.metadata
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.metadata.get(&self.full(name))
    }

    pub(super) fn is_null(&self, name: &str) -> bool {
        self.metadata.is_null(&self.full(name))
    }

    pub(super) fn count(&self, name: &str) -> Result<Option<usize>> {
        self.metadata.count(&self.full(name))
    }

    pub(super) fn float(&self, name: &str) -> Result<Option<f64>> {
        self.metadata.float(&self.full(name))
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.metadata.flag(&self.full(name))
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>> {
        self.metadata.string(&self.full(name))
    }

    pub(super) fn texts(&self, name: &str) -> Result<Option<&'a StringList>> {
        self.metadata.strings(&self.full(name))
    }

    pub(super) fn integers(&self, name: &str) -> Result<Option<Vec<i64>>> {
        self.metadata.integers(&self.full(name))
    }

    pub(super) fn flags(&self, name: &str) -> Result<Option<&'a [bool]>> {
        self.metadata.flags(&self.full(name))
    }

    /// One number for all layers, or one per layer.
    pub(super) fn per_layer(&self, name: &str, layers: usize) -> Result<Option<Vec<usize>>> {
        self.metadata.count_per_layer(&self.full(name), layers)
    }

    /// A number the file must give.
    pub(super) fn required(&self, name: &str) -> Result<usize> {
        self.metadata.required(&self.full(name), self.count(name)?)
    }

    /// A number the file must give.
    pub(super) fn required_float(&self, name: &str) -> Result<f64> {
        self.metadata.required(&self.full(name), self.float(name)?)
    }

    /// Names of keys under `group.`, without it.
    pub(super) fn under(&self, group: &str) -> impl Iterator<Item = &'a str> {
        let start = self.full(&format!("{group}."));
        self.metadata.iter().filter_map(move |(key, _)| key.strip_prefix(&start))
    }

    /// What the file says, or else what the family defines, which people are told.
    pub(super) fn or_assume<T: Display>(&self, name: &str, stated: Option<T>, assumed: T) -> T {
        stated.unwrap_or_else(|| {
            let mut list = self.assumed.borrow_mut();
            let entry = format!("{} = {assumed}", self.full(name));
            if !list.contains(&entry) {
                list.push(entry);
            }
            assumed
        })
    }

    /// Something people must know about how this file was understood.
    pub(super) fn notice(&self, text: impl Into<String>) {
        self.notices.borrow_mut().push(text.into());
    }

    /// All notices, what was assumed told in one.
    pub(super) fn notices(&self) -> Vec<String> {
        let mut notices = self.notices.borrow().clone();
        let assumed = self.assumed.borrow();
        if !assumed.is_empty() {
            let (file, list) = match self.dialect {
                Dialect::Gguf => ("the file", assumed.join(", ")),
                Dialect::Hub => ("config.json", assumed.join(", ")),
            };
            notices.push(format!("{file} leaves out what this family's definition supplies: {list}"));
        }
        notices
    }

    /// A value that cannot be had: names the key, the value and what is supported.
    pub(super) fn refused(&self, name: &str, value: impl Display, supported: &str) -> Error {
        Error::metadata(self.full(name), format!("is `{value}`; supported here: {supported}"))
    }

    /// A flag that this family's network has only one way; absent means that way.
    pub(super) fn must_be(&self, name: &str, only: bool) -> Result<()> {
        match self.flag(name)? {
            Some(flag) if flag != only => Err(self.refused(name, flag, &only.to_string())),
            _ => Ok(()),
        }
    }

    /// A word that must be one of these; absent means the first.
    pub(super) fn one_of<T: Copy>(&self, name: &str, known: &[(&str, T)]) -> Result<Option<T>> {
        let Some(word) = self.text(name)? else { return Ok(None) };
        match known.iter().find(|(name, _)| *name == word) {
            Some(&(_, meaning)) => Ok(Some(meaning)),
            None => {
                let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                Err(self.refused(name, crate::error::printable(word), &names.join(", ")))
            }
        }
    }

    /// The activation a key names; what is not among `known` is refused.
    pub(super) fn activation(
        &self,
        name: &str,
        assumed: &str,
        known: &[(&str, Activation)],
    ) -> Result<Activation> {
        if let Some(activation) = self.one_of(name, known)? {
            return Ok(activation);
        }
        let found = known.iter().find(|(word, _)| *word == assumed).map(|&(_, activation)| activation);
        self.or_assume(name, None, assumed);
        found.ok_or_else(|| self.refused(name, assumed, "nothing else"))
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&'a TensorInfo> {
        self.tensors.get(name).copied()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(super) fn tensor_count(&self) -> usize {
        self.tensors.len()
    }

    pub(super) fn tensor_names(&self) -> impl Iterator<Item = &'a str> {
        self.tensors.keys().copied()
    }

    /// A tensor of the text network by its usual hub name (`model.…`), wherever a multimodal checkpoint puts it.
    pub(super) fn has_hub(&self, name: &str) -> bool {
        self.has(&names::placed(name, self.trunk()))
    }

    /// What stands for `model.` in this checkpoint's names.
    pub(super) fn trunk(&self) -> &'static str {
        names::trunk(|name| self.has(name))
    }
}

/// SiLU under its names.
pub(super) const SILU: &[(&str, Activation)] = &[("silu", Activation::Silu), ("swish", Activation::Silu)];

/// GELU's tanh form under its names.
pub(super) const GELU_TANH: &[(&str, Activation)] =
    &[("gelu_pytorch_tanh", Activation::GeluTanh), ("gelu_new", Activation::GeluTanh)];
