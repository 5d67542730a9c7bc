//! Products: show them, add one, change its rules while cards use them. A product is a document of
//! the store; its rules are swapped as a whole in the moment when the document is appended, so that
//! each record behind it was decided by them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::listing::{self, Listed, Wanted};
use super::tokens::{Expected, PayloadDigest, Token};
use super::{Call, Refused, audit, blocks};
use crate::authorization::Product;
use crate::authorization::issuance::Cvm;
use crate::cache::CardEntry;
use crate::cards::Pan;
use crate::clock::{Clock, Timestamp};
use crate::config::{ProductSettings, WrongSetting};
use crate::event::Actor;
use crate::hsm::Hsm;
use crate::hsm::software::PanVault;
use crate::store::document::{Document, DocumentChange, DocumentKind};
use crate::store::{COMMIT_ATTEMPTS_MAX, Commit, Store};
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
    /// When it was made, RFC 3339 in UTC; not known of one that an older release has written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<String>,
    /// When it was changed last, in the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified_time: Option<String>,
    /// Of the payload that a client made it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<PayloadDigest>,
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
    /// When it was made, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<String>,
    /// When it was changed last, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified_time: Option<String>,
    /// The order of verification methods of its chips, also where the settings say none; empty
    /// where it has no chips.
    #[serde(skip)]
    pub cvm_order: Vec<Cvm>,
}

impl StoredProduct {
    /// The product behind one that was stored before, at this moment.
    #[must_use]
    pub fn next(
        before: Option<StoredProduct>,
        (managed_by, settings): (ManagedBy, ProductSettings),
        now: Timestamp,
    ) -> StoredProduct {
        let now = now.to_string();
        let (made, digest) = before.map_or((None, None), |it| (it.created_time, it.digest));
        let created_time = Some(made.unwrap_or_else(|| now.clone()));
        let last_modified_time = Some(now);
        StoredProduct { managed_by, settings, created_time, last_modified_time, digest }
    }

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
    let mut views = Vec::new();
    for document in listing::documents(switch, DocumentKind::Product).await? {
        let token = &*document.token;
        match view(switch, &document) {
            Ok(view) => views.push(view),
            // The others can be shown all the same.
            Err(refused) => tracing::error!(token, %refused, "a product is not listed"),
        }
    }
    Ok(views)
}

/// Fields that a list of products can be sorted by.
pub const SORTS: &[&str] = &["token", "name", "start_date", "created_time", "last_modified_time"];

/// A part of the list of all products.
///
/// # Errors
/// If `after` is the token of none.
pub async fn part<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    wanted: &Wanted,
) -> Result<Listed<ProductView>, Refused> {
    let key = |view: &ProductView| {
        let setting = |name| view.settings.get(name).and_then(|it| it.as_str()).map(str::to_owned);
        match wanted.sort_by {
            "created_time" => view.created_time.clone(),
            "last_modified_time" => view.last_modified_time.clone(),
            "token" => None,
            name => setting(name),
        }
    };
    let all = all(switch).await;
    let part = all.and_then(|all| wanted.choose(all, key, |view| view.token.clone()));
    audit::of_reading(actor, "products", part)
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

/// A new product. The same token with the same settings gives what is there.
///
/// # Errors
/// If the token stands for a product that was made in another way, or the settings cannot be used.
pub async fn create<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    token: Option<Token>,
    settings: ProductSettings,
) -> Result<ProductView, Refused> {
    if let Err(refused) = check_complete(&settings) {
        return audited(call.actor, "", Err(refused));
    }
    let digest = PayloadDigest::of(&switch.vault.documents, "product", &settings);
    let token = token.map_or_else(Token::random, Ok)?;
    let token = token.as_str();
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        if let Some(known) = switch.store.document(DocumentKind::Product, token).await? {
            let is_same = StoredProduct::read(&switch.vault, &known)
                .is_ok_and(|stored| stored.digest == Some(digest));
            let shown = if is_same { view(switch, &known) } else { Err(Refused::OtherPayload) };
            return audit::of_reading(call.actor, "product made before", shown);
        }
        let wanted = (settings.clone(), Some(digest));
        let put = put_unaudited(switch, call, (token, Some(0)), wanted).await;
        match audited(call.actor, token, put) {
            Err(Refused::ProductChanged) => {}
            done => return done,
        }
    }
    Err(Refused::Busy)
}

/// What Marqeta's documents require of a new product, beside what every product must have.
fn check_complete(settings: &ProductSettings) -> Result<(), Refused> {
    let is_missing = |name: &&str| settings.get(name).is_none_or(serde_json::Value::is_null);
    let missing = ["name", "start_date"].into_iter().filter(is_missing);
    let mut wrong: Vec<WrongSetting> = missing
        .map(|name| WrongSetting { pointer: format!("/{name}"), expected: "is missing".to_owned() })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.extend(settings.product("new", 1).err().into_iter().flatten());
    Err(Refused::Settings(wrong))
}

/// Changes the settings of a product that are named; `null` removes one.
///
/// # Errors
/// If there is no such product, it has another version than was expected, or it is not changed in
/// this way.
pub async fn update<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    token: &str,
    changes: &ProductSettings,
    expected: &Expected,
) -> Result<ProductView, Refused> {
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let updated = update_once(switch, call, token, (changes, expected)).await;
        match audited(call.actor, token, updated) {
            // Somebody else was faster; whether that matters is decided anew.
            Err(Refused::ProductChanged) => {}
            done => return done,
        }
    }
    Err(Refused::Busy)
}

async fn update_once<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    token: &str,
    (changes, expected): (&ProductSettings, &Expected),
) -> Result<ProductView, Refused> {
    let known = switch.store.document(DocumentKind::Product, token).await?;
    let known = known.ok_or(Refused::NoSuchProduct)?;
    expected.check(known.version)?;
    let stored = StoredProduct::read(&switch.vault, &known)?;
    if stored.managed_by == ManagedBy::File {
        return Err(Refused::ProductOfFile);
    }
    let settings = stored.settings.changed_by(changes);
    put_unaudited(switch, call, (token, Some(known.version)), (settings, None)).await
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
    let put = put_unaudited(switch, actor.into(), (token, read), (settings, None)).await;
    audited(actor, token, put)
}

/// A line for a change of a product, whether it was done or refused.
fn audited(
    actor: &Actor,
    token: &str,
    put: Result<ProductView, Refused>,
) -> Result<ProductView, Refused> {
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
    call: Call<'_>,
    (token, read): (&str, Option<u64>),
    (settings, digest): (ProductSettings, Option<PayloadDigest>),
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
    let stored = StoredProduct::next(stored, (ManagedBy::Api, settings), switch.clock.now());
    let stored = StoredProduct { digest: digest.or(stored.digest), ..stored };
    let change = stored.write(&switch.vault, token, version)?;
    let is_viewable = rules.pin_viewable;
    let product = Some(Box::new(rules));
    let documents = [change].into_iter().chain(call.made(switch, token)?).collect();
    let commit = Commit { documents, product, ..Commit::default() };
    switch.store.commit(commit, &mut None).await?;
    if before.is_some_and(|before| before.pin_viewable && !is_viewable) {
        blocks::forget(switch).await?;
    }
    let written = switch.store.document(DocumentKind::Product, token).await?;
    let written = written.ok_or(Refused::NoSuchProduct)?;
    view(switch, &written)
}

fn is_name(token: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_CHARACTERS_MAX).contains(&token.len())
        && token.bytes().all(valid)
        // It stands in logs and in paths.
        && !Pan::parse(token.as_bytes()).is_some_and(|pan| pan.can_be_issued())
}

fn view<W: Seams>(switch: &Switch<W>, document: &Document) -> Result<ProductView, Refused> {
    let stored = StoredProduct::read(&switch.vault, document)?;
    // Settings of another release may not be readable, and are shown all the same.
    let rules = stored.rules(document).ok().filter(|rules| rules.chip.is_some());
    let cvm_order = rules.map(|rules| rules.issuance.cvm_order).unwrap_or_default();
    let StoredProduct { managed_by, settings, created_time, last_modified_time, .. } = stored;
    Ok(ProductView {
        token: document.token.to_string(),
        version: document.version,
        managed_by,
        settings,
        created_time,
        last_modified_time,
        cvm_order,
    })
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
