//! What the API shows of a plastic, as Marqeta's card, and what it changes of it besides its state.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::card_details::{
    self, ActivationActions, CardDetails, Fulfillment, FulfillmentStatus, PinStatus,
};
use super::change::{self, load};
use super::listing::{Listed, Wanted};
use super::secret::PanText;
use super::tokens::{Expected, Token};
use super::users::{self, Metadata, UserView};
use super::{Call, Refused, audit, issuance};
use crate::cache::{Card, CardEntry};
use crate::cards::{CardStatus, Expiry, Pan, Plastic};
use crate::clock::Clock;
use crate::event::Actor;
use crate::store::document::DocumentChange;
use crate::store::{COMMIT_ATTEMPTS_MAX, Changed, Commit, CommitError, Store};
use crate::switch::{Seams, Switch};

/// Cards that are looked at before others have a turn.
const CARDS_AT_ONCE: usize = 10_000;

/// A plastic, with the names of Marqeta's card.
#[derive(Clone, Serialize, ToSchema)]
pub struct IssuedCard {
    /// The issuer's name for it.
    pub token: String,
    /// Its cardholder; empty for a card of the command line.
    pub user_token: String,
    /// Its product.
    pub card_product_token: String,
    /// Twenty digits that name it on its carrier, and no PAN.
    #[schema(pattern = "^[0-9]{20}$")]
    pub barcode: String,
    /// First six digits, six underscores, last four; the whole PAN where that was asked for.
    #[schema(value_type = String)]
    pub pan: ShownPan,
    /// Last four digits of the PAN.
    pub last_four: String,
    /// MMyy.
    #[schema(pattern = "^[0-9]{4}$")]
    pub expiration: String,
    /// The last second of that month, RFC 3339.
    #[schema(format = DateTime)]
    pub expiration_time: String,
    /// UNACTIVATED, ACTIVE, LIMITED, SUSPENDED or TERMINATED.
    pub state: &'static str,
    /// Why it is in that state, in words.
    pub state_reason: &'static str,
    /// The same as two digits.
    #[schema(pattern = "^[0-9]{2}$")]
    pub reason_code: String,
    /// How far it is on its way to the cardholder.
    pub fulfillment_status: FulfillmentStatus,
    /// Whether the card has a PIN.
    pub pin_is_set: bool,
    /// Consecutive wrong PINs, of all plastics of the card together.
    pub pin_try_counter: u32,
    /// Which PIN the embosser gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin_status: Option<PinStatus>,
    /// PAN sequence number.
    #[schema(pattern = "^[0-9]{2}$")]
    pub pan_sequence_number: String,
    /// What the switch believes that the chip holds: in_sync, pending, sent, failed or expired,
    /// with the change.
    pub chip_sync: String,
    /// When it was made, RFC 3339 in UTC; empty for a card of the command line.
    pub created_time: String,
    /// When it was changed last by a call on this resource.
    pub last_modified_time: String,
    /// How it is made and sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fulfillment: Option<Fulfillment>,
    /// The issuer's own names and values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Whether it is made before others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expedite: Option<bool>,
    /// The plastic that it replaces under the same PAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reissue_pan_from_card_token: Option<Token>,
    /// The plastic that it replaces under a new PAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_pan_from_card_token: Option<Token>,
    /// What happens with its first activation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_actions: Option<ActivationActions>,
    /// Its cardholder, where `expand` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UserView>)]
    pub user: Option<Value>,
    /// Its product, where `expand` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub card_product: Option<Value>,
    /// The version of what a call can change, which is in no body.
    #[serde(skip)]
    pub version: u64,
}

/// A PAN as it is shown, wiped when it is dropped.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct ShownPan(Zeroizing<String>);

impl std::fmt::Debug for ShownPan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShownPan(..)")
    }
}

/// What a call changes of a plastic; what it does not name stays.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardChange {
    /// The token of the path, or nothing.
    pub token: Option<Token>,
    /// Its cardholder.
    pub user_token: Option<Token>,
    /// How it is made and sent.
    pub fulfillment: Option<Fulfillment>,
    /// The issuer's own names and values.
    pub metadata: Option<Metadata>,
    /// Whether it is made before others.
    pub expedite: Option<bool>,
    /// D, where it is W.
    #[serde(alias = "pinStatus")]
    #[schema(value_type = Option<String>, pattern = "^[WD]$")]
    pub pin_status: Option<PinStatus>,
}

/// The plastic with this token.
pub(super) async fn of<W: Seams>(switch: &Switch<W>, token: &str) -> Result<IssuedCard, Refused> {
    let card = load(switch, token).await?;
    let details = card_details::of(switch, token).await?;
    view(switch, &card, change::place(&card.state, token), details, false)
}

fn view<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
    place: usize,
    details: Option<(CardDetails, u64)>,
    shows_pan: bool,
) -> Result<IssuedCard, Refused> {
    let (card, _) = &change::as_it_counts(switch, card);
    let identity = &card.entry.identity;
    let pan = switch.vault.open(&identity.key, &identity.sealed_pan).map_err(Refused::SealedPan)?;
    let token = change::token_of(card, place);
    let plastic = card.state.plastics.get(place).ok_or(Refused::NoSuchCard)?;
    let (details, version) = details.map_or((None, 0), |(details, at)| (Some(details), at));
    let is_known = details.is_some();
    let details = details.unwrap_or_else(|| CardDetails::new(token, switch.clock.now()));
    let time = |time: String| if is_known { time } else { String::new() };
    let shown = match shows_pan {
        true => String::from_utf8_lossy(pan.digits()).into_owned(),
        false => pan.masked().to_string(),
    };
    let sync = plastic.chip().map(|chip| chip.sync.to_string());
    let end = plastic.expiry.last_second(card.product.utc_offset);
    Ok(IssuedCard {
        token: token.to_owned(),
        user_token: details.user_token.map(|it| it.as_str().to_owned()).unwrap_or_default(),
        card_product_token: card.entry.product.name().to_owned(),
        barcode: barcode(switch, token),
        pan: ShownPan(Zeroizing::new(shown)),
        last_four: pan.masked().last_four().to_owned(),
        expiration: month_first(plastic),
        expiration_time: end.map(|end| end.to_string()).unwrap_or_default(),
        state: plastic.status.name(),
        state_reason: match plastic.status {
            CardStatus::Unactivated => "Not activated yet",
            _ => plastic.status_reason.words().unwrap_or_default(),
        },
        reason_code: plastic.status_reason.to_string(),
        fulfillment_status: details.fulfillment_status,
        pin_is_set: card.state.pin.reference.is_some(),
        pin_try_counter: card.state.pin.tries,
        pin_status: details.pin_status,
        pan_sequence_number: format!("{:02}", plastic.sequence),
        chip_sync: sync.unwrap_or_else(|| "in_sync".to_owned()),
        created_time: time(details.created_time),
        last_modified_time: time(details.last_modified_time),
        fulfillment: details.fulfillment,
        metadata: details.metadata,
        expedite: details.expedite,
        reissue_pan_from_card_token: details.reissue_pan_from_card_token,
        new_pan_from_card_token: details.new_pan_from_card_token,
        activation_actions: details.activation_actions,
        user: None,
        card_product: None,
        version,
    })
}

/// MMyy.
fn month_first(plastic: &Plastic) -> String {
    let [y1, y0, m1, m0] = plastic.expiry.digits().map(char::from);
    [m1, m0, y1, y0].into_iter().collect()
}

/// Twenty digits that are always the same for a token, and say nothing of it.
fn barcode<W: Seams>(switch: &Switch<W>, token: &str) -> String {
    let digest = switch.vault.documents.digest(b"barcode", token.as_bytes());
    let (number, _) = digest.split_at(16);
    let number = number.try_into().map_or(0, u128::from_be_bytes);
    format!("{:020}", number % 10_u128.pow(20))
}

/// A plastic.
///
/// # Errors
/// [`Refused::NoSuchCard`], or it cannot be read.
pub async fn show<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
) -> Result<IssuedCard, Refused> {
    audit::of_card(switch, actor, ("show", token), of(switch, token).await).await
}

/// A plastic with its whole PAN.
///
/// # Errors
/// [`Refused::NoSuchCard`], or it cannot be read.
pub async fn show_pan<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
) -> Result<IssuedCard, Refused> {
    let shown = async {
        let card = load(switch, token).await?;
        let details = card_details::of(switch, token).await?;
        view(switch, &card, change::place(&card.state, token), details, true)
    };
    audit::of_card(switch, actor, ("show-pan", token), shown.await).await
}

/// The plastic in use of the card with this PAN: the newest that is active, or that says most of
/// why none is.
///
/// # Errors
/// [`Refused::NoSuchCard`], or it cannot be read.
pub async fn by_pan<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    pan: &PanText,
    expiration: Option<&str>,
) -> Result<IssuedCard, Refused> {
    let found = find_by_pan(switch, pan, expiration).await;
    let token = found.as_ref().map(|card| card.token.clone()).unwrap_or_default();
    audit::of_card(switch, actor, ("find-by-pan", &token), found).await
}

async fn find_by_pan<W: Seams>(
    switch: &Switch<W>,
    pan: &PanText,
    expiration: Option<&str>,
) -> Result<IssuedCard, Refused> {
    let wrong = Refused::Field { name: "expiration", expected: "MMyy" };
    let expiry = match expiration {
        Some(text) => Some(Expiry::from_month_and_year(text).ok_or(wrong)?),
        None => None,
    };
    let key = switch.vault.card_key(&pan.parse()?);
    let card = switch.store.load(&key).await?.ok_or(Refused::NoSuchCard)?;
    let (place, _) = card.state.plastic(expiry, None).ok_or(Refused::NoSuchCard)?;
    let details = card_details::of(switch, change::token_of(&card, place)).await?;
    view(switch, &card, place, details, false)
}

/// Changes what is kept of a plastic besides its state, where it has one of the versions.
///
/// # Errors
/// Why not. Nothing has changed then.
pub async fn update<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    token: &str,
    change: &CardChange,
    expected: &Expected,
) -> Result<IssuedCard, Refused> {
    let updated = update_unaudited(switch, call, (token, expected), change).await;
    audit::of_card(switch, call.actor, ("change", token), updated).await
}

async fn update_unaudited<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    (token, expected): (&str, &Expected),
    change: &CardChange,
) -> Result<IssuedCard, Refused> {
    card_details::check_asked(change.pin_status)?;
    if change.token.as_ref().is_some_and(|named| named.as_str() != token) {
        return Err(Refused::Field { name: "token", expected: "the token of the path, or none" });
    }
    if let Some(user) = &change.user_token {
        users::fields(switch, user.as_str()).await?;
    }
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let card = load(switch, token).await?;
        let known = card_details::of(switch, token).await?;
        let version = known.as_ref().map_or(0, |(_, version)| *version);
        expected.check(version)?;
        if change.user_token.is_some() && card.state.plastics.len() > 1 {
            let expected = "nothing where a card has several plastics: one PAN has one holder";
            return Err(Refused::Field { name: "user_token", expected });
        }
        let card_token = &*card.entry.identity.token;
        let before = known.map(|(details, _)| details);
        let before = before.unwrap_or_else(|| CardDetails::new(card_token, switch.clock.now()));
        let mut documents = changed(switch, token, (before, version), change).await?;
        documents.extend(call.made(switch, token)?);
        // With the card, so that none of it outlives that.
        let commit = Commit { card: Some(&card), documents, ..Commit::default() };
        match switch.store.commit(commit, &mut None).await {
            Ok(_) => return of(switch, token).await,
            Err(CommitError::Changed(Changed::Card | Changed::Document(..))) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refused::Busy)
}

/// The documents that a change makes.
async fn changed<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    (before, version): (CardDetails, u64),
    change: &CardChange,
) -> Result<Vec<DocumentChange>, Refused> {
    let pin_status = match (before.pin_status, change.pin_status) {
        (same, None) => same,
        (before, wanted) if before == wanted => wanted,
        (Some(PinStatus::W), Some(PinStatus::D)) => Some(PinStatus::D),
        _ => return Err(Refused::PinStatusMoved),
    };
    let mut documents = Vec::new();
    let new_user = change.user_token.as_ref().filter(|it| Some(*it) != before.user_token.as_ref());
    if let Some(user) = new_user {
        documents.push(card_details::link(switch, user, token)?);
        if let Some(earlier) = &before.user_token {
            documents.extend(card_details::unlink(switch, earlier, token).await?);
        }
    }
    let details = CardDetails {
        user_token: change.user_token.clone().or(before.user_token),
        fulfillment: change.fulfillment.clone().or(before.fulfillment),
        metadata: change.metadata.clone().or(before.metadata),
        expedite: change.expedite.or(before.expedite),
        pin_status,
        last_modified_time: switch.clock.now().to_string(),
        ..before
    };
    documents.push(details.write(switch, token, version)?);
    Ok(documents)
}

/// Fields that a list of cards can be sorted by.
pub const SORTS: &[&str] = &["token", "created_time", "last_modified_time", "last_four"];

/// A part of the list of a cardholder's cards.
///
/// # Errors
/// If there is no such user, or `after` is the token of none.
pub async fn of_user<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    user: &str,
    wanted: &Wanted,
) -> Result<Listed<IssuedCard>, Refused> {
    let listed = async {
        users::fields(switch, user).await?;
        let tokens = issuance::cards_of_user(switch, user).await?;
        let mut cards = Vec::with_capacity(tokens.len());
        for token in &tokens {
            match of(switch, token).await {
                Ok(card) => cards.push(card),
                // It was removed by the command line.
                Err(Refused::NoSuchCard) => {}
                Err(error) => return Err(error),
            }
        }
        chosen(cards, wanted)
    };
    audit::of_reading(actor, "cards of user", listed.await)
}

/// A part of the list of all plastics whose PAN ends in these four digits.
///
/// # Errors
/// If `after` is the token of none.
pub async fn by_last_four<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    last_four: &str,
    wanted: &Wanted,
) -> Result<Listed<IssuedCard>, Refused> {
    let listed = async {
        let mut cards = Vec::new();
        for card in with_last_four(switch, last_four).await? {
            for place in 0..card.state.plastics.len() {
                let details = card_details::of(switch, change::token_of(&card, place)).await?;
                cards.push(view(switch, &card, place, details, false)?);
            }
        }
        chosen(cards, wanted)
    };
    audit::of_reading(actor, "cards", listed.await)
}

/// The cards whose PAN ends in these digits: one pass over all, each PAN of which is opened.
async fn with_last_four<W: Seams>(
    switch: &Switch<W>,
    last_four: &str,
) -> Result<Vec<Card>, Refused> {
    let fits = |entry: &&Arc<CardEntry>| {
        let identity = &entry.identity;
        let pan = switch.vault.open(&identity.key, &identity.sealed_pan);
        pan.is_ok_and(|pan: Pan| pan.digits().ends_with(last_four.as_bytes()))
    };
    let mut found = Vec::new();
    for product in switch.products.all() {
        for some in switch.store.cards_of_product(&product.name).await?.chunks(CARDS_AT_ONCE) {
            found.extend(some.iter().filter(fits).map(|entry| Card::of(Arc::clone(entry))));
            tokio::task::yield_now().await;
        }
    }
    Ok(found)
}

fn chosen(cards: Vec<IssuedCard>, wanted: &Wanted) -> Result<Listed<IssuedCard>, Refused> {
    let key = |card: &IssuedCard| match wanted.sort_by {
        "created_time" => card.created_time.clone(),
        "last_modified_time" => card.last_modified_time.clone(),
        "last_four" => card.last_four.clone(),
        _ => card.token.clone(),
    };
    wanted.choose(cards, key, |card| card.token.clone())
}
