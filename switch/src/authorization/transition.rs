//! The states of a plastic: from which to which one a call moves it, through which channel and for
//! which reasons, and what others are told. The suspension by the last wrong PIN is no call, and is
//! in `pin`. Whoever makes a plastic ACTIVE sets the counter of wrong PINs to zero (R92).
//!
//! The providers say what states, channels and reason codes there are, that a call can lift a
//! suspension at the PIN retry limit or make it final (R90, R91), and that it waits for one (R98).
//! Where they are silent, it is decided here:
//!
//! - A plastic that is not activated yet goes to ACTIVE or TERMINATED only. It can pay nothing, so
//!   that there is nothing to suspend, and suspended it would not be known any more that its first
//!   activation, with which clocks begin, is still to come.
//! - The first activation is the cardholder's (R182): it comes through API, IVR or ADMIN. Somebody
//!   who looks after fraud lifts what was blocked, but activates nothing.
//! - SYSTEM is a program that acts by itself, and nothing heals by itself (R98): it makes no
//!   plastic ACTIVE and no suspended one LIMITED, but may block and terminate.
//! - SUSPENDED to SUSPENDED and LIMITED to LIMITED put down another reason and tell others, since
//!   the newest reason counts. ACTIVE to ACTIVE tells nobody, and sets the counter to zero.
//! - No call has the reason code 22, which says that the switch itself has counted wrong PINs: not
//!   even one through SYSTEM, which any program may name.
//! - The reason code 00 is of a first activation alone, which may have another; 18 and 19 lead to
//!   ACTIVE alone. Without one it is 00 for a first activation and else 01.
//!
//! The PIN of a suspended plastic is shown where the newest reason says nothing against its holder
//! or the place where it is: 01, 02, 13 and 22. What was lost, stolen, cloned or misused is shown
//! to nobody.

use std::fmt;

use crate::cards::{CardState, CardStatus, StatusReason};
use crate::clock::Timestamp;
use crate::event::EventKind;

/// Whether the PIN of a plastic in this state may be shown to its cardholder.
#[must_use]
pub const fn shows_pin(status: CardStatus, reason: StatusReason) -> bool {
    match status {
        CardStatus::Active => true,
        CardStatus::Suspended => matches!(
            reason,
            StatusReason::REQUESTED
                | StatusReason::INACTIVITY
                | StatusReason::TEMPORARY_HOLD
                | StatusReason::PIN_RETRY_LIMIT
        ),
        CardStatus::Unactivated | CardStatus::Limited | CardStatus::Terminated => false,
    }
}

/// By which way a transition was asked for, as the API names it. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Channel {
    /// A program of the issuer, for its cardholder or its clerk.
    Api = 1,
    /// The cardholder on the telephone (interactive voice response).
    Ivr = 2,
    /// Somebody or something that looks after fraud.
    Fraud = 3,
    /// A clerk, on a dashboard or the command line.
    Admin = 4,
    /// The switch, or another program that acts by itself.
    System = 5,
}

impl Channel {
    /// All channels.
    pub const ALL: [Channel; 5] =
        [Channel::Api, Channel::Ivr, Channel::Fraud, Channel::Admin, Channel::System];

    /// The stored number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name on the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Channel::Api => "API",
            Channel::Ivr => "IVR",
            Channel::Fraud => "FRAUD",
            Channel::Admin => "ADMIN",
            Channel::System => "SYSTEM",
        }
    }

    /// The channel of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|channel| channel.name() == name)
    }
}

/// What somebody writes about a transition. It may hold anything, also a PAN or a PIN: so it is
/// never shown with its digits.
#[derive(Clone, PartialEq, Eq)]
pub struct ReasonText(String);

impl ReasonText {
    /// Its greatest length in UTF-8, as events keep it: of letters without accents as many.
    pub const BYTES_MAX: usize = 255;

    /// `None` where it is too long.
    #[must_use]
    pub fn new(text: String) -> Option<ReasonText> {
        (text.len() <= ReasonText::BYTES_MAX).then_some(ReasonText(text))
    }
}

impl fmt::Display for ReasonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = |letter: char| if letter.is_numeric() { '*' } else { letter };
        self.0.chars().map(masked).try_for_each(|letter| write!(f, "{letter}"))
    }
}

impl fmt::Debug for ReasonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state that the plastic goes to.
    pub state: CardStatus,
    /// By which way it was asked for.
    pub channel: Channel,
    /// Why; without it 00 for a first activation, and else 01.
    pub reason_code: Option<StatusReason>,
    /// The same in words.
    pub reason: Option<ReasonText>,
}

/// Why a plastic does not go from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} to {}: {why}", from.name(), to.name())]
pub struct NotAllowed {
    /// Its state.
    pub from: CardStatus,
    /// The state that was asked for.
    pub to: CardStatus,
    /// Which rule forbids it.
    pub why: Forbidden,
}

/// The rules that forbid a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// There is no way out of TERMINATED.
    #[error("the card is TERMINATED, which is final")]
    Final,
    /// There is no way back to UNACTIVATED.
    #[error("no card becomes UNACTIVATED again")]
    NoWayBack,
    /// Only ACTIVE and TERMINATED follow UNACTIVATED.
    #[error("a card that is not activated yet can only be activated or terminated")]
    NotActivatedYet,
    /// This channel does not do that.
    #[error("not through the channel {}", .0.name())]
    Channel(Channel),
    /// This reason code does not go with it.
    #[error("not with the reason code {code}, which {belongs}", code = .0, belongs = belongs(*.0))]
    ReasonCode(StatusReason),
}

impl Transition {
    /// A transition without a reason.
    #[must_use]
    pub const fn new(state: CardStatus, channel: Channel) -> Transition {
        Transition { state, channel, reason_code: None, reason: None }
    }

    /// The card with the plastic at this place in the other state, and what others are told. Made
    /// ACTIVE, the counter of the card is zero, what waits for the chip of the plastic begins to
    /// count, and no other plastic changes.
    ///
    /// # Errors
    /// Why not.
    pub fn apply(
        &self,
        card: &CardState,
        plastic: usize,
        now: Timestamp,
    ) -> Result<(CardState, Option<EventKind>), NotAllowed> {
        let Transition { state: to, channel, .. } = *self;
        debug_assert!(plastic < card.plastics.len(), "the place of a plastic of the card");
        let from = card.plastics.get(plastic).map_or(CardStatus::Terminated, |it| it.status);
        let refused = |why| NotAllowed { from, to, why };
        let event = step(from, to, channel).map_err(refused)?;
        let is_first = event == Some(EventKind::StateActivated);
        let usual = if is_first { StatusReason::NONE } else { StatusReason::REQUESTED };
        let reason = self.reason_code.unwrap_or(usual);
        let goes_with_it = match reason {
            StatusReason::NONE => is_first,
            StatusReason::INFORMATION_VALIDATED | StatusReason::ACTIVITY_VALIDATED => {
                to == CardStatus::Active
            }
            StatusReason::PIN_RETRY_LIMIT => false,
            _ => true,
        };
        if !goes_with_it {
            return Err(refused(Forbidden::ReasonCode(reason)));
        }
        let after = match to {
            CardStatus::Active => card.activated(plastic, reason, now),
            _ => card.with_status(plastic, to, reason),
        };
        Ok((after, event))
    }
}

/// What others are told of a transition, whatever its reason is.
const fn step(
    from: CardStatus,
    to: CardStatus,
    channel: Channel,
) -> Result<Option<EventKind>, Forbidden> {
    use CardStatus::{Active, Limited, Suspended, Terminated, Unactivated};
    Ok(Some(match (from, to, channel) {
        (Terminated, ..) => return Err(Forbidden::Final),
        (_, Unactivated, _) => return Err(Forbidden::NoWayBack),
        (Unactivated, Limited | Suspended, _) => return Err(Forbidden::NotActivatedYet),
        (_, Active, Channel::System)
        | (Suspended, Limited, Channel::System)
        | (Unactivated, Active, Channel::Fraud) => return Err(Forbidden::Channel(channel)),
        (Unactivated, Active, _) => EventKind::StateActivated,
        (Active, Active, _) => return Ok(None),
        (Limited | Suspended, Active, _) => EventKind::StateReinstated,
        (_, Limited, _) => EventKind::StateLimited,
        (_, Suspended, _) => EventKind::StateSuspended,
        (_, Terminated, _) => EventKind::StateTerminated,
    }))
}

/// What the reason codes are for that do not go with every transition.
const fn belongs(reason: StatusReason) -> &'static str {
    match reason {
        StatusReason::NONE => "is of a first activation",
        StatusReason::PIN_RETRY_LIMIT => "only the switch gives, at the PIN retry limit",
        _ => "leads to ACTIVE",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use smallvec::SmallVec;

    use super::*;
    use crate::cards::{Expiry, Plastic};

    #[test]
    fn the_pin_is_shown_for_few_reasons_only() {
        let shown = |status| {
            let shows = |number: &u8| {
                let reason = StatusReason::parse(&format!("{number:02}"));
                reason.is_some_and(|reason| shows_pin(status, reason))
            };
            (0..=99).filter(shows).collect::<Vec<u8>>()
        };
        assert_eq!(shown(CardStatus::Suspended), [1, 2, 13, 22]);
        assert_eq!(shown(CardStatus::Active).len(), 34);
        for status in [CardStatus::Unactivated, CardStatus::Limited, CardStatus::Terminated] {
            assert_eq!(shown(status), [0; 0]);
        }
    }

    /// What others are told, `-` where that is nothing, or in capitals which rule forbids it.
    const TABLE: &str = "
        from        to          | API         IVR         FRAUD       ADMIN       SYSTEM
        UNACTIVATED UNACTIVATED | NO-WAY-BACK NO-WAY-BACK NO-WAY-BACK NO-WAY-BACK NO-WAY-BACK
        UNACTIVATED ACTIVE      | activated   activated   CHANNEL     activated   CHANNEL
        UNACTIVATED LIMITED     | NOT-YET     NOT-YET     NOT-YET     NOT-YET     NOT-YET
        UNACTIVATED SUSPENDED   | NOT-YET     NOT-YET     NOT-YET     NOT-YET     NOT-YET
        UNACTIVATED TERMINATED  | terminated  terminated  terminated  terminated  terminated
        ACTIVE      UNACTIVATED | NO-WAY-BACK NO-WAY-BACK NO-WAY-BACK NO-WAY-BACK NO-WAY-BACK
        ACTIVE      ACTIVE      | -           -           -           -           CHANNEL
        ACTIVE      LIMITED     | limited     limited     limited     limited     limited
        ACTIVE      SUSPENDED   | suspended   suspended   suspended   suspended   suspended
        ACTIVE      TERMINATED  | terminated  terminated  terminated  terminated  terminated
        LIMITED     UNACTIVATED | NO-WAY-BACK NO-WAY-BACK NO-WAY-BACK NO-WAY-BACK NO-WAY-BACK
        LIMITED     ACTIVE      | reinstated  reinstated  reinstated  reinstated  CHANNEL
        LIMITED     LIMITED     | limited     limited     limited     limited     limited
        LIMITED     SUSPENDED   | suspended   suspended   suspended   suspended   suspended
        LIMITED     TERMINATED  | terminated  terminated  terminated  terminated  terminated
        SUSPENDED   UNACTIVATED | NO-WAY-BACK NO-WAY-BACK NO-WAY-BACK NO-WAY-BACK NO-WAY-BACK
        SUSPENDED   ACTIVE      | reinstated  reinstated  reinstated  reinstated  CHANNEL
        SUSPENDED   LIMITED     | limited     limited     limited     limited     CHANNEL
        SUSPENDED   SUSPENDED   | suspended   suspended   suspended   suspended   suspended
        SUSPENDED   TERMINATED  | terminated  terminated  terminated  terminated  terminated
        TERMINATED  UNACTIVATED | FINAL       FINAL       FINAL       FINAL       FINAL
        TERMINATED  ACTIVE      | FINAL       FINAL       FINAL       FINAL       FINAL
        TERMINATED  LIMITED     | FINAL       FINAL       FINAL       FINAL       FINAL
        TERMINATED  SUSPENDED   | FINAL       FINAL       FINAL       FINAL       FINAL
        TERMINATED  TERMINATED  | FINAL       FINAL       FINAL       FINAL       FINAL
    ";

    /// The reason codes that do not go with a transition which is allowed; all others do.
    const REFUSED_REASONS: &str = "
        from        to         channel | reason codes
        UNACTIVATED ACTIVE     API     | 22
        UNACTIVATED TERMINATED API     | 00 18 19 22
        ACTIVE      ACTIVE     API     | 00 22
        ACTIVE      LIMITED    API     | 00 18 19 22
        ACTIVE      LIMITED    SYSTEM  | 00 18 19 22
        ACTIVE      SUSPENDED  API     | 00 18 19 22
        ACTIVE      SUSPENDED  IVR     | 00 18 19 22
        ACTIVE      SUSPENDED  FRAUD   | 00 18 19 22
        ACTIVE      SUSPENDED  ADMIN   | 00 18 19 22
        ACTIVE      SUSPENDED  SYSTEM  | 00 18 19 22
        ACTIVE      TERMINATED SYSTEM  | 00 18 19 22
        LIMITED     ACTIVE     IVR     | 00 22
        SUSPENDED   ACTIVE     API     | 00 22
        SUSPENDED   SUSPENDED  SYSTEM  | 00 18 19 22
        SUSPENDED   TERMINATED ADMIN   | 00 18 19 22
    ";

    const NOW: Timestamp = Timestamp::from_seconds(1_795_867_200);

    fn plastic(status: CardStatus) -> Plastic {
        let mut plastic = Plastic::new(Expiry::parse(b"2912").unwrap(), 1);
        plastic.status = status;
        plastic
    }

    fn card(states: &[CardStatus]) -> CardState {
        let plastics: SmallVec<_> = states.iter().map(|status| plastic(*status)).collect();
        CardState { plastics, ..CardState::new(plastic(CardStatus::Active)) }.with_tries(2)
    }

    /// Lines of a table, the head first: the words before the bar and those behind it.
    fn rows(table: &str) -> impl Iterator<Item = (Vec<&str>, Vec<&str>)> {
        table.lines().filter_map(|line| line.split_once('|')).map(|(head, cells)| {
            (head.split_whitespace().collect(), cells.split_whitespace().collect())
        })
    }

    fn found(asked: &Transition, from: CardStatus) -> String {
        match asked.apply(&card(&[from]), 0, NOW) {
            Ok((_, None)) => "-".to_owned(),
            Ok((_, Some(event))) => event.name().rsplit('.').next().unwrap().to_owned(),
            Err(NotAllowed { why, .. }) => match why {
                Forbidden::Final => "FINAL",
                Forbidden::NoWayBack => "NO-WAY-BACK",
                Forbidden::NotActivatedYet => "NOT-YET",
                Forbidden::Channel(_) => "CHANNEL",
                Forbidden::ReasonCode(_) => "REASON",
            }
            .to_owned(),
        }
    }

    #[test]
    fn every_cell_of_the_table_is_as_it_says_and_none_is_missing() {
        let mut table = rows(TABLE);
        let (_, channels) = table.next().unwrap();
        let mut cells = HashMap::new();
        for (states, row) in table {
            assert_eq!(row.len(), channels.len(), "{states:?}");
            for (channel, cell) in channels.iter().zip(row) {
                let twice = cells.insert((states[0], states[1], *channel), cell);
                assert_eq!(twice, None, "{states:?}");
            }
        }
        for from in CardStatus::ALL {
            for to in CardStatus::ALL {
                for channel in Channel::ALL {
                    let cell = (from.name(), to.name(), channel.name());
                    let wanted = cells.remove(&cell).unwrap_or_else(|| panic!("{cell:?}: missing"));
                    assert_eq!(found(&Transition::new(to, channel), from), wanted, "{cell:?}");
                }
            }
        }
        assert!(cells.is_empty(), "no such cells: {cells:?}");
    }

    #[test]
    fn a_reason_code_goes_with_all_but_what_the_table_says() {
        let codes = (0..=99).filter_map(|code| StatusReason::parse(&format!("{code:02}")));
        let codes: Vec<_> = codes.collect();
        assert_eq!(codes.len(), 34);
        for (head, refused) in rows(REFUSED_REASONS).skip(1) {
            let [from, to] = [0, 1].map(|at| CardStatus::from_name(head[at]).unwrap());
            let asked = Transition::new(to, Channel::from_name(head[2]).unwrap());
            for code in &codes {
                let asked = Transition { reason_code: Some(*code), ..asked.clone() };
                let why = Forbidden::ReasonCode(*code);
                match asked.apply(&card(&[from]), 0, NOW) {
                    Ok((after, _)) => assert_eq!(after.plastics[0].status_reason, *code),
                    Err(error) => assert_eq!(error, NotAllowed { from, to, why }),
                }
                let is_refused = asked.apply(&card(&[from]), 0, NOW).is_err();
                let wanted = refused.contains(&&*code.to_string());
                assert_eq!(is_refused, wanted, "{head:?} {code}");
            }
        }
    }

    #[test]
    fn a_call_without_a_reason_code_has_00_for_a_first_activation_and_else_01() {
        use CardStatus::{Active, Limited, Suspended, Terminated, Unactivated};
        for (from, to, code) in [
            (Unactivated, Active, 0),
            (Suspended, Active, 1),
            (Active, Active, 1),
            (Active, Limited, 1),
            (Active, Suspended, 1),
            (Unactivated, Terminated, 1),
        ] {
            let asked = Transition::new(to, Channel::Api);
            let (after, _) = asked.apply(&card(&[from]), 0, NOW).unwrap();
            let plastic = &after.plastics[0];
            assert_eq!((plastic.status, plastic.status_reason), (to, StatusReason(code)));
        }
    }

    #[test]
    fn only_active_sets_the_counter_to_zero_and_only_one_plastic_moves() {
        use CardStatus::{Active, Limited, Suspended, Terminated};
        let before = card(&[Suspended, Suspended, Terminated]);
        for (to, tries) in [(Active, 0), (Limited, 2), (Suspended, 2), (Terminated, 2)] {
            let (after, _) = Transition::new(to, Channel::Api).apply(&before, 1, NOW).unwrap();
            let states: Vec<_> = after.plastics.iter().map(|it| it.status).collect();
            assert_eq!((after.pin.tries, states), (tries, vec![Suspended, to, Terminated]));
        }
    }

    #[test]
    fn words_about_a_transition_are_shown_without_digits() {
        let text = ReasonText::new("PAN 4761-3400 0000 0019, PIN \u{664}071\n".to_owned()).unwrap();
        assert_eq!(text.to_string(), "PAN ****-**** **** ****, PIN ****\n");
        assert_eq!(format!("{text:?}"), "\"PAN ****-**** **** ****, PIN ****\\n\"");
        assert!(ReasonText::new("x".repeat(255)).is_some());
        assert!(ReasonText::new("\u{e4}".repeat(128)).is_none());
    }
}
