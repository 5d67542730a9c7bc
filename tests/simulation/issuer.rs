//! The issuer's clerks: PIN changes, activations and removals beside the traffic.

use std::sync::Arc;
use std::time::Duration;

use switch::control::{Command, Outcome, execute};
use switch::issuer::{AddCard, NewState, PinText};
use tokio::sync::oneshot;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::history::{self, Heard};
use super::model::{Call, Pin, Reply, Status};
use super::plan::{CARDS, PINS, pan};
use super::world::{World, token};

/// Carries out what a clerk has to do, one after another.
pub async fn play(world: Arc<World>, clerk: usize) {
    for command in &world.plan.commands[clerk] {
        let now = world.history().millis();
        sleep(Duration::from_millis(command.at_millis.saturating_sub(now))).await;
        ask(&world, command.card, command.call).await;
    }
}

/// Asks for one thing and waits for the outcome, or for the end of the switch.
pub async fn ask(world: &Arc<World>, card: usize, call: Call) {
    let Some(running) = world.running() else { return };
    let (number, begin) = {
        let mut history = world.history();
        let begin = history.note("command", &format!("card {card} {call:?}"));
        let life = history.life();
        history.commands.push(history::Command { card, call, life, begin, heard: None });
        (history.commands.len() - 1, begin)
    };
    let (sender, outcome) = oneshot::channel();
    let (serving, asked) = (Arc::clone(&running), command(card, call));
    running.spawn(async move {
        // Who asked waits for it.
        let _ = sender.send(execute(&serving.switch, asked).await);
    });
    let heard = outcome.await.ok().and_then(heard);
    let mut history = world.history();
    let order = history.note("outcome", &format!("of {begin}: {heard:?}"));
    history.commands[number].heard = heard.map(|heard| (order, heard));
}

/// What a clerk was told; nothing, where nobody knows whether it was carried out.
fn heard(outcome: Outcome) -> Option<Heard> {
    match outcome {
        Outcome::Card(_)
        | Outcome::Transactions(_)
        | Outcome::Values(_)
        | Outcome::Events { .. }
        | Outcome::Done => Some(Heard::Reply(Reply::Done)),
        Outcome::Each { refused } if refused.is_empty() => Some(Heard::Reply(Reply::Done)),
        Outcome::Each { .. } => Some(Heard::Refused),
        Outcome::Refused(why) if why.starts_with("the store has failed") => None,
        Outcome::Refused(_) => Some(Heard::Refused),
    }
}

fn command(card: usize, call: Call) -> Command {
    let token = token(card);
    match call {
        Call::SetPin(pin) => Command::SetPin { token, pin: text(pin) },
        Call::Activate => Command::Activate { token },
        Call::Remove => Command::Remove { tokens: vec![token] },
        Call::Add(pin) => Command::Add(Box::new(AddCard {
            token,
            pan: Zeroizing::new(pan(card)),
            expiration: "2912".to_owned(),
            pan_sequence_number: "01".to_owned(),
            card_product_token: CARDS[card].0.to_owned(),
            state: Some(NewState::Active),
            pin: Some(text(pin)),
            pvv: None,
            pvki: None,
            pin_offset: None,
        })),
        Call::Show | Call::Authorization { .. } | Call::Reversal { .. } | Call::Advice => {
            Command::Show { token }
        }
    }
}

fn text(pin: Pin) -> PinText {
    PinText::new(Zeroizing::new(PINS[usize::from(pin)].to_owned()))
}

/// Every card as it is when all is over.
pub async fn show_all(world: &Arc<World>) {
    for card in 0..CARDS.len() {
        let running = world.running().expect("a switch that runs at the end");
        let begin = world.history().note("show", &format!("card {card}"));
        let shown = match execute(&running.switch, command(card, Call::Show)).await {
            Outcome::Card(view) => {
                let status = match (&*view.state, &*view.reason_code) {
                    ("ACTIVE", _) => Status::Active,
                    ("SUSPENDED", "22") => Status::Suspended,
                    ("UNACTIVATED", _) => Status::New,
                    other => panic!("a card in the state {other:?}"),
                };
                Some((status, view.pin_try_counter))
            }
            _ => None,
        };
        let mut history = world.history();
        let order = history.note("shown", &format!("{shown:?}"));
        let heard = Some((order, Heard::Reply(Reply::Shown(shown))));
        let (life, call) = (history.life(), Call::Show);
        history.commands.push(history::Command { card, call, life, begin, heard });
    }
}
