//! What waits for a chip, and what the chip tells of it.

/// What waits for the chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    Nothing,
    Pending(Change),
    /// In the answer to a request.
    Sent(Change, Carrier),
    GivenUp(Change),
    /// Perhaps after it was sent.
    Expired(Option<Carrier>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of the PIN; otherwise of the try counter alone.
    pub is_pin: bool,
    /// Of the try counter alone, after the last change of the PIN expired.
    pub pin_is_old: bool,
    pub since: u64,
    pub sends: u8,
    /// The chip had it, and did not carry it out.
    pub was_refused: bool,
    /// The chip may have it, and nobody will know.
    pub is_doubtful: bool,
}

impl Change {
    pub fn of_pin(since: u64) -> Change {
        Change {
            is_pin: true,
            pin_is_old: false,
            since,
            sends: 0,
            was_refused: false,
            is_doubtful: false,
        }
    }
}

/// The request whose answer carries a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carrier {
    pub atc: u16,
    /// What the chip told with it, of the transactions before.
    pub told: Report,
    pub is_reversed: bool,
    /// When an unblock was asked for since.
    pub unblock: Option<u64>,
    pub number: u32,
    pub at: u64,
}

impl Wait {
    pub fn change(&self) -> Option<&Change> {
        match self {
            Wait::Pending(change) | Wait::Sent(change, _) => Some(change),
            _ => None,
        }
    }

    /// An unblock waits, alone or behind a PIN.
    pub fn is_unblock(&self) -> bool {
        let carrier = match self {
            Wait::Sent(_, carrier) | Wait::Expired(Some(carrier)) => Some(carrier),
            _ => None,
        };
        carrier.is_some_and(|carrier| carrier.unblock.is_some())
            || self.change().is_some_and(|change| !change.is_pin)
    }

    pub fn kept(&self) -> Option<&Change> {
        match self {
            Wait::GivenUp(change) => Some(change),
            other => other.change(),
        }
    }
}

/// What the chip tells of the transactions before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub is_incomplete: bool,
    pub authentication_failed: bool,
    pub scripts: usize,
    pub script_failed: bool,
}

impl Report {
    /// Whether both tell the same of the transaction that was completed last.
    pub fn is_like(&self, other: &Report) -> bool {
        Report { is_incomplete: other.is_incomplete, ..*self } == *other
    }
}
