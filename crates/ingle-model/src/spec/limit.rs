//! How long a step takes at least: its [`Cost`] over what a machine can do at most.

use super::Cost;

/// What a machine can do at most.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Bytes read from memory per second.
    pub bytes: f64,
    /// Multiply-adds of 8-bit integers per second.
    pub integers: f64,
    /// Multiply-adds of 16-bit integers per second.
    pub words: f64,
    /// Multiply-adds of 32-bit floats per second.
    pub floats: f64,
}

/// What a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Reading weights and cache.
    Memory,
    /// Arithmetic.
    Arithmetic,
}

/// Seconds that a step takes at least.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LeastTime {
    /// To read its bytes.
    pub reading: f64,
    /// To do its operations: integers of both sizes and floats go through the same multipliers, so their times add up.
    pub arithmetic: f64,
}

impl Cost {
    /// The time at least, on a machine of those rates. A rate of zero counts as boundless.
    pub fn least_time(&self, rates: &Rates) -> LeastTime {
        let over = |amount: f64, rate: f64| if rate > 0.0 { amount / rate } else { 0.0 };
        LeastTime {
            reading: over(self.bytes(), rates.bytes),
            arithmetic: over(self.integer_operations / 2.0, rates.integers)
                + over(self.word_operations / 2.0, rates.words)
                + over(self.float_operations() / 2.0, rates.floats),
        }
    }

    /// Operations that no kernel does with integers.
    pub fn float_operations(&self) -> f64 {
        (self.operations - self.integer_operations - self.word_operations).max(0.0)
    }

    /// Weight and cache bytes together.
    pub fn bytes(&self) -> f64 {
        self.weight_bytes + self.kv_bytes
    }
}

impl LeastTime {
    /// The longer of the two: reading and arithmetic can go on at the same time.
    pub fn seconds(&self) -> f64 {
        self.reading.max(self.arithmetic)
    }

    /// Which of the two it is.
    pub fn bound(&self) -> Bound {
        if self.arithmetic > self.reading { Bound::Arithmetic } else { Bound::Memory }
    }
}

impl std::ops::Add for LeastTime {
    type Output = LeastTime;
    fn add(self, other: LeastTime) -> LeastTime {
        LeastTime { reading: self.reading + other.reading, arithmetic: self.arithmetic + other.arithmetic }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_memory_and_multipliers_decides() {
        let rates = Rates { bytes: 100.0, integers: 50.0, words: 25.0, floats: 10.0 };
        let cost = Cost {
            weight_bytes: 150.0,
            kv_bytes: 50.0,
            operations: 120.0,
            integer_operations: 50.0,
            word_operations: 50.0,
        };
        let least = cost.least_time(&rates);
        assert_eq!(least, LeastTime { reading: 2.0, arithmetic: 0.5 + 1.0 + 1.0 });
        assert_eq!((least.seconds(), least.bound()), (2.5, Bound::Arithmetic));
        let fewer = Cost { operations: 100.0, ..cost }.least_time(&rates);
        assert_eq!((fewer.seconds(), fewer.bound()), (2.0, Bound::Memory));
        assert_eq!(cost.least_time(&Rates::default()).seconds(), 0.0);
    }
}
