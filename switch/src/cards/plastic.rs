//! A plastic: what the cardholder holds of a card. It owns its state, what its chip was embossed
//! with, what is known of that chip, and a token where it has one of its own.

use std::fmt;

use compact_str::CompactString;
use jiff::tz::Offset;

use crate::cards::chip_state::{Change, ChangeKind, Chip, ChipSync};
use crate::clock::Timestamp;
use crate::pin::KeptPin;

/// State of a plastic, as the API names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardStatus {
    /// Created and not yet activated by the cardholder.
    Unactivated,
    /// In use.
    Active,
    /// In use for some purposes only; declined here like a suspended card.
    Limited,
    /// Blocked until somebody makes it active again.
    Suspended,
    /// Blocked for ever.
    Terminated,
}

impl CardStatus {
    /// All states, in the order of their stored codes.
    pub const ALL: [CardStatus; 5] = [
        CardStatus::Unactivated,
        CardStatus::Active,
        CardStatus::Limited,
        CardStatus::Suspended,
        CardStatus::Terminated,
    ];

    /// The name on the API: UNACTIVATED, ACTIVE, LIMITED, SUSPENDED, TERMINATED.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CardStatus::Unactivated => "UNACTIVATED",
            CardStatus::Active => "ACTIVE",
            CardStatus::Limited => "LIMITED",
            CardStatus::Suspended => "SUSPENDED",
            CardStatus::Terminated => "TERMINATED",
        }
    }

    /// The state of this name on the API.
    #[must_use]
    pub fn from_name(name: &str) -> Option<CardStatus> {
        CardStatus::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// Why a plastic is in its state: the two-digit reason code of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusReason(pub u8);

impl StatusReason {
    /// 00: first activation, or none given.
    pub const NONE: StatusReason = StatusReason(0);
    /// 01: requested by the issuer.
    pub const REQUESTED: StatusReason = StatusReason(1);
    /// 02: not used for long.
    pub const INACTIVITY: StatusReason = StatusReason(2);
    /// 10: reported lost.
    pub const LOST: StatusReason = StatusReason(10);
    /// 13: a temporary hold, or a leave.
    pub const TEMPORARY_HOLD: StatusReason = StatusReason(13);
    /// 18: information of the cardholder was validated.
    pub const INFORMATION_VALIDATED: StatusReason = StatusReason(18);
    /// 19: activity of the card was validated.
    pub const ACTIVITY_VALIDATED: StatusReason = StatusReason(19);
    /// 22: the PIN retry limit was reached.
    pub const PIN_RETRY_LIMIT: StatusReason = StatusReason(22);
    /// 23: reported stolen.
    pub const STOLEN: StatusReason = StatusReason(23);

    /// From two digits; `None` for a code that the API does not have.
    #[must_use]
    pub fn parse(text: &str) -> Option<StatusReason> {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let code = StatusReason(text.parse().ok().filter(|_| digits)?);
        code.words().map(|_| code)
    }

    /// What it stands for; `None` for a code that the API does not have.
    #[must_use]
    pub const fn words(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "New card activated",
            1 => "Requested by the issuer",
            2 => "Inactivity over time",
            3 => "No mail at this address",
            4 => "Negative account balance",
            5 => "Account under review",
            6 => "Suspicious activity",
            7 => "Activity outside the programme's parameters",
            8 => "Fraud confirmed",
            9 => "Match with a sanctions list",
            10 => "Card reported lost",
            11 => "Card cloned",
            12 => "Account or card compromised",
            13 => "Temporary hold or leave",
            14 => "Initiated by the platform",
            15 => "Initiated by the card's issuer",
            16 => "Card expired",
            17 => "Failed KYC",
            18 => "Information validated",
            19 => "Account activity validated",
            20 => "Before the normalization of reason codes",
            21 => "Initiated by a third party",
            22 => "Pin Retry Limit Reached",
            23 => "Card reported stolen",
            24 => "Address issue",
            25 => "Name issue",
            26 => "SSN issue",
            27 => "Date of birth issue",
            28 => "E-mail issue",
            29 => "Phone issue",
            30 => "Account and fulfillment differ",
            31 => "Other",
            32 => "Request to unblock",
            86 => "Death of the cardholder",
            _ => return None,
        })
    }
}

impl fmt::Display for StatusReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

/// Month after which a plastic is no longer valid, in the order of DE14: YYMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    year: u8,
    month: u8,
}

impl Expiry {
    /// From four digits YYMM, month 01-12; the century is 20.
    #[must_use]
    pub fn parse(yymm: &[u8]) -> Option<Expiry> {
        let digits: &[u8; 4] = yymm.try_into().ok()?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let [y1, y0, m1, m0] = digits.map(|digit| digit - b'0');
        let expiry = Expiry { year: y1 * 10 + y0, month: m1 * 10 + m0 };
        (1..=12).contains(&expiry.month).then_some(expiry)
    }

    /// From four digits MMyy, as the API has them.
    #[must_use]
    pub fn from_month_and_year(text: &str) -> Option<Expiry> {
        let (month, year) = text.split_at_checked(2)?;
        Expiry::parse([year, month].concat().as_bytes())
    }

    /// Four ASCII digits YYMM.
    #[must_use]
    pub const fn digits(self) -> [u8; 4] {
        let Expiry { year, month } = self;
        [b'0' + year / 10, b'0' + year % 10, b'0' + month / 10, b'0' + month % 10]
    }

    /// The month in which a span from `now` on ends, in a place with this UTC offset; `None` where
    /// that is in another century.
    #[must_use]
    pub fn after(now: Timestamp, span: jiff::Span, offset: Offset) -> Option<Expiry> {
        let now = jiff::Timestamp::from_microsecond(now.micros()).ok()?;
        let end = offset.to_datetime(now).checked_add(span).ok()?;
        let year = u8::try_from(end.year() - 2000).ok().filter(|year| *year < 100)?;
        Some(Expiry { year, month: end.month().unsigned_abs() })
    }

    /// The last second of the month, in a place with this UTC offset.
    #[must_use]
    pub fn last_second(self, offset: Offset) -> Option<Timestamp> {
        let (year, month) = (2000 + i16::from(self.year), self.month.cast_signed());
        let last_day = jiff::civil::Date::new(year, month, 1).ok()?.last_of_month();
        let end = offset.to_timestamp(last_day.at(23, 59, 59, 0)).ok()?;
        Some(Timestamp::from_seconds(end.as_second()))
    }

    /// Whether the last day of the month is over at `now` in a place with this UTC offset.
    #[must_use]
    pub fn is_past(self, now: Timestamp, offset: Offset) -> bool {
        let Ok(instant) = jiff::Timestamp::from_microsecond(now.micros()) else { return true };
        let today = offset.to_datetime(instant);
        let expiry = (2000 + i16::from(self.year), self.month.cast_signed());
        (today.year(), today.month()) > expiry
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}{:02}", self.year, self.month)
    }
}

/// Whether a plastic was produced, and which PIN its chip was embossed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embossed {
    /// It is not produced: its chip will get the PIN that the card has by then.
    NotProduced,
    /// Produced without a PIN.
    NoPin,
    /// Produced with 0000, which everybody knows.
    Zeros,
    /// Produced with the online PIN of this version.
    Pin(u32),
}

impl Embossed {
    /// Versions from here on are kept as this one: no card has its PIN set 16 million times.
    const VERSION_MAX: u32 = (1 << 24) - 1 - 3;

    /// In the three bytes that a plastic has room for.
    const fn packed(self) -> [u8; 3] {
        let number = match self {
            Embossed::NotProduced => 0,
            Embossed::NoPin => 1,
            Embossed::Zeros => 2,
            Embossed::Pin(version) if version > Embossed::VERSION_MAX => Embossed::VERSION_MAX + 3,
            Embossed::Pin(version) => version + 3,
        };
        let [low, middle, high, _] = number.to_le_bytes();
        [low, middle, high]
    }

    const fn unpacked([low, middle, high]: [u8; 3]) -> Embossed {
        match u32::from_le_bytes([low, middle, high, 0]) {
            0 => Embossed::NotProduced,
            1 => Embossed::NoPin,
            2 => Embossed::Zeros,
            number => Embossed::Pin(number - 3),
        }
    }
}

/// One plastic of a card. Most have neither a token of their own nor a chip that was seen: what
/// these take is behind one pointer, and the rest is packed, so that a plastic has 16 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plastic {
    /// Valid to the end of this month.
    pub expiry: Expiry,
    /// PAN sequence number, 0-99 (DE23).
    pub sequence: u8,
    /// Its state.
    pub status: CardStatus,
    /// Why it is in that state.
    pub status_reason: StatusReason,
    embossed: [u8; 3],
    rare: Option<Box<Rare>>,
}

/// What most plastics do not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rare {
    token: Option<CompactString>,
    chip: Option<Chip>,
}

impl Plastic {
    /// A plastic that was produced without a PIN and is not activated yet, whose chip nobody has
    /// seen.
    #[must_use]
    pub const fn new(expiry: Expiry, sequence: u8) -> Plastic {
        Plastic {
            expiry,
            sequence,
            status: CardStatus::Unactivated,
            status_reason: StatusReason::NONE,
            embossed: Embossed::NoPin.packed(),
            rare: None,
        }
    }

    /// The plastic with another word of what it was embossed with.
    #[must_use]
    pub const fn embossed_with(mut self, embossed: Embossed) -> Plastic {
        self.embossed = embossed.packed();
        self
    }

    /// The plastic with a token of its own: one that was reissued.
    #[must_use]
    pub fn with_token(mut self, token: CompactString) -> Plastic {
        self.rare.get_or_insert_default().token = Some(token);
        self
    }

    /// Whether it was produced, and with which PIN.
    #[must_use]
    pub const fn embossed(&self) -> Embossed {
        Embossed::unpacked(self.embossed)
    }

    /// Its own token; the first plastic of a card has that of the card.
    #[must_use]
    pub fn token(&self) -> Option<&CompactString> {
        self.rare.as_ref()?.token.as_ref()
    }

    /// What is known of its chip; nothing of one that was never seen and never changed.
    #[must_use]
    pub fn chip(&self) -> Option<&Chip> {
        self.rare.as_ref()?.chip.as_ref()
    }

    /// Puts down what is known of its chip.
    pub fn set_chip(&mut self, chip: Chip) {
        self.rare.get_or_insert_default().chip = Some(chip);
    }

    pub(super) fn chip_mut(&mut self) -> Option<&mut Chip> {
        self.rare.as_mut()?.chip.as_mut()
    }

    pub(super) fn set_sync(&mut self, sync: ChipSync) {
        self.rare.get_or_insert_default().chip.get_or_insert_default().sync = sync;
    }

    /// Whether it is the one, or one of those, that a request names: by its expiry, its sequence
    /// number, both or none.
    #[must_use]
    pub fn fits(&self, expiry: Option<Expiry>, sequence: Option<u8>) -> bool {
        expiry.is_none_or(|given| given == self.expiry)
            && sequence.is_none_or(|given| given == self.sequence)
    }

    /// Whether it is suspended because the PIN retry limit was reached.
    #[must_use]
    pub fn is_suspended_for_pin_tries(&self) -> bool {
        self.status == CardStatus::Suspended && self.status_reason == StatusReason::PIN_RETRY_LIMIT
    }

    /// The PIN that waits for its chip, with its version, given up or not.
    pub(super) fn kept_pin(&self) -> Option<(u32, &KeptPin)> {
        match &self.chip()?.sync.kept_change()?.kind {
            ChangeKind::Pin { version, pin } => Some((*version, pin)),
            ChangeKind::Unblock { .. } => None,
        }
    }

    /// A change of the PIN waits for its chip, in place of whatever waited there. It does not begin
    /// to count before its activation. The embosser gives a plastic that is not produced the PIN
    /// that the card has by then, and no chip of a terminated one will be seen again.
    pub(super) fn await_pin(&mut self, version: u32, pin: &KeptPin, now: Timestamp) {
        if self.status == CardStatus::Terminated || self.embossed() == Embossed::NotProduced {
            return;
        }
        let counts = self.status != CardStatus::Unactivated;
        let (since, set_at) = (Some(now).filter(|_| counts), Some(now).filter(|_| !counts));
        let kind = ChangeKind::Pin { version, pin: pin.clone() };
        self.set_sync(ChipSync::Pending(Change { set_at, ..Change::new(kind, since) }));
    }

    /// It is made active. With its first activation the changes that wait for it begin to count;
    /// and where its chip was produced with another PIN than the card's, `current`, that waits from
    /// now on.
    pub(super) fn activate(
        &mut self,
        reason: StatusReason,
        current: Option<(u32, &KeptPin)>,
        now: Timestamp,
    ) {
        let is_first = self.status == CardStatus::Unactivated;
        (self.status, self.status_reason) = (CardStatus::Active, reason);
        if let Some((version, pin)) = current.filter(|_| is_first)
            && self.lacks(version)
        {
            self.await_pin(version, pin, now);
        }
        if let Some(ChipSync::Pending(change)) = self.chip_mut().map(|chip| &mut chip.sync) {
            change.since.get_or_insert(now);
            change.set_at = None;
        }
    }

    /// Whether its chip was embossed with another PIN than the one of this version, and neither
    /// waits for that nor has waited for it in vain.
    fn lacks(&self, version: u32) -> bool {
        let is_old = self.chip().is_some_and(|chip| chip.sync.pin_is_old());
        self.embossed() != Embossed::Pin(version) && self.kept_pin().is_none() && !is_old
    }

    /// The PIN block that waits for its chip is deleted.
    pub(super) fn forget_pin(&mut self) {
        if self.kept_pin().is_some()
            && let Some(chip) = self.chip_mut()
        {
            chip.sync = chip.sync.given_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    #[test]
    fn valid_to_the_end_of_the_month_where_the_issuer_is() {
        let expiry = Expiry::parse(b"2912").unwrap();
        let plus_one = Offset::constant(1);
        assert!(!expiry.is_past(at("2029-12-31T22:59:59Z"), plus_one));
        assert!(expiry.is_past(at("2029-12-31T23:00:00Z"), plus_one));
        assert!(!expiry.is_past(at("2029-12-31T23:59:59Z"), Offset::UTC));
        assert!(expiry.is_past(at("2030-01-01T00:00:00Z"), Offset::UTC));
    }

    #[test]
    fn expiry_is_four_digits_with_a_month() {
        let wrong =
            [&b"2900"[..], b"2913", b"29", b"2x12", b"29121", b"\xFF\xFF\xFF\xFF", b"zz\x00z"];
        for wrong in wrong {
            assert!(Expiry::parse(wrong).is_none());
        }
        assert_eq!(Expiry::parse(b"0501").unwrap().to_string(), "0501");
    }

    #[test]
    fn a_plastic_is_small_and_tells_what_it_was_embossed_with() {
        assert_eq!(size_of::<Plastic>(), 16);
        let plastic = Plastic::new(Expiry::parse(b"2912").unwrap(), 1);
        let of = |embossed| plastic.clone().embossed_with(embossed).embossed();
        assert_eq!(plastic.embossed(), Embossed::NoPin);
        for embossed in [Embossed::NotProduced, Embossed::Zeros, Embossed::Pin(0)] {
            assert_eq!(of(embossed), embossed);
        }
        let max = Embossed::Pin(Embossed::VERSION_MAX);
        assert_eq!((of(max), of(Embossed::Pin(u32::MAX))), (max, max));
    }
}
