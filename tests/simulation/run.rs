//! One run: a world from its seed to its verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::timeout;

use super::judge::judge;
use super::mutation::Mutation;
use super::plan::TERMINALS;
use super::world::{World, end};
use super::{issuer, products, reader, terminal};

/// Simulated time after which a run hangs: far more than the slowest takes.
const HANGS_AFTER: Duration = Duration::from_secs(600);

/// What came of a run.
pub struct Verdict {
    pub seed: u64,
    pub wrong: Option<String>,
    pub trace: Vec<String>,
    pub tally: BTreeMap<String, u64>,
}

/// Plays one seed.
pub fn run(seed: u64, mutation: Option<Mutation>) -> Verdict {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let world = World::new(seed, mutation);
        let ended = timeout(HANGS_AFTER, play(&world)).await;
        let mut history = world.history();
        if ended.is_err() {
            history.wrong("it hangs".to_owned());
        }
        let wrong = judge(&world.plan, &history).err();
        let trace = std::mem::take(&mut history.trace);
        Verdict { seed, wrong, trace, tally: std::mem::take(&mut history.tally) }
    })
}

async fn play(world: &Arc<World>) {
    let lives = tokio::spawn(Arc::clone(world).live());
    let reading = tokio::spawn(reader::play(Arc::clone(world)));
    let changing = tokio::spawn(products::play(Arc::clone(world)));
    let jumps = tokio::spawn(Arc::clone(world).jump());
    let terminals =
        (0..TERMINALS.len()).map(|number| tokio::spawn(terminal::play(Arc::clone(world), number)));
    let clerks = (0..world.plan.commands.len())
        .map(|clerk| tokio::spawn(issuer::play(Arc::clone(world), clerk)));
    let everybody: Vec<_> = terminals.chain(clerks).chain([jumps]).collect();
    for one in everybody {
        one.await.expect("nobody panics");
    }
    world.calm_down();
    lives.await.expect("a switch that comes back");
    end(reading).await;
    end(changing).await;
    issuer::show_all(world).await;
    reader::read_all(world).await;
    let running = world.running().expect("a switch that runs at the end");
    products::check(world, &running.store.disk().records);
    drop(running);
    world.close().await;
}
