//! What an HSM can say of a PIN and of a cryptogram. These are values of the ground floor: the HSM
//! gives them, the rules decide by them, and the store keeps them.

/// What came out of the verification of a PIN. Only [`PinOutcome::Wrong`] counts as a try. The
/// numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PinOutcome {
    /// The PIN is the card's.
    Right = 1,
    /// The block holds a PIN, and it is another one.
    Wrong = 2,
    /// The block could not be read as a PIN: another key, another format, damaged.
    BadPinBlock = 3,
    /// The HSM gave no answer.
    Unavailable = 4,
}

impl PinOutcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [PinOutcome; 4] =
        [PinOutcome::Right, PinOutcome::Wrong, PinOutcome::BadPinBlock, PinOutcome::Unavailable];

    /// The name in metrics, records and views.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PinOutcome::Right => "ok",
            PinOutcome::Wrong => "mismatch",
            PinOutcome::BadPinBlock => "bad_pin_block",
            PinOutcome::Unavailable => "unavailable",
        }
    }

    /// The stored number, which is never 0.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The outcome with a stored number; `None` for a number that none has.
    #[must_use]
    pub fn from_number(number: u8) -> Option<PinOutcome> {
        PinOutcome::ALL.into_iter().find(|outcome| outcome.number() == number)
    }
}

/// What came out of the verification of an application cryptogram. The numbers are stored, and the
/// same word has the same number as in [`PinOutcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CryptogramOutcome {
    /// The chip of this card made it over these data.
    Right = 1,
    /// Another card made it, or over other data.
    Wrong = 2,
    /// The HSM gave no answer.
    Unavailable = 4,
}

impl CryptogramOutcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [CryptogramOutcome; 3] =
        [CryptogramOutcome::Right, CryptogramOutcome::Wrong, CryptogramOutcome::Unavailable];

    /// The name in metrics, records and views.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CryptogramOutcome::Right => "ok",
            CryptogramOutcome::Wrong => "mismatch",
            CryptogramOutcome::Unavailable => "unavailable",
        }
    }

    /// The stored number, which is never 0.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The outcome with a stored number; `None` for a number that none has.
    #[must_use]
    pub fn from_number(number: u8) -> Option<CryptogramOutcome> {
        CryptogramOutcome::ALL.into_iter().find(|outcome| outcome.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_number_is_of_one_outcome() {
        let pins: Vec<_> = (0..=9).filter_map(PinOutcome::from_number).collect();
        assert_eq!(pins, PinOutcome::ALL);
        let cryptograms: Vec<_> = (0..=9).filter_map(CryptogramOutcome::from_number).collect();
        assert_eq!(cryptograms, CryptogramOutcome::ALL);
        assert_eq!((PinOutcome::from_number(0), CryptogramOutcome::from_number(0)), (None, None));
        for outcome in CryptogramOutcome::ALL {
            let of_a_pin = PinOutcome::from_number(outcome.number());
            assert_eq!(of_a_pin.map(PinOutcome::name), Some(outcome.name()));
        }
    }
}
