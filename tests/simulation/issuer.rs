//! The issuer's clerks: PIN changes, activations and removals beside the traffic.

use std::sync::Arc;
use std::time::Duration;

use switch::control::{CardForm, Command, NewState, Reply as Told, execute};
use switch::event::Actor;
use switch::issuing::Code;
use switch::issuing::secret::PinText;
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
        let _ = sender.send(execute(&serving.switch, &Actor::user(0), asked).await);
    });
    let heard = outcome.await.ok().and_then(heard);
    let mut history = world.history();
    let order = history.note("outcome", &format!("of {begin}: {heard:?}"));
    history.commands[number].heard = heard.map(|heard| (order, heard));
}

/// What a clerk was told; nothing, where nobody knows whether it was carried out.
fn heard(outcome: Told) -> Option<Heard> {
    match outcome {
        Told::Card(_)
        | Told::Transactions(_)
        | Told::Product(_)
        | Told::Products(_)
        | Told::ApiKey(_)
        | Told::ApiKeys(_)
        | Told::Values(_)
        | Told::Events(_)
        | Told::Done => Some(Heard::Reply(Reply::Done)),
        Told::Each { refused } if refused.is_empty() => Some(Heard::Reply(Reply::Done)),
        Told::Each { .. } => Some(Heard::Refused),
        Told::Refused(why) if why.code == Code::StoreFailed => None,
        Told::Refused(_) => Some(Heard::Refused),
    }
}

fn command(card: usize, call: Call) -> Command {
    let token = token(card);
    match call {
        Call::SetPin(pin) => Command::SetPin { token, pin: text(pin) },
        Call::Activate => Command::Activate { token },
        Call::Remove => Command::Remove { tokens: vec![token] },
        Call::Add(pin) => Command::Add(Box::new(CardForm {
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

/// More than any card has here.
const RECORDS_MAX: usize = 1_000;

/// Every card as it is when all is over, and what is told of its transactions.
pub async fn show_all(world: &Arc<World>) {
    for card in 0..CARDS.len() {
        let running = world.running().expect("a switch that runs at the end");
        let begin = world.history().note("show", &format!("card {card}"));
        let shown = match execute(&running.switch, &Actor::user(0), command(card, Call::Show)).await
        {
            Told::Card(view) => {
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
        let transactions = Command::Transactions { token: token(card), count: RECORDS_MAX };
        let shown_of_it = execute(&running.switch, &Actor::user(0), transactions).await;
        let mut history = world.history();
        if let Told::Transactions(transactions) = shown_of_it {
            for one in transactions.transactions {
                // Whoever has no card must not learn whether a PIN was right.
                if one.cryptogram.is_some_and(|outcome| outcome != "ok") && one.pin.is_some() {
                    history.wrong(format!("word of the PIN beside {}", one.memo));
                }
            }
        }
        let order = history.note("shown", &format!("{shown:?}"));
        let heard = Some((order, Heard::Reply(Reply::Shown(shown))));
        let (life, call) = (history.life(), Call::Show);
        history.commands.push(history::Command { card, call, life, begin, heard });
    }
}
