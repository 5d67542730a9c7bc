//! Products: show them, add one, change its rules while cards use them. A product is a document of
//! the store; its rules are swapped as a whole in the moment when the document is appended, so that
//! each record behind it was decided by them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Refused, audit, viewable_pin};
use crate::authorization::Product;
use crate::cache::CardEntry;
use crate::config::ProductSettings;
use crate::event::Actor;
use crate::hsm::Hsm;
use crate::hsm::software::PanVault;
use crate::store::document::{Document, DocumentChange, DocumentKind};
use crate::store::page::PAGE_ITEMS_MAX;
use crate::store::{Commit, Store};
use crate::switch::{Seams, Switch};

/// Longest name of a product, in characters.
const NAME_CHARACTERS_MAX: usize = 64;
/// Cards that are looked at before others have a turn: opening a PAN takes a microsecond.
const CARDS_AT_ONCE: usize = 10_000;

/// Who decides what a product is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManagedBy {
    /// The configuration: each start writes what stands there.
    File,
    /// The issuer, by one of the doors.
    Api,
}

/// A product as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredProduct {
    /// Who decides what it is.
    pub managed_by: ManagedBy,
    /// Its settings, as they were written.
    pub settings: ProductSettings,
}

/// A product as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductView {
    /// Its name, by which cards refer to it.
    pub token: String,
    /// Goes up with every change.
    pub version: u64,
    /// Who decides what it is.
    pub managed_by: ManagedBy,
    /// Its settings, as they were written.
    pub settings: ProductSettings,
}

impl StoredProduct {
    /// The product of a document. Documents of products are not sealed.
    ///
    /// # Errors
    /// [`Refused::ProductUnreadable`]: a release before or after this one has written it.
    pub fn read(vault: &PanVault, document: &Document) -> Result<StoredProduct, Refused> {
        let json = document.json(&vault.documents).ok();
        let stored = json.and_then(|json| serde_json::from_slice(&json).ok());
        stored.ok_or_else(|| Refused::ProductUnreadable(document.token.to_string()))
    }

    /// The rules of the product of a document.
    ///
    /// # Errors
    /// All that is wrong with its settings.
    pub fn rules(&self, document: &Document) -> Result<Product, Refused> {
        let product = self.settings.product(&document.token, document.version);
        product.map_err(Refused::Settings)
    }

    /// The change that writes it, where this version was read; 0 for none.
    ///
    /// # Errors
    /// Never for settings that were read.
    pub fn write(
        &self,
        vault: &PanVault,
        token: &str,
        read: u64,
    ) -> Result<DocumentChange, Refused> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        debug_assert!(!json.is_empty(), "settings are a JSON object with texts as keys");
        let kind = (DocumentKind::Product, token);
        DocumentChange::write(&vault.documents, kind, read, &json).map_err(Refused::Sealing)
    }
}

/// All products, in the order of their names.
///
/// # Errors
/// If the store has failed.
pub async fn list<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
) -> Result<Vec<ProductView>, Refused> {
    audit::of_reading(actor, "products", all(switch).await)
}

async fn all<W: Seams>(switch: &Switch<W>) -> Result<Vec<ProductView>, Refused> {
    let (mut views, mut after) = (Vec::new(), None::<String>);
    loop {
        let kind = DocumentKind::Product;
        let page = switch.store.documents(kind, after.as_deref(), PAGE_ITEMS_MAX).await?;
        for (token, document) in &page.items {
            match view(switch, document) {
                Ok(view) => views.push(view),
                // The others can be shown all the same.
                Err(refused) => tracing::error!(%token, %refused, "a product is not listed"),
            }
        }
        match page.next {
            Some(next) => after = Some(next.into()),
            None => return Ok(views),
        }
    }
}

/// A product.
///
/// # Errors
/// [`Refused::NoSuchProduct`], or the store has failed.
pub async fn show<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
) -> Result<ProductView, Refused> {
    let document = switch.store.document(DocumentKind::Product, token).await?;
    let shown = document.ok_or(Refused::NoSuchProduct).and_then(|it| view(switch, &it));
    audit::of_reading(actor, "product", shown)
}

/// Adds a product, or changes one from the version that was read; without one, whatever it is now.
/// Cards follow the new rules from the answer on, and no decision mixes both.
///
/// # Errors
/// Why not. Nothing has changed then.
pub async fn put<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    settings: ProductSettings,
    read: Option<u64>,
) -> Result<ProductView, Refused> {
    let put = put_unaudited(switch, token, settings, read).await;
    // The text may hold what was sent: a key that nobody knows.
    let refused = put.as_ref().err().map(Refused::code);
    let (done, version) = (put.is_ok(), put.as_ref().ok().map(|view| view.version));
    let product = is_name(token).then_some(token);
    tracing::info!(
        target: "audit", action = "set product", product, done, %actor, version, ?refused
    );
    put
}

async fn put_unaudited<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    settings: ProductSettings,
    read: Option<u64>,
) -> Result<ProductView, Refused> {
    if !is_name(token) {
        let expected = "1 to 64 letters, digits, '-', '_' and '.'";
        return Err(Refused::Field { name: "card_product_token", expected });
    }
    let rules = settings.product(token, 1).map_err(Refused::Settings)?;
    // No card comes to a BIN while it goes, and no key goes that it names.
    let _changing = switch.products.changing.write().await;
    let chip = rules.chip.as_ref().map(|chip| &chip.keys);
    switch.hsm.check_keys(&rules.pin_methods, chip).await?;
    let before = switch.store.document(DocumentKind::Product, token).await?;
    let version = before.as_ref().map_or(0, |before| before.version);
    if read.is_some_and(|read| read != version) {
        return Err(Refused::ProductChanged);
    }
    let stored = before.as_ref().and_then(|it| StoredProduct::read(&switch.vault, it).ok());
    if stored.as_ref().is_some_and(|stored| stored.managed_by == ManagedBy::File) {
        return Err(Refused::ProductOfFile);
    }
    let before = switch.products.product(token);
    let forbidden = match &before {
        Some(before) => Forbidden::between(before, &rules, ManagedBy::Api),
        None => Forbidden::of_unknown(stored.as_ref(), &rules),
    };
    // Of a product that is new no card can have asked.
    if switch.products.get(token).is_some() {
        check_cards(switch, forbidden).await?;
    }
    let stored = StoredProduct { managed_by: ManagedBy::Api, settings };
    let change = stored.write(&switch.vault, token, version)?;
    let is_viewable = rules.pin_viewable;
    let product = Some(Box::new(rules));
    let commit = Commit { documents: vec![change], product, ..Commit::default() };
    switch.store.commit(commit, &mut None).await?;
    if before.is_some_and(|before| before.pin_viewable && !is_viewable) {
        viewable_pin::forget(switch).await?;
    }
    let written = switch.store.document(DocumentKind::Product, token).await?;
    let written = written.ok_or(Refused::NoSuchProduct)?;
    view(switch, &written)
}

fn is_name(token: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_CHARACTERS_MAX).contains(&token.len()) && token.bytes().all(valid)
}

fn view<W: Seams>(switch: &Switch<W>, document: &Document) -> Result<ProductView, Refused> {
    let StoredProduct { managed_by, settings } = StoredProduct::read(&switch.vault, document)?;
    let (token, version) = (document.token.to_string(), document.version);
    Ok(ProductView { token, version, managed_by, settings })
}

/// What must not change under the cards of a product: its currency, in which their limits are, a
/// BIN that one of them has, and a method by which their PINs were set.
async fn check_cards<W: Seams>(
    switch: &Switch<W>,
    forbidden: Option<Forbidden>,
) -> Result<(), Refused> {
    let Some(forbidden) = forbidden else { return Ok(()) };
    let cards = switch.store.cards_of_product(&forbidden.product).await?;
    for some in cards.chunks(CARDS_AT_ONCE) {
        forbidden.check(&switch.vault, some)?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// What a change of a product takes from cards, if it has any.
pub struct Forbidden {
    product: Box<str>,
    changes_currency: bool,
    drops_method: bool,
    /// The BINs that it has after the change.
    bins: Vec<Box<str>>,
}

impl Forbidden {
    /// What a change takes; `None` where it takes nothing. A method that the configuration no
    /// longer names is only told at each start, with how many cards need it.
    #[must_use]
    pub fn between(before: &Product, after: &Product, by: ManagedBy) -> Option<Forbidden> {
        let still_knows = |method| after.pin_methods.iter().any(|kept| kept == method);
        let drops_method = by == ManagedBy::Api && !before.pin_methods.iter().all(still_knows);
        let still_has = |bin: &str| after.bins.iter().any(|kept| bin.starts_with(&**kept));
        let loses_bin = before.bins.iter().any(|bin| !still_has(bin));
        let changes_currency = before.currency != after.currency;
        let (product, bins) = (before.name.clone(), after.bins.clone());
        let takes = changes_currency || loses_bin || drops_method;
        takes.then_some(Forbidden { product, changes_currency, drops_method, bins })
    }

    /// What a change may take where the rules of before are gone, or are none to this release: each
    /// card needs one of the new BINs, and the currency stays where it is still known.
    #[must_use]
    pub fn of_unknown(before: Option<&StoredProduct>, after: &Product) -> Option<Forbidden> {
        let currency = before.and_then(|before| before.settings.currency());
        let changes_currency = currency.is_some_and(|currency| currency != after.currency);
        let (product, bins) = (after.name.clone(), after.bins.clone());
        Some(Forbidden { product, changes_currency, drops_method: false, bins })
    }

    /// The product.
    #[must_use]
    pub fn product(&self) -> &str {
        &self.product
    }

    /// Whether the cards of the product allow the change.
    ///
    /// # Errors
    /// Why the first that does not forbids it.
    pub fn check(&self, vault: &PanVault, cards: &[Arc<CardEntry>]) -> Result<(), Refused> {
        cards.iter().try_for_each(|card| self.check_card(vault, card))
    }

    fn check_card(&self, vault: &PanVault, card: &CardEntry) -> Result<(), Refused> {
        if self.changes_currency {
            return Err(Refused::ProductHasCards("currency"));
        }
        if self.drops_method {
            return Err(Refused::ProductHasCards("pin_verification"));
        }
        let pan = vault.open(&card.identity.key, &card.identity.sealed_pan);
        let pan = pan.map_err(Refused::SealedPan)?;
        match self.bins.iter().any(|bin| pan.digits().starts_with(bin.as_bytes())) {
            true => Ok(()),
            false => Err(Refused::ProductHasCards("bins")),
        }
    }
}
