//! The table of kernels of one instruction set, and the safe functions over it.

use half::f16;
use ingle_model::Format;
use ingle_model::spec::{Activation, PlainActivation};

use super::{BlockKernel, FloatKernel, Panels, Raised, SuperblockKernel, TileKernel, TileKernels};
use super::{
    CachedKernels, DELTA_PANEL, DeltaGates, FloatRows, GroupKernel, Int8Rows, PAGE, PageWeights, QUERIES,
    Strided, Tile, scalar,
};

/// An instruction set that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// What every processor has.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX2, FMA, F16C and AVX-VNNI.
    AvxVnni,
    /// x86-64 with AVX-512 F, BW, VL, DQ and VNNI.
    Avx512Vnni,
    /// The same with VBMI.
    Avx512,
    /// 64-bit Arm.
    Neon,
    /// 64-bit Arm with dot products of signed bytes (FEAT_DotProd).
    NeonDotprod,
    /// 64-bit Arm with dot products of unsigned with signed bytes (FEAT_I8MM).
    NeonI8mm,
}

impl Isa {
    /// All of them, best last.
    pub const ALL: [Isa; 8] = [
        Isa::Scalar,
        Isa::Neon,
        Isa::NeonDotprod,
        Isa::NeonI8mm,
        Isa::Avx2,
        Isa::AvxVnni,
        Isa::Avx512Vnni,
        Isa::Avx512,
    ];

    /// Its name, such as `"avx512"`.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
            Isa::NeonDotprod => "neon-dotprod",
            Isa::NeonI8mm => "neon-i8mm",
        }
    }

    /// The instruction set of that name.
    pub fn parse(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name)
    }
}

/// The kernels of one instruction set. A table is only handed out on processors that have the instruction set, which
/// is what makes calling its functions sound.
#[allow(clippy::type_complexity)] // the types are the signatures
pub struct Kernels {
    pub(super) isa: Isa,
    pub(super) float: [FloatKernel; 3],
    pub(super) superblock: [SuperblockKernel; 4],
    pub(super) block: [BlockKernel; 6],
    /// `None` where products with many rows are as those with few.
    pub(super) tile: Option<TileKernels>,
    pub(super) quantise_256: unsafe fn(&[f32], &mut [i8], &mut [f32], &mut [i32], &mut [i32]),
    pub(super) quantise_32: unsafe fn(&[f32], &mut [i8], &mut [f32], &mut [i32]),
    pub(super) square_sum: unsafe fn(&[f32]) -> f32,
    pub(super) scaled_mul: unsafe fn(*const f32, &[f32], f32, *mut f32),
    pub(super) silu_mul: unsafe fn(&[f32], &[f32], &mut [f32]),
    pub(super) gelu_mul: unsafe fn(&[f32], &[f32], &mut [f32]),
    pub(super) clamped_swiglu: unsafe fn(&[f32], &[f32], f32, f32, &mut [f32]),
    pub(super) axpy: unsafe fn(f32, &[f32], &mut [f32]),
    pub(super) gelu_erf: unsafe fn(&[f32], &mut [f32]),
    pub(super) sigmoid_mul: unsafe fn(&mut [f32], &[f32]),
    pub(super) soft_cap: unsafe fn(&mut [f32], f32),
    pub(super) convolve: unsafe fn(Strided<'_>, Strided<'_>, usize, &mut [f32]),
    pub(super) delta_step: unsafe fn(&mut [f32], &[f32], &[f32], DeltaGates, &[f32], &mut [f32]),
    pub(super) add: unsafe fn(&mut [f32], &[f32]),
    pub(super) scale: unsafe fn(&mut [f32], f32),
    pub(super) dot: unsafe fn(&[f32], &[f32]) -> f32,
    pub(super) dot_f16: unsafe fn(&[f16], &[f32]) -> f32,
    pub(super) axpy_f16: unsafe fn(f32, &[f16], &mut [f32]),
    pub(super) positive_axpy: unsafe fn(f32, &[f32], &mut [f32]),
    pub(super) to_f16: unsafe fn(&[f32], &mut [f16]),
    pub(super) max: unsafe fn(&[f32]) -> f32,
    pub(super) exp_sum: unsafe fn(&mut [f32], f32) -> f32,
    pub(super) page_scores: unsafe fn(&[&[f32]], &[f16], &[f16], &mut PageWeights),
    pub(super) page_accumulate: unsafe fn(&PageWeights, &[f16], usize, &[f16], &mut [&mut [f32]]),
    pub(super) cached: CachedKernels,
    pub(super) peak_integers: unsafe fn(usize) -> u64,
    pub(super) peak_words: unsafe fn(usize) -> u64,
    pub(super) peak_floats: unsafe fn(usize) -> u64,
    pub(super) read: unsafe fn(&[u8]),
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernels").field("isa", &self.isa).finish()
    }
}

// In each method, SAFETY: the table exists only where its instruction set does (see `for_isa`), and the lengths that
// the function relies on are asserted before, or by the function itself.
impl Kernels {
    /// The fastest that this processor can run.
    pub fn best() -> &'static Kernels {
        let mut best = scalar::table();
        for isa in Isa::ALL {
            best = Kernels::for_isa(isa).unwrap_or(best);
        }
        best
    }

    /// Those of an instruction set; `None` if this processor lacks it.
    pub fn for_isa(isa: Isa) -> Option<&'static Kernels> {
        match isa {
            Isa::Scalar => Some(scalar::table()),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => super::avx2::table(),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => super::avx_vnni::table(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => super::avx512_vnni::table(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => super::avx512::table(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => super::neon::table(),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod => super::neon_dotprod::table(),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => super::neon_i8mm::table(),
            #[allow(unreachable_patterns)] // which are left depends on the architecture
            _ => None,
        }
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The kernel of a packed format; `None` for formats that are not packed.
    pub(crate) fn group(&self, format: Format) -> Option<GroupKernel> {
        Some(match format {
            Format::F32 => GroupKernel::Float(self.float[0]),
            Format::F16 => GroupKernel::Float(self.float[1]),
            Format::BF16 => GroupKernel::Float(self.float[2]),
            Format::Q4_K => GroupKernel::Superblock(self.superblock[0]),
            Format::Q5_K => GroupKernel::Superblock(self.superblock[1]),
            Format::Q6_K => GroupKernel::Superblock(self.superblock[2]),
            Format::IQ4_XS => GroupKernel::Superblock(self.superblock[3]),
            Format::Q8_0 => GroupKernel::Block(self.block[0]),
            Format::Q4_0 => GroupKernel::Block(self.block[1]),
            Format::Q5_0 => GroupKernel::Block(self.block[2]),
            Format::IQ4_NL => GroupKernel::Block(self.block[3]),
            Format::MXFP4 => GroupKernel::Block(self.block[4]),
            Format::Q4_1 => GroupKernel::Block(self.block[5]),
            _ => return None,
        })
    }

    /// The most rows of a panel, and what its sums have to undo; `None` where there are no tile kernels.
    pub(crate) fn panel(&self) -> Option<(usize, Raised)> {
        self.tile.as_ref().map(|kernels| (kernels.panel, kernels.raised))
    }

    /// The tile kernel of a packed format of integers; `None` where there is none.
    pub(crate) fn tile(&self, format: Format) -> Option<TileKernel> {
        let TileKernels { superblock, block, .. } = self.tile.as_ref()?;
        let kernel = match format {
            Format::Q4_K => superblock[0],
            Format::Q5_K => superblock[1],
            Format::Q6_K => superblock[2],
            Format::IQ4_XS => superblock[3],
            Format::Q8_0 => block[0],
            Format::Q4_0 => block[1],
            Format::Q5_0 => block[2],
            Format::IQ4_NL => block[3],
            Format::MXFP4 => block[4],
            Format::Q4_1 => block[5],
            _ => return None,
        };
        Some(kernel)
    }

    /// Unpacks 16 rows from column `first` on with a tile kernel of this table.
    pub(crate) fn unpack(&self, kernel: TileKernel, weights: &[u8], first: usize, tile: &mut [u8]) {
        // SAFETY: see the head of the block; the kernel came from `tile` of this table.
        unsafe { (kernel.unpack)(weights, first, tile) }
    }

    /// Adds the products of a tile, unpacked from column `first` on, with panels to `out`, `[panels][width][16]`, by a
    /// tile kernel of this table. Brings `ahead` into the cache.
    pub(crate) fn run_tile(
        &self,
        kernel: TileKernel,
        tile: &[u8],
        first: usize,
        panels: &Panels<'_>,
        ahead: &[u8],
        out: &mut [f32],
    ) {
        // SAFETY: see the head of the block; the kernel came from `tile` of this table.
        unsafe { (kernel.multiply)(tile, first, panels, ahead, out) }
    }

    /// Rounds to 8-bit integers with one scale per 256 numbers: all slices as in [`Int8Rows`].
    pub fn quantise_256(
        &self,
        x: &[f32],
        values: &mut [i8],
        scales: &mut [f32],
        sums: &mut [i32],
        pairs: &mut [i32],
    ) {
        let blocks = x.len() / 256;
        assert!(x.len() == blocks * 256 && values.len() == x.len() && scales.len() == blocks);
        assert!(sums.len() == blocks * 16 && pairs.len() == blocks * 4);
        // SAFETY: see the head of the block.
        unsafe { (self.quantise_256)(x, values, scales, sums, pairs) }
    }

    /// Rounds to 8-bit integers with one scale per 32 numbers: all slices as in [`Int8Rows`].
    pub fn quantise_32(&self, x: &[f32], values: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
        let blocks = x.len() / 32;
        assert!(x.len() == blocks * 32 && values.len() == x.len());
        assert!(scales.len() == blocks && sums.len() == blocks);
        // SAFETY: see the head of the block.
        unsafe { (self.quantise_32)(x, values, scales, sums) }
    }

    /// `out = x / sqrt(mean(x^2) + epsilon) * weight`. An empty slice stays empty.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        assert!(x.len() == weight.len() && x.len() == out.len());
        let factor = self.rms_factor(x, epsilon);
        // SAFETY: see the head of the block; all three have the weight's length.
        unsafe { (self.scaled_mul)(x.as_ptr(), weight, factor, out.as_mut_ptr()) }
    }

    /// [`rms_norm`](Self::rms_norm) where the numbers are.
    pub fn rms_norm_in_place(&self, x: &mut [f32], weight: &[f32], epsilon: f32) {
        assert!(x.len() == weight.len());
        let factor = self.rms_factor(x, epsilon);
        // SAFETY: see the head of the block; each element is read before it is written.
        unsafe { (self.scaled_mul)(x.as_ptr(), weight, factor, x.as_mut_ptr()) }
    }

    fn rms_factor(&self, x: &[f32], epsilon: f32) -> f32 {
        // SAFETY: see the head of the block.
        let square_sum = unsafe { (self.square_sum)(x) };
        1.0 / (square_sum / x.len() as f32 + epsilon).sqrt()
    }

    /// `out = gate / (1 + exp(-gate)) * up`
    pub fn silu_mul(&self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert!(gate.len() == up.len() && gate.len() == out.len());
        // SAFETY: see the head of the block.
        unsafe { (self.silu_mul)(gate, up, out) }
    }

    /// `out = gelu(gate) * up` with the tanh form of GELU.
    pub fn gelu_mul(&self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert!(gate.len() == up.len() && gate.len() == out.len());
        // SAFETY: see the head of the block.
        unsafe { (self.gelu_mul)(gate, up, out) }
    }

    /// `out = x * (1 + erf(x / sqrt(2))) / 2`, to 1.5e-7 of `x`.
    pub fn gelu_erf(&self, x: &[f32], out: &mut [f32]) {
        assert!(x.len() == out.len());
        // SAFETY: see the head of the block.
        unsafe { (self.gelu_erf)(x, out) }
    }

    /// `x *= 1 / (1 + exp(-gate))`
    pub fn sigmoid_mul(&self, x: &mut [f32], gate: &[f32]) {
        assert!(x.len() == gate.len());
        // SAFETY: see the head of the block.
        unsafe { (self.sigmoid_mul)(x, gate) }
    }

    /// `x = cap * tanh(x / cap)`
    pub fn soft_cap(&self, x: &mut [f32], cap: f32) {
        // SAFETY: see the head of the block.
        unsafe { (self.soft_cap)(x, cap) }
    }

    /// One position of a causal depthwise convolution of some channels, and its activation:
    /// `out[c] = silu(sum over i of inputs[i][c] * weights[i][c])`, the oldest of `taps` inputs first.
    pub fn convolve(&self, inputs: Strided<'_>, weights: Strided<'_>, taps: usize, out: &mut [f32]) {
        assert!(inputs.holds(taps, out.len()) && weights.holds(taps, out.len()));
        // SAFETY: see the head of the block.
        unsafe { (self.convolve)(inputs, weights, taps, out) }
    }

    /// One position of the gated delta rule for up to [`DELTA_PANEL`] columns of a state `[key width][DELTA_PANEL]`:
    /// `S = decay S`, `e = beta (values - S^T key)`, `S += key e^T`, `out = S^T query`.
    pub fn delta_step(
        &self,
        state: &mut [f32],
        key: &[f32],
        query: &[f32],
        gates: DeltaGates,
        values: &[f32],
        out: &mut [f32],
    ) {
        assert!(key.len() == query.len() && state.len() == key.len() * DELTA_PANEL);
        assert!(values.len() == out.len() && values.len() <= DELTA_PANEL);
        // SAFETY: see the head of the block.
        unsafe { (self.delta_step)(state, key, query, gates, values, out) }
    }

    /// `out = g / (1 + exp(-alpha * g)) * (u + 1)` with `g = min(gate, limit)` and `u` the up row within `limit`.
    pub fn clamped_swiglu(&self, gate: &[f32], up: &[f32], alpha: f32, limit: f32, out: &mut [f32]) {
        assert!(gate.len() == up.len() && gate.len() == out.len());
        // SAFETY: see the head of the block.
        unsafe { (self.clamped_swiglu)(gate, up, alpha, limit, out) }
    }

    /// `out = activation(x)` for a feed-forward without a gate.
    pub fn activate_plain(&self, activation: PlainActivation, x: &[f32], out: &mut [f32]) {
        const ONES: [f32; 64] = [1.0; 64];
        assert!(x.len() == out.len());
        match activation {
            PlainActivation::GeluErf => self.gelu_erf(x, out),
            PlainActivation::GeluTanh => {
                for (x, out) in x.chunks(ONES.len()).zip(out.chunks_mut(ONES.len())) {
                    self.gelu_mul(x, &ONES[..x.len()], out);
                }
            }
            PlainActivation::Relu => out.iter_mut().zip(x).for_each(|(out, x)| *out = x.max(0.0)),
        }
    }

    /// Gate and up rows combined by that rule.
    pub fn activate(&self, activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
        match activation {
            Activation::Silu => self.silu_mul(gate, up, out),
            Activation::GeluTanh => self.gelu_mul(gate, up, out),
            Activation::ClampedSwiglu { alpha, limit } => self.clamped_swiglu(gate, up, alpha, limit, out),
        }
    }

    /// `y += factor * x`
    pub fn axpy(&self, factor: f32, x: &[f32], y: &mut [f32]) {
        assert!(x.len() == y.len());
        // SAFETY: see the head of the block.
        unsafe { (self.axpy)(factor, x, y) }
    }

    /// `x += y`
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert!(x.len() == y.len());
        // SAFETY: see the head of the block.
        unsafe { (self.add)(x, y) }
    }

    /// `x *= factor`
    pub fn scale(&self, x: &mut [f32], factor: f32) {
        // SAFETY: see the head of the block.
        unsafe { (self.scale)(x, factor) }
    }

    /// Sum of `x * y`.
    pub fn dot(&self, x: &[f32], y: &[f32]) -> f32 {
        assert!(x.len() == y.len());
        // SAFETY: see the head of the block.
        unsafe { (self.dot)(x, y) }
    }

    /// Sum of `x * y`.
    pub fn dot_f16(&self, x: &[f16], y: &[f32]) -> f32 {
        assert!(x.len() == y.len());
        // SAFETY: see the head of the block.
        unsafe { (self.dot_f16)(x, y) }
    }

    /// `y += factor * x`
    pub fn axpy_f16(&self, factor: f32, x: &[f16], y: &mut [f32]) {
        assert!(x.len() == y.len());
        // SAFETY: see the head of the block.
        unsafe { (self.axpy_f16)(factor, x, y) }
    }

    /// `y += factor * max(x, 0)`
    pub fn positive_axpy(&self, factor: f32, x: &[f32], y: &mut [f32]) {
        assert!(x.len() == y.len());
        // SAFETY: see the head of the block.
        unsafe { (self.positive_axpy)(factor, x, y) }
    }

    /// `out = x`, rounded to the nearest half-precision number.
    pub fn to_f16(&self, x: &[f32], out: &mut [f16]) {
        assert!(x.len() == out.len());
        // SAFETY: see the head of the block.
        unsafe { (self.to_f16)(x, out) }
    }

    /// The largest number; negative infinity of none.
    pub fn max(&self, x: &[f32]) -> f32 {
        // SAFETY: see the head of the block.
        unsafe { (self.max)(x) }
    }

    /// `x = exp(x - shift)`, and the sum of the results. Results below the smallest normal number may be zero.
    pub fn exp_sum(&self, x: &mut [f32], shift: f32) -> f32 {
        // SAFETY: see the head of the block.
        unsafe { (self.exp_sum)(x, shift) }
    }

    /// `out[i][p] = sum of queries[i][d] * keys[d][p]`: `keys` is `[query width][64]`. Brings `ahead` into the cache.
    pub fn page_scores(&self, queries: &[&[f32]], keys: &[f16], ahead: &[f16], out: &mut PageWeights) {
        assert!(queries.len() <= QUERIES && queries.iter().all(|query| query.len() * PAGE == keys.len()));
        // SAFETY: see the head of the block.
        unsafe { (self.page_scores)(queries, keys, ahead, out) }
    }

    /// `out[i][d] += sum of weights[i][p] * values[p][d]` over the first `positions` of `values`, `[64][out width]`.
    /// Brings `ahead` into the cache.
    pub fn page_accumulate(
        &self,
        weights: &PageWeights,
        values: &[f16],
        positions: usize,
        ahead: &[f16],
        out: &mut [&mut [f32]],
    ) {
        assert!(out.len() <= QUERIES && positions <= PAGE);
        assert!(out.iter().all(|out| out.len() * PAGE == values.len()));
        // SAFETY: see the head of the block.
        unsafe { (self.page_accumulate)(weights, values, positions, ahead, out) }
    }

    /// Multiplies 8-bit integers and adds the products up, as the kernels of quantised formats do and with nothing around it,
    /// a few microseconds per 1000 rounds; gives the number of multiply-adds.
    pub fn peak_integers(&self, rounds: usize) -> u64 {
        // SAFETY: see the head of the block.
        unsafe { (self.peak_integers)(rounds) }
    }

    /// The same with 16-bit integers, as attention does.
    pub fn peak_words(&self, rounds: usize) -> u64 {
        // SAFETY: see the head of the block.
        unsafe { (self.peak_words)(rounds) }
    }

    /// The same with 32-bit floats.
    pub fn peak_floats(&self, rounds: usize) -> u64 {
        // SAFETY: see the head of the block.
        unsafe { (self.peak_floats)(rounds) }
    }

    /// Reads the bytes and does nothing with them; of the last 255 perhaps not all.
    pub fn read(&self, bytes: &[u8]) {
        // SAFETY: see the head of the block.
        unsafe { (self.read)(bytes) }
    }

    /// `x = exp(x) / sum(exp(x))`. Where all are negative infinity (nothing to attend to), all become zero.
    pub fn softmax(&self, x: &mut [f32]) {
        let largest = self.max(x);
        let sum = self.exp_sum(x, if largest == f32::NEG_INFINITY { 0.0 } else { largest });
        if sum != 0.0 {
            self.scale(x, 1.0 / sum);
        }
    }

    /// Runs a group kernel of this table on input rows as floats.
    pub(crate) fn run_float(
        &self,
        kernel: FloatKernel,
        weights: &[u8],
        input: FloatRows<'_>,
        tile: &mut Tile,
    ) {
        // SAFETY: see the head of the block; the kernel came from `group` of this table.
        unsafe { kernel(weights, input, tile) }
    }

    /// Runs a group kernel of this table on input rows in superblocks.
    pub(crate) fn run_superblock(
        &self,
        kernel: SuperblockKernel,
        weights: &[u8],
        input: Int8Rows<'_, 256>,
        tile: &mut Tile,
    ) {
        // SAFETY: see the head of the block; the kernel came from `group` of this table.
        unsafe { kernel(weights, input, tile) }
    }

    /// Runs a group kernel of this table on input rows in blocks of 32.
    pub(crate) fn run_block(
        &self,
        kernel: BlockKernel,
        weights: &[u8],
        input: Int8Rows<'_, 32>,
        tile: &mut Tile,
    ) {
        // SAFETY: see the head of the block; the kernel came from `group` of this table.
        unsafe { kernel(weights, input, tile) }
    }
}
