//! The files a model comes in: whole, split, damaged, hostile, and of another kind altogether.

mod folders;
mod gguf_damaged;
mod raw;
mod regressions;
mod roundtrip;
mod safetensors_damaged;
mod seeds;
mod splits;

/// Says why a test did not run, straight to the stream: the test runner hides what a passing test prints.
fn tell(what: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{what}");
}
