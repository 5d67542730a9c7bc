//! What makes two messages the same, and what a reversal names its original by: keyed digests, so
//! that a record gives no PAN away to somebody who guesses.

use siphasher::sip128::SipHasher24;
use smallvec::SmallVec;

use crate::authorization::Request;
use crate::authorization::reversal::{OriginalElements, institution, trimmed};
use crate::cards::{CardKey, Expiry};

/// Class and function of a message type, its second and third digit. The default is none at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MessageKind(u8);

impl MessageKind {
    /// Of the digits of an MTI.
    #[must_use]
    pub const fn of(mti: [u8; 4]) -> MessageKind {
        let [_, class, function, _] = mti;
        MessageKind((class & 0xF) << 4 | (function & 0xF))
    }

    /// As it is stored: class and function, four bits each.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        self.0
    }

    /// From [`MessageKind::to_byte`].
    #[must_use]
    pub const fn from_byte(byte: u8) -> MessageKind {
        MessageKind(byte)
    }

    /// Whether such a message can be reversed: authorizations and financial messages can, and
    /// the advices of both.
    #[must_use]
    pub const fn is_reversible(self) -> bool {
        matches!(self.0, 0x10 | 0x12 | 0x20 | 0x22)
    }

    /// Whether such a message asks for a decision, so that it is refused once it is reversed. An
    /// advice is acknowledged all the same.
    #[must_use]
    pub const fn is_decided(self) -> bool {
        matches!(self.0, 0x10 | 0x20)
    }
}

/// Minute and second of DE7, and DE11, in one number: by which requests are found where a reversal
/// does not say the rest. It is no digest: others may have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trace(u32);

impl Trace {
    /// Of DE7 and DE11.
    #[must_use]
    pub fn of([.., m1, m0, s1, s0]: &[u8; 10], stan: &[u8; 6]) -> Trace {
        let number = |digits: &[u8]| {
            digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit & 0xF))
        };
        // What is no digit may count for more than 9.
        let (minute, second) = (number(&[*m1, *m0]) % 60, number(&[*s1, *s0]) % 60);
        Trace((minute * 60 + second) * 1_000_000 + number(stan) % 1_000_000)
    }

    /// Whether it is of this DE11.
    #[must_use]
    pub fn has_stan(self, stan: &[u8; 6]) -> bool {
        self.0 % 1_000_000 == Trace::of(b"0000000000", stan).0
    }

    /// Mixed, so that the lowest bits depend on all of it.
    pub(super) const fn spread(self) -> u32 {
        self.0.wrapping_mul(0x9E37_79B1) >> 16
    }
}

/// What makes two messages the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DuplicateKey {
    /// Digest of network, version of the MTI, card, DE7, DE11 and DE32.
    pub digest: u128,
    /// By which the index is split, so that it is also known without the card.
    pub trace: Trace,
    /// Digest of DE37; 0 without one.
    pub rrn: u32,
    /// From the MTI.
    pub kind: MessageKind,
}

/// What a reversal says of its original: the requests that it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// As [`DuplicateKey::digest`], of what DE90 says, otherwise of the reversal's own elements.
    pub digest: u128,
    /// From the MTI in DE90.
    pub kind: Option<MessageKind>,
    /// Without DE90: digest of the reversal's DE37.
    pub rrn: Option<u32>,
}

impl Original {
    /// What no request is.
    pub const NOTHING: Original = Original { digest: 0, kind: None, rrn: None };

    /// In the place of the digest of DE37 where the other digest is of a part of a key.
    pub const IN_PART: u32 = u32::MAX;

    /// As it is stored: any is what no request has.
    #[must_use]
    pub fn to_key(&self) -> DuplicateKey {
        let Original { digest, kind, rrn } = *self;
        let (kind, rrn) = (kind.unwrap_or_default(), rrn.unwrap_or_default());
        DuplicateKey { digest, trace: Trace::default(), kind, rrn }
    }

    /// From [`Original::to_key`].
    #[must_use]
    pub fn from_key(key: &DuplicateKey) -> Original {
        Original {
            digest: key.digest,
            kind: Some(key.kind).filter(|kind| *kind != MessageKind::default()),
            rrn: Some(key.rrn).filter(|rrn| *rrn != 0),
        }
    }

    /// Whether a request is what this speaks of.
    #[must_use]
    pub fn is(&self, key: &DuplicateKey) -> bool {
        self.digest == key.digest
            && self.is_of(key.kind)
            && self.rrn.is_none_or(|rrn| rrn == key.rrn)
    }

    /// Whether it can be a message of this kind.
    #[must_use]
    pub fn is_of(&self, kind: MessageKind) -> bool {
        kind.is_reversible() && self.kind.is_none_or(|own| own == kind)
    }
}

/// What a reversal says of its original, as far as it says it.
#[derive(Clone, Copy, Debug)]
pub struct Sought {
    /// Version of its message type.
    pub version: u8,
    /// Class and function of its message type.
    pub kind: Option<MessageKind>,
    /// Digest of its PAN.
    pub card: Option<CardKey>,
    /// Its DE11.
    pub stan: Option<[u8; 6]>,
    /// Its DE7.
    pub transmission_time: Option<[u8; 10]>,
    /// Its DE37.
    pub rrn: Option<[u8; 12]>,
    /// Its DE32, filled with zero bytes; nothing else where it is not known. Without the card it
    /// must be the same, for a DE11 is one acquirer's own.
    pub acquirer: [u8; 11],
}

impl Sought {
    /// What a reversal can mean, the likeliest first: what DE90 says, otherwise what its own
    /// elements do. `card` is the digest of its PAN.
    #[must_use]
    pub fn all(reversal: &Request, card: Option<CardKey>) -> SmallVec<[Sought; 2]> {
        let own = Sought {
            version: reversal.mti.version(),
            kind: None,
            card,
            stan: Some(reversal.stan),
            transmission_time: Some(reversal.transmission_time),
            rrn: reversal.rrn,
            acquirer: reversal.acquirer,
        };
        let named = |original: &OriginalElements| Sought {
            version: original.mti.version(),
            kind: Some(MessageKind::of(original.mti.digits())),
            card,
            stan: original.stan,
            transmission_time: original.transmission_time,
            rrn: original.rrn,
            acquirer: original.acquirer,
        };
        match reversal.original.is_empty() {
            true => SmallVec::from_iter([own]),
            false => reversal.original.iter().map(named).collect(),
        }
    }

    /// By which it is found without the card.
    #[must_use]
    pub fn trace(&self) -> Option<Trace> {
        Some(Trace::of(self.transmission_time.as_ref()?, self.stan.as_ref()?))
    }

    /// Whether it can be a message of this kind.
    #[must_use]
    pub fn is_of(&self, kind: MessageKind) -> bool {
        kind.is_reversible() && self.kind.is_none_or(|own| own == kind)
    }

    /// Whether a request with this key and this DE37 may be it.
    #[must_use]
    pub fn may_be(&self, key: &DuplicateKey, rrn: Option<&[u8; 12]>) -> bool {
        self.is_of(key.kind)
            && self.trace().is_none_or(|trace| trace == key.trace)
            && self.stan.is_none_or(|stan| key.trace.has_stan(&stan))
            && self.has_rrn(rrn)
    }

    /// Whether DE37 of a request is the one that it says, however each is filled up.
    #[must_use]
    pub fn has_rrn(&self, rrn: Option<&[u8; 12]>) -> bool {
        self.rrn.is_none_or(|known| rrn.is_some_and(|rrn| trimmed(rrn) == trimmed(&known)))
    }

    /// Whether DE32 of a request is the one that it says.
    #[must_use]
    pub fn has_acquirer(&self, acquirer: &[u8; 11]) -> bool {
        let own = institution(&self.acquirer);
        own == institution(acquirer) || own.is_empty() && self.card.is_some()
    }
}

/// Keyed digest of what an equal request must have equal: DE3, DE4, DE14, DE49, 9F26, 9F36, and
/// DE90 of a reversal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyDigest(pub u64);

/// What a reversal speaks of, and where that is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The requests that it fits.
    pub original: Original,
    /// Of their DE7 and DE11.
    pub trace: Trace,
}

/// Card, DE7 and DE11, DE32 and DE37: what is known of a request.
type Part<'a> = (
    Option<&'a CardKey>,
    Option<(&'a [u8; 10], &'a [u8; 6])>,
    Option<&'a [u8; 11]>,
    Option<&'a [u8; 12]>,
);

/// Room for what is usually digested at once, in bytes.
const DIGESTED_BYTES: usize = 128;

/// The secret under which all of this is digested: SipHash-2-4 with 128 bits.
#[derive(Clone)]
pub struct DuplicateHasher(SipHasher24);

impl DuplicateHasher {
    /// From a key of 16 bytes.
    #[must_use]
    pub fn new(key: &[u8; 16]) -> DuplicateHasher {
        DuplicateHasher(SipHasher24::new_with_key(key))
    }

    /// The key of a request on a network. `card` is [`CardKey::NONE`] for a reversal without a
    /// PAN.
    #[must_use]
    pub fn key(&self, network: &str, card: &CardKey, request: &Request) -> DuplicateKey {
        let mti = request.mti.digits();
        let parts = (request.mti.version(), &request.transmission_time, &request.stan);
        DuplicateKey {
            digest: self.request(network, card, parts, &request.acquirer),
            trace: Trace::of(&request.transmission_time, &request.stan),
            rrn: request.rrn.as_ref().map(|rrn| self.rrn(rrn)).unwrap_or_default(),
            kind: MessageKind::of(mti),
        }
    }

    /// What a reversal forbids that names card, DE7 and DE11: of DE90 whatever DE37, otherwise the
    /// one with its own.
    #[must_use]
    pub fn named(&self, network: &str, sought: &Sought) -> Option<Named> {
        let (card, trace) = (sought.card.as_ref()?, sought.trace()?);
        let parts = (sought.version, sought.transmission_time.as_ref()?, sought.stan.as_ref()?);
        let rrn = sought.rrn.as_ref().map(|rrn| self.rrn(rrn));
        let digest = self.request(network, card, parts, &sought.acquirer);
        let original = Original { digest, kind: sought.kind, rrn };
        Some(Named { original, trace })
    }

    /// What a reversal forbids that says less, if nobody knows its original: every request that
    /// fits. Nothing where that would be too many: a card may have paid with one DE11 on two days.
    #[must_use]
    pub fn named_in_part(&self, network: &str, sought: &Sought) -> Option<Original> {
        let Sought { version, kind, card, rrn, acquirer, .. } = sought;
        let time_and_stan = sought.transmission_time.as_ref().zip(sought.stan.as_ref());
        let known = match (card, time_and_stan, rrn) {
            (Some(card), Some(_), _) => (Some(card), time_and_stan, None, None),
            (Some(card), None, Some(rrn)) => (Some(card), None, None, Some(rrn)),
            (None, Some(_), _) if !institution(acquirer).is_empty() => {
                (None, time_and_stan, Some(acquirer), None)
            }
            _ => return None,
        };
        let digest = self.part(network, *version, known);
        Some(Original { digest, kind: *kind, rrn: Some(Original::IN_PART) })
    }

    /// All that such reversals could say of a request, as keys.
    #[must_use]
    pub fn parts(&self, network: &str, card: &CardKey, request: &Request) -> [DuplicateKey; 3] {
        let time_and_stan = Some((&request.transmission_time, &request.stan));
        let known = [
            (None, time_and_stan, Some(&request.acquirer), None),
            (Some(card), time_and_stan, None, None),
            (Some(card), None, None, request.rrn.as_ref()),
        ];
        let key = self.key(network, &CardKey::NONE, request);
        known.map(|known| DuplicateKey {
            digest: self.part(network, request.mti.version(), known),
            rrn: Original::IN_PART,
            ..key
        })
    }

    fn part(
        &self,
        network: &str,
        version: u8,
        (card, time_and_stan, acquirer, rrn): Part<'_>,
    ) -> u128 {
        let card = card.map_or(&[][..], |card| &card.0);
        let time = time_and_stan.map_or(&[][..], |(time, _)| time);
        let stan = time_and_stan.map_or(&[][..], |(_, stan)| stan);
        let acquirer = acquirer.map_or(&[][..], institution);
        let rrn = rrn.map_or(&[][..], |rrn| trimmed(rrn));
        let network = network.as_bytes();
        self.digest(&[b"part", network, &[version], card, time, stan, acquirer, rrn])
    }

    /// The digest of the body of a request.
    #[must_use]
    pub fn body(&self, request: &Request) -> BodyDigest {
        let amount = request.amount.minor_units.to_be_bytes();
        let currency = request.amount.currency.to_be_bytes();
        let expiry = request.expiry.map(Expiry::digits);
        let expiry = expiry.as_ref().map_or(&[][..], |digits| digits);
        let chip = request.chip.as_deref();
        let cryptogram = chip.and_then(|chip| chip.cryptogram.as_ref());
        let cryptogram = cryptogram.map_or(&[][..], |value| value);
        let atc = chip.and_then(|chip| chip.atc.as_ref()).map_or(&[][..], |value| value);
        let code = &request.processing_code.0;
        let original = request.original.first().map(original_bytes).unwrap_or_default();
        let parts = [&code[..], &amount, &currency, expiry, cryptogram, atc, &original];
        let [high, _] = halves(self.digest(&parts));
        BodyDigest(high)
    }

    fn request(
        &self,
        network: &str,
        card: &CardKey,
        (version, time, stan): (u8, &[u8; 10], &[u8; 6]),
        acquirer: &[u8; 11],
    ) -> u128 {
        let acquirer = institution(acquirer);
        self.digest(&[network.as_bytes(), &[version], &card.0, time, stan, acquirer])
    }

    /// The digest of DE37, on whichever side it is filled up with blanks; never 0, nor
    /// [`Original::IN_PART`].
    fn rrn(&self, rrn: &[u8; 12]) -> u32 {
        let [.., a, b, c, d] = self.digest(&[rrn.trim_ascii()]).to_be_bytes();
        u32::from_be_bytes([a, b, c, d]).clamp(1, Original::IN_PART - 1)
    }

    fn digest(&self, parts: &[&[u8]]) -> u128 {
        // In one piece: the hasher takes longer to begin and end a piece than to digest it.
        let length = parts.iter().map(|part| 1 + part.len()).sum();
        let mut bytes = SmallVec::<[u8; DIGESTED_BYTES]>::from_elem(0, length);
        let mut rest = bytes.as_mut_slice();
        for part in parts {
            // Each part with its length, so that no two lists of parts give the same bytes.
            let room = rest.split_off_mut(..=part.len()).and_then(<[u8]>::split_first_mut);
            let Some((length, content)) = room else {
                debug_assert!(false, "there is room for each part and its length");
                break;
            };
            *length = u8::try_from(part.len()).unwrap_or(u8::MAX);
            content.copy_from_slice(part);
        }
        self.0.hash(&bytes).as_u128()
    }
}

impl std::fmt::Debug for DuplicateHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DuplicateHasher(..)")
    }
}

/// What DE90 says, in one piece.
fn original_bytes(original: &OriginalElements) -> SmallVec<[u8; 31]> {
    let OriginalElements { mti, stan, transmission_time, rrn, acquirer } = original;
    let stan = stan.as_ref().map_or(&[][..], |stan| stan);
    let time = transmission_time.as_ref().map_or(&[][..], |time| time);
    let rrn = rrn.as_ref().map_or(&[][..], |rrn| rrn);
    let parts: [&[u8]; 5] = [&mti.digits(), stan, time, rrn, institution(acquirer)];
    parts.into_iter().flatten().copied().collect()
}

/// A digest in two parts of 64 bits.
pub(super) fn halves(digest: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = digest.to_be_bytes();
    [u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes(rest)]
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use iso_specs::{Mti, OutgoingMessage, Spec, decode};
    use siphasher::sip128::Hasher128;

    use super::*;
    use crate::authorization::{Route, route};

    /// A message of a card on the network "net", in the dialect of jPOS.
    fn message(mti: &[u8; 4], more: &[(u8, &[u8])]) -> Request {
        let dialect = Spec::from_toml(Spec::builtin("iso8583-1987-ascii").unwrap()).unwrap();
        let mut message = OutgoingMessage::new(Mti::new(*mti).unwrap());
        message.set(2, b"4761340000000027").set(3, b"010000").set(4, b"000000001250");
        message.set(7, b"1121120000").set(11, b"004071").set(14, b"2912").set(32, b"0012345");
        message.set(49, b"978");
        for (element, value) in more {
            message.set(*element, value);
        }
        let mut frame = Vec::new();
        message.encode(&dialect, &mut frame).unwrap();
        Request::parse(&decode(&dialect, &frame).unwrap()).unwrap()
    }

    /// Digests are stored: they must stay as they are.
    #[test]
    fn a_digest_is_of_each_part_behind_its_length() {
        let hasher = DuplicateHasher::new(&[7; 16]);
        let longer = [9; 2 * DIGESTED_BYTES];
        for parts in [&[&b"net"[..], &[1], &[], &longer[..16]][..], &[&longer[..], b"more"], &[]] {
            let mut stream = SipHasher24::new_with_key(&[7; 16]);
            for part in parts {
                stream.write(&[u8::try_from(part.len()).unwrap_or(u8::MAX)]);
                stream.write(part);
            }
            assert_eq!(hasher.digest(parts), stream.finish128().as_u128());
        }
    }

    /// What earlier releases have stored must still be found: which parts a digest has, in which
    /// order, and how DE32 and DE37 are trimmed.
    #[test]
    fn the_digests_of_a_message_are_those_of_earlier_releases() {
        let (hasher, card) = (DuplicateHasher::new(&[7; 16]), CardKey([9; 16]));
        let cryptogram = [0x9F, 0x26, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0x9F, 0x36, 2, 0, 7];
        let request = message(b"0100", &[(22, b"051"), (37, b"0000004077  "), (55, &cryptogram)]);
        let key = hasher.key("net", &card, &request);
        let digest = 0x5618_4175_13B1_4087_D6B4_A38E_0458_3171;
        let trace = Trace(4_071);
        assert_eq!(key, DuplicateKey { digest, trace, rrn: 0x2755_7807, kind: MessageKind(0x10) });
        assert_eq!(hasher.body(&request), BodyDigest(0x441B_C9C0_D48D_5ABC));
        let parts = hasher.parts("net", &card, &request);
        let wanted = [
            0xC486_A66E_1FA4_088B_CE62_7091_2EFF_CAA2,
            0x4A77_3507_4CDB_5751_BC92_6F54_C952_C6B8,
            0x6159_CA7E_0E5A_4133_C7A1_3D4C_EEDF_B63D,
        ];
        assert_eq!(parts.map(|part| part.digest), wanted);

        // DE90 says all of it, and the reversal has its own DE7, DE11 and DE37.
        let original = b"010000407111211200000000001234500000000000";
        let own: [(u8, &[u8]); 4] =
            [(7, b"1121120500"), (11, b"004072"), (37, b"  0000004078"), (90, original)];
        let reversal = message(b"0400", &own);
        let key = hasher.key("net", &card, &reversal);
        assert_eq!(key.digest, 0x7AB6_4BB6_38C9_ABC2_8939_F2B0_D589_38D4);
        assert_eq!((key.rrn, key.trace), (0xE97D_5D11, Trace(300_004_072)));
        assert_eq!(hasher.body(&reversal), BodyDigest(0x9333_A3FC_CBCC_AA68));
        let named = hasher.named("net", &Sought::all(&reversal, Some(card))[0]).unwrap();
        let original = Original { digest, kind: Some(MessageKind(0x10)), rrn: None };
        assert_eq!((named.original, named.trace), (original, trace));
    }

    #[test]
    fn what_can_be_reversed_is_what_the_routes_say() {
        for number in 0..10_000 {
            let digits: [u8; 4] = format!("{number:04}").as_bytes().try_into().unwrap();
            let Some(mti) = Mti::new(digits).filter(|mti| route(*mti) != Route::NotSupported)
            else {
                continue;
            };
            let (kind, route) = (MessageKind::of(digits), route(mti));
            assert_eq!(kind.is_decided(), route == Route::Authorization, "{number:04}");
            let reversible = matches!(route, Route::Authorization | Route::Advice);
            assert_eq!(kind.is_reversible(), reversible, "{number:04}");
        }
    }
}
