//! The issuer application data (9F10) and the card verification results in it: what the chip says
//! of itself, under its cryptogram. Which of four shapes it has is seen by its length and its
//! fixed bytes; what each bit means is in one table for each.

use super::chip::OfflinePin;

/// A kind of card, by the shape of its issuer application data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// VIS, formats 0, 1 and 3 (7 bytes or more) and 2 and 4 (32 bytes).
    Visa,
    /// M/Chip.
    Mastercard,
    /// Common core definitions (EMV Book 3, C7), format code A.
    Ccd,
}

impl Scheme {
    /// The name in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Visa => "visa",
            Scheme::Mastercard => "mastercard",
            Scheme::Ccd => "ccd",
        }
    }
}

/// Issuer application data, up to 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iad {
    bytes: [u8; Iad::BYTES_MAX],
    len: u8,
}

impl Iad {
    /// Longest issuer application data (EMV Book 3, A1).
    pub const BYTES_MAX: usize = 32;

    /// Takes up to 32 bytes.
    #[must_use]
    pub fn new(value: &[u8]) -> Option<Iad> {
        let mut bytes = [0; Iad::BYTES_MAX];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(Iad { bytes, len: u8::try_from(value.len()).ok()? })
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// What it says; `None` for a shape that nobody knows.
    #[must_use]
    pub fn view(&self) -> Option<IadView<'_>> {
        let all = self.bytes();
        let counters = |from: usize| all.get(from..from + 8).unwrap_or_default();
        match all {
            [0x0F, format @ (0xA5 | 0xA6), ..] if all.len() == 32 && all.get(16) == Some(&0x0F) => {
                IadView::new(Scheme::Ccd, *format, all.get(3..8)?, counters(8))
            }
            [0x1F, cvn, ..] if all.len() == 32 => {
                IadView::new(Scheme::Visa, *cvn, all.get(3..8)?, &[])
            }
            [0x06, _, cvn, 0x03, ..] if all.len() >= 7 => {
                IadView::new(Scheme::Visa, *cvn, all.get(3..7)?, &[])
            }
            [_, cvn, ..] if matches!(all.len(), 18 | 20 | 26 | 28) && cvn & 0xFA == 0x10 => {
                IadView::new(Scheme::Mastercard, *cvn, all.get(2..8)?, counters(10))
            }
            _ => None,
        }
    }
}

/// What issuer application data says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IadView<'a> {
    /// Its shape.
    pub scheme: Scheme,
    /// Cryptogram version number.
    pub cvn: u8,
    /// The card verification results (CVR).
    pub cvr: &'a [u8],
    /// The eight bytes of counters behind the DAC (M/Chip) or the CVR (CCD).
    pub counters: &'a [u8],
    /// What the CVR says.
    pub results: CardVerification,
}

/// What the chip says that it did, in this transaction and in the last one that went online.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardVerification {
    /// Offline PIN verification in this transaction.
    pub offline_pin: OfflinePin,
    /// No PIN try is left.
    pub try_limit_exceeded: bool,
    /// PIN tries left, where the scheme tells.
    pub tries_left: Option<u8>,
    /// The terminal takes an offline PIN for right that the chip did not verify (M/Chip).
    pub terminal_erroneously_ok: bool,
    /// Issuer authentication failed.
    pub issuer_authentication_failed: bool,
    /// Script commands that were processed after the last cryptogram that went online.
    pub scripts_processed: u8,
    /// One of them failed.
    pub script_failed: bool,
    /// The last online transaction was not completed.
    pub last_online_not_completed: bool,
}

/// Where a bit stands: the byte of the CVR, from 1, and the bits of it.
type Bit = (usize, u8);

/// Where a scheme keeps what in its CVR (VIS 1.6, appendix A; M/Chip Advance, CVR; EMV Book 3, C7).
struct Layout {
    performed: Bit,
    /// Of two that exclude each other, a scheme has the one for failed and perhaps the other.
    failed: Bit,
    successful: Option<Bit>,
    try_limit_exceeded: Bit,
    /// The byte, and whether its high half holds it.
    tries_left: Option<(usize, bool)>,
    terminal_erroneously_ok: Option<Bit>,
    issuer_authentication_failed: &'static [Bit],
    scripts_byte: usize,
    script_failed: Bit,
    last_online_not_completed: Bit,
}

const VISA: Layout = Layout {
    performed: (2, 0x04),
    failed: (2, 0x02),
    successful: None,
    try_limit_exceeded: (3, 0x40),
    tries_left: None,
    terminal_erroneously_ok: None,
    issuer_authentication_failed: &[(2, 0x08), (3, 0x08)],
    scripts_byte: 4,
    script_failed: (4, 0x08),
    last_online_not_completed: (3, 0x80),
};

const MASTERCARD: Layout = Layout {
    performed: (1, 0x04),
    failed: (4, 0x10),
    successful: Some((1, 0x01)),
    try_limit_exceeded: (4, 0x08),
    tries_left: Some((3, false)),
    terminal_erroneously_ok: Some((4, 0x01)),
    issuer_authentication_failed: &[(5, 0x04)],
    scripts_byte: 3,
    script_failed: (5, 0x01),
    last_online_not_completed: (4, 0x80),
};

const CCD: Layout = Layout {
    performed: (2, 0x08),
    failed: (2, 0x04),
    successful: None,
    try_limit_exceeded: (2, 0x02),
    tries_left: Some((2, true)),
    terminal_erroneously_ok: None,
    issuer_authentication_failed: &[(1, 0x01)],
    scripts_byte: 4,
    script_failed: (4, 0x08),
    last_online_not_completed: (2, 0x01),
};

impl<'a> IadView<'a> {
    fn new(scheme: Scheme, cvn: u8, cvr: &'a [u8], counters: &'a [u8]) -> Option<IadView<'a>> {
        let results = CardVerification::read(scheme, cvr);
        Some(IadView { scheme, cvn, cvr, counters, results })
    }
}

impl CardVerification {
    fn read(scheme: Scheme, cvr: &[u8]) -> CardVerification {
        let layout = match scheme {
            Scheme::Visa => &VISA,
            Scheme::Mastercard => &MASTERCARD,
            Scheme::Ccd => &CCD,
        };
        let byte = |number: usize| cvr.get(number - 1).copied().unwrap_or_default();
        let is_set = |(number, bits): Bit| byte(number) & bits != 0;
        let failed = is_set(layout.failed);
        let offline_pin = match is_set(layout.performed) {
            false => OfflinePin::NotPerformed,
            // A chip that says both, or neither where it could say "successful", is not believed.
            true if failed || !layout.successful.is_none_or(is_set) => OfflinePin::Failed,
            true => OfflinePin::Successful,
        };
        let tries_left = layout.tries_left.map(|(number, high)| match high {
            true => byte(number) >> 4,
            false => byte(number) & 0x0F,
        });
        CardVerification {
            offline_pin,
            try_limit_exceeded: is_set(layout.try_limit_exceeded),
            tries_left,
            terminal_erroneously_ok: layout.terminal_erroneously_ok.is_some_and(is_set),
            issuer_authentication_failed: layout
                .issuer_authentication_failed
                .iter()
                .any(|bit| is_set(*bit)),
            scripts_processed: byte(layout.scripts_byte) >> 4,
            script_failed: is_set(layout.script_failed),
            last_online_not_completed: is_set(layout.last_online_not_completed),
        }
    }
}
