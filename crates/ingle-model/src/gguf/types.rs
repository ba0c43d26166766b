//! The numbers that stand for types in a GGUF file.

/// Types of metadata values, as numbered in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [ValueType; 13] = {
        use ValueType::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64]
    };

    pub(super) fn from_number(number: u32) -> Option<ValueType> {
        ValueType::ALL.get(usize::try_from(number).ok()?).copied()
    }

    pub(super) fn number(self) -> u32 {
        self as u32
    }

    /// The fewest bytes one value of this type takes in the file.
    pub(super) fn least_bytes(self) -> usize {
        use ValueType::*;
        match self {
            U8 | I8 | Bool => 1,
            U16 | I16 => 2,
            U32 | I32 | F32 => 4,
            // A string is a length and perhaps nothing; an array is a type, a count and perhaps nothing.
            U64 | I64 | F64 | String => 8,
            Array => 12,
        }
    }
}

/// Names of tensor types that files in the wild have and that are not read here, to say which one it is.
pub(super) fn unread_tensor_type(number: u32) -> &'static str {
    match number {
        4 => "Q4_2, withdrawn in 2023",
        5 => "Q4_3, withdrawn in 2023",
        9 => "Q8_1, which is not for files",
        15 => "Q8_K, which is not for files",
        31 => "Q4_0_4_4, withdrawn in 2024; Q4_0 replaces it",
        32 => "Q4_0_4_8, withdrawn in 2024; Q4_0 replaces it",
        33 => "Q4_0_8_8, withdrawn in 2024; Q4_0 replaces it",
        36 => "IQ4_NL_4_4, withdrawn in 2024; IQ4_NL replaces it",
        37 => "IQ4_NL_4_8, withdrawn in 2024; IQ4_NL replaces it",
        38 => "IQ4_NL_8_8, withdrawn in 2024; IQ4_NL replaces it",
        _ => "unknown here",
    }
}
