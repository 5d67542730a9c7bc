//! The issuer application data (9F10) and the card verification results in it: what the chip says
//! of itself, under its cryptogram. Which shape it has is seen by its length and its fixed bytes;
//! where what stands, and what each bit means, is one table for each shape. A product may have
//! shapes of its own.
//!
//! What chooses shape and version (length, first bytes) is not under every cryptogram: whoever
//! copies one chooses how its CVR is read. So no two rows of a product may take the same cryptogram
//! for right and read it differently: [`super::cvn::is_mistakable`] finds them, and the file is
//! refused.

use super::icc_data::OfflinePin;

/// A kind of card, by the shape of its issuer application data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// VIS, formats 0, 1 and 3 (7 bytes or more) and 2 and 4 (32 bytes).
    Visa,
    /// M/Chip.
    Mastercard,
    /// Common core definitions (EMV Book 3, C7), format code A.
    Ccd,
    /// The shape at this place among those of the product.
    Own(u8),
}

impl Scheme {
    /// The schemes whose shapes need no table of the product.
    pub const BUILT_IN: [Scheme; 3] = [Scheme::Visa, Scheme::Mastercard, Scheme::Ccd];

    /// Whether its issuer application data can have this cryptogram version number (CCD: common
    /// core identifier).
    #[must_use]
    pub const fn has_cvn(self, cvn: u8) -> bool {
        match self {
            Scheme::Visa | Scheme::Mastercard | Scheme::Own(_) => true,
            Scheme::Ccd => matches!(cvn, 0xA5 | 0xA6),
        }
    }

    /// The name of a built-in one in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Visa => "visa",
            Scheme::Mastercard => "mastercard",
            Scheme::Ccd => "ccd",
            Scheme::Own(_) => "",
        }
    }
}

/// Longest issuer application data, in bytes (EMV Book 3, A1).
pub const IAD_BYTES_MAX: usize = 32;

/// Bytes of issuer application data: the first and the last, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// The first byte, from 1 on.
    pub first: u8,
    /// The last byte, which is not before the first.
    pub last: u8,
}

impl Bytes {
    /// How many bytes stand in front of these.
    pub(super) fn before(self) -> u32 {
        u32::from(self.first).saturating_sub(1)
    }

    const fn new(first: u8, last: u8) -> Bytes {
        Bytes { first, last }
    }

    /// These bytes of a value; `None` where it ends before.
    #[must_use]
    pub fn of(self, value: &[u8]) -> Option<&[u8]> {
        value.get(usize::from(self.first).checked_sub(1)?..usize::from(self.last))
    }
}

/// A shape of issuer application data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IadShape {
    /// Bits of the first bytes that are fixed; `mask` says which.
    pub value: [u8; IAD_BYTES_MAX],
    /// Which bits of the first bytes are fixed.
    pub mask: [u8; IAD_BYTES_MAX],
    /// Bit n is set where it can have n bytes.
    pub lengths: u64,
    /// The byte with the cryptogram version number, from 1.
    pub cvn: u8,
    /// The card verification results (CVR).
    pub cvr: Bytes,
    /// Counters that a cryptogram may cover besides.
    pub counters: Option<Bytes>,
    /// What the CVR says.
    pub layout: Layout,
}

/// Bits of a byte of the CVR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// The byte, from 1.
    pub byte: u8,
    /// Its bits, one or more.
    pub mask: u8,
}

/// Where a shape keeps what in its CVR. What it does not say, nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The byte with the type of the second cryptogram in its two highest bits, and that of the
    /// first in the two below. Nothing else that is under the cryptogram tells them.
    pub types_byte: u8,
    /// An offline PIN was verified.
    pub performed: Option<Bits>,
    /// Of two that exclude each other, a shape has the one for failed, or for successful, or both.
    pub failed: Option<Bits>,
    /// It was right.
    pub successful: Option<Bits>,
    /// No PIN try is left.
    pub try_limit_exceeded: Option<Bits>,
    /// The number of PIN tries left.
    pub tries_left: Option<Bits>,
    /// The terminal takes an offline PIN for right that the chip did not verify.
    pub terminal_erroneously_ok: Option<Bits>,
    /// Issuer authentication failed: now, or in the last transaction that went online.
    pub issuer_authentication_failed: [Option<Bits>; 2],
    /// The number of script commands since the last cryptogram that went online.
    pub scripts: Option<Bits>,
    /// One of them failed.
    pub script_failed: Option<Bits>,
    /// The last online transaction was not completed.
    pub last_online_not_completed: Option<Bits>,
}

impl Layout {
    /// Whether it tells what became of a script.
    const fn tells_of_scripts(&self) -> bool {
        let [authentication, _] = self.issuer_authentication_failed;
        self.scripts.is_some() && self.script_failed.is_some() && authentication.is_some()
    }
}

const fn at(byte: u8, mask: u8) -> Option<Bits> {
    Some(Bits { byte, mask })
}

/// VIS 1.6, appendix A.
const VISA: Layout = Layout {
    types_byte: 2,
    performed: at(2, 0x04),
    failed: at(2, 0x02),
    successful: None,
    try_limit_exceeded: at(3, 0x40),
    tries_left: None,
    terminal_erroneously_ok: None,
    issuer_authentication_failed: [at(2, 0x08), at(3, 0x08)],
    scripts: at(4, 0xF0),
    script_failed: at(4, 0x08),
    last_online_not_completed: at(3, 0x80),
};

/// M/Chip Advance, CVR.
const MASTERCARD: Layout = Layout {
    types_byte: 1,
    performed: at(1, 0x04),
    failed: at(4, 0x10),
    successful: at(1, 0x01),
    try_limit_exceeded: at(4, 0x08),
    tries_left: at(3, 0x0F),
    terminal_erroneously_ok: at(4, 0x01),
    issuer_authentication_failed: [at(5, 0x04), None],
    scripts: at(3, 0xF0),
    script_failed: at(5, 0x01),
    last_online_not_completed: at(4, 0x80),
};

/// EMV Book 3, C7.
const CCD: Layout = Layout {
    types_byte: 1,
    performed: at(2, 0x08),
    failed: at(2, 0x04),
    successful: None,
    try_limit_exceeded: at(2, 0x02),
    tries_left: at(2, 0xF0),
    terminal_erroneously_ok: None,
    issuer_authentication_failed: [at(1, 0x01), None],
    scripts: at(4, 0xF0),
    script_failed: at(4, 0x08),
    last_online_not_completed: at(2, 0x01),
};

impl IadShape {
    /// A shape without fixed bytes.
    const fn new(lengths: u64, cvn: u8, cvr: Bytes, layout: Layout) -> IadShape {
        let (value, mask) = ([0; IAD_BYTES_MAX], [0; IAD_BYTES_MAX]);
        IadShape { value, mask, lengths, cvn, cvr, counters: None, layout }
    }

    /// This shape with bits of one byte fixed, which is counted from 0.
    #[allow(clippy::indexing_slicing, reason = "constants below, checked when compiled")]
    const fn fixed(mut self, place: usize, value: u8, mask: u8) -> IadShape {
        self.value[place] = value;
        self.mask[place] = mask;
        self
    }

    /// Whether all that has this other shape has this one too, apart from its length.
    #[must_use]
    pub fn holds(&self, other: &IadShape) -> bool {
        let own = self.value.iter().zip(&self.mask);
        let mut both = own.zip(other.value.iter().zip(&other.mask));
        both.all(|((a, fixed), (b, of_other))| fixed & !of_other == 0 && (a ^ b) & fixed == 0)
    }

    /// A byte of it, from 1, in a request with the cryptogram version number `cvn`; and which of
    /// its bits are fixed then.
    #[must_use]
    pub fn fixed_byte(&self, number: u8, cvn: u8) -> (u8, u8) {
        if number == self.cvn {
            return (cvn, 0xFF);
        }
        let of_cvr = number.checked_sub(self.cvr.first);
        match of_cvr.is_some_and(|place| place + 1 == self.layout.types_byte) {
            // The first cryptogram is an ARQC, with a second one or without.
            true => (0x20, 0x70),
            false => self.fixed_by_begin(number),
        }
    }

    /// Whether its fixed bytes leave room for this cryptogram version number.
    #[must_use]
    pub fn has_cvn(&self, cvn: u8) -> bool {
        let (value, fixed) = self.fixed_by_begin(self.cvn);
        (value ^ cvn) & fixed == 0
    }

    fn fixed_by_begin(&self, number: u8) -> (u8, u8) {
        let place = usize::from(number).wrapping_sub(1);
        let fixed = self.value.get(place).zip(self.mask.get(place));
        fixed.map_or((0, 0), |(value, mask)| (*value, *mask))
    }

    fn has(&self, iad: &Iad) -> bool {
        let mut fixed = self.value.iter().zip(&self.mask).zip(&iad.bytes);
        self.lengths >> iad.len & 1 == 1
            && fixed.all(|((value, mask), byte)| (byte ^ value) & mask == 0)
    }
}

/// The built-in shapes, the first that fits counts.
static SHAPES: [(Scheme, IadShape); 4] = [
    (
        Scheme::Ccd,
        IadShape {
            counters: Some(Bytes::new(9, 16)),
            ..IadShape::new(1 << 32, 2, Bytes::new(4, 8), CCD)
                .fixed(0, 0x0F, 0xFF)
                .fixed(16, 0x0F, 0xFF)
        },
    ),
    (Scheme::Visa, IadShape::new(1 << 32, 2, Bytes::new(4, 8), VISA).fixed(0, 0x1F, 0xFF)),
    (
        Scheme::Visa,
        IadShape::new(0x1_FFFF_FF80, 3, Bytes::new(4, 7), VISA)
            .fixed(0, 0x06, 0xFF)
            .fixed(3, 0x03, 0xFF),
    ),
    (
        Scheme::Mastercard,
        IadShape {
            counters: Some(Bytes::new(11, 18)),
            ..IadShape::new(1 << 18 | 1 << 20 | 1 << 26 | 1 << 28, 2, Bytes::new(3, 8), MASTERCARD)
        },
    ),
];

/// The shapes that a product knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// Shapes of the product's own, which come first.
    pub own: Vec<IadShape>,
    /// The schemes whose built-in shapes are known.
    pub built_in: Vec<Scheme>,
}

impl Default for Shapes {
    /// All shapes that are built in, and none of a product's own.
    fn default() -> Shapes {
        Shapes { own: Vec::new(), built_in: Scheme::BUILT_IN.to_vec() }
    }
}

impl Shapes {
    /// Each with its scheme; the first that fits counts.
    pub fn all(&self) -> impl Iterator<Item = (Scheme, &IadShape)> {
        let own = self.own.iter().zip(0_u8..).map(|(shape, place)| (Scheme::Own(place), shape));
        let built_in = SHAPES.iter().filter(|(scheme, _)| self.built_in.contains(scheme));
        own.chain(built_in.map(|(scheme, shape)| (*scheme, shape)))
    }
}

/// Issuer application data, up to 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iad {
    /// Zeros follow the bytes that were taken.
    bytes: [u8; IAD_BYTES_MAX],
    len: u8,
}

impl Iad {
    /// Takes up to 32 bytes.
    #[must_use]
    pub fn new(value: &[u8]) -> Option<Iad> {
        let mut bytes = [0; IAD_BYTES_MAX];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(Iad { bytes, len: u8::try_from(value.len()).ok()? })
    }

    /// The bytes as they came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        debug_assert!(usize::from(self.len) <= IAD_BYTES_MAX, "no more are taken");
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Its first bytes, up to four, as a number; a one stands in front of them.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.bytes().iter().take(4).fold(1, |head, byte| head << 8 | u64::from(*byte))
    }

    /// What it says, by the shapes of the product; `None` for one that nobody knows.
    #[must_use]
    pub fn view<'a>(&'a self, shapes: &'a Shapes) -> Option<IadView<'a>> {
        let (scheme, shape) = shapes.all().find(|(_, shape)| shape.has(self))?;
        let cvn = *self.bytes().get(usize::from(shape.cvn).checked_sub(1)?)?;
        let cvr = shape.cvr.of(self.bytes())?;
        let view = IadView { scheme, cvn, cvr, shape };
        scheme.has_cvn(cvn).then_some(view)
    }
}

/// What issuer application data says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IadView<'a> {
    /// The scheme whose shape it has.
    pub scheme: Scheme,
    /// Cryptogram version number.
    pub cvn: u8,
    /// The card verification results.
    cvr: &'a [u8],
    /// The shape by which it was read.
    pub shape: &'a IadShape,
}

impl IadView<'_> {
    /// What the CVR says under a cryptogram that covers these bytes of the issuer application data:
    /// bit n for the byte n, from 0. What it does not cover is not believed.
    #[must_use]
    pub fn results(&self, covered: u32) -> Cvr {
        let mut covered = covered >> self.shape.cvr.before();
        let (mut cvr, mut is_covered) = ([0; IAD_BYTES_MAX], true);
        for (to, byte) in cvr.iter_mut().zip(self.cvr) {
            match covered & 1 {
                1 => *to = *byte,
                _ => is_covered = false,
            }
            covered >>= 1;
        }
        Cvr::read(&self.shape.layout, &cvr, is_covered)
    }
}

/// What the chip says that it did, in this transaction and in the last one that went online.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cvr {
    /// Types of the second cryptogram (C0; 80: not requested) and of the first (30; 20: ARQC).
    types: u8,
    /// The cryptogram covers all of it.
    pub is_covered: bool,
    /// Offline PIN verification in this transaction.
    pub offline_pin: OfflinePin,
    /// No PIN try is left.
    pub try_limit_exceeded: bool,
    /// PIN tries left, where the shape tells.
    pub tries_left: Option<u8>,
    /// The terminal takes an offline PIN for right that the chip did not verify (M/Chip).
    pub terminal_erroneously_ok: bool,
    /// Whether it tells what became of a script.
    pub tells_of_scripts: bool,
    /// Issuer authentication failed.
    pub issuer_authentication_failed: bool,
    /// Script commands that were processed after the last cryptogram that went online.
    pub scripts_processed: u8,
    /// One of them failed.
    pub script_failed: bool,
    /// The last online transaction was not completed.
    pub last_online_not_completed: bool,
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

    fn read(layout: &Layout, cvr: &[u8; IAD_BYTES_MAX], is_covered: bool) -> Cvr {
        // What the CVR or its layout does not have, 0 there, has no bit set.
        let byte = |number: u8| {
            let place = usize::from(number).checked_sub(1);
            place.and_then(|place| cvr.get(place)).copied().unwrap_or(0)
        };
        let is_set = |bits: Option<Bits>| bits.is_some_and(|bits| byte(bits.byte) & bits.mask != 0);
        let number = |bits: Bits| {
            (byte(bits.byte) & bits.mask).checked_shr(bits.mask.trailing_zeros()).unwrap_or(0)
        };
        let (failed, authentication) = (is_set(layout.failed), layout.issuer_authentication_failed);
        let offline_pin = match is_set(layout.performed) {
            false => OfflinePin::NotPerformed,
            // A chip that says both, or neither where it could say "successful", is not believed.
            true if failed || layout.successful.is_some() && !is_set(layout.successful) => {
                OfflinePin::Failed
            }
            true => OfflinePin::Successful,
        };
        Cvr {
            types: byte(layout.types_byte) & 0xF0,
            is_covered,
            offline_pin,
            try_limit_exceeded: is_set(layout.try_limit_exceeded),
            tries_left: layout.tries_left.map(number),
            terminal_erroneously_ok: is_set(layout.terminal_erroneously_ok),
            tells_of_scripts: is_covered && layout.tells_of_scripts(),
            issuer_authentication_failed: authentication.into_iter().any(is_set),
            scripts_processed: layout.scripts.map_or(0, number),
            script_failed: is_set(layout.script_failed),
            last_online_not_completed: is_set(layout.last_online_not_completed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iad(hex: &str) -> Option<Iad> {
        let places = (0..hex.len()).step_by(2);
        let bytes: Vec<u8> =
            places.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        Iad::new(&bytes)
    }

    fn view(hex: &str) -> Option<(Scheme, u8, Cvr)> {
        let iad = iad(hex)?;
        iad.view(&Shapes::default()).map(|view| (view.scheme, view.cvn, view.results(u32::MAX)))
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
        for hex in ["", "06010A", "06010A04A00000", "07010A03A00000", &m_chip("10", 19)] {
            assert!(view(hex).is_none(), "{hex}");
        }
        for hex in [ccd.replace("000F", "000E"), ccd.replace("A5", "B5"), ccd[2..].into()] {
            assert!(view(&hex).is_none(), "{hex}");
        }
        // Whatever its cryptogram version is, it has the length of M/Chip.
        assert_eq!(view(&m_chip("82", 18)).unwrap().1, 0x82);
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

    fn beside_built_in(own: &[IadShape]) -> Shapes {
        Shapes { own: own.to_vec(), ..Shapes::default() }
    }

    /// Length, key index, CVN, CVR of four bytes with its length, algorithm.
    const OWN: IadShape =
        IadShape::new(1 << 8, 3, Bytes::new(4, 7), VISA).fixed(0, 0x07, 0xFF).fixed(3, 0x03, 0xFF);

    #[test]
    fn a_shape_of_the_product_comes_before_the_built_in_ones() {
        let own = iad("07020103A4000010").unwrap();
        assert_eq!(own.view(&Shapes::default()), None);
        assert_eq!(own.head(), 0x1_0702_0103);
        let shapes = beside_built_in(&[OWN]);
        let view = own.view(&shapes).unwrap();
        assert_eq!((view.scheme, view.cvn), (Scheme::Own(0), 0x01));
        assert_eq!(view.results(u32::MAX).offline_pin, OfflinePin::Successful);
        let any = IadShape::new(u64::MAX, 1, Bytes::new(1, 1), Layout::default());
        let both = beside_built_in(&[any, OWN]);
        assert_eq!(own.view(&both).unwrap().scheme, Scheme::Own(0));
        let visa = iad("06010A03A00000").unwrap();
        assert_eq!(visa.view(&shapes).unwrap().scheme, Scheme::Visa);
        assert_eq!(visa.view(&both).unwrap().cvn, 0x06);
        let without = Shapes { built_in: vec![Scheme::Ccd, Scheme::Mastercard], ..shapes };
        assert_eq!(visa.view(&without), None);
        // One that ends before what it should hold.
        let long = IadShape::new(u64::MAX, 1, Bytes::new(1, 9), Layout::default());
        assert_eq!(visa.view(&beside_built_in(&[long])), None);
        assert_eq!(
            (Iad::new(&[]).unwrap().head(), Iad::new(&[0; 9]).unwrap().head()),
            (1, 1 << 32)
        );
    }

    /// What a table does not say of a CVR is no evidence of anything.
    #[test]
    fn what_a_shape_does_not_say_nobody_knows() {
        let shapes = beside_built_in(&[IadShape { layout: Layout::default(), ..OWN }]);
        let results = iad("07020103FFFFFF10").unwrap().view(&shapes).unwrap().results(u32::MAX);
        assert_eq!(results, Cvr { is_covered: true, ..Cvr::default() });
        assert!(![false, true].map(|without| results.asks_to_go_online(without)).contains(&true));
    }

    #[test]
    fn what_the_cryptogram_does_not_cover_is_not_believed() {
        let visa = iad("06011103A4C098").unwrap();
        let shapes = Shapes::default();
        let of = |covered| visa.view(&shapes).unwrap().results(covered);
        let all = of(0b111_1000);
        assert!(all.is_covered && all.try_limit_exceeded && all.script_failed);
        assert!(all.tells_of_scripts && all.scripts_processed == 9);
        assert_eq!(of(u32::MAX), all);
        let fifth = of(0b1_0000);
        assert!(!fifth.is_covered && !fifth.tells_of_scripts && !fifth.try_limit_exceeded);
        assert_eq!((fifth.offline_pin, fifth.scripts_processed), (OfflinePin::Successful, 0));
        assert!(fifth.asks_to_go_online(true));
        assert_eq!(of(0).offline_pin, OfflinePin::NotPerformed);
        assert!(!of(0).asks_to_go_online(true));
    }
}
