//! The catalogue of events: what others can be told of a card, and who made it happen. Events live
//! on the ground floor, since the store keeps them and every door shows them.

use std::fmt;
use std::net::IpAddr;

use compact_str::{CompactString, ToCompactString};

/// What happened to a card. The numbers are stored, so that none is ever used for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// The card is SUSPENDED: by a call, or because the PIN retry limit was reached.
    StateSuspended = 1,
    /// A change of the PIN did not reach the chip within OFPBE, and its PIN block is deleted.
    PinChangeExpired = 2,
    /// A card was added.
    Issued = 3,
    /// A card that was UNACTIVATED is ACTIVE for the first time.
    StateActivated = 4,
    /// A card that was SUSPENDED or LIMITED is ACTIVE again.
    StateReinstated = 5,
    /// The online PIN was set.
    PinChanged = 6,
    /// A script that sets the PIN try counter of the chip back waits for the chip.
    PinUnblockQueued = 7,
    /// The card was removed from the store.
    Removed = 8,
    /// The card is LIMITED.
    StateLimited = 9,
    /// The card is TERMINATED, which is final.
    StateTerminated = 10,
    /// Somebody may set or see the PIN for a while.
    PinControl = 11,
    /// The PIN was shown.
    PinViewed = 12,
    /// A PIN was checked outside a transaction, whatever came out.
    PinVerified = 13,
    /// The plastic is embossed and on its way to the cardholder.
    FulfillmentShipped = 14,
    /// The counter of wrong PINs was set to zero by a call, and nothing else of the PIN changed.
    PinTriesReset = 15,
    /// An answer carried the script that changes the PIN on the chip, or unblocks it.
    ScriptSent = 30,
    /// The chip has carried the script out.
    ScriptApplied = 31,
    /// The script did not come to the chip, or did not work there, and is sent no more.
    ScriptFailed = 32,
}

impl EventKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [EventKind; 18] = [
        EventKind::StateSuspended,
        EventKind::PinChangeExpired,
        EventKind::Issued,
        EventKind::StateActivated,
        EventKind::StateReinstated,
        EventKind::PinChanged,
        EventKind::PinUnblockQueued,
        EventKind::Removed,
        EventKind::StateLimited,
        EventKind::StateTerminated,
        EventKind::PinControl,
        EventKind::PinViewed,
        EventKind::PinVerified,
        EventKind::FulfillmentShipped,
        EventKind::PinTriesReset,
        EventKind::ScriptSent,
        EventKind::ScriptApplied,
        EventKind::ScriptFailed,
    ];

    /// The stored number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind with a stored number; `None` for a number that none has.
    #[must_use]
    pub fn from_number(number: u8) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Whether the card went to another state, or further on its way to the cardholder.
    #[must_use]
    pub fn is_of_transition(self) -> bool {
        self.name().starts_with("cardtransition.")
    }

    /// Whether the card went to another state.
    #[must_use]
    pub fn is_of_state(self) -> bool {
        self.name().starts_with("cardtransition.state.")
    }

    /// The full name: base type, a dot, type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::StateSuspended => "cardtransition.state.suspended",
            EventKind::PinChangeExpired => "cardactions.pin.change.expired",
            EventKind::Issued => "cardtransition.fulfillment.issued",
            EventKind::StateActivated => "cardtransition.state.activated",
            EventKind::StateReinstated => "cardtransition.state.reinstated",
            EventKind::PinChanged => "cardactions.pin.changed",
            EventKind::PinUnblockQueued => "cardactions.pin.unblock.queued",
            EventKind::Removed => "cardactions.card.removed",
            EventKind::StateLimited => "cardtransition.state.limited",
            EventKind::StateTerminated => "cardtransition.state.terminated",
            EventKind::PinControl => "cardactions.pin.control",
            EventKind::PinViewed => "cardactions.pin.viewed",
            EventKind::PinVerified => "cardactions.pin.verified",
            EventKind::FulfillmentShipped => "cardtransition.fulfillment.shipped",
            EventKind::PinTriesReset => "cardactions.pin.tries.reset",
            EventKind::ScriptSent => "cardactions.pin.script.sent",
            EventKind::ScriptApplied => "cardactions.pin.script.applied",
            EventKind::ScriptFailed => "cardactions.pin.script.failed",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the issuer's program has made sure that it is the cardholder who asks, as the API names it.
/// The numbers are stored.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u8)]
pub enum CardholderVerification {
    /// By the face.
    BiometricFace = 1,
    /// By a fingerprint.
    BiometricFingerprint = 2,
    /// By a login.
    Login = 3,
    /// By expiry and verification value of the card.
    ExpCvv = 4,
    /// By a one-time password and the verification value of the card.
    OtpCvv = 5,
    /// By a one-time password.
    Otp = 6,
    /// In another way.
    Other = 7,
}

impl CardholderVerification {
    /// All of them, in the order of their numbers.
    pub const ALL: [CardholderVerification; 7] = [
        CardholderVerification::BiometricFace,
        CardholderVerification::BiometricFingerprint,
        CardholderVerification::Login,
        CardholderVerification::ExpCvv,
        CardholderVerification::OtpCvv,
        CardholderVerification::Otp,
        CardholderVerification::Other,
    ];

    /// The stored number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name on the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CardholderVerification::BiometricFace => "BIOMETRIC_FACE",
            CardholderVerification::BiometricFingerprint => "BIOMETRIC_FINGERPRINT",
            CardholderVerification::Login => "LOGIN",
            CardholderVerification::ExpCvv => "EXP_CVV",
            CardholderVerification::OtpCvv => "OTP_CVV",
            CardholderVerification::Otp => "OTP",
            CardholderVerification::Other => "OTHER",
        }
    }
}

/// By which way somebody acted. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ActorKind {
    /// A card network, by one of its links.
    Network = 1,
    /// A user of the operating system, by the command line: the peer of the control socket, or the
    /// process that has opened the store itself.
    User = 2,
    /// The switch itself, by its schedule or at its start.
    Switch = 3,
    /// Whoever has an API key.
    ApiKey = 4,
}

impl ActorKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [ActorKind; 4] =
        [ActorKind::Network, ActorKind::User, ActorKind::Switch, ActorKind::ApiKey];

    /// The stored number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind with a stored number; `None` for a number that none has.
    #[must_use]
    pub fn from_number(number: u8) -> Option<ActorKind> {
        ActorKind::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The name in audit lines and views.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ActorKind::Network => "network",
            ActorKind::User => "user",
            ActorKind::Switch => "switch",
            ActorKind::ApiKey => "api_key",
        }
    }
}

/// Who acted (PCI DSS 10.2.2): every call that changes a card has one, and its audit line and its
/// events name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// By which way.
    pub kind: ActorKind,
    /// The network's name; the user's uid in decimal digits; the name of what the switch did by
    /// itself; the API key's id.
    pub name: CompactString,
    /// For whom an API key's owner says that he acts, where he says it.
    pub audit_user: Option<CompactString>,
    /// The address that a call to the API came from.
    pub address: Option<IpAddr>,
}

impl Actor {
    fn of(kind: ActorKind, name: CompactString) -> Actor {
        Actor { kind, name, audit_user: None, address: None }
    }

    /// A card network.
    #[must_use]
    pub fn network(name: &str) -> Actor {
        Actor::of(ActorKind::Network, name.into())
    }

    /// A user of the operating system, by its uid.
    #[must_use]
    pub fn user(uid: u32) -> Actor {
        Actor::of(ActorKind::User, uid.to_compact_string())
    }

    /// The switch itself, and what it was doing.
    #[must_use]
    pub fn switch(what: &'static str) -> Actor {
        Actor::of(ActorKind::Switch, CompactString::const_new(what))
    }

    /// Whoever has an API key, and the address that the call came from.
    #[must_use]
    pub fn api_key(token: &str, address: IpAddr) -> Actor {
        Actor { address: Some(address), ..Actor::of(ActorKind::ApiKey, token.into()) }
    }
}

impl fmt::Display for Actor {
    /// As audit lines show it: `user 1000`, `api_key demo for "ada" from 127.0.0.1`. In quotes what
    /// the caller says cannot be taken for another part of the line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)?;
        if let Some(user) = &self.audit_user {
            write!(f, " for {:?}", user.as_str())?;
        }
        match self.address {
            Some(address) => write!(f, " from {address}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_number_is_of_one_kind() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_number(kind.number()), Some(kind));
        }
        for kind in ActorKind::ALL {
            assert_eq!(ActorKind::from_number(kind.number()), Some(kind));
        }
        for way in CardholderVerification::ALL {
            let named: CardholderVerification = serde_json::from_value(way.name().into()).unwrap();
            assert_eq!(named, way);
        }
        assert_eq!(EventKind::from_number(0), None);
        assert_eq!(ActorKind::from_number(0), None);
        let names: std::collections::BTreeSet<_> = EventKind::ALL.map(EventKind::name).into();
        assert_eq!(names.len(), EventKind::ALL.len());
    }
}
