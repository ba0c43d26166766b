//! A model on disk: a GGUF file (or its splits) or a Hugging Face folder, opened by memory-mapping.

mod gguf;
mod hugging_face;
mod mmap;
mod modules;
mod rows;
mod safetensors;
pub(crate) mod sniff;

pub use modules::Module;
pub use safetensors::{SafetensorsHeader, read_safetensors_header};

use crate::error::{Error, Result};
use crate::format::Format;
use crate::metadata::Metadata;
use mmap::Bytes;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

/// One stored tensor: where it lies and how.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Name in the file.
    pub name: String,
    /// Outermost first (`[rows, columns]`, `[experts, rows, columns]`), whatever the file's own order is.
    pub shape: Vec<usize>,
    /// Stored number format.
    pub format: Format,
    /// Index into the source's files.
    pub file: usize,
    /// First byte in that file.
    pub offset: usize,
    /// Bytes stored.
    pub bytes: usize,
}

/// Which of the two layouts a model comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// One GGUF file, or all files of a split set.
    Gguf,
    /// A folder with `config.json` and safetensors files, as published on the Hugging Face hub.
    HuggingFace,
}

/// An opened model: its header, parsed and checked, and its tensors' bytes, mapped.
pub struct Source {
    /// What was opened: the (first) GGUF file or the folder.
    pub path: PathBuf,
    /// The layout.
    pub kind: SourceKind,
    /// The GGUF header's metadata (of the first file of a split set); empty for a Hugging Face folder.
    pub metadata: Metadata,
    /// The parsed `config.json`; null for GGUF.
    pub config: Json,
    /// The parsed `generation_config.json` of a Hugging Face folder that has one.
    pub generation_config: Option<Json>,
    files: Vec<SourceFile>,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
    /// Names and number formats of tensors that are there but whose format is not read.
    unread: Vec<(String, String)>,
    /// The file, and the bytes of it, that the system was last asked for ahead of their use.
    asked: Mutex<(usize, Range<usize>)>,
}

#[derive(Debug)]
struct SourceFile {
    path: PathBuf,
    bytes: Bytes,
}

impl Source {
    /// Opens a `.gguf` file (of a split set: any of its files), or a Hugging Face folder, or a folder that holds one
    /// GGUF model and nothing else to open.
    ///
    /// # Errors
    /// Everything that can be wrong with a path or with the files behind it; see [`Error`].
    pub fn open(path: &Path) -> Result<Source> {
        let facts = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
        if facts.is_dir() { hugging_face::open(path) } else { gguf::open(path) }
    }

    /// Opens a whole GGUF file that is part of the program. `name` stands for the path in messages.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn from_bytes(name: &str, bytes: &'static [u8]) -> Result<Source> {
        gguf::from_bytes(Path::new(name), bytes)
    }

    /// All tensors: files in order, tensors in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of that name, if there is one.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&at| &self.tensors[at])
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`Error::Tensor`] when it is missing, or stored in a number format that is not read here.
    pub fn require(&self, name: &str) -> Result<&TensorInfo> {
        self.tensor(name).ok_or_else(|| match self.unread.iter().find(|(unread, _)| unread == name) {
            Some((_, dtype)) => Error::tensor(
                name,
                format!(
                    "of {} is stored as {dtype}, which is not read here; fetch another variant",
                    self.path.display()
                ),
            ),
            None => Error::tensor(
                name,
                format!("is needed, but {} has no such tensor; fetch the model again", self.path.display()),
            ),
        })
    }

    /// The bytes of one of this source's tensors, as stored. Not necessarily aligned to more than one byte.
    ///
    /// Empty for a `TensorInfo` that is not from this source and does not fit it.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        let file = self.files.get(tensor.file).map(|file| file.bytes.as_slice()).unwrap_or_default();
        file.get(tensor.offset..).and_then(|rest| rest.get(..tensor.bytes)).unwrap_or_default()
    }

    /// Sees to it that the files have still what was opened: reading from one that was shortened would end the process.
    ///
    /// # Errors
    /// [`Error::Changed`] for the first that was overwritten or shortened.
    pub fn check(&self) -> Result<()> {
        match self.files.iter().find(|file| !file.bytes.is_unchanged()) {
            None => Ok(()),
            Some(file) => Err(Error::Changed { path: file.path.clone() }),
        }
    }

    /// Bytes of each file that holds tensors, and when it was changed before it was opened; `None` for a model that is
    /// part of the program.
    pub fn versions(&self) -> impl Iterator<Item = (u64, Option<SystemTime>)> {
        self.files.iter().map(|file| (file.bytes.as_slice().len() as u64, file.bytes.changed()))
    }

    /// Says that a tensor's bytes are no longer needed in memory. Reading them again is allowed and reads the file
    /// again. Does nothing for a model that is part of the program.
    pub fn release(&self, tensor: &TensorInfo) {
        if let Some(file) = self.files.get(tensor.file) {
            file.bytes.release(tensor.offset, tensor.bytes);
        }
    }

    /// The same for everything there is.
    pub fn release_all(&self) {
        for file in &self.files {
            file.bytes.release(0, file.bytes.as_slice().len());
        }
    }

    /// Says that from now on only single rows of a tensor are read, far apart, as an embedding's are.
    pub fn expect_scattered_reads(&self, tensor: &TensorInfo) {
        if let Some(file) = self.files.get(tensor.file) {
            file.bytes.expect_scattered_reads(tensor.offset, tensor.bytes);
        }
    }

    /// Bytes of all files that hold tensors.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.as_slice().len() as u64).sum()
    }

    /// The files that hold tensors; [`TensorInfo::file`] counts into them.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// The bytes of `tokenizer.json` of a Hugging Face folder that has one.
    ///
    /// # Errors
    /// As [`Source::document`].
    pub fn tokenizer_json(&self) -> Result<Option<Vec<u8>>> {
        self.document("tokenizer.json")
    }

    /// The bytes of `tokenizer_config.json` of a Hugging Face folder that has one.
    ///
    /// # Errors
    /// As [`Source::document`].
    pub fn tokenizer_config_json(&self) -> Result<Option<Vec<u8>>> {
        self.document("tokenizer_config.json")
    }

    /// The bytes of `chat_template.jinja` of a Hugging Face folder that has one.
    ///
    /// # Errors
    /// As [`Source::document`].
    pub fn chat_template_jinja(&self) -> Result<Option<Vec<u8>>> {
        self.document("chat_template.jinja")
    }

    /// The bytes of `chat_template.json` of a Hugging Face folder that has one.
    ///
    /// # Errors
    /// As [`Source::document`].
    pub fn chat_template_json(&self) -> Result<Option<Vec<u8>>> {
        self.document("chat_template.json")
    }

    /// The bytes of another document that lies directly in a Hugging Face folder, read now; `None` when there is
    /// none, and for GGUF.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Unsupported`] when it is not a plain file name, a git-lfs
    /// pointer or absurdly large.
    pub fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.kind {
            SourceKind::Gguf => Ok(None),
            SourceKind::HuggingFace => hugging_face::read_document(&self.path, name),
        }
    }

    /// A JSON document in `folder` of a Hugging Face folder, or directly in it where `folder` is empty; `None` when there
    /// is none, and for GGUF.
    ///
    /// # Errors
    /// As [`Source::document`]; [`Error::Damaged`] for what is not JSON.
    pub fn json_document(&self, folder: &str, name: &str) -> Result<Option<Json>> {
        match self.kind {
            SourceKind::Gguf => Ok(None),
            SourceKind::HuggingFace => hugging_face::json_document_in(&self.path, folder, name),
        }
    }

    /// The modules of a sentence-transformers folder; `None` for other folders, and for GGUF. Tensors of a module's
    /// folder are among [`tensors`](Self::tensors) as `<folder>/<name>`.
    ///
    /// # Errors
    /// As [`Source::json_document`]; [`Error::Metadata`] for a list of another form.
    pub fn modules(&self) -> Result<Option<Vec<Module>>> {
        self.json_document("", hugging_face::MODULES)?.map(|json| modules::read(&json)).transpose()
    }

    /// Puts the parts together and indexes the tensors.
    fn new(
        path: &Path,
        kind: SourceKind,
        files: Vec<SourceFile>,
        tensors: Vec<TensorInfo>,
    ) -> Result<Source> {
        let mut index = HashMap::with_capacity(tensors.len());
        for (at, tensor) in tensors.iter().enumerate() {
            if let Some(other) = index.insert(tensor.name.clone(), at) {
                let file_of = |at: usize| {
                    let file = tensors.get(at).and_then(|tensor| files.get(tensor.file));
                    file.map(|file| file.path.display().to_string()).unwrap_or_default()
                };
                let what = format!("is there twice: in {} and in {}", file_of(other), file_of(at));
                return Err(Error::tensor(&tensor.name, what));
            }
        }
        Ok(Source {
            path: path.into(),
            kind,
            metadata: Metadata::default(),
            config: Json::Null,
            generation_config: None,
            files,
            tensors,
            index,
            unread: Vec::new(),
            asked: Mutex::default(),
        })
    }
}

/// Short: a vocabulary has no place in a debug print.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("path", &self.path)
            .field("kind", &self.kind)
            .field("files", &self.files.len())
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}
