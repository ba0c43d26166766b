//! x86-64 with AVX-512 and VNNI but without VBMI (Intel Cascade Lake and Cooper Lake): the text of `avx512` with another
//! way of looking up.

// Contract of `lanes`.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::arch::x86_64::*;

use super::avx512::{self, Avx512, LookUp};
use super::lanes::kernel_table;
use super::{Isa, Kernels};

kernel_table!(
    Isa::Avx512Vnni,
    Avx512<Shuffle>,
    "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"
);

/// The kernels, if the processor has the instruction set.
pub(super) fn table() -> Option<&'static Kernels> {
    avx512::detected().then_some(&TABLE)
}

/// 16 entries per quarter of a register, by indices whose other bits are zero.
#[derive(Clone, Copy)]
struct Shuffle;

impl LookUp for Shuffle {
    #[inline(always)]
    unsafe fn look_up(table: __m512i, v: __m512i) -> __m512i {
        _mm512_shuffle_epi8(table, _mm512_and_si512(v, _mm512_set1_epi8(15)))
    }
}
