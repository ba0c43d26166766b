//! The date and time a template is told, and Python's `strftime`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time on the wall: what `strftime_now` formats. A parameter and not read from the system, so that a
/// prompt can be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Year, Gregorian.
    pub year: i32,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day of the month, from 1.
    pub day: u32,
    /// Hour, 0 to 23.
    pub hour: u32,
    /// Minute, 0 to 59.
    pub minute: u32,
    /// Second, 0 to 59.
    pub second: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Moment {
    /// The present, in UTC.
    pub fn now() -> Moment {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Moment::from_unix(i64::try_from(seconds).unwrap_or(0), 0)
    }

    /// The time `seconds` after 1970-01-01 00:00 UTC, on a clock `offset_seconds` ahead of UTC.
    pub fn from_unix(seconds: i64, offset_seconds: i32) -> Moment {
        // Beyond the year 9999 nothing is told right; what matters is not to overflow.
        let seconds = seconds.clamp(-62_135_596_800, 253_402_300_799) + i64::from(offset_seconds);
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Years from March on, in the 400-year cycle of 146 097 days, so that leap days come last.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Moment {
            year: year as i32,
            month: month as u32,
            day: (day_of_year - (153 * march_month + 2) / 5 + 1) as u32,
            hour: (rest / 3600) as u32,
            minute: (rest / 60 % 60) as u32,
            second: (rest % 60) as u32,
        }
    }

    fn day_of_year(&self) -> u32 {
        let leap = (self.year % 4 == 0 && self.year % 100 != 0) || self.year % 400 == 0;
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let month = self.month.clamp(1, 12);
        before[month as usize - 1] + u32::from(leap && month > 2) + self.day
    }

    /// 0 for Sunday.
    fn weekday(&self) -> usize {
        let years = i64::from(self.year) - 1;
        let days = years * 365 + years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
        (days + i64::from(self.day_of_year())).rem_euclid(7) as usize
    }

    /// The time in Python's `strftime` notation, names in English. Directives it does not know stay as they are.
    pub(crate) fn format(&self, format: &str) -> String {
        let mut out = String::with_capacity(format.len() + 16);
        let mut rest = format.chars();
        while let Some(character) = rest.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            let mut directive = rest.next();
            let plain = directive == Some('-');
            if plain {
                directive = rest.next();
            }
            let Some(directive) = directive else {
                out.push_str(if plain { "%-" } else { "%" });
                break;
            };
            self.directive(directive, plain, &mut out);
        }
        out
    }

    fn directive(&self, directive: char, plain: bool, out: &mut String) {
        let month = MONTHS[(self.month.clamp(1, 12) - 1) as usize];
        let day = DAYS[self.weekday()];
        let hour12 = (self.hour + 11) % 12 + 1;
        let mut padded = |number: u32, width: usize| {
            let width = if plain { 1 } else { width };
            let _ = write!(out, "{number:0width$}"); // writing to a String does not fail
        };
        match directive {
            'd' => padded(self.day, 2),
            'm' => padded(self.month, 2),
            'H' => padded(self.hour, 2),
            'I' => padded(hour12, 2),
            'M' => padded(self.minute, 2),
            'S' => padded(self.second, 2),
            'j' => padded(self.day_of_year(), 3),
            'y' => padded(self.year.rem_euclid(100) as u32, 2),
            'Y' => {
                let _ = write!(out, "{}", self.year);
            }
            'e' => {
                let _ = write!(out, "{:>2}", self.day);
            }
            'B' => out.push_str(month),
            'b' | 'h' => out.push_str(&month[..3]),
            'A' => out.push_str(day),
            'a' => out.push_str(&day[..3]),
            'p' => out.push_str(if self.hour < 12 { "AM" } else { "PM" }),
            'w' => {
                let _ = write!(out, "{}", self.weekday());
            }
            'F' => out.push_str(&self.format("%Y-%m-%d")),
            'T' => out.push_str(&self.format("%H:%M:%S")),
            'D' => out.push_str(&self.format("%m/%d/%y")),
            'R' => out.push_str(&self.format("%H:%M")),
            '%' => out.push('%'),
            'n' => out.push('\n'),
            't' => out.push('\t'),
            other => {
                out.push('%');
                if plain {
                    out.push('-');
                }
                out.push(other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Moment;

    #[test]
    fn the_calendar_is_right() {
        for (seconds, text) in [
            (0, "Thu 1970-01-01 00:00:00 001"),
            (951_782_400, "Tue 2000-02-29 00:00:00 060"),
            (1_754_395_200, "Tue 2025-08-05 12:00:00 217"),
            (1_735_689_599, "Tue 2024-12-31 23:59:59 366"),
            (-1, "Wed 1969-12-31 23:59:59 365"),
        ] {
            assert_eq!(Moment::from_unix(seconds, 0).format("%a %F %T %j"), text);
        }
        assert_eq!(Moment::from_unix(0, -3600).format("%H %d %b"), "23 31 Dec");
        Moment::from_unix(i64::MAX, i32::MAX);
        Moment::from_unix(i64::MIN, i32::MIN);
    }

    #[test]
    fn directives_are_pythons() {
        let moment = Moment { year: 2025, month: 8, day: 5, hour: 0, minute: 7, second: 9 };
        assert_eq!(moment.format("%-d %B %Y, %A %I:%M %p"), "5 August 2025, Tuesday 12:07 AM");
        assert_eq!(moment.format("100%% %Q %-Q %"), "100% %Q %-Q %");
    }
}
