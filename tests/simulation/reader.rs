//! Who reads events: page after page, acknowledged some time later, and again from what it has
//! acknowledged after each end of the switch.

use std::sync::Arc;
use std::time::Duration;

use switch::store::Store;
use switch::store::readers::ReaderName;
use switch::store::record::{EventId, Told};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::plan::{dice, happens};
use super::world::{Running, World};

/// Events of a page.
const PAGE: usize = 3;

/// Reads for as long as there is a world.
pub async fn play(world: Arc<World>) {
    let mut dice = dice(world.plan.seed, "reader", 0);
    let mut acknowledged = EventId::NONE;
    // While nothing happens it looks less and less often.
    let mut looks_within = 40;
    loop {
        sleep(Duration::from_millis(dice.u64(1..looks_within))).await;
        looks_within = (looks_within * 2).min(2_000);
        let Some(running) = world.running() else { continue };
        // It may end, or be interrupted, between reading and acknowledging.
        let is_interrupted = happens(&mut dice, 20);
        if let Some(through) = read(&world, &running, (acknowledged, is_interrupted)).await {
            if through > acknowledged {
                looks_within = 40;
            }
            acknowledged = through;
        }
    }
}

/// Reads the rest when all is over.
pub async fn read_all(world: &Arc<World>) {
    let running = world.running().expect("a switch that runs at the end");
    let mut after = EventId::NONE;
    loop {
        let page = running.switch.store.events(after, PAGE).await.expect("a store that works");
        note(world, &page.items);
        match page.next {
            Some(next) => after = next,
            None => return,
        }
    }
}

/// One page; what was acknowledged of it.
async fn read(
    world: &Arc<World>,
    running: &Arc<Running>,
    (after, is_interrupted): (EventId, bool),
) -> Option<EventId> {
    let (sender, read) = oneshot::channel();
    let (world, of) = (Arc::clone(world), Arc::clone(running));
    running.spawn(async move {
        let reader = ReaderName::new("reader").expect("a name");
        let Ok(page) = of.switch.store.events(after, PAGE).await else { return };
        note(&world, &page.items);
        let through = page.items.last().map_or(after, |(id, _)| *id);
        if !is_interrupted && of.switch.store.acknowledge(&reader, through).await.is_ok() {
            // Who has gone learns it next time.
            let _ = sender.send(through);
        }
    });
    read.await.ok()
}

fn note(world: &World, items: &[(EventId, Told)]) {
    let mut history = world.history();
    for (id, told) in items {
        let what = match told {
            Told::Event(event, _) => format!("{} of {}", event.kind, event.card_token),
            Told::Transaction(record) => format!("transaction {}", record.answer.reason.code()),
        };
        history.told(*id, what);
    }
}
