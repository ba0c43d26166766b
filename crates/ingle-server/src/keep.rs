//! How long a model stays when nobody asks it.

use std::time::Duration;

/// How long a model stays loaded after its last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Keep {
    /// Until another one needs its memory.
    #[default]
    Forever,
    /// So long.
    For(Duration),
}

impl Keep {
    /// Seconds; fewer than none mean for ever.
    pub(crate) fn seconds(seconds: f64) -> Keep {
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) => Keep::For(time),
            // negative, or longer than time goes
            Err(_) => Keep::Forever,
        }
    }

    /// A number of seconds, or numbers with units: `300`, `5m`, `1h30m`, `1.5h`, `-1` (for ever), `forever`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Keep, String> {
        let bad = || "a time such as 30s, 5m or 1h30m is needed, or `forever`".to_owned();
        let text = text.trim();
        if text == "forever" {
            return Ok(Keep::Forever);
        }
        if let Ok(seconds) = text.parse::<f64>() {
            return if seconds.is_nan() { Err(bad()) } else { Ok(Keep::seconds(seconds)) };
        }
        let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let (value, unit) = rest.split_at(number);
            let letters = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
            let scale = match &unit[..letters] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return Err(bad()),
            };
            seconds += value.parse::<f64>().map_err(|_| bad())? * scale;
            rest = &unit[letters..];
        }
        if text.trim_start_matches('-').is_empty() { Err(bad()) } else { Ok(Keep::seconds(sign * seconds)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let seconds = |seconds: f64| Ok(Keep::For(Duration::from_secs_f64(seconds)));
        for (text, keep) in [
            ("300", seconds(300.0)),
            ("0", seconds(0.0)),
            ("5m", seconds(300.0)),
            ("1h30m", seconds(5400.0)),
            ("1.5h", seconds(5400.0)),
            ("250ms", seconds(0.25)),
            ("2d", seconds(172_800.0)),
            ("-1", Ok(Keep::Forever)),
            ("-1m", Ok(Keep::Forever)),
            ("forever", Ok(Keep::Forever)),
            ("1e300", Ok(Keep::Forever)),
        ] {
            assert_eq!(Keep::parse(text), keep, "{text}");
        }
        for text in ["", "m", "5 minutes", "5x", "1h30", "nan", "é", "-"] {
            assert!(Keep::parse(text).is_err(), "{text}");
        }
    }
}
