//! How far ahead of its use a line of weights is asked for, which is for the processor to say.

use std::sync::LazyLock;

/// For one input row.
static ONE: LazyLock<usize> = LazyLock::new(measured);
/// For several: there is so much to compute on a line that no processor's own prefetchers look far enough, and without,
/// waiting and computing take turns. Into the second-level cache: the first takes too few requests at a time for a slow
/// memory. Zen 4 gains 30 to 70 % with 2 to 8 rows of Q4_K, half as much from 4 KiB as from 8 or 16.
const SEVERAL: usize = 8 * 1024;

/// Bytes ahead with that many input rows, zero where the processor's own prefetchers do better alone.
#[inline]
pub(super) fn ahead(rows: usize) -> usize {
    if rows > 1 { SEVERAL } else { *ONE }
}

/// What was best of 0 to 32 KiB where it was measured. The prefetchers of Zen 3 and Zen 5 do not look far enough by
/// themselves even with one row: with 4 KiB, Zen 3 takes weights of all formats in at 95 % and more of the rate of plain
/// reading, and at 75 to 83 % without; on Zen 5, Q4_K is 40 % slower from memory without. On Zen 4 it is the other way
/// round: any request into the first-level cache takes one of the few places for misses, and all formats lose 10 to 30 %.
fn measured() -> usize {
    match amd() {
        Some((0x1a, _)) => 6 * 1024,
        // the others of this family are Zen 4
        Some((0x19, 0x00..=0x0f | 0x20..=0x5f)) => 4 * 1024,
        _ => 0,
    }
}

/// Family and model of a processor of AMD.
fn amd() -> Option<(u32, u32)> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::__cpuid;

        let vendor = __cpuid(0);
        let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
        if name.as_flattened() == b"AuthenticAMD" {
            let signature = __cpuid(1).eax;
            let family = (signature >> 8 & 15) + (signature >> 20 & 255);
            return Some((family, (signature >> 4 & 15) | (signature >> 12 & 0xf0)));
        }
    }
    None
}
