//! Stored number formats: plain numbers and the block formats of GGUF.
//!
//! One table, [`FACTS`], says everything about a format that can be said as data; [`dequantise`] and [`quantise`]
//! are the exact scalar meaning of its bytes, which every faster kernel is judged against.

mod block;
mod float;
mod iq;
mod iq_grids;
mod k;
mod k_encode;
mod k_fit;
mod micro;
mod simple;
mod ternary;
#[cfg(test)]
mod tests;

use crate::{Error, Result};

/// How a tensor's numbers are stored. Names are the field's own (GGUF type names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, missing_docs)]
pub enum Format {
    F32,
    F16,
    BF16,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    F8_E4M3,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ1_S,
    IQ1_M,
    IQ2_XXS,
    IQ2_XS,
    IQ2_S,
    IQ3_XXS,
    IQ3_S,
    IQ4_NL,
    IQ4_XS,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
}

/// Everything about a format that is data.
struct Facts {
    format: Format,
    name: &'static str,
    /// Type number in GGUF files; `None` for formats that only safetensors files hold.
    ggml_type: Option<u32>,
    /// Numbers per block.
    block_len: usize,
    /// Bytes per block.
    block_bytes: usize,
    /// Whether [`quantise`] can write it.
    can_quantise: bool,
}

const fn facts(
    format: Format,
    name: &'static str,
    ggml_type: Option<u32>,
    block_len: usize,
    block_bytes: usize,
    can_quantise: bool,
) -> Facts {
    Facts { format, name, ggml_type, block_len, block_bytes, can_quantise }
}

/// One row per format, in the order of the enum.
const FACTS: &[Facts] = &[
    facts(Format::F32, "F32", Some(0), 1, 4, true),
    facts(Format::F16, "F16", Some(1), 1, 2, true),
    facts(Format::BF16, "BF16", Some(30), 1, 2, true),
    facts(Format::F64, "F64", Some(28), 1, 8, true),
    facts(Format::I8, "I8", Some(24), 1, 1, false),
    facts(Format::I16, "I16", Some(25), 1, 2, false),
    facts(Format::I32, "I32", Some(26), 1, 4, false),
    facts(Format::I64, "I64", Some(27), 1, 8, false),
    facts(Format::U8, "U8", None, 1, 1, false),
    facts(Format::F8_E4M3, "F8_E4M3", None, 1, 1, false),
    facts(Format::Q4_0, "Q4_0", Some(2), 32, 18, true),
    facts(Format::Q4_1, "Q4_1", Some(3), 32, 20, true),
    facts(Format::Q5_0, "Q5_0", Some(6), 32, 22, true),
    facts(Format::Q5_1, "Q5_1", Some(7), 32, 24, true),
    facts(Format::Q8_0, "Q8_0", Some(8), 32, 34, true),
    facts(Format::Q2_K, "Q2_K", Some(10), 256, 84, true),
    facts(Format::Q3_K, "Q3_K", Some(11), 256, 110, true),
    facts(Format::Q4_K, "Q4_K", Some(12), 256, 144, true),
    facts(Format::Q5_K, "Q5_K", Some(13), 256, 176, true),
    facts(Format::Q6_K, "Q6_K", Some(14), 256, 210, true),
    facts(Format::IQ1_S, "IQ1_S", Some(19), 256, 50, false),
    facts(Format::IQ1_M, "IQ1_M", Some(29), 256, 56, false),
    facts(Format::IQ2_XXS, "IQ2_XXS", Some(16), 256, 66, false),
    facts(Format::IQ2_XS, "IQ2_XS", Some(17), 256, 74, false),
    facts(Format::IQ2_S, "IQ2_S", Some(22), 256, 82, false),
    facts(Format::IQ3_XXS, "IQ3_XXS", Some(18), 256, 98, false),
    facts(Format::IQ3_S, "IQ3_S", Some(21), 256, 110, false),
    facts(Format::IQ4_NL, "IQ4_NL", Some(20), 32, 18, false),
    facts(Format::IQ4_XS, "IQ4_XS", Some(23), 256, 136, false),
    facts(Format::TQ1_0, "TQ1_0", Some(34), 256, 54, true),
    facts(Format::TQ2_0, "TQ2_0", Some(35), 256, 66, true),
    facts(Format::MXFP4, "MXFP4", Some(39), 32, 17, true),
    facts(Format::NVFP4, "NVFP4", Some(40), 64, 36, false),
];

const ALL: [Format; FACTS.len()] = {
    let mut all = [Format::F32; FACTS.len()];
    let mut i = 0;
    while i < FACTS.len() {
        assert!(FACTS[i].format as usize == i, "the rows of FACTS are not in the order of the enum");
        all[i] = FACTS[i].format;
        i += 1;
    }
    all
};

impl Format {
    /// Every format, in the order of the enum.
    pub const ALL: &'static [Format] = &ALL;

    const fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }

    /// The field's name for it, such as `"Q4_K"`.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The format of that [`name`](Self::name), in upper or lower case.
    pub fn parse(name: &str) -> Option<Format> {
        FACTS.iter().find(|facts| facts.name.eq_ignore_ascii_case(name)).map(|facts| facts.format)
    }

    /// Its type number in GGUF files; `None` for formats that only safetensors files hold.
    pub const fn ggml_type(self) -> Option<u32> {
        self.facts().ggml_type
    }

    /// The format with that type number in GGUF files.
    pub fn from_ggml_type(number: u32) -> Option<Format> {
        FACTS.iter().find(|facts| facts.ggml_type == Some(number)).map(|facts| facts.format)
    }

    /// Numbers per block; 1 for plain numbers.
    pub const fn block_len(self) -> usize {
        self.facts().block_len
    }

    /// Bytes per block.
    pub const fn block_bytes(self) -> usize {
        self.facts().block_bytes
    }

    /// Bytes that `columns` numbers take; `None` if they are not whole blocks or the count overflows.
    pub const fn row_bytes(self, columns: usize) -> Option<usize> {
        if !columns.is_multiple_of(self.block_len()) {
            return None;
        }
        (columns / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Bits that one number takes, scales included.
    pub fn bits_per_weight(self) -> f64 {
        (self.block_bytes() * 8) as f64 / self.block_len() as f64
    }

    /// Whether [`quantise`] can write this format.
    pub const fn can_quantise(self) -> bool {
        self.facts().can_quantise
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Writes the exact value of every number in `raw` (whole blocks of `format`) to `out`.
///
/// # Errors
/// [`Error::Format`] if `out` is not exactly the numbers that `raw` holds.
pub fn dequantise(format: Format, raw: &[u8], out: &mut [f32]) -> Result<()> {
    check_lengths(format, raw.len(), out.len())?;
    match format {
        Format::F32 => float::f32_to_f32(raw, out),
        Format::F16 => float::f16_to_f32(raw, out),
        Format::BF16 => float::bf16_to_f32(raw, out),
        Format::F64 => float::f64_to_f32(raw, out),
        Format::I8 => float::i8_to_f32(raw, out),
        Format::I16 => float::i16_to_f32(raw, out),
        Format::I32 => float::i32_to_f32(raw, out),
        Format::I64 => float::i64_to_f32(raw, out),
        Format::U8 => float::u8_to_f32(raw, out),
        Format::F8_E4M3 => float::e4m3_to_f32(raw, out),
        Format::Q4_0 => block::decode(raw, out, simple::decode_q4_0),
        Format::Q4_1 => block::decode(raw, out, simple::decode_q4_1),
        Format::Q5_0 => block::decode(raw, out, simple::decode_q5_0),
        Format::Q5_1 => block::decode(raw, out, simple::decode_q5_1),
        Format::Q8_0 => block::decode(raw, out, simple::decode_q8_0),
        Format::Q2_K => block::decode(raw, out, k::decode_q2_k),
        Format::Q3_K => block::decode(raw, out, k::decode_q3_k),
        Format::Q4_K => block::decode(raw, out, k::decode_q4_k),
        Format::Q5_K => block::decode(raw, out, k::decode_q5_k),
        Format::Q6_K => block::decode(raw, out, k::decode_q6_k),
        Format::IQ1_S => block::decode(raw, out, iq::decode_iq1_s),
        Format::IQ1_M => block::decode(raw, out, iq::decode_iq1_m),
        Format::IQ2_XXS => block::decode(raw, out, iq::decode_iq2_xxs),
        Format::IQ2_XS => block::decode(raw, out, iq::decode_iq2_xs),
        Format::IQ2_S => block::decode(raw, out, iq::decode_iq2_s),
        Format::IQ3_XXS => block::decode(raw, out, iq::decode_iq3_xxs),
        Format::IQ3_S => block::decode(raw, out, iq::decode_iq3_s),
        Format::IQ4_NL => block::decode(raw, out, iq::decode_iq4_nl),
        Format::IQ4_XS => block::decode(raw, out, iq::decode_iq4_xs),
        Format::TQ1_0 => block::decode(raw, out, ternary::decode_tq1_0),
        Format::TQ2_0 => block::decode(raw, out, ternary::decode_tq2_0),
        Format::MXFP4 => block::decode(raw, out, micro::decode_mxfp4),
        Format::NVFP4 => micro::decode_nvfp4(raw, out),
    }
    Ok(())
}

/// Stores `values` as whole blocks of `format` in `raw`.
///
/// The formats with a published quantiser get the bytes it would write; the K formats are searched for the least
/// squared error. Plain floats keep values that are not finite; a block that has such a value, or one too large for
/// its scale, comes out as numbers of no use, some perhaps not finite.
///
/// # Errors
/// [`Error::Format`] if `raw` is not exactly the bytes that `values` take, or if the format
/// [cannot be written](Format::can_quantise).
pub fn quantise(format: Format, values: &[f32], raw: &mut [u8]) -> Result<()> {
    check_lengths(format, raw.len(), values.len())?;
    match format {
        Format::F32 => float::f32_from_f32(values, raw),
        Format::F16 => float::f16_from_f32(values, raw),
        Format::BF16 => float::bf16_from_f32(values, raw),
        Format::F64 => float::f64_from_f32(values, raw),
        Format::Q4_0 => block::encode(values, raw, simple::encode_q4_0),
        Format::Q4_1 => block::encode(values, raw, simple::encode_q4_1),
        Format::Q5_0 => block::encode(values, raw, simple::encode_q5_0),
        Format::Q5_1 => block::encode(values, raw, simple::encode_q5_1),
        Format::Q8_0 => block::encode(values, raw, simple::encode_q8_0),
        Format::Q2_K => block::encode(values, raw, k_encode::encode_q2_k),
        Format::Q3_K => block::encode(values, raw, k_encode::encode_q3_k),
        Format::Q4_K => block::encode(values, raw, k_encode::encode_q4_k),
        Format::Q5_K => block::encode(values, raw, k_encode::encode_q5_k),
        Format::Q6_K => block::encode(values, raw, k_encode::encode_q6_k),
        Format::TQ1_0 => block::encode(values, raw, ternary::encode_tq1_0),
        Format::TQ2_0 => block::encode(values, raw, ternary::encode_tq2_0),
        Format::MXFP4 => block::encode(values, raw, micro::encode_mxfp4),
        _ => {
            return Err(Error::Format {
                what: format!("{format} cannot be written here; choose another format"),
            });
        }
    }
    Ok(())
}

fn check_lengths(format: Format, bytes: usize, numbers: usize) -> Result<()> {
    if format.row_bytes(numbers) == Some(bytes) {
        return Ok(());
    }
    let (block_len, block_bytes) = (format.block_len(), format.block_bytes());
    Err(Error::Format {
        what: format!(
            "{bytes} bytes of {format} do not hold {numbers} numbers: {block_bytes} bytes hold {block_len}; \
             check the tensor's shape against its format"
        ),
    })
}
