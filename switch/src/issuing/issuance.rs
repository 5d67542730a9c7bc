//! Issues cards by the API: a new card, whose PAN is made here or given, and one more plastic of a
//! card in place of another (a reissue). A plastic is not produced yet then, nor active.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::card_details::{
    self, ActivationActions, CardDetails, Fulfillment, FulfillmentReason, PinStatus,
};
use super::cards::{self, AddCard, GivenPin};
use super::change::{self, load};
use super::issued_card::{self, IssuedCard};
use super::replacement::{self, Ending, PinOfCard};
use super::secret::PanText;
use super::tokens::{PayloadDigest, Token};
use super::users::{self, Forgotten, Metadata};
use super::{Call, Refused, audit};
use crate::authorization::Product;
use crate::authorization::issuance::{ExpirationOffset, ExpirationUnit};
use crate::cache::{Card, Taken};
use crate::cards::pan::{PAN_DIGITS_MAX, check_digit};
use crate::cards::{CardStatus, Embossed, Expiry, Pan, Plastic, StatusReason};
use crate::clock::{Clock, Timestamp};
use crate::event::{Actor, EventKind};
use crate::hsm::software::random;
use crate::store::document::{DocumentChange, DocumentKind};
use crate::store::{COMMIT_ATTEMPTS_MAX, Commit, CommitError, NotDone, Store};
use crate::switch::{Seams, Switch};

/// PANs that are drawn for one card, before its BINs count as used up.
const PANS_DRAWN_MAX: usize = 1_000;
/// Digits of a PAN where the product says nothing.
const PAN_DIGITS: u8 = 16;
/// How long a card is valid where neither the call nor the product says it.
const VALID: ExpirationOffset = ExpirationOffset { unit: ExpirationUnit::Years, value: 4 };
/// Plastics of one card: their sequence numbers have two digits, and 0 is for no number.
const SEQUENCE_MAX: u8 = 99;

/// How long a card is valid from now on.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpirationOffsetForm {
    /// In what it is counted; years if left out.
    pub unit: Option<UnitForm>,
    /// How many of them.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub value: u32,
}

/// A unit of time.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum UnitForm {
    /// Years.
    Years,
    /// Months.
    Months,
    /// Days.
    Days,
    /// Hours.
    Hours,
    /// Minutes.
    Minutes,
    /// Seconds.
    Seconds,
}

/// A card as a client orders it.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueForm {
    /// The issuer's name for it; one is made where it is left out.
    pub token: Option<Token>,
    /// Its product.
    #[schema(min_length = 1, max_length = 64)]
    pub card_product_token: String,
    /// Its cardholder.
    pub user_token: Token,
    /// The PAN, of a BIN of the product and with a right check digit; one is made where it is left
    /// out.
    #[schema(value_type = Option<String>, pattern = "^[0-9]{13,19}$")]
    pub pan: Option<PanText>,
    /// MMyy. Left out, it follows from `expiration_offset`.
    #[schema(pattern = "^(0[1-9]|1[0-2])[0-9]{2}$")]
    pub expiration: Option<String>,
    /// How long it is valid; as the product says if left out.
    pub expiration_offset: Option<ExpirationOffsetForm>,
    /// How it is made and sent.
    pub fulfillment: Option<Fulfillment>,
    /// The issuer's own names and values.
    pub metadata: Option<Metadata>,
    /// Whether it is made before others.
    pub expedite: Option<bool>,
    /// The card that it replaces, under the same PAN.
    pub reissue_pan_from_card_token: Option<Token>,
    /// The card that it replaces, under a new PAN. That is TERMINATED with the activation of this
    /// one, and at once where it is lost or stolen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_pan_from_card_token: Option<Token>,
    /// With `reissue_pan_from_card_token`: whether it gets a new PAN all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate_new_pan: Option<bool>,
    /// A card of the same user whose PIN it gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translate_pin_from_card_token: Option<Token>,
    /// Whether the PIN of the card that it replaces stays; as the product says if left out. Under a
    /// new PAN it is moved where the switch still has a block of it and the HSM does that:
    /// `pin_is_set` of the answer says whether it was.
    pub copy_pin_from_source_card: Option<bool>,
    /// What happens with its first activation.
    pub activation_actions: Option<ActivationActions>,
    /// Which PIN the embosser gets: W or D, or none.
    #[serde(alias = "pinStatus")]
    #[schema(value_type = Option<String>, pattern = "^[WD]$")]
    pub pin_status: Option<PinStatus>,
    /// Taken and forgotten.
    #[schema(value_type = Option<Value>)]
    pub account_token: Option<Forgotten>,
}

/// Issues a card, or one more plastic of a card. The same token with the same payload gives what is
/// there.
///
/// # Errors
/// Why not. Nothing has changed then.
pub async fn issue<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    form: &IssueForm,
) -> Result<IssuedCard, Refused> {
    let issued = issue_unaudited(switch, call, form).await;
    let card = issued.as_ref().ok().map(|card| &*card.token);
    let refused = issued.as_ref().err().map(Refused::code);
    let source = &form.reissue_pan_from_card_token;
    let source = known(switch, source.as_ref().or(form.new_pan_from_card_token.as_ref())).await;
    let pin_source = known(switch, form.translate_pin_from_card_token.as_ref()).await;
    let pin_is_set = issued.as_ref().ok().map(|card| card.pin_is_set);
    let (done, actor) = (issued.is_ok(), call.actor);
    tracing::info!(
        target: "audit", action = "issue", token = card, source, pin_source, pin_is_set, done,
        %actor, ?refused
    );
    issued
}

async fn known<W: Seams>(switch: &Switch<W>, token: Option<&Token>) -> Option<String> {
    audit::known(switch, token?.as_str()).await
}

/// What a card is issued in place of.
#[derive(Clone, Copy)]
enum Replaces<'a> {
    Nothing,
    /// One more plastic of the card with this token.
    UnderItsPan(&'a Token),
    /// Another card.
    UnderNewPan(&'a Token),
}

impl IssueForm {
    fn replaces(&self) -> Result<Replaces<'_>, Refused> {
        let generates = self.generate_new_pan == Some(true);
        match (&self.reissue_pan_from_card_token, &self.new_pan_from_card_token) {
            (Some(_), Some(_)) => Err(Refused::Fields(
                "one of reissue_pan_from_card_token and new_pan_from_card_token, not both",
            )),
            (Some(_), None) if self.translate_pin_from_card_token.is_some() => {
                Err(Refused::Field {
                    name: "translate_pin_from_card_token",
                    expected: "nothing beside reissue_pan_from_card_token",
                })
            }
            (Some(source), None) if generates => Ok(Replaces::UnderNewPan(source)),
            (Some(source), None) => Ok(Replaces::UnderItsPan(source)),
            (None, _) if generates => Err(Refused::Field {
                name: "generate_new_pan",
                expected: "true only beside reissue_pan_from_card_token",
            }),
            (None, Some(source)) => Ok(Replaces::UnderNewPan(source)),
            (None, None) => Ok(Replaces::Nothing),
        }
    }
}

async fn issue_unaudited<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    form: &IssueForm,
) -> Result<IssuedCard, Refused> {
    let digest = PayloadDigest::of(&switch.vault.documents, "card", form);
    card_details::check_asked(form.pin_status)?;
    let (token, replaces) = (form.token.clone().map_or_else(Token::random, Ok)?, form.replaces()?);
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        if let Some((details, _)) = card_details::of(switch, token.as_str()).await? {
            return match details.digest == Some(digest) {
                true => issued_card::of(switch, token.as_str()).await,
                false => Err(Refused::OtherPayload),
            };
        }
        users::fields(switch, form.user_token.as_str()).await?;
        let details = details(switch, form, &token, digest);
        let done = match replaces {
            Replaces::UnderItsPan(source) => {
                reissue(switch, call, form, (&token, source), details).await?
            }
            Replaces::UnderNewPan(source) => {
                let card = load(switch, source.as_str()).await?;
                let details = CardDetails {
                    new_pan_from_card_token: Some(source.clone()),
                    new_pan_from_card_key: Some(card.entry.identity.key.0),
                    ..details
                };
                add(switch, call, form, &token, details).await?
            }
            Replaces::Nothing => add(switch, call, form, &token, details).await?,
        };
        if done {
            return issued_card::of(switch, token.as_str()).await;
        }
    }
    Err(Refused::Busy)
}

fn details<W: Seams>(
    switch: &Switch<W>,
    form: &IssueForm,
    token: &Token,
    digest: PayloadDigest,
) -> CardDetails {
    CardDetails {
        user_token: Some(form.user_token.clone()),
        pin_status: form.pin_status,
        fulfillment: form.fulfillment.clone(),
        metadata: form.metadata.clone(),
        expedite: form.expedite,
        activation_actions: form.activation_actions.clone(),
        digest: Some(digest),
        ..CardDetails::new(token.as_str(), switch.clock.now())
    }
}

/// The documents of a new plastic: its details, and its place among the cards of its holder.
fn documents<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    token: &Token,
    details: &CardDetails,
) -> Result<Vec<DocumentChange>, Refused> {
    let mut documents = vec![details.write(switch, token.as_str(), 0)?];
    if let Some(user) = &details.user_token {
        documents.push(card_details::link(switch, user, token.as_str())?);
    }
    documents.extend(call.made(switch, token.as_str())?);
    Ok(documents)
}

/// Adds a card, and ends the plastic that it replaces where that ends at once; whether nobody was
/// faster with its token, and the card that it replaces has not changed.
async fn add<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    form: &IssueForm,
    token: &Token,
    details: CardDetails,
) -> Result<bool, Refused> {
    let product = switch.products.get(&form.card_product_token).ok_or(Refused::NoSuchProduct)?;
    let rules = product.rules();
    let allows = rules.is_known() && rules.issuance.allow_card_creation;
    if rules.is_known() && !allows {
        return Err(Refused::CardCreationNotAllowed);
    }
    let expiry = expiry(form, &rules, switch.clock.now())?;
    let given = form.pan.as_ref().map(PanText::parse).transpose()?;
    let pin = pin_of_another(switch, form, &details, &rules).await?.map(Arc::new);
    let is_active = rules.issuance.activate_upon_issue;
    if is_active && !users::fields(switch, form.user_token.as_str()).await?.is_active() {
        return Err(Refused::UserNotActive);
    }
    for _ in 0..PANS_DRAWN_MAX {
        let pan = match &given {
            Some(pan) => pan.clone(),
            None => draw_pan(&rules)?,
        };
        let card = AddCard {
            token: token.as_str().into(),
            pan,
            expiry,
            sequence: 1,
            product: form.card_product_token.as_str().into(),
            is_active,
            is_produced: false,
            pin: pin.clone().map(GivenPin::OfCard),
        };
        let documents = documents(switch, call, token, &details)?;
        let replaced = ending_at_once(switch, call.actor, form, &details, is_active).await?;
        if let (Some(pin), Some(ending)) = (&pin, &replaced)
            && pin.is_replaced_in(&ending.card.card)
        {
            return Ok(false);
        }
        match cards::add_one(switch, call.actor, card, documents, replaced).await? {
            Ok(()) => return Ok(true),
            Err(NotDone::Taken(Taken::Pan)) if given.is_none() => {}
            Err(NotDone::Changed(_)) => return Ok(false),
            Err(refused) => return Err(refused.into()),
        }
    }
    Err(Refused::BinsUsedUp)
}

/// The PIN that a new card gets of another one, where it gets one and that has one: of the card
/// that it replaces, or of one of the same user that the call names.
async fn pin_of_another<W: Seams>(
    switch: &Switch<W>,
    form: &IssueForm,
    details: &CardDetails,
    rules: &Product,
) -> Result<Option<PinOfCard>, Refused> {
    let user = form.user_token.as_str();
    let replaced = match &details.new_pan_from_card_token {
        Some(token) => {
            let card = load(switch, token.as_str()).await?;
            if replacement::user_of(switch, token).await?.is_some_and(|own| own.as_str() != user) {
                let expected = "the user of the card that is replaced";
                return Err(Refused::Field { name: "user_token", expected });
            }
            Some(card)
        }
        None => None,
    };
    if let Some(token) = &form.translate_pin_from_card_token {
        if form.copy_pin_from_source_card == Some(true) {
            let expected = "false or nothing beside translate_pin_from_card_token";
            return Err(Refused::Field { name: "copy_pin_from_source_card", expected });
        }
        let card = load(switch, token.as_str()).await?;
        if replacement::user_of(switch, token).await?.is_none_or(|own| own.as_str() != user) {
            let expected = "a card of the same user";
            return Err(Refused::Field { name: "translate_pin_from_card_token", expected });
        }
        return replacement::pin_of(switch, &card).await;
    }
    match replaced.filter(|_| keeps_pin(form, rules)) {
        Some(card) => replacement::pin_of(switch, &card).await,
        None => Ok(None),
    }
}

/// The end of the plastic that a card under a new PAN replaces: at once where that is lost or
/// stolen, or the new one is in use already.
async fn ending_at_once<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    form: &IssueForm,
    details: &CardDetails,
    is_active: bool,
) -> Result<Option<Ending>, Refused> {
    let Some(source) = details.new_pan_from_card_token.as_ref() else { return Ok(None) };
    let card = load(switch, source.as_str()).await?;
    let place = change::place(&card.state, source.as_str());
    let reason = match is_lost(form, &card, place) {
        true => reason_of_loss(&card, place),
        false if is_active && details.ends_source() => StatusReason::REQUESTED,
        false => return Ok(None),
    };
    replacement::end(switch, actor, details, reason).await
}

/// A PAN of one of the product's BINs, drawn at random, with its check digit.
fn draw_pan(rules: &Product) -> Result<Pan, Refused> {
    let length = usize::from(rules.issuance.pan_length.unwrap_or(PAN_DIGITS));
    let mut digits = Zeroizing::new(Vec::with_capacity(PAN_DIGITS_MAX));
    let bytes = random::bytes::<64>().map_err(Refused::Sealing)?;
    // From 250 on a byte would favour the low digits.
    let mut drawn = bytes.into_iter().filter(|byte| *byte < 250);
    let count = rules.bins.len().max(1);
    let place = drawn.next().map_or(0, usize::from) % count;
    digits.extend(rules.bins.get(place).into_iter().flat_map(|bin| bin.bytes()));
    let missing = length.saturating_sub(digits.len() + 1);
    digits.extend(drawn.map(|byte| b'0' + byte % 10).take(missing));
    let check = u8::try_from(check_digit(&digits)).unwrap_or_default();
    digits.push(b'0' + check);
    // Too few bytes were below 250: never with 64 of them.
    Pan::parse(&digits).filter(|pan| pan.digits().len() == length).ok_or(Refused::Busy)
}

/// Month to whose end a card is valid.
fn expiry(form: &IssueForm, rules: &Product, now: Timestamp) -> Result<Expiry, Refused> {
    if let Some(text) = &form.expiration {
        let expected = Refused::Field { name: "expiration", expected: "MMyy, not over yet" };
        let expiry = Expiry::from_month_and_year(text);
        return expiry.filter(|it| !it.is_past(now, rules.utc_offset)).ok_or(expected);
    }
    let offset = match form.expiration_offset {
        None => rules.issuance.expiration_offset.unwrap_or(VALID),
        Some(ExpirationOffsetForm { unit, value }) => {
            ExpirationOffset { unit: unit.map_or(ExpirationUnit::Years, UnitForm::unit), value }
        }
    };
    let name = "expiration_offset";
    let expected = Refused::Field { name, expected: "an end of the card before the year 2100" };
    let end = offset.span().and_then(|span| Expiry::after(now, span, rules.utc_offset));
    end.ok_or(expected)
}

impl UnitForm {
    const fn unit(self) -> ExpirationUnit {
        match self {
            UnitForm::Years => ExpirationUnit::Years,
            UnitForm::Months => ExpirationUnit::Months,
            UnitForm::Days => ExpirationUnit::Days,
            UnitForm::Hours => ExpirationUnit::Hours,
            UnitForm::Minutes => ExpirationUnit::Minutes,
            UnitForm::Seconds => ExpirationUnit::Seconds,
        }
    }
}

/// Adds a plastic to a card in place of another; whether nothing has changed meanwhile.
async fn reissue<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    form: &IssueForm,
    (token, source): (&Token, &Token),
    details: CardDetails,
) -> Result<bool, Refused> {
    if form.pan.is_some() {
        let expected = "nothing where a card is reissued under its PAN";
        return Err(Refused::Field { name: "pan", expected });
    }
    // No card is added meanwhile: its token could be that of the plastic.
    let _alone = switch.products.changing.write().await;
    if cards::exists(switch, token.as_str()).await? {
        return Err(Refused::Taken(Taken::Token));
    }
    if replacement::user_of(switch, source).await?.is_some_and(|own| own != form.user_token) {
        let expected = "the user of the card that is reissued";
        return Err(Refused::Field { name: "user_token", expected });
    }
    let card = load(switch, source.as_str()).await?;
    let place = change::place(&card.state, source.as_str());
    if card.entry.product.name() != form.card_product_token {
        let expected = "the product of the card that is reissued";
        return Err(Refused::Field { name: "card_product_token", expected });
    }
    let rules = &card.product;
    if !rules.is_known() {
        return Err(Refused::NoSuchProduct);
    }
    let is_lost = is_lost(form, &card, place);
    let (counts, ended) = change::as_it_counts(switch, &card);
    let mut state = counts.state.with_tries(0);
    let mut events = ended;
    let number = state.plastics.iter().map(|plastic| plastic.sequence).max().unwrap_or_default();
    if number >= SEQUENCE_MAX {
        return Err(Refused::SequencesUsedUp);
    }
    let expiry = expiry(form, rules, switch.clock.now())?;
    let plastic = Plastic::new(expiry, number + 1).embossed_with(Embossed::NotProduced);
    state.plastics.push(plastic.with_token(token.as_str().into()));
    events.push((EventKind::Issued, state.plastics.len() - 1));
    let is_alive = |plastic: &Plastic| plastic.status != CardStatus::Terminated;
    if is_lost && counts.state.plastics.get(place).is_some_and(is_alive) {
        state = state.with_status(place, CardStatus::Terminated, reason_of_loss(&card, place));
        events.push((EventKind::StateTerminated, place));
    }
    let details = CardDetails {
        card: card.entry.identity.token.to_string(),
        reissue_pan_from_card_token: Some(source.clone()),
        ends_pin: (!keeps_pin(form, rules)).then_some(state.pin.version),
        ..details
    };
    let told = |about| change::event(switch, call.actor, &card, about, &state);
    let events = events.iter().copied().map(told).collect();
    let documents = documents(switch, call, token, &details)?;
    let commit = Commit { events, documents, ..Commit::by_issuer(&card, state.clone()) };
    match switch.store.commit(commit, &mut None).await {
        Ok(_) => Ok(true),
        Err(CommitError::Changed(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the plastic that is replaced is in the wrong hands: it ends at once.
fn is_lost(form: &IssueForm, card: &Card, place: usize) -> bool {
    let reason = form.fulfillment.as_ref().and_then(|it| it.card_fulfillment_reason);
    let source = card.state.plastics.get(place).map(|plastic| plastic.status_reason);
    let said = [StatusReason::LOST, StatusReason::STOLEN];
    reason == Some(FulfillmentReason::LostStolen) || source.is_some_and(|it| said.contains(&it))
}

fn reason_of_loss(card: &Card, place: usize) -> StatusReason {
    let known = card.state.plastics.get(place).map(|plastic| plastic.status_reason);
    known.filter(|reason| *reason == StatusReason::STOLEN).unwrap_or(StatusReason::LOST)
}

/// Whether the PIN of a card that is reissued stays: as the call says it, else by KPPIN where the
/// product has Galileo's parameters (R144, R145), else yes.
fn keeps_pin(form: &IssueForm, rules: &Product) -> bool {
    let by_product = || rules.issuance.parameters.is_none_or(|it| it.keeps_pin);
    form.copy_pin_from_source_card.unwrap_or_else(by_product)
}

/// The tokens of the cards of a holder, in their order.
///
/// # Errors
/// If the store has failed.
pub(super) async fn cards_of_user<W: Seams>(
    switch: &Switch<W>,
    user: &str,
) -> Result<Vec<String>, Refused> {
    let first = format!("{user}/");
    let (mut tokens, mut after) = (Vec::new(), Cow::Borrowed(&*first));
    loop {
        let kind = DocumentKind::CardOfUser;
        let page = switch.store.documents(kind, Some(&after), CARDS_AT_ONCE).await?;
        for (token, _) in &page.items {
            match token.strip_prefix(&*first) {
                Some(card) => tokens.push(card.to_owned()),
                None => return Ok(tokens),
            }
        }
        match page.next {
            Some(next) => after = Cow::Owned(next.to_string()),
            None => return Ok(tokens),
        }
    }
}

/// Cards of a holder that are read at once.
const CARDS_AT_ONCE: usize = 1_000;
