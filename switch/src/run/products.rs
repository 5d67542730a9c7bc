//! The products at start: those that the store knows, then those of the configuration, which are
//! written where they differ.

use super::RunError;
use crate::authorization::Product;
use crate::cache::Products;
use crate::clock::Timestamp;
use crate::config::{Config, ProductSettings};
use crate::event::Actor;
use crate::hsm::software::PanVault;
use crate::issuing::Refused;
use crate::issuing::products::{Forbidden, ManagedBy, StoredProduct};
use crate::store::document::DocumentKind;
use crate::store::embedded::EmbeddedStore;

/// Gives the products of store and configuration their rules.
///
/// # Errors
/// If the configuration takes something from a product that its cards have, or has one that the
/// issuer has made.
pub(super) fn load(
    config: &Config,
    store: &EmbeddedStore,
    vault: &PanVault,
    products: &Products,
    now: Timestamp,
) -> Result<(), RunError> {
    let in_file = |token: &str| config.products.iter().any(|product| &*product.name == token);
    for document in store.documents_of(DocumentKind::Product) {
        let token = &*document.token;
        let stored = StoredProduct::read(vault, &document);
        let rules = stored.as_ref().ok().map(|stored| stored.rules(&document));
        match (stored, rules) {
            (Ok(stored), Some(Ok(rules))) => {
                if stored.managed_by == ManagedBy::File && !in_file(token) {
                    tracing::warn!(token, "the product left the configuration, and stays in force");
                }
                products.put(rules);
            }
            // What stands in the configuration is written anew.
            _ if in_file(token) => {}
            (Err(refused), _) | (_, Some(Err(refused))) => {
                tracing::error!(token, %refused, "a product cannot be read: its cards decline");
            }
            (Ok(_), None) => debug_assert!(false, "what was read has rules, or a mistake"),
        }
    }
    let of_file = config.products.iter().zip(&config.product_settings);
    // All are looked at before the first is written.
    for (product, _) in of_file.clone() {
        check(store, vault, products, product).map_err(|refused| failed(&product.name, refused))?;
    }
    for (product, settings) in of_file {
        let token = &*product.name;
        let rules = written(store, vault, (token, settings), now);
        products.put(rules.map_err(|refused| failed(token, refused))?);
    }
    Ok(())
}

fn failed(token: &str, refused: Refused) -> RunError {
    RunError::Product { token: token.to_owned(), refused: Box::new(refused) }
}

/// The rules of a product of the configuration, as the store has them from now on.
fn written(
    store: &EmbeddedStore,
    vault: &PanVault,
    (token, settings): (&str, &ProductSettings),
    now: Timestamp,
) -> Result<Product, Refused> {
    let known = store.document_of(DocumentKind::Product, token);
    let stored = known.as_ref().and_then(|known| StoredProduct::read(vault, known).ok());
    let is_same = stored
        .as_ref()
        .is_some_and(|it| it.managed_by == ManagedBy::File && it.settings == *settings);
    let wanted = StoredProduct::next(stored, (ManagedBy::File, settings.clone()), now);
    let document = match known {
        Some(known) if is_same => known,
        known => {
            let version = known.map_or(0, |known| known.version);
            let rules = settings.product(token, 1).map_err(Refused::Settings)?;
            store.restate(wanted.write(vault, token, version)?, rules)?;
            let written = store.document_of(DocumentKind::Product, token);
            let written = written.ok_or_else(|| Refused::ProductUnreadable(token.to_owned()))?;
            let (actor, version, action) = (Actor::switch("start"), written.version, "set product");
            tracing::info!(target: "audit", action, product = token, done = true, %actor, version);
            written
        }
    };
    wanted.rules(&document)
}

/// What the configuration must not do to a product that is there.
fn check(
    store: &EmbeddedStore,
    vault: &PanVault,
    products: &Products,
    after: &Product,
) -> Result<(), Refused> {
    let document = store.document_of(DocumentKind::Product, &after.name);
    let stored = document.and_then(|it| StoredProduct::read(vault, &it).ok());
    if stored.as_ref().is_some_and(|stored| stored.managed_by == ManagedBy::Api) {
        return Err(Refused::ProductOfApi);
    }
    // Of a product that is new no card can have asked.
    if products.get(&after.name).is_none() {
        return Ok(());
    }
    let forbidden = match products.product(&after.name) {
        Some(before) => Forbidden::between(&before, after, ManagedBy::File),
        None => Forbidden::of_unknown(stored.as_ref(), after),
    };
    let Some(forbidden) = forbidden else { return Ok(()) };
    forbidden.check(vault, &store.cache().of_product(forbidden.product()))
}
