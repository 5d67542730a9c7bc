//! How the PINs of a product are verified: by a kept PIN block, or by a value computed from the PIN
//! (Visa PVV, IBM 3624 with offset). Names of keys and parameters, no keys.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::cards::Pan;
use crate::key::KeyName;

/// How PINs are verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PinMethod {
    /// The incoming block, translated to the issuer's PEK, is compared with the one kept.
    #[default]
    TranslatedBlock,
    /// Visa PIN verification value.
    VisaPvv(VisaPvv),
    /// IBM 3624 with offset.
    Ibm3624(Ibm3624),
}

/// The methods of a product.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinMethods {
    /// That of new PINs.
    pub current: PinMethod,
    /// Those that PINs set earlier may still have.
    pub earlier: Vec<PinMethod>,
}

impl PinMethods {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &PinMethod> {
        std::iter::once(&self.current).chain(&self.earlier)
    }

    /// Those of IBM 3624.
    pub(super) fn ibm3624(&self) -> impl Iterator<Item = &Ibm3624> {
        self.iter().filter_map(|method| match method {
            PinMethod::Ibm3624(method) => Some(method),
            PinMethod::TranslatedBlock | PinMethod::VisaPvv(_) => None,
        })
    }
}

/// Parameters of the Visa method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisaPvv {
    /// The PIN verification key, usage V2.
    pub pvk: KeyName,
    /// PIN verification key index of new PINs, 1 to 6.
    pub pvki: u8,
}

/// Parameters of the IBM method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ibm3624 {
    /// The PIN verification key, usage V1.
    pub pvk: KeyName,
    /// What the hexadecimal digits of the encrypted validation data become.
    pub decimalisation_table: DecimalisationTable,
    /// What is encrypted.
    pub validation_data: ValidationData,
}

impl Ibm3624 {
    /// The start of a digest of table and validation data. With others than it was made with, an
    /// offset says nothing, and a comparison must not count as a wrong PIN.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 2] {
        let mut digest = Sha256::new();
        digest.update(self.decimalisation_table.0);
        match self.validation_data {
            ValidationData::Rightmost16 => digest.update([0]),
            ValidationData::Leftmost { digits, fill } => digest.update([1, digits, fill]),
            ValidationData::Template { fixed, before } => {
                digest.update([2, before]);
                digest.update(fixed);
            }
        }
        let digest: [u8; 32] = digest.finalize().into();
        let [first, second, ..] = digest;
        [first, second]
    }
}

/// Sixteen decimal digits: what each hexadecimal digit becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DecimalisationTable([u8; 16]);

impl DecimalisationTable {
    /// From sixteen digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<DecimalisationTable> {
        let digits: [u8; 16] = text.as_bytes().try_into().ok()?;
        let all = digits.iter().all(u8::is_ascii_digit);
        all.then(|| DecimalisationTable(digits.map(|digit| digit - b'0')))
    }

    /// Whether it holds at least eight different digits, none more than four times: with a
    /// poorer table PINs are guessed in a few tries (payShield checks the same).
    #[must_use]
    pub fn is_strong(&self) -> bool {
        let count = |digit| self.0.iter().filter(|own| **own == digit).count();
        let counts: Vec<usize> = (0..10).map(count).filter(|count| *count > 0).collect();
        counts.len() >= 8 && counts.iter().all(|count| *count <= 4)
    }

    pub(super) fn digit(&self, nibble: u8) -> u8 {
        self.0.get(usize::from(nibble & 0xF)).copied().unwrap_or_default()
    }
}

impl fmt::Debug for DecimalisationTable {
    /// Hidden: an HSM takes it encrypted, because who can change it can find PINs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DecimalisationTable(..)")
    }
}

/// The sixteen hexadecimal digits that the IBM method encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidationData {
    /// The rightmost 16 digits of the PAN, the check digit among them.
    Rightmost16,
    /// So many leftmost digits of the PAN, then this hexadecimal digit.
    Leftmost {
        /// Digits of the PAN, 1 to 16.
        digits: u8,
        /// What fills up, 0 to 15.
        fill: u8,
    },
    /// Eleven fixed hexadecimal digits and, at one place, the last five digits of the PAN
    /// before its check digit.
    Template {
        /// The fixed digits.
        fixed: [u8; 11],
        /// How many of them stand before the five.
        before: u8,
    },
}

impl ValidationData {
    /// Whether the PAN has the digits that it takes.
    pub(super) fn fits(&self, pan: &Pan) -> bool {
        self.of(pan).is_some()
    }

    /// From its name: `rightmost-16`; `leftmost-N-F`, such as `leftmost-11-F`; or eleven
    /// hexadecimal digits and one `N`, such as `6615552N0010`.
    #[must_use]
    pub fn parse(text: &str) -> Option<ValidationData> {
        if text == "rightmost-16" {
            return Some(ValidationData::Rightmost16);
        }
        if let Some(rest) = text.strip_prefix("leftmost-") {
            let (digits, fill) = rest.split_once('-')?;
            let digits: u8 = digits.parse().ok().filter(|digits| (1..=16).contains(digits))?;
            let [fill] = hex_digits(fill)?;
            return Some(ValidationData::Leftmost { digits, fill });
        }
        let (before, after) = text.split_once('N')?;
        let fixed = hex_digits(&[before, after].concat())?;
        Some(ValidationData::Template { fixed, before: u8::try_from(before.len()).ok()? })
    }

    pub(super) fn of(&self, pan: &Pan) -> Option<Zeroizing<[u8; 8]>> {
        let decimal = |digits: &[u8]| digits.iter().map(|digit| digit - b'0').collect::<Vec<u8>>();
        let nibbles = Zeroizing::new(match self {
            ValidationData::Rightmost16 => decimal(pan.digits().last_chunk::<16>()?),
            ValidationData::Leftmost { digits, fill } => {
                let mut nibbles = decimal(pan.digits().get(..usize::from(*digits))?);
                nibbles.resize(16, *fill);
                nibbles
            }
            ValidationData::Template { fixed, before } => {
                let (before, after) = fixed.split_at_checked(usize::from(*before))?;
                let account = pan.account_digits()?.last_chunk::<5>()?;
                [before, &decimal(account), after].concat()
            }
        });
        let (pairs, _) = nibbles.as_chunks::<2>();
        let mut block = Zeroizing::new([0; 8]);
        block.iter_mut().zip(pairs).for_each(|(byte, [high, low])| *byte = high << 4 | low);
        Some(block)
    }
}

fn hex_digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok());
    digits.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_data_has_a_name() {
        let leftmost = ValidationData::Leftmost { digits: 11, fill: 15 };
        assert_eq!(ValidationData::parse("leftmost-11-F"), Some(leftmost));
        assert_eq!(ValidationData::parse("rightmost-16"), Some(ValidationData::Rightmost16));
        let template = ValidationData::parse("6615552N0010").unwrap();
        assert!(matches!(template, ValidationData::Template { before: 7, .. }));
        let wrong = [
            "",
            "N",
            "leftmost-0-F",
            "leftmost-17-F",
            "leftmost-11",
            "leftmost-11-G",
            "leftmost-11-FF",
            "6615552N001",
            "6615552N00100",
            "66155520010",
            "661N552N0010",
            "661555XN0010",
            "rightmost",
        ];
        for wrong in wrong {
            assert_eq!(ValidationData::parse(wrong), None, "{wrong}");
        }
        // Five digits of the account number where the N stands.
        let pan = Pan::parse(b"6615552900102496").unwrap();
        assert_eq!(*template.of(&pan).unwrap(), 0x6615_5521_0249_0010_u64.to_be_bytes());
        let short = Pan::parse(b"4761340000001").unwrap();
        assert!(ValidationData::Rightmost16.of(&short).is_none());
    }

    #[test]
    fn a_poor_decimalisation_table_is_known() {
        let strong = |text| DecimalisationTable::parse(text).unwrap().is_strong();
        assert!(strong("0123456789012345") && strong("1265924354385076"));
        assert!(!strong("0000000000000000") && !strong("0123456012345600"));
        assert!(!strong("0000012345678912"), "five zeros");
        for wrong in ["", "012345678901234", "01234567890123456", "012345678901234A"] {
            assert_eq!(DecimalisationTable::parse(wrong), None);
        }
    }
}
