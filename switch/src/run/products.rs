//! The products at start: those that the store knows, then those of the configuration, which are
//! written where they differ.

use super::RunError;
use crate::authorization::Product;
use crate::cache::Products;
use crate::config::{Config, ProductSettings};
use crate::hsm::software::PanVault;
use crate::issuing::Refused;
use crate::issuing::products::{Forbidden, ManagedBy, StoredProduct};
use crate::store::document::{Document, DocumentKind};
use crate::store::embedded::EmbeddedStore;

/// Gives the products of store and configuration their rules.
///
/// # Errors
/// If one cannot be read, or the configuration takes something from a product that its cards have.
pub(super) fn load(
    config: &Config,
    store: &EmbeddedStore,
    vault: &PanVault,
    products: &Products,
) -> Result<(), RunError> {
    for document in store.documents_of(DocumentKind::Product) {
        let stored = StoredProduct::read(vault, &document);
        let rules = stored.and_then(|stored| {
            let in_file = config.products.iter().any(|product| *product.name == *document.token);
            if stored.managed_by == ManagedBy::File && !in_file {
                let product = &*document.token;
                tracing::warn!(product, "the product left the configuration, and stays in force");
            }
            stored.rules(&document)
        });
        products.put(rules.map_err(|refused| failed(&document.token, refused))?);
    }
    for (product, settings) in config.products.iter().zip(&config.product_settings) {
        let token = &*product.name;
        check_cards(store, vault, products.product(token).as_deref(), product)
            .and_then(|()| written(store, vault, token, settings))
            .map(|rules| drop(products.put(rules)))
            .map_err(|refused| failed(token, refused))?;
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
    token: &str,
    settings: &ProductSettings,
) -> Result<Product, Refused> {
    let wanted = StoredProduct { managed_by: ManagedBy::File, settings: settings.clone() };
    let known = store.document_of(DocumentKind::Product, token);
    let is_same = |known: &Document| StoredProduct::read(vault, known).is_ok_and(|it| it == wanted);
    let document = match known {
        Some(known) if is_same(&known) => known,
        known => {
            let version = known.map_or(0, |known| known.version);
            let rules = settings.product(token, 1).map_err(Refused::Settings)?;
            store.restate(wanted.write(vault, token, version)?, rules)?;
            let written = store.document_of(DocumentKind::Product, token);
            written.ok_or_else(|| Refused::ProductUnreadable(token.to_owned()))?
        }
    };
    wanted.rules(&document)
}

fn check_cards(
    store: &EmbeddedStore,
    vault: &PanVault,
    before: Option<&Product>,
    after: &Product,
) -> Result<(), Refused> {
    let forbidden = before.and_then(|before| Forbidden::between(before, after));
    let Some(forbidden) = forbidden else { return Ok(()) };
    let of_product = store.cache().those(|card| forbidden.is_of(card));
    let hit = of_product.iter().find_map(|card| forbidden.by_card(vault, card));
    hit.map_or(Ok(()), Err)
}
