//! Which PINs a cardholder may not choose, since whoever finds the card would try them first. One
//! rule for every door at which a cardholder sets one.

use super::ClearPin;

/// What people choose most often.
const COMMON: &str = include_str!("common_pins.txt");

/// Whether a PIN is too easy to guess for a card with this PAN: one digit all along, a run of
/// digits up or down (0 follows 9), a part of the PAN, a year from 1900 to 2099, or one that many
/// people have.
#[must_use]
pub fn is_weak(pin: &ClearPin, pan: &[u8]) -> bool {
    let digits = pin.digits();
    let steps_by = |step: u8| {
        digits.windows(2).all(|pair| match pair {
            [one, next] => (next + 10 - one) % 10 == step,
            _ => false,
        })
    };
    let is_year = digits.len() == 4 && (digits.starts_with(b"19") || digits.starts_with(b"20"));
    let is_part_of_pan = pan.windows(digits.len()).any(|part| part == digits);
    steps_by(0) || steps_by(1) || steps_by(9) || is_year || is_part_of_pan || is_common(digits)
}

fn is_common(digits: &[u8]) -> bool {
    let lines = COMMON.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).any(|common| common.as_bytes() == digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAN: &[u8] = b"4761340000000019";

    fn weak(pin: &str) -> bool {
        is_weak(&ClearPin::parse(pin.as_bytes()).unwrap(), PAN)
    }

    #[test]
    fn what_is_easy_to_guess_is_weak() {
        for pin in ["0000", "777777", "111111111111"] {
            assert!(weak(pin), "one digit: {pin}");
        }
        for pin in ["1234", "6789", "7890", "9876", "3210", "1098", "234567", "210987"] {
            assert!(weak(pin), "a run: {pin}");
        }
        for pin in ["1900", "1987", "2000", "2026", "2099"] {
            assert!(weak(pin), "a year: {pin}");
        }
        for pin in ["4761", "7613", "6134", "0019", "134000", "476134000000"] {
            assert!(weak(pin), "digits of the PAN: {pin}");
        }
        for pin in ["1212", "6969", "1004", "2580", "13579", "90210", "123123", "159753"] {
            assert!(weak(pin), "a common one: {pin}");
        }
    }

    #[test]
    fn what_is_not_easy_to_guess_is_not_weak() {
        for pin in ["4071", "5938", "7206", "8264", "1899", "2100", "1357", "190012", "80681"] {
            assert!(!weak(pin), "{pin}");
        }
        // Backwards it is no part of the PAN.
        assert!(!weak("1674"));
    }

    #[test]
    fn the_list_holds_nothing_but_pins() {
        let lines = COMMON.lines().filter(|line| !line.starts_with('#'));
        let all: Vec<_> = lines.flat_map(str::split_whitespace).collect();
        assert!(all.iter().all(|pin| ClearPin::parse(pin.as_bytes()).is_some()));
        for (length, count) in [(4, 21), (5, 20), (6, 20)] {
            assert_eq!(all.iter().filter(|pin| pin.len() == length).count(), count);
        }
    }
}
