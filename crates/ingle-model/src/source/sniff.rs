//! What a file that is not what it should be probably is, so that the message can say what to do.

/// The beginning of a git-lfs pointer file.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// True for the small text file that git leaves in place of a large one.
pub(crate) fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(LFS_POINTER)
}

/// What to say about a git-lfs pointer.
pub(crate) const LFS_ADVICE: &str = "is a git-lfs pointer and not the file itself; run `git lfs pull` in its folder, or download the file again";

/// What to say about bytes that should have been a GGUF file.
pub(crate) fn not_a_gguf(bytes: &[u8]) -> String {
    wrong_file(bytes, "a GGUF file", "fetch the .gguf file again")
}

/// What to say about bytes that should have been `wanted`.
pub(crate) fn wrong_file(bytes: &[u8], wanted: &str, advice: &str) -> String {
    if bytes.is_empty() {
        return format!("is empty and not {wanted}; {advice}");
    }
    if is_lfs_pointer(bytes) {
        return LFS_ADVICE.into();
    }
    match guess(bytes) {
        Some(found) => format!("is not {wanted}: it begins like {found}; {advice}"),
        None => {
            let first: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            format!("is not {wanted}: its first bytes are {}; {advice}", first.join(" "))
        }
    }
}

fn guess(bytes: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: &[(&[u8], &str)] = &[
        (b"PK\x03\x04", "a zip archive (perhaps PyTorch weights)"),
        (b"\x80\x02", "a Python pickle"),
        (b"\x1f\x8b", "a gzip archive, which has to be unpacked first"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive, which has to be unpacked first"),
        (b"lmgg", "a GGML file, from before GGUF"),
        (b"fmgg", "a GGMF file, from before GGUF"),
        (b"tjgg", "a GGJT file, from before GGUF"),
        (b"algg", "a GGLA adapter, from before GGUF"),
        (b"FUGG", "a GGUF file with its bytes swapped"),
        (b"GGUF", "a GGUF file"),
        (b"\0\0\0\0\0\0\0\0", "an unfinished download (it is zeros)"),
    ];
    if let Some((_, what)) = BEGINNINGS.iter().find(|(beginning, _)| bytes.starts_with(beginning)) {
        return Some(what);
    }
    // A safetensors file: eight bytes of length, then JSON.
    if bytes.get(8) == Some(&b'{') && bytes.get(4..8) == Some(&[0; 4]) {
        return Some("a safetensors file, which is opened by the folder that holds it and its config.json");
    }
    let text = bytes.get(..bytes.len().min(512))?.trim_ascii_start();
    if text.first() == Some(&b'<') {
        return Some("a web page (the download was answered with an error or a login page)");
    }
    if text.first() == Some(&b'{') {
        return Some("JSON (the download was answered with an error message)");
    }
    None
}
