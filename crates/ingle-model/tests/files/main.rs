//! The files a model comes in: whole, split, damaged, hostile, and of another kind altogether.

mod folders;
mod gguf_damaged;
mod raw;
mod regressions;
mod roundtrip;
mod safetensors_damaged;
mod seeds;
mod splits;
