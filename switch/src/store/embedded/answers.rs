//! The answers that are read at start go into the index on a thread of its own: that takes as long
//! as reading them does.

use std::cell::RefCell;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{Builder, JoinHandle};

use crate::clock::Timestamp;
use crate::store::duplicates::{ByNetwork, Restored};

/// Answers that go into the index at once: many, so that those of one shard come together.
const BATCH: usize = 1 << 16;
/// Batches that wait for the thread, 5 MB each.
const WAITING_MAX: usize = 4;

/// What is read at start, on its way into the index.
pub(super) struct Answers {
    index: ByNetwork,
    /// Of each network, in the order of the index.
    found: RefCell<Vec<Vec<Restored>>>,
    /// None once it has ended.
    thread: Option<(SyncSender<Step>, JoinHandle<()>)>,
}

enum Step {
    /// Puts a batch back, in the index of the network of this place.
    Restore(usize, Vec<Restored>),
    /// Moves all times by so many microseconds.
    Shift(i64),
}

impl Answers {
    /// Begins with an empty index. No answer is from a time to come: then its clock was wrong, and
    /// it counts as of `now`.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub(super) fn new(index: &ByNetwork, now: Timestamp) -> io::Result<Answers> {
        let (sender, steps) = mpsc::sync_channel(WAITING_MAX);
        let of_thread = index.clone();
        let thread = Builder::new().name("answers".to_owned());
        Ok(Answers {
            index: index.clone(),
            found: RefCell::new(vec![Vec::new(); index.iter().count()]),
            thread: Some((sender, thread.spawn(move || run(&of_thread, now, &steps))?)),
        })
    }

    /// Puts it back, after all of its network that was found before. A network that no link has any
    /// more asks for nothing.
    pub(super) fn found(&self, network: &str, restored: Restored) {
        let Some(place) = self.index.iter().position(|(name, _)| &**name == network) else {
            return;
        };
        if let Some(list) = self.found.borrow_mut().get_mut(place) {
            list.push(restored);
            if list.len() >= BATCH {
                let batch = std::mem::replace(list, Vec::with_capacity(BATCH));
                self.send(Step::Restore(place, batch));
            }
        }
    }

    /// Moves the times of all that was found so far.
    pub(super) fn shift(&self, micros: i64) {
        self.send_found();
        self.send(Step::Shift(micros));
    }

    /// Waits until all is in the index.
    ///
    /// # Errors
    /// If the thread has panicked.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.send_found();
        let Some((sender, thread)) = self.thread.take() else { return Ok(()) };
        drop(sender);
        thread.join().map_err(|_| io::Error::other("the thread for answers has panicked"))
    }

    fn send_found(&self) {
        for (place, list) in self.found.borrow_mut().iter_mut().enumerate() {
            self.send(Step::Restore(place, std::mem::take(list)));
        }
    }

    fn send(&self, step: Step) {
        if let Some((sender, _)) = &self.thread {
            // Fails only if the thread has panicked, which `finish` tells.
            let _ = sender.send(step);
        }
    }
}

fn run(index: &ByNetwork, now: Timestamp, steps: &Receiver<Step>) {
    for step in steps {
        match step {
            Step::Shift(micros) => index.change_times(|time| time.shifted(micros).min(now)),
            Step::Restore(place, mut batch) => {
                let of_network = index.iter().nth(place);
                of_network.into_iter().for_each(|(_, index)| index.restore(&mut batch, now));
            }
        }
    }
}
