//! What a card is by the rules of authorization, one request after another. Written from the
//! rules, not from the switch: it has no store, no time and no HSM.

/// Numbers of PINs in the list that all cards choose from.
pub type Pin = u8;

/// What the cardholder entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    Nothing,
    Pin(Pin),
    /// A PIN block that cannot be read.
    Broken,
}

/// What is asked of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Authorization {
        entered: Entered,
        is_cash: bool,
        /// With a cryptogram that no card has made.
        is_forged: bool,
    },
    /// Takes an authorization back, by its number in the plan.
    Reversal {
        of: usize,
        /// Named by DE90; otherwise by the same DE7, DE11 and DE37.
        by_de90: bool,
    },
    /// Tells what was decided elsewhere.
    Advice,
    SetPin(Pin),
    Activate,
    Remove,
    /// A new card in its place: active, with this PIN.
    Add(Pin),
    Show,
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// DE39.
    Code([u8; 2]),
    /// The issuer's command was carried out.
    Done,
    /// The card as the issuer sees it; `None` where there is none.
    Shown(Option<(Status, u32)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    New,
    Active,
    /// For wrong PINs.
    Suspended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Card {
    pub exists: bool,
    pub status: Status,
    pub pin: Option<Pin>,
    /// Consecutive wrong PINs.
    pub tries: u32,
}

impl Card {
    /// What comes of a call: the card after it and the reply. `None`: the call cannot be carried
    /// out. `limit`: consecutive wrong PINs that suspend.
    pub fn after(self, call: Call, limit: Option<u32>) -> Option<(Card, Reply)> {
        let done = |card| Some((card, Reply::Done));
        match call {
            Call::Authorization { is_forged: true, .. }
                if self.status == Status::Active && self.exists =>
            {
                Some((self, Reply::Code(*b"59")))
            }
            Call::Authorization { entered, is_cash, .. } => {
                let (card, code) = self.authorized(entered, is_cash, limit);
                Some((card, Reply::Code(*code)))
            }
            // No PIN try is given back, and nothing is decided.
            Call::Reversal { .. } | Call::Advice => Some((self, Reply::Code(*b"00"))),
            Call::Show => {
                let shown = self.exists.then_some((self.status, self.tries));
                Some((self, Reply::Shown(shown)))
            }
            Call::Add(_) if self.exists => None,
            Call::Add(pin) => {
                done(Card { exists: true, status: Status::Active, pin: Some(pin), tries: 0 })
            }
            _ if !self.exists => None,
            Call::SetPin(pin) => done(Card { pin: Some(pin), tries: 0, ..self }),
            Call::Activate => done(Card { status: Status::Active, tries: 0, ..self }),
            Call::Remove => done(Card { exists: false, ..self }),
        }
    }

    fn authorized(
        self,
        entered: Entered,
        is_cash: bool,
        limit: Option<u32>,
    ) -> (Card, &'static [u8; 2]) {
        match (self.status, entered, self.pin) {
            _ if !self.exists => (self, b"14"),
            (Status::Suspended, ..) => (self, b"75"),
            (Status::New, ..) => (self, b"78"),
            (Status::Active, Entered::Nothing, _) if !is_cash => (self, b"00"),
            (Status::Active, Entered::Nothing, _) | (Status::Active, _, None) => (self, b"70"),
            (Status::Active, Entered::Broken, _) => (self, b"81"),
            (Status::Active, Entered::Pin(pin), Some(right)) if pin == right => {
                (Card { tries: 0, ..self }, b"00")
            }
            (Status::Active, Entered::Pin(_), Some(_)) => {
                let tries = self.tries + 1;
                match limit {
                    Some(limit) if tries >= limit => {
                        (Card { tries, status: Status::Suspended, ..self }, b"75")
                    }
                    _ => (Card { tries, ..self }, b"55"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What calls one after another get.
    fn replies(card: Card, limit: Option<u32>, calls: &[Call]) -> Vec<String> {
        let play = |card: &mut Card, call: &Call| {
            let (after, reply) = card.after(*call, limit).unwrap_or((*card, Reply::Shown(None)));
            *card = after;
            Some(match reply {
                Reply::Code(code) => String::from_utf8(code.to_vec()).unwrap(),
                Reply::Done => "done".to_owned(),
                Reply::Shown(None) => "none".to_owned(),
                Reply::Shown(Some((status, tries))) => format!("{status:?} {tries}"),
            })
        };
        let mut card = card;
        calls.iter().filter_map(|call| play(&mut card, call)).collect()
    }

    #[test]
    fn the_rules_one_by_one() {
        let new = Card { exists: true, status: Status::New, pin: None, tries: 0 };
        let enter = |entered| Call::Authorization { entered, is_cash: false, is_forged: false };
        let (right, wrong) = (enter(Entered::Pin(0)), enter(Entered::Pin(1)));
        let (entered, is_cash) = (Entered::Nothing, true);
        let cash = Call::Authorization { entered, is_cash, is_forged: false };
        let broken = enter(Entered::Broken);
        let nothing = enter(Entered::Nothing);
        let begin = [right, Call::Activate, right, cash, nothing, Call::SetPin(0), cash, right];
        let seen = replies(new, Some(2), &begin);
        assert_eq!(seen, ["78", "done", "70", "70", "00", "done", "70", "00"]);
        let card = Card { status: Status::Active, pin: Some(0), ..new };
        let counted = [wrong, broken, Call::Show, right, wrong, wrong, right, Call::Show];
        let seen = replies(card, Some(2), &counted);
        assert_eq!(seen, ["55", "81", "Active 1", "00", "55", "75", "75", "Suspended 2"]);
        let again = [wrong, Call::SetPin(1), nothing, Call::Activate, wrong, right];
        let seen = replies(card, Some(1), &again);
        assert_eq!(seen, ["75", "done", "75", "done", "00", "75"]);
        let seen = replies(card, None, &[wrong, wrong, wrong, wrong, Call::Show]);
        assert_eq!(seen, ["55", "55", "55", "55", "Active 4"]);
        let (entered, is_cash) = (Entered::Pin(1), false);
        let forged = Call::Authorization { entered, is_cash, is_forged: true };
        let seen = replies(card, Some(1), &[forged, Call::Show, wrong, forged]);
        assert_eq!(seen, ["59", "Active 0", "75", "75"]);
        assert_eq!(replies(new, Some(1), &[forged]), ["78"]);
        let gone = [Call::Remove, right, Call::Remove, Call::Show, Call::Add(1), wrong];
        assert_eq!(replies(card, Some(1), &gone), ["done", "14", "none", "none", "done", "00"]);
    }
}
