//! Inputs that once did the wrong thing, by name.

use ingle_model::source::read_safetensors_header;
use std::path::Path;

/// Tensors that follow each other and have the size their shape says, but add up to nearly 2^64 bytes: adding the
/// header's length to that is an overflow.
#[test]
fn safetensors_sizes_that_add_up_to_an_overflow() {
    const LARGEST: u64 = (1 << 61) - 1;
    let mut json = String::from("{");
    let mut start = 0u64;
    for number in 0..8 {
        let end = start + LARGEST;
        json +=
            &format!(r#""t{number}":{{"dtype":"U8","shape":[{LARGEST}],"data_offsets":[{start},{end}]}},"#);
        start = end;
    }
    let (end, rest) = (u64::MAX, u64::MAX - start);
    json += &format!(r#""last":{{"dtype":"U8","shape":[{rest}],"data_offsets":[{start},{end}]}}}}"#);
    let bytes = crate::raw::safetensors(&json, 0);
    let error =
        read_safetensors_header(Path::new("sum.safetensors"), &bytes).expect_err("too large").to_string();
    assert!(error.contains("the tensors take 18446744073709551615 bytes"), "{error}");
}

/// Found by the `safetensors` fuzz target: a tensor without elements was listed after the tensor that begins at the
/// same byte, as if the two overlapped.
#[test]
fn safetensors_without_elements_come_before_their_neighbour() {
    let json = r#"{"w":{"dtype":"F16","shape":[2,0,3],"data_offsets":[0,0]},"v":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#;
    let bytes = crate::raw::safetensors(json, 3);
    let header = read_safetensors_header(Path::new("nothing.safetensors"), &bytes).expect("valid");
    let names: Vec<&str> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["w", "v"]);
}
