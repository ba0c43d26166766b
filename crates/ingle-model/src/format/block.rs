//! What all block formats share: walking over whole blocks, taking a block apart, half-precision scales.

use half::f16;

/// Decodes block after block: `B` bytes to `N` numbers.
pub(super) fn decode<const B: usize, const N: usize>(
    raw: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; B], &mut [f32; N]),
) {
    let (blocks, _) = raw.as_chunks::<B>();
    let (outs, _) = out.as_chunks_mut::<N>();
    for (bytes, numbers) in blocks.iter().zip(outs) {
        block(bytes, numbers);
    }
}

/// Encodes block after block: `N` numbers to `B` bytes.
pub(super) fn encode<const N: usize, const B: usize>(
    values: &[f32],
    raw: &mut [u8],
    block: impl Fn(&[f32; N]) -> [u8; B],
) {
    let (values, _) = values.as_chunks::<N>();
    let (blocks, _) = raw.as_chunks_mut::<B>();
    for (numbers, bytes) in values.iter().zip(blocks) {
        *bytes = block(numbers);
    }
}

/// The `LEN` bytes at `AT` of a block.
#[inline]
pub(super) fn part<const AT: usize, const LEN: usize, const B: usize>(block: &[u8; B]) -> &[u8; LEN] {
    const { assert!(AT + LEN <= B, "the part reaches beyond the block") };
    block[AT..].first_chunk().expect("the part lies in the block")
}

/// As [`part`], to write to.
#[inline]
pub(super) fn part_mut<const AT: usize, const LEN: usize, const B: usize>(
    block: &mut [u8; B],
) -> &mut [u8; LEN] {
    const { assert!(AT + LEN <= B, "the part reaches beyond the block") };
    block[AT..].first_chunk_mut().expect("the part lies in the block")
}

/// The half-precision float at `AT`.
#[inline]
pub(super) fn half<const AT: usize, const B: usize>(block: &[u8; B]) -> f32 {
    f16::from_le_bytes(*part::<AT, 2, B>(block)).to_f32()
}

/// Stores `value` at `AT` as the nearest half-precision float, which it returns.
#[inline]
pub(super) fn set_half<const AT: usize, const B: usize>(block: &mut [u8; B], value: f32) -> f32 {
    let stored = f16::from_f32(value);
    *part_mut::<AT, 2, B>(block) = stored.to_le_bytes();
    stored.to_f32()
}

/// The little-endian 16-bit number at index `i` of `bytes`.
#[inline]
pub(super) fn word(bytes: &[u8], i: usize) -> u16 {
    u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])
}

/// `1 / d`, but 0 where `d` is 0: what the published quantisers multiply by.
pub(super) fn reciprocal(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}
