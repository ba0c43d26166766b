//! Files with a block that predicts further tokens, made from fixtures: none of the published ones is small.

use ingle_model::format::dequantise;
use ingle_model::gguf::{Entry, WriteOptions, write_files};
use ingle_model::metadata::IntegerWidth;
use ingle_model::{Format, Metadata, Source, Value};
use std::borrow::Cow;
use std::path::Path;

/// A model's file, to be changed.
pub(crate) struct Draft {
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<(Entry, Vec<f32>)>,
}

impl Draft {
    pub(crate) fn read(file: &Path) -> Draft {
        let source = Source::open(file).unwrap();
        let tensors = source.tensors().iter().map(|tensor| {
            let mut values = vec![0.0; tensor.shape.iter().product()];
            dequantise(tensor.format, source.bytes(tensor), &mut values).unwrap();
            (Entry { format: Format::F32, ..Entry::from(tensor) }, values)
        });
        Draft { tensors: tensors.collect(), metadata: source.metadata.clone() }
    }

    pub(crate) fn count(&self, key: &str) -> usize {
        self.metadata.count(&self.key(key)).unwrap().unwrap()
    }

    pub(crate) fn set(&mut self, key: &str, count: usize) {
        self.metadata.insert(self.key(key), Value::Unsigned(count as u64, IntegerWidth::W32));
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.metadata.string("general.architecture").unwrap().unwrap())
    }

    pub(crate) fn values(&mut self, name: &str) -> &mut Vec<f32> {
        &mut self
            .tensors
            .iter_mut()
            .find(|(entry, _)| entry.name == name)
            .unwrap_or_else(|| panic!("{name}"))
            .1
    }

    /// Adds a block: its layer is the last one of the model, with numbers of its own.
    pub(crate) fn add_block(&mut self) {
        let (layers, width) = (self.count("block_count"), self.count("embedding_length"));
        let (last, own) = (format!("blk.{}.", layers - 1), format!("blk.{layers}."));
        let mut added: Vec<(Entry, Vec<f32>)> = Vec::new();
        for (entry, values) in &self.tensors {
            if let Some(name) = entry.name.strip_prefix(&last) {
                let values = values.iter().rev().map(|value| 0.9 * value).collect();
                added.push((Entry { name: format!("{own}{name}"), ..entry.clone() }, values));
            }
        }
        let mut random = random(layers as u64);
        for norm in ["enorm", "hnorm", "shared_head_norm"] {
            let values = (0..width).map(|_| 1.0 + random()).collect();
            added.push((entry(format!("{own}nextn.{norm}.weight"), &[width]), values));
        }
        let joins = (0..2 * width * width).map(|_| random()).collect();
        added.push((entry(format!("{own}nextn.eh_proj.weight"), &[width, 2 * width]), joins));
        self.tensors.extend(added);
        self.set("block_count", layers + 1);
        self.set("nextn_predict_layers", 1);
    }

    pub(crate) fn write(&self, file: &Path) {
        let entries: Vec<Entry> = self.tensors.iter().map(|(entry, _)| entry.clone()).collect();
        let bytes = |at: usize| {
            Ok(Cow::Owned(
                self.tensors[at].1.iter().flat_map(|value: &f32| value.to_le_bytes()).collect::<Vec<u8>>(),
            ))
        };
        write_files(file, &self.metadata, &entries, WriteOptions::default(), bytes).unwrap();
    }
}

fn entry(name: String, shape: &[usize]) -> Entry {
    Entry { name, shape: shape.to_vec(), format: Format::F32 }
}

/// Numbers from -1/4 to 1/4.
pub(crate) fn random(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) / 2.0
    }
}
