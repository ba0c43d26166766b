//! GGUF files, version 2 and 3, split or whole: reading and writing.
