//! Reads a product's own shapes of 9F10 and its rows of the table of CVNs.

use iso_specs::toml_keys::{Keys, integer};

use super::chip::{Names, name_or, named, one_of};
use super::is_empty_list;
use crate::authorization::cvn::{self, Covers, CvnRow, Part};
use crate::authorization::iad::{Bits, Bytes, IAD_BYTES_MAX, IadShape, Layout, Scheme, Shapes};
use crate::hex::from_hex;
use crate::hsm::emv::{
    ArpcKey, ArpcMethod, CardKeyMethod, CryptogramProfile, IssuerAnswer, MacPadding,
    ScriptKeyMethod, ScriptPinMethod, SessionKeyMethod,
};

const CARD_KEYS: Names<CardKeyMethod, 2> =
    [("option_a", CardKeyMethod::A), ("option_b", CardKeyMethod::B)];

const SESSION_KEYS: Names<SessionKeyMethod, 4> = [
    ("none", SessionKeyMethod::None),
    ("common", SessionKeyMethod::Common),
    ("skd", SessionKeyMethod::Skd),
    ("emv2000", SessionKeyMethod::Emv2000),
];

const COVERED_IAD: Names<Covers, 3> = [
    ("cvr", Covers::CVR),
    ("cvr_and_counters", Covers::CVR_AND_COUNTERS),
    ("whole", Covers::WHOLE),
];

const PADDING: Names<MacPadding, 2> = [("zeros", MacPadding::Zeros), ("bit", MacPadding::Bit)];

const ARPC: Names<ArpcMethod, 3> = [
    ("method_1_card_key", ArpcMethod::One(ArpcKey::Card)),
    ("method_1_session_key", ArpcMethod::One(ArpcKey::Session)),
    ("method_2", ArpcMethod::Two),
];

const SCRIPT_KEYS: Names<ScriptKeyMethod, 3> = [
    ("visa", ScriptKeyMethod::VisaAtc),
    ("common", ScriptKeyMethod::Common { counts: false }),
    ("common_counting", ScriptKeyMethod::Common { counts: true }),
];

const SCRIPT_PIN: Names<ScriptPinMethod, 4> = [
    ("vis", ScriptPinMethod::Vis),
    ("iso2_padded", ScriptPinMethod::Iso2Padded),
    ("iso2", ScriptPinMethod::Iso2),
    ("iso2_chained", ScriptPinMethod::Iso2Chained),
];

/// The shapes of 9F10 that a product knows, as its file says them.
pub(super) struct Iads<'k, 't> {
    tables: Vec<Keys<'k, 't>>,
    /// Those of its own, also of those with a mistake.
    names: Vec<String>,
    own: Option<Vec<IadShape>>,
    built_in: Vec<Scheme>,
}

/// The shapes of 9F10 that a product knows. Beside shapes of its own it knows the built-in ones
/// that it names: each one more is one more way to read a cryptogram.
pub(super) fn iads<'k, 't>(keys: &mut Keys<'k, 't>) -> Iads<'k, 't> {
    let expected = one_of(&Scheme::BUILT_IN.map(|scheme| format!("{:?}", scheme.name())));
    let named = keys.optional_items("built_in_shapes", &expected, |value| {
        let name = value.as_str()?;
        Scheme::BUILT_IN.into_iter().find(|scheme| scheme.name() == name)
    });
    let mut tables = keys.optional_tables("iad", "shape of 9F10");
    if tables.is_empty() && is_empty_list(keys, "built_in_shapes") {
        keys.mistake_of("built_in_shapes", "expected one, or a [[products.chip.iad]]");
    }
    let mut names: Vec<String> = Vec::new();
    let mut shapes: Vec<Option<IadShape>> = Vec::new();
    for keys in &mut tables {
        let name = keys.name("name", IAD_NAMES, |name| is_iad_name(name).then(|| name.to_owned()));
        if name.as_ref().is_some_and(|name| names.contains(name)) {
            keys.mistake_of("name", "one name is there twice");
        }
        let shape = iad(keys);
        if shape.is_some_and(|shape| is_hidden(&shape, shapes.iter().flatten())) {
            keys.mistake_of("begins", "what begins so has the shape of a table before this one");
        }
        shapes.push(shape.filter(|_| name.is_some()));
        names.push(name.unwrap_or_default());
        keys.finish();
    }
    let all = if tables.is_empty() { &Scheme::BUILT_IN[..] } else { &[] };
    let built_in = named.unwrap_or_else(|| all.to_vec());
    Iads { tables, names, own: shapes.into_iter().collect(), built_in }
}

/// Whether all that has a shape has one of those before it.
fn is_hidden<'a>(shape: &IadShape, before: impl Iterator<Item = &'a IadShape>) -> bool {
    let lengths = before.filter(|before| before.holds(shape)).fold(0, |all, it| all | it.lengths);
    shape.lengths & !lengths == 0
}

const IAD_NAMES: &str =
    "a name of small letters, digits, \"-\" and \"_\", and none of the built-in";

fn is_iad_name(name: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let is_built_in = Scheme::BUILT_IN.iter().any(|scheme| scheme.name() == name);
    (1..=32).contains(&name.len()) && name.bytes().all(fits) && !is_built_in
}

/// What 9F10 begins with, and where what stands in it.
fn iad(keys: &mut Keys<'_, '_>) -> Option<IadShape> {
    const BEGINS: &str = "bytes such as \"07 xx xx 03\", where xx is any byte, and not all are";
    const BYTES: &str = "bytes of 9F10, counted from 1, such as \"4-7\"";
    let longest = u8::try_from(IAD_BYTES_MAX).unwrap_or(u8::MAX);
    let begins = keys.name("begins", BEGINS, fixed_bytes);
    let cvn = keys.number("cvn", 1..=longest);
    let cvr = keys.name("cvr", BYTES, |text| bytes(text, longest));
    let counters = keys.optional_name("counters", BYTES, |text| bytes(text, longest));
    let expected = format!("a number from 1 to {longest}");
    let lengths = keys.optional_items("lengths", &expected, |value| {
        integer(value).filter(|length| (1..=longest).contains(length))
    });
    let layout = layout(keys, cvr.map_or(longest, |cvr| cvr.last - cvr.first + 1));
    let ((value, mask), cvn, cvr) = (begins?, cvn?, cvr?);
    let fixed = mask.iter().rposition(|mask| *mask != 0).map_or(0, |place| place + 1);
    let least = cvr.last.max(cvn).max(u8::try_from(fixed).unwrap_or(longest));
    let lengths = lengths.unwrap_or_else(|| (least..=longest).collect());
    let fits = !lengths.is_empty() && lengths.iter().all(|length| *length >= least);
    if !fits {
        keys.mistake_of("lengths", format!("expected {least} bytes or more, for what is named"));
    }
    if counters.is_some_and(|counters| lengths.iter().all(|length| *length < counters.last)) {
        keys.mistake_of("counters", "no 9F10 of these lengths has them");
    }
    let lengths = lengths.iter().fold(0, |lengths, length| lengths | 1_u64 << length);
    let shape = IadShape { value, mask, lengths, cvn, cvr, counters, layout: layout? };
    fits.then_some(shape)
}

/// The bytes with which something begins, and the bits of them that are fixed: all or none. One
/// byte is fixed at least, or everything would begin so.
fn fixed_bytes(text: &str) -> Option<([u8; IAD_BYTES_MAX], [u8; IAD_BYTES_MAX])> {
    let (mut value, mut mask) = ([0; IAD_BYTES_MAX], [0; IAD_BYTES_MAX]);
    let mut places = value.iter_mut().zip(&mut mask);
    for word in text.split(' ') {
        let (value, mask) = places.next()?;
        if word != "xx" {
            (*value, *mask) = (one_byte(word)?, 0xFF);
        }
    }
    Some((value, mask)).filter(|(_, mask)| mask.contains(&0xFF))
}

fn one_byte(digits: &str) -> Option<u8> {
    match from_hex(digits)?[..] {
        [byte] => Some(byte),
        _ => None,
    }
}

/// One byte or some, counted from 1 to `last`.
fn bytes(text: &str, last: u8) -> Option<Bytes> {
    let number = |text: &str| {
        let number = text.parse().ok().filter(|number| (1..=last).contains(number))?;
        (text == number.to_string()).then_some(number)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let bytes = Bytes { first: number(first)?, last: number(last)? };
    (bytes.first <= bytes.last).then_some(bytes)
}

/// What the bits of a CVR of so many bytes say.
fn layout(keys: &mut Keys<'_, '_>, length: u8) -> Option<Layout> {
    let expected = "a byte of the CVR, from 1, and its bits in hexadecimal, such as \"2:04\"";
    let parse = |text: &str| {
        let (byte, mask) = text.split_once(':')?;
        let byte = bytes(byte, length)?;
        let mask = one_byte(mask).filter(|mask| *mask != 0)?;
        (byte.first == byte.last).then_some(Bits { byte: byte.first, mask })
    };
    let is_number =
        |bits: &Bits| (bits.mask >> bits.mask.trailing_zeros()).wrapping_add(1).is_power_of_two();
    let of = |keys: &mut Keys<'_, '_>, key| keys.optional_name(key, expected, parse);
    let number = |keys: &mut Keys<'_, '_>, key| {
        let bits = of(keys, key);
        if bits.is_some_and(|bits| bits.mask != 0xFF && !is_number(&bits)) {
            keys.mistake_of(key, "expected bits that stand side by side");
        }
        bits
    };
    let failures = keys
        .optional_items("issuer_authentication_failed", expected, |value| parse(value.as_str()?));
    let failures = failures.unwrap_or_default();
    if failures.len() > 2 {
        keys.mistake_of("issuer_authentication_failed", "expected two at most");
    }
    let types_byte = keys.number("cryptogram_types", 1..=length);
    let layout = Layout {
        types_byte: types_byte.unwrap_or_default(),
        performed: of(keys, "offline_pin_performed"),
        failed: of(keys, "offline_pin_failed"),
        successful: of(keys, "offline_pin_successful"),
        try_limit_exceeded: of(keys, "pin_try_limit_exceeded"),
        tries_left: number(keys, "pin_tries_left"),
        terminal_erroneously_ok: of(keys, "terminal_erroneously_ok"),
        issuer_authentication_failed: [failures.first().copied(), failures.get(1).copied()],
        scripts: number(keys, "scripts"),
        script_failed: of(keys, "script_failed"),
        last_online_not_completed: of(keys, "last_online_not_completed"),
    };
    let tells = layout.failed.or(layout.successful).is_some();
    if layout.performed.is_some() && !tells {
        let text = "it says nothing without offline_pin_failed or offline_pin_successful";
        keys.mistake_of("offline_pin_performed", text);
    }
    types_byte.map(|_| layout)
}

/// The shapes that the product knows, and its own rows of the table of CVNs.
pub(super) fn cvns(keys: &mut Keys<'_, '_>, iads: &Iads<'_, '_>) -> Option<(Shapes, Vec<CvnRow>)> {
    let mut known = Vec::new();
    let mut tables = keys.optional_tables("cvn", "CVN");
    let rows = tables.iter_mut().map(|keys| {
        let of = cvn_of(keys, iads);
        if of.is_some_and(|of| known.contains(&of)) {
            keys.mistake_of("cvn", "one CVN of this scheme is there twice");
        }
        known.extend(of);
        cvn_row(keys, of, iads).filter(|_| of.is_some())
    });
    // Each is read to its end, whatever is wrong with those before it.
    let rows: Option<Vec<CvnRow>> = rows.collect::<Vec<_>>().into_iter().collect();
    let rows = rows?;
    for ((keys, name), place) in iads.tables.iter().zip(&iads.names).zip(0..) {
        let has_row = rows.iter().any(|row| row.scheme == Scheme::Own(place));
        if !has_row && !name.is_empty() {
            keys.mistake_of("name", "no [[products.chip.cvn]] has it as its `scheme`");
        }
    }
    let shapes = Shapes { own: iads.own.clone()?, built_in: iads.built_in.clone() };
    check_mistakable(&tables, &iads.names, (&shapes, &rows));
    Some((shapes, rows))
}

/// No cryptogram may be right by two rows that read it differently: what chooses among them is not
/// under it, unless both cover it.
fn check_mistakable(
    tables: &[Keys<'_, '_>],
    names: &[String],
    (shapes, rows): (&Shapes, &[CvnRow]),
) {
    let reached = cvn::reached(shapes, rows);
    let place = |of: &CvnRow| rows.iter().position(|row| row == of);
    for (keys, row) in tables.iter().zip(rows) {
        let own = reached.iter().filter(|(_, reached)| reached == row);
        // Those of the table, and those that stand before it.
        let mut others = reached.iter().filter(|(_, other)| place(other) < place(row));
        let Some((_, other)) =
            others.find(|other| own.clone().any(|own| cvn::is_mistakable(*own, **other)))
        else {
            continue;
        };
        let name = match other.scheme {
            Scheme::Own(place) => names.get(usize::from(place)).map_or("", String::as_str),
            scheme => scheme.name(),
        };
        let text = format!(
            "a cryptogram of it can pass as one of {name:?} {:02X}, which reads it differently: \
             both must cover the bytes of 9F10 that tell them apart",
            other.cvn
        );
        keys.mistake_of("cvn", text);
    }
}

fn cvn_of(keys: &mut Keys<'_, '_>, iads: &Iads<'_, '_>) -> Option<(Scheme, u8)> {
    let built_in = iads.built_in.iter().map(|scheme| (scheme.name(), *scheme));
    let own = iads.names.iter().zip(0_u8..).filter(|(name, _)| !name.is_empty());
    let own = own.map(|(name, place)| (name.as_str(), Scheme::Own(place)));
    let all: Vec<_> = built_in.chain(own).collect();
    let quoted: Vec<_> = all.iter().map(|(name, _)| format!("{name:?}")).collect();
    let mut expected = one_of(&quoted);
    if iads.built_in.len() < Scheme::BUILT_IN.len() {
        expected += ", or a built-in one that built_in_shapes names";
    }
    let find = |name: &str| all.iter().find(|(known, _)| *known == name);
    let scheme = keys.name("scheme", &expected, |name| find(name).map(|(_, it)| *it));
    let cvn = keys.name("cvn", "two hexadecimal digits", one_byte);
    let (scheme, cvn) = scheme.zip(cvn)?;
    let shape = own_shape(scheme, iads);
    let fits = scheme.has_cvn(cvn) && shape.is_none_or(|shape| shape.has_cvn(cvn));
    if !fits {
        keys.mistake_of("cvn", "expected one that 9F10 of this scheme can have");
    }
    Some((scheme, cvn)).filter(|_| fits)
}

/// The product's own shape with this scheme; of those with a mistake none.
fn own_shape<'a>(scheme: Scheme, iads: &'a Iads<'_, '_>) -> Option<&'a IadShape> {
    match (scheme, &iads.own) {
        (Scheme::Own(place), Some(own)) => own.get(usize::from(place)),
        _ => None,
    }
}

/// A row. What is left out is as in the built-in one.
fn cvn_row(
    keys: &mut Keys<'_, '_>,
    of: Option<(Scheme, u8)>,
    iads: &Iads<'_, '_>,
) -> Option<CvnRow> {
    // Where it is not known whose row it is, nothing is missing.
    let (scheme, cvn) = of.unwrap_or((Scheme::Visa, 0x0A));
    let row = cvn::built_in(scheme, cvn);
    let profile = row.map(|row| row.profile);
    let card_keys = named(keys, "card_keys", CARD_KEYS, profile.map(|it| it.card_keys));
    let session_key = named(keys, "session_key", SESSION_KEYS, profile.map(|it| it.session_key));
    let (key, covers) = covers(keys, row.map(|row| row.covers));
    let covers = covers.filter(|covers| {
        of.is_none() || check_covers(keys, (key, covers), (scheme, iads), session_key)
    });
    let padding = named(keys, "padding", PADDING, profile.map(|it| it.padding));
    let arpc = named(keys, "arpc", ARPC, profile.map(|it| it.arpc));
    let script_keys = named(keys, "script_keys", SCRIPT_KEYS, profile.map(|it| it.script_keys));
    let script_pin = named(keys, "script_pin", SCRIPT_PIN, profile.map(|it| it.script_pin));
    let method = arpc.filter(|_| of.is_some());
    let approve = issuer_answer(keys, "approve", method, row.map(|row| row.approve));
    let decline = issuer_answer(keys, "decline", method, row.map(|row| row.decline));
    check_status_updates(keys, approve.flatten(), decline.flatten());
    keys.finish();
    let profile = CryptogramProfile {
        card_keys: card_keys?,
        session_key: session_key?,
        padding: padding?,
        arpc: arpc?,
        script_keys: script_keys?,
        script_pin: script_pin?,
    };
    let (covers, approve, decline) = (covers?, approve?, decline?);
    Some(CvnRow { scheme, cvn, covers, profile, approve, decline })
}

/// What a cryptogram covers, and the key that says it: `covers` every part in its order, or
/// `covered_iad` what comes behind the usual elements.
fn covers(keys: &mut Keys<'_, '_>, built_in: Option<Covers>) -> (&'static str, Option<Covers>) {
    if keys.get("covers").is_none() {
        return ("covered_iad", named(keys, "covered_iad", COVERED_IAD, built_in));
    }
    if keys.get("covered_iad").is_some() {
        keys.mistake_of("covered_iad", "`covers` says it already");
    }
    let expected =
        "a tag, bytes of one such as \"9F10[5]\" or \"9F10[4-7]\", \"cvr\" or \"counters\"";
    let parts = keys.optional_items("covers", expected, |value| part(value.as_str()?));
    let covers = parts.as_deref().and_then(Covers::new);
    if parts.is_some() && covers.is_none() {
        keys.mistake_of("covers", format!("expected 1 to {} parts", Covers::PARTS_MAX));
    }
    ("covers", covers)
}

/// A part of what a cryptogram covers: a primitive tag of one byte or two, but 9F26, which is the
/// cryptogram; with bytes of it, counted from 1, or without.
fn part(text: &str) -> Option<Part> {
    match text {
        "cvr" => return Some(Part::Cvr),
        "counters" => return Some(Part::Counters),
        _ => {}
    }
    let (tag, range) = match text.strip_suffix(']') {
        Some(rest) => rest.split_once('[').map(|(tag, range)| (tag, Some(range)))?,
        None => (text, None),
    };
    let tag = match from_hex(tag)?[..] {
        [0 | 0xFF] => None,
        [tag] => (tag & 0x3F < 0x1F).then_some(tag.into()),
        [first, second] => {
            let is_tag = first & 0x3F == 0x1F && second & 0x80 == 0;
            is_tag.then_some(u16::from_be_bytes([first, second]))
        }
        _ => None,
    };
    let tag = tag.filter(|tag| *tag != 0x9F26)?;
    let longest = match tag {
        0x9F10 => u8::try_from(IAD_BYTES_MAX).ok(),
        tag => cvn::element_bytes(tag),
    };
    Some(match range {
        Some(range) => Part::BytesOf(tag, bytes(range, longest.unwrap_or(u8::MAX))?),
        None => Part::Element(tag),
    })
}

/// Whether the counters are there, no byte lies behind the longest 9F10, and the counter of
/// transactions is under the cryptogram: each comes once. Of a shape with a mistake nothing is
/// missing.
fn check_covers(
    keys: &Keys<'_, '_>,
    (key, covers): (&'static str, &Covers),
    (scheme, iads): (Scheme, &Iads<'_, '_>),
    session_key: Option<SessionKeyMethod>,
) -> bool {
    let shape = own_shape(scheme, iads);
    let has_counters = match scheme {
        Scheme::Visa => false,
        _ => shape.is_none_or(|shape| shape.counters.is_some()),
    };
    let built_in = Shapes { own: Vec::new(), built_in: vec![scheme] };
    let known = shape.into_iter().chain(built_in.all().map(|(_, shape)| shape));
    let longest = known.filter_map(|shape| shape.lengths.checked_ilog2()).max();
    let longest = longest.unwrap_or(u32::MAX);
    let is_beyond = |part| match part {
        Part::BytesOf(0x9F10, bytes) => u32::from(bytes.last) > longest,
        _ => false,
    };
    let mut fits = true;
    let mut mistake = |text: &str| {
        keys.mistake_of(key, text);
        fits = false;
    };
    if !has_counters && covers.parts().any(|part| part == Part::Counters) {
        mistake("9F10 of this scheme has no counters");
    }
    if covers.parts().any(is_beyond) {
        mistake(&format!("9F10 of this scheme has {longest} bytes at most"));
    }
    if !covers.has(0x9F36) && session_key == Some(SessionKeyMethod::None) {
        mistake("expected 9F36 among them, or a session key that is made of it");
    }
    fits
}

/// What a chip is told, as the ARPC method takes it; `None` in it is the response code.
#[allow(clippy::option_option, reason = "wrong, the response code, a value")]
fn issuer_answer(
    keys: &mut Keys<'_, '_>,
    key: &'static str,
    method: Option<ArpcMethod>,
    built_in: Option<Option<IssuerAnswer>>,
) -> Option<Option<IssuerAnswer>> {
    let fits = |answer: &Option<IssuerAnswer>| match answer {
        None | Some(IssuerAnswer::Code(_)) => method != Some(ArpcMethod::Two),
        Some(IssuerAnswer::Update(_)) => !matches!(method, Some(ArpcMethod::One(_))),
    };
    let parse = |text: &str| match (text, &from_hex(text).unwrap_or_default()[..]) {
        ("response_code", _) => Some(None),
        (_, [a, b]) => Some(Some(IssuerAnswer::Code([*a, *b]))),
        (_, [a, b, c, d]) => Some(Some(IssuerAnswer::Update([*a, *b, *c, *d]))),
        _ => None,
    };
    let expected = match method {
        Some(ArpcMethod::One(_)) => "four hexadecimal digits or \"response_code\"",
        Some(ArpcMethod::Two) => "eight hexadecimal digits: the card status update",
        None => "four or eight hexadecimal digits, or \"response_code\"",
    };
    name_or(keys, (key, expected), |text| parse(text).filter(fits), built_in.filter(fits))
}

/// The second byte of a card status update: the issuer approves; it blocks the card or the
/// application.
const CSU_APPROVES: u8 = 0x80;
const CSU_BLOCKS: u8 = 0x60;

/// A chip does what the update says: one that says something else than the decision would have it
/// approve what was declined, or block itself where the issuer approves.
fn check_status_updates(
    keys: &Keys<'_, '_>,
    approve: Option<IssuerAnswer>,
    decline: Option<IssuerAnswer>,
) {
    if let Some(IssuerAnswer::Update([_, bits, ..])) = approve {
        if bits & CSU_APPROVES == 0 {
            keys.mistake_of(
                "approve",
                "bit 80 of the second byte must say that the issuer approves",
            );
        }
        if bits & CSU_BLOCKS != 0 {
            let text = "bits 40 and 20 of the second byte would block the card or the application";
            keys.mistake_of("approve", text);
        }
    }
    if let Some(IssuerAnswer::Update([_, bits, ..])) = decline
        && bits & CSU_APPROVES != 0
    {
        keys.mistake_of("decline", "bit 80 of the second byte says that the issuer approves");
    }
}

#[cfg(test)]
mod tests;
