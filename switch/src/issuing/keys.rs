//! Keys of a running switch: take those of the key directory into use, and see whether one is still
//! needed. What the keys are is administered in the directory, by the command line.

use std::sync::Arc;

use super::{Refused, audit, blocks};
use crate::authorization::Product;
use crate::event::Actor;
use crate::hsm::software::keys::KeyChanges;
use crate::hsm::software::{Needs, SoftwareHsm};
use crate::key::Kcv;
use crate::store::Store;
use crate::switch::{Seams, Switch};

/// Takes the keys of the key directory into use.
///
/// # Errors
/// If a key that is needed is missing or not usable; those in use stay then.
pub async fn reload<W: Seams<Hsm = SoftwareHsm>>(
    switch: &Switch<W>,
    actor: &Actor,
) -> Result<(), Refused> {
    // No product comes to name a key that goes.
    let _unchanged = switch.products.changing.read().await;
    let reloaded = switch.hsm.reload_keys(&needs(&switch.products.all()));
    let refused = reloaded.as_ref().err().map(tracing::field::display);
    let done = reloaded.is_ok();
    tracing::info!(target: "audit", action = "reload keys", done, %actor, refused);
    let KeyChanges { added, removed } = reloaded?;
    audit::of_keys(actor, "key added", &added);
    audit::of_keys(actor, "key removed", &removed);
    Ok(())
}

/// The keys that products name.
#[must_use]
pub fn needs(products: &[Arc<Product>]) -> Needs {
    let methods = products.iter().flat_map(|product| product.pin_methods.iter()).cloned();
    let chips = products.iter().filter_map(|product| Some(product.chip.as_ref()?.keys.clone()));
    Needs { methods: methods.collect(), chips: chips.collect() }
}

/// Whether no card's PIN reference, and no PIN that waits for a chip, may be seen or is on a chip
/// that is played, was made with the key of this check value.
///
/// # Errors
/// [`Refused::KeyInUse`], or the store has failed.
pub async fn check_unused<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    kcv: &str,
) -> Result<(), Refused> {
    audit::of_reading(actor, "check unused", unused(switch, kcv).await)
}

async fn unused<W: Seams>(switch: &Switch<W>, kcv: &str) -> Result<(), Refused> {
    let expected = Refused::Field { name: "kcv", expected: "six hexadecimal digits" };
    let kcv = Kcv::parse(kcv).ok_or(expected)?;
    let cards = match switch.store.references_made_with(kcv).await? {
        0 => blocks::made_with(switch, kcv).await?,
        cards => cards,
    };
    match cards {
        0 => Ok(()),
        cards => Err(Refused::KeyInUse { cards, kcv }),
    }
}
