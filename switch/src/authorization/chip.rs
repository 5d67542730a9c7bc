//! The chip data of a request (DE55), read once: EMV data elements by tag (EMV Book 3, annex A).

use iso_specs::tlv::{self, Reader};

use super::iad::Iad;
use crate::cards::chip::ScriptId;

/// What the chip says of an offline PIN in this transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfflinePin {
    /// None was verified.
    #[default]
    NotPerformed,
    /// It was right.
    Successful,
    /// It was wrong.
    Failed,
}

/// The elements that every application cryptogram covers, as they came, in the order in which
/// they are covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// 9F02: amount, packed digits.
    pub amount: [u8; 6],
    /// 9F03: other amount, packed digits.
    pub other_amount: [u8; 6],
    /// 9F1A: country of the terminal.
    pub country: [u8; 2],
    /// 95: terminal verification results.
    pub tvr: Tvr,
    /// 5F2A: currency, packed digits.
    pub currency: [u8; 2],
    /// 9A: date, YYMMDD packed.
    pub date: [u8; 3],
    /// 9C: transaction type.
    pub transaction_type: u8,
    /// 9F37: unpredictable number.
    pub unpredictable: [u8; 4],
    /// 82: application interchange profile.
    pub interchange_profile: [u8; 2],
    /// 9F36: application transaction counter.
    pub atc: [u8; 2],
}

impl Covered {
    /// One behind the other.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 33] {
        let parts: [&[u8]; 10] = [
            &self.amount,
            &self.other_amount,
            &self.country,
            &self.tvr.0,
            &self.currency,
            &self.date,
            &[self.transaction_type],
            &self.unpredictable,
            &self.interchange_profile,
            &self.atc,
        ];
        let mut bytes = [0; 33];
        let all = parts.into_iter().flatten();
        bytes.iter_mut().zip(all).for_each(|(to, byte)| *to = *byte);
        bytes
    }
}

/// Terminal verification results (EMV Book 3, C5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tvr(pub [u8; 5]);

impl Tvr {
    /// Whether one of these bits of the third byte is set.
    const fn third(self, bits: u8) -> bool {
        let [_, _, third, ..] = self.0;
        third & bits != 0
    }

    /// The same of the fifth.
    const fn fifth(self, bits: u8) -> bool {
        let [.., fifth] = self.0;
        fifth & bits != 0
    }

    /// Byte 3, bit 8: no cardholder verification method was successful.
    #[must_use]
    pub const fn verification_failed(self) -> bool {
        self.third(0x80)
    }

    /// Byte 3, bit 6: PIN try limit exceeded.
    #[must_use]
    pub const fn try_limit_exceeded(self) -> bool {
        self.third(0x20)
    }

    /// Byte 3, bit 5: a PIN was required and there was no PIN pad.
    #[must_use]
    pub const fn no_pin_pad(self) -> bool {
        self.third(0x10)
    }

    /// Byte 3, bit 4: a PIN was required and none was entered.
    #[must_use]
    pub const fn pin_not_entered(self) -> bool {
        self.third(0x08)
    }

    /// Byte 3, bit 3: an online PIN was captured.
    #[must_use]
    pub const fn online_pin_captured(self) -> bool {
        self.third(0x04)
    }

    /// Byte 3, bits 8 and 6 to 3: a PIN was wanted, or no method held.
    #[must_use]
    pub const fn wants_pin(self) -> bool {
        self.third(0xBC)
    }

    /// Byte 5, bit 7: issuer authentication failed.
    #[must_use]
    pub const fn issuer_authentication_failed(self) -> bool {
        self.fifth(0x40)
    }

    /// Byte 5, bits 6 and 5: a script failed, before or after the final cryptogram.
    #[must_use]
    pub const fn script_failed(self) -> bool {
        self.fifth(0x30)
    }
}

/// Transaction status information: what was performed, well or not (EMV Book 3, C6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tsi(pub [u8; 2]);

impl Tsi {
    const fn has(self, bit: u8) -> bool {
        let [first, _] = self.0;
        first & bit != 0
    }

    /// Byte 1, bit 7: cardholder verification.
    #[must_use]
    pub const fn verified_cardholder(self) -> bool {
        self.has(0x40)
    }

    /// Byte 1, bit 5: issuer authentication.
    #[must_use]
    pub const fn authenticated_issuer(self) -> bool {
        self.has(0x10)
    }

    /// Byte 1, bit 3: script processing.
    #[must_use]
    pub const fn processed_script(self) -> bool {
        self.has(0x04)
    }
}

/// What the terminal says of the cardholder verification (9F34; EMV Book 4, A4). No cryptogram
/// covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CvmResults(pub [u8; 3]);

impl CvmResults {
    const fn method(self) -> u8 {
        let [method, ..] = self.0;
        method & 0x3F
    }

    /// An offline PIN, alone or with a signature, that the terminal takes for right.
    #[must_use]
    pub const fn says_offline_pin_ok(self) -> bool {
        let [_, _, result] = self.0;
        matches!(self.method(), 0x01 | 0x03 | 0x04 | 0x05) && result == 0x02
    }

    /// A PIN that goes online.
    #[must_use]
    pub const fn says_online_pin(self) -> bool {
        self.method() == 0x02
    }

    /// Another method held: a signature, whose result is never known, or none that was needed.
    #[must_use]
    pub const fn other_method_held(self) -> bool {
        let [_, _, result] = self.0;
        matches!(self.method(), 0x1E | 0x1F) && result != 0x01
    }

    /// No verification was needed.
    #[must_use]
    pub const fn none_was_needed(self) -> bool {
        self.method() == 0x1F && self.other_method_held()
    }
}

/// One entry of 9F5B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptResult {
    /// The script.
    pub script: ScriptId,
    /// What became of it.
    pub outcome: ScriptOutcome,
}

/// What became of a script (EMV Book 4, A5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptOutcome {
    /// 0: the chip did not get it.
    NotPerformed,
    /// 1, and what has no meaning: one of its commands was refused.
    Failed,
    /// 2: all its commands were processed.
    Successful,
}

/// Entries of 9F5B that are read; a terminal keeps one for each script of a transaction.
const SCRIPT_RESULTS_MAX: usize = 4;

/// What is read of DE55. Other tags are ignored, however long and however often they come: a
/// payment is not refused for what no rule reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChipData {
    /// 9F26: application cryptogram.
    pub cryptogram: Option<[u8; 8]>,
    /// 9F36: application transaction counter.
    pub atc: Option<[u8; 2]>,
    /// What the cryptogram covers, if all of it is there.
    pub covered: Option<Covered>,
    /// 9F27: cryptogram information data.
    pub cryptogram_information: Option<u8>,
    /// 9F10.
    pub iad: Option<Iad>,
    /// 9C: the type of the transaction, as its terminal told the chip.
    pub transaction_type: Option<u8>,
    /// 9F34.
    pub cvm_results: Option<CvmResults>,
    /// 5F34: PAN sequence number.
    pub sequence: Option<u8>,
    /// 9F17: PIN tries left. No cryptogram covers it.
    pub tries_left: Option<u8>,
    /// 9B. No rule asks it: no cryptogram covers it.
    pub status: Option<Tsi>,
    /// 9F5B.
    pub script_results: [Option<ScriptResult>; SCRIPT_RESULTS_MAX],
}

impl ChipData {
    /// Reads DE55; `None` for what is no BER-TLV, or has a tag that is read twice or in a wrong
    /// length.
    #[must_use]
    pub fn read(data: &[u8]) -> Option<ChipData> {
        tlv::check(data).ok()?;
        let known = Known::read(data)?;
        let iad = known.optional(0x9F10).map(Iad::new);
        Some(ChipData {
            cryptogram: known.exactly(0x9F26)?,
            atc: known.exactly(0x9F36)?,
            covered: known.covered()?,
            cryptogram_information: known.exactly(0x9F27)?.map(|[byte]| byte),
            iad: iad.map_or(Some(None), |iad| iad.map(Some))?,
            transaction_type: known.exactly(0x9C)?.map(|[byte]| byte),
            cvm_results: known.exactly(0x9F34)?.map(CvmResults),
            sequence: known.exactly(0x5F34)?.map_or(Some(None), |[byte]| {
                decimal(&[byte]).and_then(|number| u8::try_from(number).ok()).map(Some)
            })?,
            tries_left: known.exactly(0x9F17).flatten().map(|[left]| left),
            status: known.exactly(0x9B).flatten().map(Tsi),
            script_results: script_results(known.optional(0x9F5B).unwrap_or_default()),
        })
    }

    /// What the cryptogram and its verification need; `None` where something is missing.
    #[must_use]
    pub fn verifiable(&self) -> Option<(&Covered, &Iad, [u8; 8])> {
        Some((self.covered.as_ref()?, self.iad.as_ref()?, self.cryptogram?))
    }

    /// 9F02 in minor units, where it is covered by the cryptogram and decimal.
    #[must_use]
    pub fn amount(&self) -> Option<u64> {
        decimal(&self.covered?.amount)
    }

    /// 5F2A: ISO 4217 numeric code.
    #[must_use]
    pub fn currency(&self) -> Option<u16> {
        decimal(&self.covered?.currency).and_then(|code| u16::try_from(code).ok())
    }

    /// What 9F5B says of a script.
    #[must_use]
    pub fn script_result(&self, script: ScriptId) -> Option<ScriptOutcome> {
        let mut results = self.script_results.iter().flatten();
        results.find(|result| result.script == script).map(|result| result.outcome)
    }
}

/// The tags that are read.
const TAGS: [u32; 18] = [
    0x9F02, 0x9F03, 0x9F1A, 0x95, 0x5F2A, 0x9A, 0x9C, 0x9F37, 0x82, 0x9F36, 0x9F26, 0x9F27, 0x9F34,
    0x5F34, 0x9F10, 0x9F5B, 0x9F17, 0x9B,
];

/// Those that decide nothing in a request: however they are, no payment is refused for them.
const TOLD_ONLY: [u32; 3] = [0x9F17, 0x9F5B, 0x9B];

/// The values of these tags, in the order of [`TAGS`].
struct Known<'a>([Option<&'a [u8]>; TAGS.len()]);

impl<'a> Known<'a> {
    fn read(data: &'a [u8]) -> Option<Known<'a>> {
        let mut values = [None; TAGS.len()];
        for object in Reader::new(data) {
            let object = object.ok()?;
            let known = TAGS.into_iter().zip(&mut values).find(|(tag, _)| *tag == object.tag);
            if let Some((tag, value)) = known
                && value.replace(object.value).is_some()
            {
                if !TOLD_ONLY.contains(&tag) {
                    return None;
                }
                // Of two nobody knows which is meant.
                *value = Some(&[]);
            }
        }
        Some(Known(values))
    }

    fn optional(&self, tag: u32) -> Option<&'a [u8]> {
        TAGS.into_iter().zip(self.0).find(|(known, _)| *known == tag).and_then(|(_, value)| value)
    }

    /// `Some(None)` where it is not there, `None` where it has another length.
    #[allow(clippy::option_option, reason = "wrong, absent, present")]
    fn exactly<const N: usize>(&self, tag: u32) -> Option<Option<[u8; N]>> {
        self.optional(tag).map_or(Some(None), |value| value.try_into().ok().map(Some))
    }

    #[allow(clippy::option_option, reason = "wrong, absent, present")]
    fn covered(&self) -> Option<Option<Covered>> {
        let amount = self.exactly(0x9F02)?;
        let other_amount = self.exactly(0x9F03)?;
        let country = self.exactly(0x9F1A)?;
        let tvr = self.exactly(0x95)?;
        let currency = self.exactly(0x5F2A)?;
        let date = self.exactly(0x9A)?;
        let transaction_type = self.exactly(0x9C)?;
        let unpredictable = self.exactly(0x9F37)?;
        let interchange_profile = self.exactly(0x82)?;
        let atc = self.exactly(0x9F36)?;
        let all = || {
            let [transaction_type] = transaction_type?;
            Some(Covered {
                amount: amount?,
                other_amount: other_amount?,
                country: country?,
                tvr: Tvr(tvr?),
                currency: currency?,
                date: date?,
                transaction_type,
                unpredictable: unpredictable?,
                interchange_profile: interchange_profile?,
                atc: atc?,
            })
        };
        Some(all())
    }
}

fn script_results(value: &[u8]) -> [Option<ScriptResult>; SCRIPT_RESULTS_MAX] {
    let (entries, _) = value.as_chunks::<5>();
    let mut results = [None; SCRIPT_RESULTS_MAX];
    for (to, [outcome, script @ ..]) in results.iter_mut().zip(entries) {
        let outcome = match outcome >> 4 {
            0 => ScriptOutcome::NotPerformed,
            2 => ScriptOutcome::Successful,
            _ => ScriptOutcome::Failed,
        };
        *to = Some(ScriptResult { script: *script, outcome });
    }
    results
}

/// The number that packed digits say.
fn decimal(packed: &[u8]) -> Option<u64> {
    let digits = packed.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    digits.into_iter().try_fold(0_u64, |number, digit| {
        (digit < 10).then(|| number.saturating_mul(10).saturating_add(u64::from(digit)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(objects: &[(u32, usize)]) -> Vec<u8> {
        let mut data = Vec::new();
        for (tag, bytes) in objects {
            tlv::push(&mut data, *tag, &vec![2; *bytes]).unwrap();
        }
        data
    }

    #[test]
    fn a_tag_that_is_read_has_its_length_and_comes_once() {
        let lengths = [
            (0x9F02, 6..=6),
            (0x9F03, 6..=6),
            (0x9F1A, 2..=2),
            (0x95, 5..=5),
            (0x5F2A, 2..=2),
            (0x9A, 3..=3),
            (0x9C, 1..=1),
            (0x9F37, 4..=4),
            (0x82, 2..=2),
            (0x9F36, 2..=2),
            (0x9F26, 8..=8),
            (0x9F27, 1..=1),
            (0x9F34, 3..=3),
            (0x5F34, 1..=1),
            (0x9F10, 0..=32),
        ];
        for (tag, right) in lengths {
            for bytes in 0..=33 {
                let read = ChipData::read(&data(&[(tag, bytes)]));
                assert_eq!(read.is_some(), right.contains(&bytes), "{tag:X} {bytes}");
            }
            let length = *right.end();
            let twice = data(&[(tag, length), (0x9F41, 4), (tag, length)]);
            assert_eq!(ChipData::read(&twice), None, "{tag:X}");
        }
    }

    #[test]
    fn the_status_says_what_was_performed() {
        for (bits, cardholder, issuer, script) in
            [(0x40, true, false, false), (0x10, false, true, false), (0x04, false, false, true)]
        {
            let status = ChipData::read(&[0x9B, 0x02, bits, 0x00]).unwrap().status.unwrap();
            assert_eq!(status.verified_cardholder(), cardholder, "{bits:X}");
            assert_eq!(status.authenticated_issuer(), issuer, "{bits:X}");
            assert_eq!(status.processed_script(), script, "{bits:X}");
        }
        assert_eq!(ChipData::read(&[0x9B, 0x01, 0x40]).unwrap().status, None);
    }

    /// They refuse nothing: of another length or there twice, they say nothing.
    #[test]
    fn what_is_only_told_refuses_nothing() {
        for bytes in 0..=26 {
            let told = ChipData::read(&data(&[(0x9F17, bytes), (0x9F5B, bytes)])).unwrap();
            assert_eq!(told.tries_left.is_some(), bytes == 1, "{bytes}");
            let results = told.script_results.iter().flatten().count();
            assert_eq!(results, (bytes / 5).min(SCRIPT_RESULTS_MAX), "{bytes}");
        }
        let twice = ChipData::read(&data(&[(0x9F17, 1), (0x9F5B, 5), (0x9F17, 1), (0x9F5B, 5)]));
        assert_eq!(twice, Some(ChipData::default()));
    }

    /// Terminal capabilities, type and serial number, transaction category, name of the
    /// application, sequence counter.
    #[test]
    fn a_tag_that_no_rule_reads_may_come_twice_and_in_any_length() {
        for tag in [0x9F33, 0x9F35, 0x9F1E, 0x9F53, 0x84, 0x9F41] {
            for bytes in 0..=17 {
                let read = ChipData::read(&data(&[(tag, bytes), (0x9F17, 1), (tag, 3)]));
                let expected = ChipData { tries_left: Some(2), ..ChipData::default() };
                assert_eq!(read, Some(expected), "{tag:X} {bytes}");
            }
        }
    }
}
