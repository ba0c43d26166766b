//! Texts to vectors: tokenised, taken through the network together, pooled.
//!
//! ```text
//! row    = mean of all hidden rows | the first | the last
//! vector = P_n .. P_1 row, cut to its first values where fewer are wanted, divided by its length
//! ```

use crate::error::EngineError;
use crate::model::Model;
use ingle_model::executor::{Batch, ExecutorError, Hidden, LogitRows, Slice, StepOutput};
use ingle_model::spec::{ModelSpec, PooledRow, Pooling, Role};
use ingle_model::{Error, Source};
use ingle_text::Specials;
use std::collections::BTreeMap;

/// What is asked of an embedding beside its text.
#[derive(Clone, Debug, Default)]
pub struct EmbedOptions {
    /// Put before every text: what the model was trained to see before a question or a document.
    pub prompt: String,
    /// Control tokens spelled in a text mean themselves.
    pub special: bool,
    /// Texts that are too long lose their end; otherwise they are refused.
    pub truncate: bool,
    /// Which row stands for a text, where the model does not say or another one is wanted.
    pub row: Option<PooledRow>,
    /// Keep only so many of the first values, for models trained for that (Matryoshka).
    pub dimensions: Option<usize>,
    /// Leave the vector at the length it comes with, where the model divides by it.
    pub unnormalised: bool,
}

/// The vector of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// The vector.
    pub values: Vec<f32>,
    /// Tokens it was made from, what the model puts around a text included.
    pub tokens: usize,
    /// Tokens at the text's end that were left out.
    pub left_out: usize,
}

/// What a model's files say texts begin with, by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompts {
    /// Prefixes by name (`query`, `document`).
    pub by_name: BTreeMap<String, String>,
    /// The one that is used where none is named.
    pub default: Option<String>,
}

impl Prompts {
    /// Of a sentence-transformers folder; other models have none.
    ///
    /// # Errors
    /// When the file is there and is no JSON.
    pub fn read(source: &Source) -> Result<Prompts, EngineError> {
        let Some(json) = source.json_document("", "config_sentence_transformers.json")? else {
            return Ok(Prompts::default());
        };
        let entries = json["prompts"].as_object().into_iter().flatten();
        let by_name = entries.filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())));
        let default = json["default_prompt_name"].as_str().map(str::to_owned);
        Ok(Prompts { by_name: by_name.collect(), default })
    }

    /// The prefix of that name, or the model's usual one.
    ///
    /// # Errors
    /// [`EngineError::NoPrompt`] when the model has none of that name.
    pub fn choose(&self, name: Option<&str>) -> Result<&str, EngineError> {
        let Some(name) = name.or(self.default.as_deref()) else { return Ok("") };
        self.by_name.get(name).map(String::as_str).ok_or_else(|| EngineError::NoPrompt {
            name: name.to_owned(),
            known: self.by_name.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }
}

/// The matrices that a pooled row is multiplied by.
pub(crate) struct Projections(Vec<Matrix>);

struct Matrix {
    columns: usize,
    /// `[rows, columns]`.
    weights: Vec<f32>,
}

impl Projections {
    pub(crate) fn load(spec: &ModelSpec, source: &Source) -> Result<Projections, EngineError> {
        let count = spec.pooling.as_ref().map_or(0, |pooling| pooling.projections.len());
        let one = |number: u8| {
            let missing =
                || Error::tensor(format!("matrix {number} after pooling"), "is not bound to a file");
            let tensor = spec.tensor(Role::PooledProjection(number), None).ok_or_else(missing)?;
            Ok(Matrix { columns: tensor.columns().max(1), weights: source.values(tensor)? })
        };
        (0..=u8::MAX).take(count).map(one).collect::<Result<_, EngineError>>().map(Projections)
    }

    fn apply(&self, row: Vec<f32>) -> Vec<f32> {
        self.0.iter().fold(row, |row, matrix| {
            let rows = matrix.weights.chunks_exact(matrix.columns);
            rows.map(|weights| dot(weights, &row) as f32).collect()
        })
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// How alike two vectors point: 1 for the same direction, 0 for right angles.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-24)
}

/// Rows of a step: enough to use the processor well. Only a text that has to go through whole can be longer.
const STEP_ROWS: usize = 512;

/// A tokenised text.
struct Tokens {
    ids: Vec<u32>,
    left_out: usize,
}

/// The pooled row of a text whose hidden rows come in one or more parts.
struct Pooled {
    row: PooledRow,
    sum: Vec<f64>,
    rows: usize,
}

impl Pooled {
    fn add(&mut self, hidden: &[f32]) {
        let width = self.sum.len();
        for row in hidden.chunks_exact(width) {
            let counts = match self.row {
                PooledRow::Mean => true,
                PooledRow::First => self.rows == 0,
                PooledRow::Last => {
                    self.sum.fill(0.0);
                    true
                }
            };
            if counts {
                self.sum.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            self.rows += 1;
        }
    }

    fn finish(self) -> Vec<f32> {
        let count = if self.row == PooledRow::Mean { self.rows.max(1) as f64 } else { 1.0 };
        self.sum.into_iter().map(|sum| (sum / count) as f32).collect()
    }
}

impl Model {
    /// What the model's files say texts begin with.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// Most tokens of a text, what the model puts around it included.
    pub fn longest_text(&self) -> usize {
        let stated = self.spec().pooling.as_ref().and_then(|pooling| pooling.longest);
        stated.unwrap_or(usize::MAX).min(self.context())
    }

    /// The vectors of texts, in order. `on_progress` hears of tokens computed, of all.
    ///
    /// # Errors
    /// A model whose files do not say how a text becomes one vector (unless the options do), a text that is empty or
    /// too long, more dimensions than there are, an executor that fails.
    pub fn embed(
        &mut self,
        texts: &[impl AsRef<str>],
        options: &EmbedOptions,
        on_progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Embedding>, EngineError> {
        let pooling = match (self.spec().pooling.clone(), options.row) {
            (Some(pooling), None) => pooling,
            (Some(pooling), Some(row)) => Pooling { row, ..pooling },
            (None, Some(row)) => Pooling::of(row),
            (None, None) => return Err(EngineError::NoPooling),
        };
        let width = pooling.width(self.spec().hidden);
        if let Some(wanted) = options.dimensions.filter(|wanted| !(1..=width).contains(wanted)) {
            return Err(EngineError::Dimensions { wanted, width });
        }
        let numbered = texts.iter().enumerate();
        let tokenised = numbered.map(|(at, text)| self.tokens_of(at + 1, text.as_ref(), options));
        let tokenised = tokenised.collect::<Result<Vec<Tokens>, EngineError>>()?;
        let total = tokenised.iter().map(|text| text.ids.len()).sum();
        let mut embeddings = Vec::with_capacity(texts.len());
        let mut done = 0;
        on_progress(done, total);
        for together in steps(&tokenised) {
            for (text, row) in together.iter().zip(self.pooled(together, pooling.row)?) {
                let mut values = self.projections.apply(row);
                values.truncate(options.dimensions.unwrap_or(width));
                if pooling.normalise && !options.unnormalised {
                    let length = dot(&values, &values).sqrt().max(1e-12);
                    values.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
                }
                if !values.iter().all(|value| value.is_finite()) {
                    return Err(EngineError::NotFinite { number: embeddings.len() + 1 });
                }
                embeddings.push(Embedding { values, tokens: text.ids.len(), left_out: text.left_out });
                done += text.ids.len();
            }
            on_progress(done, total);
        }
        Ok(embeddings)
    }

    fn tokens_of(&self, number: usize, text: &str, options: &EmbedOptions) -> Result<Tokens, EngineError> {
        let specials = if options.special { Specials::Parse } else { Specials::AsText };
        let mut ids =
            self.language.tokenizer().encode_with_bos(&format!("{}{text}", options.prompt), specials)?;
        if ids.is_empty() {
            return Err(EngineError::EmptyText { number });
        }
        let longest = self.longest_text();
        let left_out = ids.len().saturating_sub(longest);
        if left_out > 0 {
            let after = self.language.tokenizer().suffix();
            if !options.truncate || longest <= after.len() {
                return Err(EngineError::TextTooLong { number, tokens: ids.len(), longest });
            }
            // what the model expects after a text stays
            ids.truncate(longest - after.len());
            ids.extend_from_slice(after);
        }
        Ok(Tokens { ids, left_out })
    }

    /// Pooled rows of texts that go through together.
    fn pooled(&mut self, texts: &[Tokens], row: PooledRow) -> Result<Vec<Vec<f32>>, EngineError> {
        let mut sequences = Vec::with_capacity(texts.len());
        let mut result = Ok(Vec::new());
        for text in texts {
            match self.executor.open(text.ids.len()) {
                Ok(sequence) => sequences.push(sequence),
                Err(error) => result = Err(error),
            }
        }
        if result.is_ok() {
            let whole = self.spec().looks_ahead() || texts.len() > 1;
            let rows = if whole { usize::MAX } else { STEP_ROWS };
            result = self.run_through(texts, &sequences, row, rows);
        }
        sequences.into_iter().for_each(|sequence| self.executor.close(sequence));
        Ok(result?)
    }

    /// The same in opened sequences, at most `rows` rows of a text in a step.
    fn run_through(
        &mut self,
        texts: &[Tokens],
        sequences: &[ingle_model::executor::SequenceId],
        row: PooledRow,
        rows: usize,
    ) -> Result<Vec<Vec<f32>>, ExecutorError> {
        let width = self.spec().hidden;
        let mut pooled: Vec<Pooled> =
            texts.iter().map(|_| Pooled { row, sum: vec![0.0; width], rows: 0 }).collect();
        let mut output = StepOutput::default();
        let longest = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
        let mut first = 0;
        while first < longest {
            let part =
                |text: &'_ Tokens| first.min(text.ids.len())..first.saturating_add(rows).min(text.ids.len());
            let slices: Vec<Slice> = texts
                .iter()
                .zip(sequences)
                .map(|(text, &sequence)| Slice {
                    sequence,
                    tokens: &text.ids[part(text)],
                    logits: LogitRows::None,
                })
                .collect();
            self.executor
                .step(&Batch { slices: &slices, hidden: Hidden::Final, beside: &[] }, &mut output)?;
            let mut hidden = output.hidden.first().map(Vec::as_slice).unwrap_or_default();
            for (slice, pooled) in slices.iter().zip(&mut pooled) {
                let (own, rest) =
                    hidden.split_at_checked(slice.tokens.len() * width).unwrap_or((hidden, &[]));
                pooled.add(own);
                hidden = rest;
            }
            first = first.saturating_add(rows);
        }
        Ok(pooled.into_iter().map(Pooled::finish).collect())
    }
}

/// Texts that go through together: as many as fit a step's rows, or a single longer one.
fn steps(texts: &[Tokens]) -> impl Iterator<Item = &[Tokens]> {
    let mut rest = texts;
    std::iter::from_fn(move || {
        let mut rows = 0;
        let fits = |text: &&Tokens| {
            rows += text.ids.len();
            rows <= STEP_ROWS
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (together, later) = rest.split_at_checked(count)?;
        rest = later;
        Some(together)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lengths: &[usize]) -> Vec<Tokens> {
        lengths.iter().map(|&length| Tokens { ids: vec![0; length], left_out: 0 }).collect()
    }

    #[test]
    fn steps_take_as_many_texts_as_fit_and_every_text_once() {
        let texts = texts(&[10, 500, 3, 900, 1, 512, 1]);
        let counts: Vec<usize> = steps(&texts).map(<[Tokens]>::len).collect();
        assert_eq!(counts, [2, 1, 1, 1, 1, 1]);
        assert_eq!(steps(&[]).count(), 0);
    }

    #[test]
    fn rows_pool_alike_in_one_part_or_several() {
        let rows: Vec<f32> = (0..10).map(|at| at as f32).collect();
        for (row, expected) in
            [(PooledRow::Mean, [4.0, 5.0]), (PooledRow::First, [0.0, 1.0]), (PooledRow::Last, [8.0, 9.0])]
        {
            for cut in [0, 2, 6, 10] {
                let mut pooled = Pooled { row, sum: vec![0.0; 2], rows: 0 };
                pooled.add(&rows[..cut]);
                pooled.add(&rows[cut..]);
                assert_eq!(pooled.finish(), expected, "{row:?} {cut}");
            }
        }
    }

    #[test]
    fn cosines_do_not_depend_on_length() {
        assert!((cosine(&[1.0, 0.0], &[5.0, 0.0]) - 1.0).abs() < 1e-12);
        assert!(cosine(&[1.0, 0.0], &[0.0, 2.0]).abs() < 1e-12);
        assert_eq!(cosine(&[0.0], &[0.0]), 0.0);
    }
}
