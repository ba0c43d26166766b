//! A safetensors file written piece by piece, so that its tensors need not be in memory at once.

use crate::whole_file::{Target, WholeFile};
use anyhow::{Result, bail};
use serde_json::{Map, json};

/// Number formats that are written, all of four bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dtype {
    /// 32-bit floats.
    F32,
    /// 32-bit signed integers.
    I32,
}

/// A tensor to come.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// Its key.
    pub(crate) name: String,
    /// Its numbers.
    pub(crate) dtype: Dtype,
    /// Outermost first.
    pub(crate) shape: [usize; 2],
    /// Whether `shape` is a matrix or, the first number alone, a row.
    pub(crate) matrix: bool,
}

/// A file that appears when all its tensors are complete.
pub(crate) struct TensorFile {
    file: WholeFile,
    /// Next free byte of each tensor and the byte after its last one.
    places: Vec<(u64, u64)>,
}

impl TensorFile {
    /// Writes the header. Tensors are numbered in the order given.
    pub(crate) fn create(target: Target, tensors: &[Planned]) -> Result<TensorFile> {
        let mut header = Map::new();
        let mut places = Vec::new();
        let mut end = 0u64;
        for Planned { name, dtype, shape, matrix } in tensors {
            let values = if *matrix { shape[0].checked_mul(shape[1]) } else { Some(shape[0]) };
            let after =
                values.and_then(|n| (n as u64).checked_mul(4)).and_then(|bytes| end.checked_add(bytes));
            let Some(after) = after else { bail!("`{name}` would be larger than any file") };
            let shape = if *matrix { shape.as_slice() } else { &shape[..1] };
            let dtype = match dtype {
                Dtype::F32 => "F32",
                Dtype::I32 => "I32",
            };
            header
                .insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [end, after]}));
            places.push((end, after));
            end = after;
        }
        let mut header = serde_json::Value::Object(header).to_string();
        header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len())); // data aligned to 8 bytes
        let start = 8 + header.len() as u64;
        places.iter_mut().for_each(|(from, to)| (*from, *to) = (*from + start, *to + start));

        let mut begin = (header.len() as u64).to_le_bytes().to_vec();
        begin.extend_from_slice(header.as_bytes());
        let mut file = WholeFile::create(target)?;
        file.put(0, &begin)?;
        Ok(TensorFile { file, places })
    }

    /// Appends to tensor `index`.
    pub(crate) fn append_floats(&mut self, index: usize, values: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.append(index, &bytes)
    }

    /// Appends to tensor `index`.
    pub(crate) fn append_integers(&mut self, index: usize, values: &[i32]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.append(index, &bytes)
    }

    fn append(&mut self, index: usize, bytes: &[u8]) -> Result<()> {
        let Some(&(from, to)) = self.places.get(index) else { bail!("tensor {index} was not planned") };
        let after = from + bytes.len() as u64;
        if after > to {
            bail!("tensor {index} has more values than planned");
        }
        self.file.put(from, bytes)?;
        self.places[index].0 = after;
        Ok(())
    }

    /// Gives the complete file its name.
    pub(crate) fn finish(self) -> Result<()> {
        if let Some(index) = self.places.iter().position(|(from, to)| from != to) {
            bail!("tensor {index} has fewer values than planned");
        }
        self.file.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn planned(name: &str, dtype: Dtype, shape: [usize; 2], matrix: bool) -> Planned {
        Planned { name: name.into(), dtype, shape, matrix }
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("ingle-tensor-file-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn create(path: &Path, plan: &[Planned]) -> Result<TensorFile> {
        TensorFile::create(Target::new(path)?, plan)
    }

    #[test]
    fn interleaved_pieces_are_read_back_by_the_library() {
        let folder = folder("pieces");
        let path = folder.join("a.safetensors");
        let plan = [planned("m", Dtype::F32, [2, 2], true), planned("g", Dtype::I32, [3, 0], false)];
        let mut file = create(&path, &plan).unwrap();
        file.append_floats(0, &[1.0, 2.0]).unwrap();
        file.append_integers(1, &[7, -8, 9]).unwrap();
        file.append_floats(0, &[3.0, 4.5]).unwrap();
        assert!(file.append_floats(0, &[5.0]).is_err(), "more than planned");
        assert!(!path.exists());
        file.finish().unwrap();

        let bytes = std::fs::read(&path).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let matrix = read.tensor("m").unwrap();
        assert_eq!(matrix.shape(), [2, 2]);
        assert_eq!(matrix.data(), [1.0f32, 2.0, 3.0, 4.5].map(f32::to_le_bytes).concat());
        let row = read.tensor("g").unwrap();
        assert_eq!((row.shape(), row.dtype()), (&[3][..], safetensors::Dtype::I32));
        assert_eq!(row.data(), [7i32, -8, 9].map(i32::to_le_bytes).concat());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let folder = folder("unfinished");
        let path = folder.join("a.safetensors");
        let file = create(&path, &[planned("m", Dtype::F32, [2, 2], true)]).unwrap();
        assert!(file.finish().is_err());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        assert!(create(&folder, &[]).is_err(), "a folder");
        let huge = [planned("m", Dtype::F32, [usize::MAX, 2], true)];
        assert!(create(&path, &huge).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
