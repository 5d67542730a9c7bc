//! The chip data of a request (DE55), read once: EMV data elements by tag (EMV Book 3, annex A).

use std::fmt;

use iso_specs::tlv::{self, Reader};

use super::iad::Iad;
use crate::cards::chip_state::ScriptId;

/// What the chip says of the offline PIN of this transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfflinePin {
    /// The chip has verified none.
    #[default]
    NotPerformed,
    /// The PIN was right.
    Successful,
    /// The PIN was wrong.
    Failed,
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

    /// Whether one of these bits of the fifth byte is set.
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

/// What the terminal says of the cardholder verification (9F34; EMV Book 4, A4). No cryptogram
/// covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CvmResults(pub [u8; 3]);

impl CvmResults {
    const fn method(self) -> u8 {
        let [method, ..] = self.0;
        method & 0x3F
    }

    /// Whether the terminal takes an offline PIN for right, alone or with a signature.
    #[must_use]
    pub const fn says_offline_pin_ok(self) -> bool {
        let [_, _, result] = self.0;
        matches!(self.method(), 0x01 | 0x03 | 0x04 | 0x05) && result == 0x02
    }

    /// Whether the terminal says that the PIN goes online.
    #[must_use]
    pub const fn says_online_pin(self) -> bool {
        self.method() == 0x02
    }

    /// Whether another method held: a signature, whose result is never known, or none that was
    /// needed.
    #[must_use]
    pub const fn other_method_held(self) -> bool {
        let [_, _, result] = self.0;
        matches!(self.method(), 0x1E | 0x1F) && result != 0x01
    }

    /// Whether no verification was needed.
    #[must_use]
    pub const fn none_was_needed(self) -> bool {
        self.method() == 0x1F && self.other_method_held()
    }
}

/// What 9F5B says of one script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptResult {
    /// The id of the script.
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

/// Chip data as they came. `Debug` shows how long they are: a PAN may be in them.
#[derive(Clone, Default, PartialEq, Eq)]
struct Raw(Box<[u8]>);

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

/// What is read of DE55. Other tags are ignored, however long and however often they come: a
/// payment is not refused for what no rule reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChipData {
    /// 9F26: application cryptogram.
    pub cryptogram: Option<[u8; 8]>,
    /// 9F36: application transaction counter.
    pub atc: Option<[u8; 2]>,
    /// 9F02: amount, packed digits.
    pub amount_authorized: Option<[u8; 6]>,
    /// 9F03: other amount, packed digits.
    pub other_amount: Option<[u8; 6]>,
    /// 9F1A: country of the terminal.
    pub country: Option<[u8; 2]>,
    /// 95: terminal verification results.
    pub tvr: Option<Tvr>,
    /// 5F2A: currency, packed digits.
    pub transaction_currency: Option<[u8; 2]>,
    /// 9A: date, YYMMDD packed.
    pub date: Option<[u8; 3]>,
    /// 9F37: unpredictable number.
    pub unpredictable: Option<[u8; 4]>,
    /// 82: application interchange profile.
    pub interchange_profile: Option<[u8; 2]>,
    /// 9F27: cryptogram information data.
    pub cryptogram_information: Option<u8>,
    /// 9F10: issuer application data.
    pub iad: Option<Iad>,
    /// 9C: the type of the transaction, as its terminal told the chip.
    pub transaction_type: Option<u8>,
    /// 9F34: cardholder verification method results.
    pub cvm_results: Option<CvmResults>,
    /// 5F34: PAN sequence number.
    pub sequence: Option<u8>,
    /// 9F17: PIN tries left. No cryptogram covers it.
    pub tries_left: Option<u8>,
    /// 9F5B: issuer script results, one for each script.
    pub script_results: [Option<ScriptResult>; SCRIPT_RESULTS_MAX],
    /// All of DE55, for elements that no rule reads and a cryptogram may cover.
    raw: Raw,
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
            amount_authorized: known.exactly(0x9F02)?,
            other_amount: known.exactly(0x9F03)?,
            country: known.exactly(0x9F1A)?,
            tvr: known.exactly(0x95)?.map(Tvr),
            transaction_currency: known.exactly(0x5F2A)?,
            date: known.exactly(0x9A)?,
            unpredictable: known.exactly(0x9F37)?,
            interchange_profile: known.exactly(0x82)?,
            cryptogram_information: known.exactly(0x9F27)?.map(|[byte]| byte),
            iad: iad.map_or(Some(None), |iad| iad.map(Some))?,
            transaction_type: known.exactly(0x9C)?.map(|[byte]| byte),
            cvm_results: known.exactly(0x9F34)?.map(CvmResults),
            sequence: known.exactly(0x5F34)?.map_or(Some(None), |[byte]| {
                decimal(&[byte]).and_then(|number| u8::try_from(number).ok()).map(Some)
            })?,
            tries_left: known.exactly(0x9F17).flatten().map(|[left]| left),
            script_results: known.optional(0x9F5B).map_or([None; _], script_results),
            raw: Raw(data.into()),
        })
    }

    /// An element that a cryptogram may cover, as it came.
    #[must_use]
    pub fn element(&self, tag: u16) -> Option<&[u8]> {
        fn bytes<const N: usize>(value: Option<&[u8; N]>) -> Option<&[u8]> {
            value.map(<[u8; N]>::as_slice)
        }
        match tag {
            0x9F02 => bytes(self.amount_authorized.as_ref()),
            0x9F03 => bytes(self.other_amount.as_ref()),
            0x9F1A => bytes(self.country.as_ref()),
            0x95 => bytes(self.tvr.as_ref().map(|Tvr(bytes)| bytes)),
            0x5F2A => bytes(self.transaction_currency.as_ref()),
            0x9A => bytes(self.date.as_ref()),
            0x9C => self.transaction_type.as_ref().map(std::slice::from_ref),
            0x9F37 => bytes(self.unpredictable.as_ref()),
            0x82 => bytes(self.interchange_profile.as_ref()),
            0x9F36 => bytes(self.atc.as_ref()),
            0x9F10 => self.iad.as_ref().map(Iad::bytes),
            other => find(&self.raw.0, other.into()),
        }
    }

    /// 9F02 in minor units, where it is decimal.
    #[must_use]
    pub fn amount(&self) -> Option<u64> {
        decimal(&self.amount_authorized?)
    }

    /// 5F2A: ISO 4217 numeric code.
    #[must_use]
    pub fn currency(&self) -> Option<u16> {
        decimal(&self.transaction_currency?).and_then(|code| u16::try_from(code).ok())
    }

    /// What 9F5B says of a script.
    #[must_use]
    pub fn script_result(&self, script: ScriptId) -> Option<ScriptOutcome> {
        let mut results = self.script_results.iter().flatten();
        results.find(|result| result.script == script).map(|result| result.outcome)
    }
}

/// The tags that are read.
const TAGS: [u32; 17] = [
    0x9F02, 0x9F03, 0x9F1A, 0x95, 0x5F2A, 0x9A, 0x9C, 0x9F37, 0x82, 0x9F36, 0x9F26, 0x9F27, 0x9F34,
    0x5F34, 0x9F10, 0x9F5B, 0x9F17,
];

/// Templates around the elements, which some terminals send: of a record, and of a response.
const TEMPLATES: [u32; 2] = [0x70, 0x77];

/// The first object with this tag, outside or inside such a template.
fn find(data: &[u8], tag: u32) -> Option<&[u8]> {
    Reader::new(data).map_while(Result::ok).find_map(|object| match object.tag {
        found if found == tag => Some(object.value),
        template if TEMPLATES.contains(&template) => find(object.value, tag),
        _ => None,
    })
}

/// Tags that decide nothing in a request: in whatever length, and however often they come, no
/// payment is refused for them.
const TOLD_ONLY: [u32; 2] = [0x9F17, 0x9F5B];

/// The values of these tags, in the order of [`TAGS`].
struct Known<'a>([Option<&'a [u8]>; TAGS.len()]);

impl<'a> Known<'a> {
    fn read(data: &'a [u8]) -> Option<Known<'a>> {
        let mut known = Known([None; TAGS.len()]);
        known.add(data)?;
        Some(known)
    }

    fn add(&mut self, data: &'a [u8]) -> Option<()> {
        for object in Reader::new(data) {
            let object = object.ok()?;
            if TEMPLATES.contains(&object.tag) {
                self.add(object.value)?;
            }
            let known = TAGS.into_iter().zip(&mut self.0).find(|(tag, _)| *tag == object.tag);
            if let Some((tag, value)) = known
                && value.replace(object.value).is_some()
            {
                if !TOLD_ONLY.contains(&tag) {
                    return None;
                }
                // Where a tag comes twice, nobody knows which value is meant.
                *value = Some(&[]);
            }
        }
        Some(())
    }

    fn optional(&self, tag: u32) -> Option<&'a [u8]> {
        TAGS.into_iter().zip(self.0).find(|(known, _)| *known == tag).and_then(|(_, value)| value)
    }

    /// `Some(None)` where it is not there, `None` where it has another length.
    #[allow(clippy::option_option, reason = "wrong, absent, present")]
    fn exactly<const N: usize>(&self, tag: u32) -> Option<Option<[u8; N]>> {
        self.optional(tag).map_or(Some(None), |value| value.try_into().ok().map(Some))
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

    /// What is read of chip data, without them.
    fn read(data: &[u8]) -> Option<ChipData> {
        ChipData::read(data).map(|read| ChipData { raw: Raw::default(), ..read })
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

    /// They refuse nothing: of another length or there twice, they say nothing.
    #[test]
    fn what_is_only_told_refuses_nothing() {
        for bytes in 0..=26 {
            let told = ChipData::read(&data(&[(0x9F17, bytes), (0x9F5B, bytes)])).unwrap();
            assert_eq!(told.tries_left.is_some(), bytes == 1, "{bytes}");
            let results = told.script_results.iter().flatten().count();
            assert_eq!(results, (bytes / 5).min(SCRIPT_RESULTS_MAX), "{bytes}");
        }
        let twice = read(&data(&[(0x9F17, 1), (0x9F5B, 5), (0x9F17, 1), (0x9F5B, 5)]));
        assert_eq!(twice, Some(ChipData::default()));
    }

    /// Terminal capabilities, type and serial number, transaction category, name of the
    /// application, sequence counter.
    #[test]
    fn a_tag_that_no_rule_reads_may_come_twice_and_in_any_length() {
        for tag in [0x9F33, 0x9F35, 0x9F1E, 0x9F53, 0x84, 0x9F41] {
            for bytes in 0..=17 {
                let read = read(&data(&[(tag, bytes), (0x9F17, 1), (tag, 3)]));
                let expected = ChipData { tries_left: Some(2), ..ChipData::default() };
                assert_eq!(read, Some(expected), "{tag:X} {bytes}");
            }
        }
    }

    #[test]
    fn a_template_around_all_of_it_changes_nothing() {
        let within = |template: u32, inside: &[u8]| {
            let mut data = Vec::new();
            tlv::push(&mut data, template, inside).unwrap();
            data
        };
        let inside = data(&[(0x9F26, 8), (0x9F36, 2), (0x9F10, 7), (0x9F02, 6), (0x9F33, 3)]);
        let plain = read(&inside);
        assert!(plain.as_ref().unwrap().cryptogram.is_some());
        for template in [0x70, 0x77] {
            assert_eq!(read(&within(template, &inside)), plain, "{template:X}");
            let found = ChipData::read(&within(template, &inside)).unwrap();
            assert_eq!(found.element(0x9F33), Some(&[2; 3][..]));
            // Each tag comes once, inside or outside.
            for twice in [
                [&inside[..], &inside].concat(),
                [inside.clone(), within(template, &inside)].concat(),
            ] {
                assert_eq!(ChipData::read(&within(template, &twice)), None);
            }
            let beside = [within(template, &inside), data(&[(0x95, 5)])].concat();
            assert_eq!(read(&beside).unwrap().tvr, Some(Tvr([2; 5])));
            assert_eq!(ChipData::read(&within(template, &[0x9F, 0x26, 0x09])), None);
        }
        // Scripts and other templates are not looked into.
        assert_eq!(read(&within(0x72, &inside)), Some(ChipData::default()));
    }

    #[test]
    fn chip_data_do_not_show_themselves() {
        let data = data(&[(0x57, 19), (0x5A, 8)]);
        let shown = format!("{:?}", ChipData::read(&data).unwrap());
        assert!(shown.contains("raw: [31 bytes]"), "{shown}");
    }
}
