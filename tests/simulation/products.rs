//! A product that changes under the traffic: its retry limit goes from one number to the next, all
//! too high to be reached. So no answer changes, but the record of each wrong PIN says by which
//! limit it was decided, and the journal says which one was in force.

use std::sync::Arc;
use std::time::Duration;

use switch::authorization::trail::Finding;
use switch::cards::{CardKey, Pan};
use switch::config::ProductSettings;
use switch::event::Actor;
use switch::issuing::products::{self, StoredProduct};
use switch::store::document::DocumentKind;
use switch::store::record::{self, Part, Reads};
use tokio::time::sleep;

use super::plan::{CARDS, dice, pan};
use super::world::{World, vault};

/// The product that changes. It has no limit at first.
const PRODUCT: &str = "many";
/// Its first limit after that.
const LIMIT: u32 = 1_000_000;
/// Changes of a run: as long as its traffic lasts, and not much longer.
const CHANGES: u32 = 20;

/// Changes the product, again and again.
pub async fn play(world: Arc<World>) {
    let mut dice = dice(world.plan.seed, "products", 0);
    for limit in LIMIT..LIMIT + CHANGES {
        sleep(Duration::from_millis(dice.u64(1..20))).await;
        let Some(running) = world.running() else { continue };
        let settings =
            format!("{{\"bins\": [\"476134\"], \"currency\": 978, \"pin_retry_limit\": {limit}}}");
        let settings: ProductSettings = serde_json::from_str(&settings).expect("JSON");
        let of = Arc::clone(&running);
        running.spawn(async move {
            // It may end meanwhile, and the product stays as it was.
            let _ = products::put(&of.switch, &Actor::user(0), PRODUCT, settings, None).await;
        });
    }
}

/// Every wrong PIN was decided by the limit that was in force where its record stands.
pub fn check(world: &World, records: &[Vec<u8>]) {
    let vault = vault();
    let own = (0..CARDS.len()).filter(|card| CARDS[*card].0 == PRODUCT);
    let own = own.map(|card| vault.card_key(&Pan::parse(pan(card).as_bytes()).expect("a PAN")));
    let own: Vec<CardKey> = own.collect();
    let mut in_force = 0;
    for (place, entry) in records.iter().enumerate() {
        let mut found = Vec::new();
        let visit = |part| match part {
            Part::Document(document) if document.kind == DocumentKind::Product => {
                let document = document.written_by(place as u64 + 1);
                let stored = StoredProduct::read(&vault, &document).expect("a product");
                let rules = stored.rules(&document).expect("settings as they were written");
                in_force = rules.pin_retry_limit.map_or(0, u32::from);
            }
            Part::Transaction(found_here) if own.contains(&found_here.record.card) => {
                let notes = found_here.record.trail.iter();
                let wrong = notes.filter(|note| note.finding == Finding::WrongPin);
                found.extend(wrong.map(|note| note.parameter));
            }
            _ => {}
        };
        record::read_entry(entry, Reads::History, visit).expect("a record as it was written");
        for limit in found {
            let mut history = world.history();
            *history.tally.entry("wrong PIN under a limit that changes".to_owned()).or_default() +=
                1;
            if limit != u64::from(in_force) {
                let number = place + 1;
                history.wrong(format!("record {number} has limit {limit}, in force is {in_force}"));
            }
        }
    }
}
