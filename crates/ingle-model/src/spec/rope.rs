//! Rotary position embedding: every kind in use, as numbers.
//!
//! Pair `j` of the first `dims` values of a head is turned by `position * frequency[j]`:
//! `(a, b) -> (a cos - b sin, a sin + b cos)`, both multiplied by `magnitude`.

/// One rotary table.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Values of a head that turn; the rest pass unchanged.
    pub dims: usize,
    /// Pair `j` turns by `base^(-2j/dims)` per position before scaling.
    pub base: f64,
    /// Which values form a pair.
    pub pairing: Pairing,
    /// Context extension.
    pub scaling: RopeScaling,
    /// Multiplies sine and cosine.
    pub magnitude: f32,
    /// Positions on three axes (M-RoPE); text advances all three together, which equals one axis.
    pub sections: Option<AxisSections>,
}

/// Which values of a head form pair `j`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// `j` and `j + dims / 2` (NeoX).
    Halves,
    /// `2j` and `2j + 1`.
    Neighbours,
}

/// Context extension by changed frequencies.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// All frequencies divided by the factor.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// YaRN (arXiv:2309.00071): slow pairs divided by the factor, fast pairs untouched, a ramp between.
    Yarn(Yarn),
    /// The first pairs turn as trained, divided by the factor; the others stand still (Gemma 4, "proportional").
    Leading {
        /// Pairs that turn.
        pairs: usize,
        /// Divisor.
        factor: f64,
    },
    /// Each pair's frequency divided by a number of its own (Llama 3.1, stored in the file).
    Divisors(Vec<f32>),
}

/// YaRN's numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    /// Context extension factor.
    pub factor: f64,
    /// Context the base model was trained on.
    pub original_context: f64,
    /// Turns over the original context above which a pair is left alone.
    pub beta_fast: f64,
    /// Turns below which a pair is fully interpolated.
    pub beta_slow: f64,
    /// Round the ramp's ends outwards to whole pairs. gpt-oss does not.
    pub truncate: bool,
}

/// Pairs per axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AxisSections {
    /// Pairs for time, height and width.
    pub pairs: [usize; 3],
    /// Which pair belongs to which axis.
    pub layout: AxisLayout,
}

/// Which pair belongs to which axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxisLayout {
    /// First all of time, then height, then width.
    Chunked,
    /// Time, height, width in turn.
    Interleaved,
}

impl Rope {
    /// A table as trained, without context extension.
    pub fn plain(dims: usize, base: f64, pairing: Pairing) -> Rope {
        Rope { dims, base, pairing, scaling: RopeScaling::None, magnitude: 1.0, sections: None }
    }

    /// Angle per position of each of the `dims / 2` pairs, in radians.
    pub fn frequencies(&self) -> Vec<f64> {
        let dims = self.dims as f64;
        let trained = |pair: usize| self.base.powf(-2.0 * pair as f64 / dims);
        (0..self.dims / 2)
            .map(|pair| match &self.scaling {
                RopeScaling::None => trained(pair),
                RopeScaling::Linear { factor } => trained(pair) / factor,
                RopeScaling::Leading { pairs, factor } if pair < *pairs => trained(pair) / factor,
                RopeScaling::Leading { .. } => 0.0,
                RopeScaling::Divisors(divisors) => {
                    trained(pair) / f64::from(divisors.get(pair).copied().unwrap_or(1.0))
                }
                RopeScaling::Yarn(yarn) => {
                    let kept = yarn.kept(pair as f64, dims, self.base);
                    trained(pair) * kept + trained(pair) / yarn.factor * (1.0 - kept)
                }
            })
            .collect()
    }
}

impl Yarn {
    /// Share of a pair's trained frequency that is kept: 1 for fast pairs, 0 for slow ones.
    fn kept(&self, pair: f64, dims: f64, base: f64) -> f64 {
        let pair_of = |turns: f64| {
            dims * (self.original_context / (turns * std::f64::consts::TAU)).ln() / (2.0 * base.ln())
        };
        let (mut low, mut high) = (pair_of(self.beta_fast), pair_of(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(dims - 1.0));
        1.0 - ((pair - low) / (high - low).max(0.001)).clamp(0.0, 1.0)
    }

    /// The factor on sine and cosine that the paper gives: `0.1 ln(factor) + 1`.
    pub fn magnitude(&self) -> f32 {
        (0.1 * self.factor.ln() + 1.0) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yarn(truncate: bool) -> Rope {
        let scaling =
            Yarn { factor: 32.0, original_context: 4096.0, beta_fast: 32.0, beta_slow: 1.0, truncate };
        Rope { scaling: RopeScaling::Yarn(scaling), ..Rope::plain(64, 150_000.0, Pairing::Halves) }
    }

    #[test]
    fn gpt_oss_ramp_runs_from_8_09_to_17_40_untruncated_and_from_8_to_18_truncated() {
        let plain = Rope::plain(64, 150_000.0, Pairing::Halves).frequencies();
        for (truncate, last_kept, first_interpolated) in [(false, 8, 18), (true, 8, 18)] {
            let scaled = yarn(truncate).frequencies();
            assert_eq!(scaled[last_kept], plain[last_kept]);
            assert!(scaled[last_kept + 1] < plain[last_kept + 1]);
            assert!((scaled[first_interpolated] - plain[first_interpolated] / 32.0).abs() < 1e-15);
            assert!(scaled[first_interpolated - 1] > plain[first_interpolated - 1] / 32.0);
        }
        assert_ne!(yarn(true).frequencies()[12], yarn(false).frequencies()[12]);
        let RopeScaling::Yarn(scaling) = yarn(true).scaling else { unreachable!() };
        assert!((scaling.magnitude() - 1.34657).abs() < 1e-5);
    }

    #[test]
    fn pairs_that_stand_still_leave_the_speed_of_the_others_alone() {
        let plain = Rope::plain(16, 10_000.0, Pairing::Halves);
        let some = Rope { scaling: RopeScaling::Leading { pairs: 3, factor: 2.0 }, ..plain.clone() };
        let (all, some) = (plain.frequencies(), some.frequencies());
        assert_eq!(some[..3], [all[0] / 2.0, all[1] / 2.0, all[2] / 2.0]);
        assert_eq!(some[3..], [0.0; 5]);
    }

    #[test]
    fn linear_scaling_divides_every_frequency() {
        let plain = Rope::plain(8, 10_000.0, Pairing::Halves);
        let scaled = Rope { scaling: RopeScaling::Linear { factor: 8.0 }, ..plain.clone() };
        for (trained, divided) in plain.frequencies().iter().zip(scaled.frequencies()) {
            assert_eq!(trained / 8.0, divided);
        }
    }
}
