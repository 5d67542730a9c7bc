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
    /// All of them.
    pub const ALL: [Scheme; 3] = [Scheme::Visa, Scheme::Mastercard, Scheme::Ccd];

    /// Whether its issuer application data can have this cryptogram version number (CCD: common
    /// core identifier).
    #[must_use]
    pub const fn has_cvn(self, cvn: u8) -> bool {
        match self {
            Scheme::Visa => true,
            Scheme::Mastercard => cvn & 0xFA == 0x10,
            Scheme::Ccd => matches!(cvn, 0xA5 | 0xA6),
        }
    }

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
            [0x0F, cvn, ..] if all.len() == 32 && all.get(16) == Some(&0x0F) => {
                IadView::new(Scheme::Ccd, *cvn, all.get(3..8)?, counters(8))
            }
            [0x1F, cvn, ..] if all.len() == 32 => {
                IadView::new(Scheme::Visa, *cvn, all.get(3..8)?, &[])
            }
            [0x06, _, cvn, 0x03, ..] if all.len() >= 7 => {
                IadView::new(Scheme::Visa, *cvn, all.get(3..7)?, &[])
            }
            [_, cvn, ..] if matches!(all.len(), 18 | 20 | 26 | 28) => {
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
    pub results: Cvr,
}

/// What the chip says that it did, in this transaction and in the last one that went online.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cvr {
    /// Types of the second cryptogram (C0; 80: not requested) and of the first (30; 20: ARQC).
    types: u8,
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
    /// The byte with the type of the second cryptogram in its two highest bits, and that of the
    /// first in the two below.
    types_byte: usize,
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
    types_byte: 2,
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
    types_byte: 1,
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
    types_byte: 1,
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
        let results = Cvr::read(scheme, cvr);
        scheme.has_cvn(cvn).then_some(IadView { scheme, cvn, cvr, counters, results })
    }
}

impl Cvr {
    /// Whether this is the first cryptogram of its transaction, and an ARQC. A chip without contact
    /// makes no second one, and may leave its two bits at 00.
    #[must_use]
    pub const fn asks_to_go_online(&self, is_contactless: bool) -> bool {
        matches!((self.types, is_contactless), (0xA0, _) | (0x20, true))
    }

    /// What it tells of scripts and of issuer authentication in the last transaction that went
    /// online, in one byte: equal as long as it tells the same.
    #[must_use]
    pub fn last_online(&self) -> u8 {
        let failed = u8::from(self.script_failed) << 1;
        self.scripts_processed << 4 | failed | u8::from(self.issuer_authentication_failed)
    }

    fn read(scheme: Scheme, cvr: &[u8]) -> Cvr {
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
        Cvr {
            types: byte(layout.types_byte) & 0xF0,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn view(hex: &str) -> Option<(Scheme, u8, Cvr)> {
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        Iad::new(&bytes)
            .and_then(|iad| iad.view().map(|view| (view.scheme, view.cvn, view.results)))
    }

    fn results(hex: &str) -> Cvr {
        view(hex).unwrap().2
    }

    #[test]
    fn each_shape_is_known_and_others_are_not() {
        let zeros = "00".repeat(27);
        let ccd = format!("0FA501{}0F{}", "00".repeat(13), "00".repeat(15));
        for (hex, scheme, cvn) in [
            ("06010A03A00000", Scheme::Visa, 0x0A),
            ("06011203A00000000000", Scheme::Visa, 0x12),
            (&format!("1F220100A0{zeros}"), Scheme::Visa, 0x22),
            (&format!("0110{}", "00".repeat(16)), Scheme::Mastercard, 0x10),
            (&format!("0115{}", "00".repeat(26)), Scheme::Mastercard, 0x15),
            (&ccd, Scheme::Ccd, 0xA5),
        ] {
            let (found, version, _) = view(hex).unwrap();
            assert_eq!((found, version), (scheme, cvn), "{hex}");
        }
        let m_chip = |cvn: &str, bytes: usize| format!("01{cvn}{}", "00".repeat(bytes - 2));
        for hex in ["", "06010A", "06010A04A00000", "07010A03A00000", &m_chip("12", 18)] {
            assert!(view(hex).is_none(), "{hex}");
        }
        for hex in
            [m_chip("18", 18), m_chip("10", 19), ccd.replace("000F", "000E"), ccd[2..].into()]
        {
            assert!(view(&hex).is_none(), "{hex}");
        }
        assert!(Iad::new(&[0; 33]).is_none());
    }

    /// Each bit alone, by the tables of the standards.
    #[test]
    fn each_bit_says_what_it_says() {
        let visa = |cvr: &str| results(&format!("06010A03{cvr}"));
        assert_eq!(visa("040000").offline_pin, OfflinePin::Successful);
        assert_eq!(visa("060000").offline_pin, OfflinePin::Failed);
        assert_eq!(visa("020000").offline_pin, OfflinePin::NotPerformed);
        assert!(visa("004000").try_limit_exceeded && !visa("00BF00").try_limit_exceeded);
        assert!(visa("080000").issuer_authentication_failed);
        assert!(visa("000800").issuer_authentication_failed);
        assert!(visa("008000").last_online_not_completed);
        assert!(visa("000008").script_failed);
        assert_eq!(visa("000030").scripts_processed, 3);

        let m_chip = |cvr: &str| results(&format!("0110{cvr}{}", "00".repeat(10)));
        assert_eq!(m_chip("050000000000").offline_pin, OfflinePin::Successful);
        assert_eq!(m_chip("040000100000").offline_pin, OfflinePin::Failed);
        // Performed, and neither right nor wrong.
        assert_eq!(m_chip("040000000000").offline_pin, OfflinePin::Failed);
        assert_eq!(m_chip("010000200000").offline_pin, OfflinePin::NotPerformed);
        assert!(m_chip("000000080000").try_limit_exceeded);
        assert!(m_chip("000000010000").terminal_erroneously_ok);
        assert!(m_chip("000000800000").last_online_not_completed);
        assert!(m_chip("000000000400").issuer_authentication_failed);
        assert!(m_chip("000000000100").script_failed);
        let counted = m_chip("000023000000");
        assert_eq!((counted.scripts_processed, counted.tries_left), (2, Some(3)));

        let ccd =
            |cvr: &str| results(&format!("0FA501{cvr}{}0F{}", "00".repeat(8), "00".repeat(15)));
        assert_eq!(ccd("0008000000").offline_pin, OfflinePin::Successful);
        assert_eq!(ccd("000C000000").offline_pin, OfflinePin::Failed);
        assert!(ccd("0002000000").try_limit_exceeded);
        assert!(ccd("0001000000").last_online_not_completed);
        assert!(ccd("0100000000").issuer_authentication_failed);
        assert!(ccd("0000000800").script_failed);
        assert_eq!(ccd("0030002000").tries_left, Some(3));
        assert_eq!(ccd("0030002000").scripts_processed, 2);
    }
}
