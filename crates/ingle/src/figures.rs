//! Numbers as people read them. Bytes are decimal throughout: 1 GB = 10^9 bytes.

/// Digits in groups of three: `596,049,920`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits that matter, with the field's suffix: `596 M`, `4.02 B`.
pub(crate) fn rounded(number: u64) -> String {
    let value = number as f64;
    // 999.5 is where three digits round up to the next unit
    let (scaled, suffix) = match value {
        v if v < 999.5 => return number.to_string(),
        v if v < 999.5e3 => (v / 1e3, "k"),
        v if v < 999.5e6 => (v / 1e6, "M"),
        v if v < 999.5e9 => (v / 1e9, "B"),
        v => (v / 1e12, "T"),
    };
    let decimals = if scaled < 9.995 {
        2
    } else if scaled < 99.95 {
        1
    } else {
        0
    };
    format!("{scaled:.decimals$} {suffix}")
}

/// Bytes: `639.4 MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    ingle_engine::memory::Bytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([7, 999, 1_000, 1_234_567].map(grouped), ["7", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [999, 9_994, 9_996, 596_049_920, 999_600_000, 4_022_468_096, 671_026_419_200, 1_041_000_000_000]
                .map(rounded),
            ["999", "9.99 k", "10.0 k", "596 M", "1.00 B", "4.02 B", "671 B", "1.04 T"]
        );
    }
}
