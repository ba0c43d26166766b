//! Files put together byte by byte, so that anything can be wrong with them.

use std::path::{Path, PathBuf};

/// A GGUF file as its parts; [`Gguf::bytes`] writes them without checking anything.
#[derive(Clone)]
pub(crate) struct Gguf {
    pub(crate) version: u32,
    /// What the header says; the real number when `None`.
    pub(crate) tensor_count: Option<u64>,
    pub(crate) pair_count: Option<u64>,
    /// Key, type number, value bytes.
    pub(crate) pairs: Vec<(Vec<u8>, u32, Vec<u8>)>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) alignment: usize,
    pub(crate) data: Vec<u8>,
}

#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: Vec<u8>,
    /// Innermost first, as in the file.
    pub(crate) dimensions: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) offset: u64,
}

pub(crate) fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

pub(crate) fn array(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

/// A small valid file with every value type, three tensors and an odd gap between two of them.
pub(crate) fn small() -> Gguf {
    let strings = [text("a"), text(""), text("Ġé")].concat();
    let nested = [array(0, 2, &[1, 2]), array(8, 1, &text("x"))].concat();
    let pairs: Vec<(&str, u32, Vec<u8>)> = vec![
        ("general.architecture", 8, text("qwen3")),
        ("general.alignment", 4, 64u32.to_le_bytes().into()),
        ("u8", 0, vec![200]),
        ("i8", 1, vec![0x80]),
        ("u16", 2, 65535u16.to_le_bytes().into()),
        ("i16", 3, (-300i16).to_le_bytes().into()),
        ("i32", 5, (-70000i32).to_le_bytes().into()),
        ("f32", 6, 1.5f32.to_le_bytes().into()),
        ("bool", 7, vec![1]),
        ("u64", 10, u64::MAX.to_le_bytes().into()),
        ("i64", 11, i64::MIN.to_le_bytes().into()),
        ("f64", 12, 0.1f64.to_le_bytes().into()),
        ("strings", 9, array(8, 3, &strings)),
        ("floats", 9, array(6, 2, &[0, 0, 128, 63, 0, 0, 0, 64])),
        ("integers", 9, array(5, 1, &(-1i32).to_le_bytes())),
        ("flags", 9, array(7, 3, &[0, 1, 1])),
        ("nothing", 9, array(4, 0, &[])),
        ("nested", 9, array(9, 2, &nested)),
    ];
    let tensor = |name: &str, dimensions: &[u64], kind, offset| Tensor {
        name: name.into(),
        dimensions: dimensions.into(),
        kind,
        offset,
    };
    Gguf {
        version: 3,
        tensor_count: None,
        pair_count: None,
        pairs: pairs.into_iter().map(|(key, kind, value)| (key.into(), kind, value)).collect(),
        // 4 * 3 floats, two blocks of Q8_0, one f16.
        tensors: vec![
            tensor("token_embd.weight", &[4, 3], 0, 0),
            tensor("blk.0.attn_q.weight", &[32, 2, 1], 8, 64),
            tensor("output_norm.weight", &[1], 1, 192),
        ],
        alignment: 64,
        data: (0..194).map(|at| at as u8).collect(),
    }
}

impl Gguf {
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.pair_count.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.pairs {
            out.extend(text(key));
            out.extend(kind.to_le_bytes());
            out.extend(value);
        }
        for tensor in &self.tensors {
            out.extend(text(&tensor.name));
            out.extend((tensor.dimensions.len() as u32).to_le_bytes());
            tensor.dimensions.iter().for_each(|size| out.extend(size.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        out
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend(&self.data);
        out
    }

    pub(crate) fn pair(&mut self, key: &str) -> &mut (Vec<u8>, u32, Vec<u8>) {
        self.pairs.iter_mut().find(|(name, ..)| name == key.as_bytes()).expect("a key of the small file")
    }
}

/// A safetensors file of this JSON and so many bytes.
pub(crate) fn safetensors(json: &str, data: usize) -> Vec<u8> {
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.extend(json.as_bytes());
    out.extend((0..data).map(|at| at as u8));
    out
}

/// A folder of this test's own, empty.
pub(crate) fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("files").join(test);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}

/// Writes a file of the folder and returns its path.
pub(crate) fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a temporary file");
    path
}
