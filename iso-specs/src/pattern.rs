//! Dates and times, as the digits of an element may have to be.

/// A date or time made of two-digit parts, such as `MMDDhhmmss`: `CC` and `YY`, `MM` (01-12), `DD`
/// (01 to the end of the month), `hh` (00-23), `mm` and `ss` (00-59).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    parts: [DatePart; Self::PARTS_MAX],
    len: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DatePart {
    Year,
    Month,
    Day,
    Hour,
    MinuteOrSecond,
}

impl Pattern {
    pub(crate) const PARTS_MAX: usize = 7;

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let (names, []) = name.as_bytes().as_chunks() else { return None };
        if names.is_empty() || names.len() > Self::PARTS_MAX {
            return None;
        }
        let mut parts = [DatePart::Year; Self::PARTS_MAX];
        for (part, name) in parts.iter_mut().zip(names) {
            *part = match name {
                b"CC" | b"YY" => DatePart::Year,
                b"MM" => DatePart::Month,
                b"DD" => DatePart::Day,
                b"hh" => DatePart::Hour,
                b"mm" | b"ss" => DatePart::MinuteOrSecond,
                _ => return None,
            };
        }
        Some(Self { parts, len: u8::try_from(names.len()).ok()? })
    }

    /// Length of a value, in digits.
    #[must_use]
    pub fn digits(&self) -> usize {
        usize::from(self.len) * 2
    }

    /// True where the digits are such a date or time. 29 February is taken in any year.
    #[must_use]
    pub fn accepts(&self, digits: &[u8]) -> bool {
        let (pairs, _) = digits.as_chunks();
        let mut days_of_month = 31;
        digits.len() == self.digits()
            && self.parts.iter().zip(pairs).all(|(part, &pair)| {
                let [tens, ones] = pair.map(|digit: u8| digit.wrapping_sub(b'0'));
                if tens > 9 || ones > 9 {
                    return false;
                }
                let value = tens * 10 + ones;
                match part {
                    DatePart::Year => true,
                    DatePart::Month => {
                        days_of_month = days_of(value);
                        (1..=12).contains(&value)
                    }
                    DatePart::Day => (1..=days_of_month).contains(&value),
                    DatePart::Hour => value <= 23,
                    DatePart::MinuteOrSecond => value <= 59,
                }
            })
    }
}

const fn days_of(month: u8) -> u8 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_calendar_dates_and_times() {
        for (name, good, bad) in [
            ("YYMM", "2912", "2913"),
            ("YYMM", "0001", "2900"),
            ("MMDD", "0229", "0230"),
            ("MMDD", "1231", "0431"),
            ("hhmmss", "235959", "240000"),
            ("hhmmss", "000000", "000060"),
            ("MMDDhhmmss", "1121083000", "1121086000"),
            ("YYMMDDhhmmss", "291231235959", "29123123595"),
        ] {
            let pattern = Pattern::from_name(name).unwrap();
            assert!(pattern.accepts(good.as_bytes()), "{name} {good}");
            assert!(!pattern.accepts(bad.as_bytes()), "{name} {bad}");
        }
        // Each would be right if `:` and `/` stood for ten and minus one.
        for (name, bad) in [
            ("hhmmss", "0:0000"),
            ("YYMM", "290:"),
            ("MMDD", "010:"),
            ("YYMM", ":/12"),
            ("YYMM", "2:01"),
        ] {
            assert!(!Pattern::from_name(name).unwrap().accepts(bad.as_bytes()), "{name} {bad}");
        }
        for name in ["", "Y", "YYM", "XX", "CCYYMMDDhhmmssss"] {
            assert_eq!(Pattern::from_name(name), None, "{name}");
        }
    }
}
