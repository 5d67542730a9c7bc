//! How a card's cryptograms and scripts are made, by scheme and cryptogram version number (CVN):
//! the one table of it. A product may say otherwise.

use std::fmt;

use super::iad::{Bytes, IadShape, IadView, Scheme, Shapes};
use super::icc_data::ChipData;
use crate::hsm::CoveredData;
use crate::hsm::emv::{
    ArpcKey, ArpcMethod, CardKeyMethod, CryptogramProfile, IssuerAnswer, MacPadding,
    ScriptKeyMethod, ScriptPinMethod, SessionKeyMethod,
};

/// Issuer application data.
const IAD: u16 = 0x9F10;

/// A part of what a cryptogram covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// An element of the chip data.
    Element(u16),
    /// Some bytes of an element.
    BytesOf(u16, Bytes),
    /// The card verification results, where the shape of 9F10 has them.
    Cvr,
    /// The counters that some shapes have besides.
    Counters,
}

/// What a cryptogram covers, in its order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Covers([Option<Part>; Covers::PARTS_MAX]);

impl Covers {
    /// Length of the longest list, in parts.
    pub const PARTS_MAX: usize = 16;

    /// The ten elements that nearly all cryptograms cover first.
    const USUAL: Covers = Covers::of(&[
        Part::Element(0x9F02),
        Part::Element(0x9F03),
        Part::Element(0x9F1A),
        Part::Element(0x95),
        Part::Element(0x5F2A),
        Part::Element(0x9A),
        Part::Element(0x9C),
        Part::Element(0x9F37),
        Part::Element(0x82),
        Part::Element(0x9F36),
    ]);

    /// The usual elements, and behind them the CVR.
    pub const CVR: Covers = Covers::USUAL.and(10, Part::Cvr);
    /// The usual elements, the CVR, and the counters behind them.
    pub const CVR_AND_COUNTERS: Covers = Covers::CVR.and(11, Part::Counters);
    /// The usual elements, and behind them 9F10.
    pub const WHOLE: Covers = Covers::USUAL.and(10, Part::Element(IAD));

    #[allow(clippy::indexing_slicing, reason = "for constants, checked when compiled")]
    const fn of(list: &[Part]) -> Covers {
        let mut covers = Covers([None; Covers::PARTS_MAX]);
        let mut place = 0;
        while place < list.len() {
            covers = covers.and(place, list[place]);
            place += 1;
        }
        covers
    }

    #[allow(clippy::indexing_slicing, reason = "for constants, checked when compiled")]
    const fn and(mut self, place: usize, part: Part) -> Covers {
        self.0[place] = Some(part);
        self
    }

    /// A list of one part or more; `None` where there are more than can be.
    #[must_use]
    pub fn new(list: &[Part]) -> Option<Covers> {
        let mut parts = [None; Covers::PARTS_MAX];
        let places = parts.get_mut(..list.len()).filter(|places| !places.is_empty())?;
        places.iter_mut().zip(list).for_each(|(place, part)| *place = Some(*part));
        Some(Covers(parts))
    }

    /// The parts, in their order.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        self.0.into_iter().map_while(|part| part)
    }

    /// Whether it covers all of an element.
    #[must_use]
    pub fn has(&self, tag: u16) -> bool {
        self.parts().any(|part| part == Part::Element(tag))
    }

    /// The bytes of 9F10 that it covers: bit n for the byte n, from 0.
    #[must_use]
    pub fn of_iad(&self, view: &IadView<'_>) -> u32 {
        let of = |bytes: Bytes| {
            let count = u32::from(bytes.last - bytes.first) + 1;
            let ones = 1_u32.checked_shl(count).map_or(u32::MAX, |next| next - 1);
            // No issuer application data is longer than 32 bytes: what lies behind is not there.
            ones.checked_shl(bytes.before()).unwrap_or_default()
        };
        self.parts().fold(0, |covered, part| {
            covered
                | match part {
                    Part::Element(IAD) => u32::MAX,
                    Part::BytesOf(IAD, bytes) => of(bytes),
                    Part::Cvr => of(view.shape.cvr),
                    Part::Counters => view.shape.counters.map_or(0, of),
                    Part::Element(_) | Part::BytesOf(..) => 0,
                }
        })
    }

    /// What a cryptogram covers of this chip data; `None` where a part is missing.
    #[must_use]
    pub fn data(&self, chip: &ChipData, view: &IadView<'_>) -> Option<CoveredData> {
        let mut data = CoveredData::default();
        let iad = chip.element(IAD)?;
        for part in self.parts() {
            let bytes = match part {
                Part::Element(tag) => chip.element(tag)?,
                Part::BytesOf(tag, bytes) => bytes.of(chip.element(tag)?)?,
                Part::Cvr => view.shape.cvr.of(iad)?,
                // A chip of this shape that has none covers none.
                Part::Counters => view.shape.counters?.of(iad).unwrap_or_default(),
            };
            data.push(bytes)?;
        }
        Some(data)
    }
}

/// The part as it is written in a configuration.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Element(tag) => write!(f, "{tag:02X}"),
            Part::BytesOf(tag, Bytes { first, last }) if first == last => {
                write!(f, "{tag:02X}[{first}]")
            }
            Part::BytesOf(tag, Bytes { first, last }) => write!(f, "{tag:02X}[{first}-{last}]"),
            Part::Cvr => f.write_str("cvr"),
            Part::Counters => f.write_str("counters"),
        }
    }
}

impl fmt::Debug for Covers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts().map(|part| part.to_string())).finish()
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CvnRow {
    /// The scheme of the card.
    pub scheme: Scheme,
    /// Cryptogram version number.
    pub cvn: u8,
    /// What the cryptogram covers.
    pub covers: Covers,
    /// How cryptograms and scripts are made.
    pub profile: CryptogramProfile,
    /// What tells the chip that the issuer approves; `None` is the authorization response code in
    /// ASCII. It is one that the ARPC method takes.
    pub approve: Option<IssuerAnswer>,
    /// What tells the chip that the issuer declines; `None` as above.
    pub decline: Option<IssuerAnswer>,
}

impl CvnRow {
    /// What tells the chip of a decision with this authorization response code.
    #[must_use]
    pub fn answer(&self, response_code: [u8; 2], approves: bool) -> IssuerAnswer {
        let answer = if approves { self.approve } else { self.decline };
        answer.unwrap_or(IssuerAnswer::Code(response_code))
    }
}

const VISA_10: CryptogramProfile = CryptogramProfile {
    card_keys: CardKeyMethod::A,
    session_key: SessionKeyMethod::None,
    padding: MacPadding::Zeros,
    arpc: ArpcMethod::One(ArpcKey::Card),
    script_keys: ScriptKeyMethod::VisaAtc,
    script_pin: ScriptPinMethod::Vis,
};

/// What the cryptograms of chips without contact (qVSDC) cover: amount, unpredictable number, ATC
/// and the second byte of the CVR, which is the fifth of 9F10.
const VISA_17_COVERS: Covers = Covers::of(&[
    Part::Element(0x9F02),
    Part::Element(0x9F37),
    Part::Element(0x9F36),
    Part::BytesOf(IAD, Bytes { first: 5, last: 5 }),
]);

const VISA_18: CryptogramProfile = CryptogramProfile {
    card_keys: CardKeyMethod::B,
    session_key: SessionKeyMethod::Common,
    padding: MacPadding::Bit,
    arpc: ArpcMethod::Two,
    ..VISA_10
};

const VISA_22: CryptogramProfile = CryptogramProfile {
    script_keys: ScriptKeyMethod::Common { counts: false },
    script_pin: ScriptPinMethod::Iso2Padded,
    ..VISA_18
};

const M_CHIP_10: CryptogramProfile = CryptogramProfile {
    card_keys: CardKeyMethod::A,
    session_key: SessionKeyMethod::Skd,
    padding: MacPadding::Bit,
    arpc: ArpcMethod::One(ArpcKey::Card),
    script_keys: ScriptKeyMethod::Common { counts: true },
    script_pin: ScriptPinMethod::Iso2,
};

const M_CHIP_14: CryptogramProfile = CryptogramProfile {
    session_key: SessionKeyMethod::Common,
    arpc: ArpcMethod::One(ArpcKey::Session),
    ..M_CHIP_10
};

const CCD: CryptogramProfile =
    CryptogramProfile { script_pin: ScriptPinMethod::Iso2Chained, ..VISA_22 };

/// The row of a CVN, of the product's own or of the table; `None` where nobody knows it.
#[must_use]
pub fn row(own: &[CvnRow], scheme: Scheme, cvn: u8) -> Option<CvnRow> {
    let own = own.iter().find(|row| (row.scheme, row.cvn) == (scheme, cvn));
    own.copied().or_else(|| built_in(scheme, cvn))
}

/// The rows that a product can come to, each with each shape by which it comes there.
#[must_use]
pub fn reached<'a>(shapes: &'a Shapes, own: &[CvnRow]) -> Vec<(&'a IadShape, CvnRow)> {
    let all = shapes.all().flat_map(|(scheme, shape)| {
        let cvns = (0..=u8::MAX).filter(move |cvn| scheme.has_cvn(*cvn) && shape.has_cvn(*cvn));
        cvns.filter_map(move |cvn| Some((shape, row(own, scheme, cvn)?)))
    });
    all.collect()
}

/// Whether a cryptogram that is right by one of two rows can be right by the other, whose shape
/// reads the CVR differently.
#[must_use]
pub fn is_mistakable(one: (&IadShape, CvnRow), other: (&IadShape, CvnRow)) -> bool {
    let layout = |shape: &IadShape| (shape.layout, shape.cvr.first);
    // For a PAN of up to 16 digits, both methods of the card's keys are the same.
    let keys = |it: CryptogramProfile| (it.session_key, it.padding);
    if layout(one.0) == layout(other.0) || keys(one.1.profile) != keys(other.1.profile) {
        return false;
    }
    // One place under the cryptogram, where it is another byte by each.
    let tells_apart = |(a, b): (&(u16, u8), &(u16, u8))| {
        let (value, fixed) = one.0.fixed_byte(a.1, one.1.cvn);
        let (of_other, fixed_by_other) = other.0.fixed_byte(b.1, other.1.cvn);
        (a.0, b.0) == (IAD, IAD) && (value ^ of_other) & fixed & fixed_by_other != 0
    };
    let can_be_both = |a: &Covered, b: &Covered| {
        let mut both = a.bytes.iter().zip(&b.bytes);
        let begin_alike = both.clone().all(|(a, b)| a == b);
        let can_be_alike = a.is_open || b.is_open || a.blocks == b.blocks;
        (begin_alike || can_be_alike) && !both.any(tells_apart)
    };
    let of_other = Covered::of(other);
    Covered::of(one).iter().any(|a| of_other.iter().any(|b| can_be_both(a, b)))
}

/// What a cryptogram covers of 9F10 with one length.
struct Covered {
    /// Each byte: of which element, and its number there, from 1; up to one of unknown length.
    bytes: Vec<(u16, u8)>,
    /// An element of unknown length is behind them.
    is_open: bool,
    /// What its length comes to: those of two that are unlike are never made the same by padding.
    blocks: usize,
}

impl Covered {
    /// For each length of 9F10 that the shape can have.
    fn of((shape, row): (&IadShape, CvnRow)) -> Vec<Covered> {
        let with = |length| {
            let whole = Bytes { first: 1, last: length };
            let (mut bytes, mut is_open) = (Vec::new(), false);
            for part in row.covers.parts() {
                let (tag, of) = match part {
                    Part::Element(IAD) => (IAD, Some(whole)),
                    Part::Element(tag) => {
                        (tag, element_bytes(tag).map(|last| Bytes { first: 1, last }))
                    }
                    Part::BytesOf(tag, bytes) => (tag, Some(bytes)),
                    Part::Cvr => (IAD, Some(shape.cvr)),
                    Part::Counters => match shape.counters {
                        Some(counters) if counters.last <= length => (IAD, Some(counters)),
                        _ => continue,
                    },
                };
                let Some(of) = of else {
                    is_open = true;
                    break;
                };
                bytes.extend((of.first..=of.last).map(|number| (tag, number)));
            }
            let blocks = match row.profile.padding {
                MacPadding::Zeros => bytes.len().div_ceil(8),
                MacPadding::Bit => bytes.len(),
            };
            Covered { bytes, is_open, blocks }
        };
        (1..=63).filter(|length| shape.lengths >> length & 1 == 1).map(with).collect()
    }
}

/// How many bytes an element of the chip data has, where that is known: those that are read.
#[must_use]
pub const fn element_bytes(tag: u16) -> Option<u8> {
    Some(match tag {
        0x9F26 => 8,
        0x9F02 | 0x9F03 => 6,
        0x95 => 5,
        0x9F37 => 4,
        0x9A | 0x9F34 => 3,
        0x9F1A | 0x5F2A | 0x82 | 0x9F36 => 2,
        0x9C | 0x9F27 | 0x5F34 => 1,
        _ => return None,
    })
}

/// The row of a CVN in the table. Visa's code is the authorization response code, M/Chip's are bits
/// of its own; an approval resets the counters of what was spent offline.
#[must_use]
pub fn built_in(scheme: Scheme, cvn: u8) -> Option<CvnRow> {
    let (covers, profile) = match (scheme, cvn) {
        (Scheme::Visa, 0x0A) => (Covers::CVR, VISA_10),
        (Scheme::Visa, 0x11) => (VISA_17_COVERS, VISA_10),
        (Scheme::Visa, 0x12) => (Covers::WHOLE, VISA_18),
        (Scheme::Visa, 0x22) => (Covers::WHOLE, VISA_22),
        (Scheme::Mastercard, 0x10) => (Covers::CVR, M_CHIP_10),
        (Scheme::Mastercard, 0x11) => (Covers::CVR_AND_COUNTERS, M_CHIP_10),
        (Scheme::Mastercard, 0x14) => (Covers::CVR, M_CHIP_14),
        (Scheme::Mastercard, 0x15) => (Covers::CVR_AND_COUNTERS, M_CHIP_14),
        (Scheme::Ccd, 0xA5) => (Covers::WHOLE, CCD),
        _ => return None,
    };
    let (code, update) = (IssuerAnswer::Code, IssuerAnswer::Update);
    let (approve, decline) = match (profile.arpc, scheme) {
        (ArpcMethod::Two, _) => (Some(update([0x00, 0x82, 0x00, 0x00])), Some(update([0; 4]))),
        (ArpcMethod::One(_), Scheme::Mastercard) => (Some(code([0x00, 0x12])), Some(code([0; 2]))),
        (ArpcMethod::One(_), _) => (None, None),
    };
    Some(CvnRow { scheme, cvn, covers, profile, approve, decline })
}
