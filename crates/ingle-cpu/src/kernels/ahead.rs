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

/// What was best of 0 to 32 KiB where it was measured. Zen 5's prefetchers do not look far enough by themselves even with
/// one row: without, Q4_K is 40 % slower from memory. On Zen 4 it is the other way round: any request into the
/// first-level cache takes one of the few places for misses, and all formats lose 10 to 30 %.
fn measured() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::__cpuid;

        let vendor = __cpuid(0);
        let amd =
            [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD";
        let signature = __cpuid(1).eax;
        let family = (signature >> 8 & 15) + (signature >> 20 & 255);
        if amd && family == 0x1a {
            return 6 * 1024;
        }
    }
    0
}
