//! What is kept of a plastic besides its state: whose it is, how it was ordered, and what the
//! client sent of it. One document for each plastic that was made by the API; a card of the command
//! line gets one with the first call that has something to keep.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::Refused;
use super::tokens::{PayloadDigest, Token};
use super::users::{Metadata, Text};
use crate::clock::Timestamp;
use crate::store::Store;
use crate::store::document::{DocumentChange, DocumentKind};
use crate::switch::{Seams, Switch};

/// Which PIN an embosser gets of the card (R8, R11): W and D are the issuer's word, S is made of
/// them by a PIN that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum PinStatus {
    /// The embosser waits: the cardholder will set a PIN.
    W,
    /// The embosser gets a PIN that is drawn.
    D,
    /// The cardholder has set the PIN, and the embosser gets that.
    S,
}

/// Whether a client may ask for it.
pub(super) fn check_asked(pin_status: Option<PinStatus>) -> Result<(), Refused> {
    match pin_status {
        Some(PinStatus::S) => {
            Err(Refused::Field { name: "pin_status", expected: "W, D or nothing" })
        }
        Some(PinStatus::W | PinStatus::D) | None => Ok(()),
    }
}

/// How far a plastic is on its way to the cardholder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum FulfillmentStatus {
    /// It was made here, and is in no file yet.
    #[default]
    Issued,
    /// It is in a file of the embosser.
    Ordered,
    /// The embosser has sent it.
    Shipped,
    /// The embosser could not make it.
    Rejected,
}

/// Why a plastic is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FulfillmentReason {
    /// The first one.
    New,
    /// The one before was lost or stolen.
    LostStolen,
    /// The one before has expired.
    Expired,
}

/// A line of text on a plastic.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NameLine {
    /// The text.
    pub value: Text<40>,
}

/// The lines of text on a plastic.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NameLines {
    /// First line.
    pub name_line_1: NameLine,
    /// Second line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_line_2: Option<NameLine>,
    /// Third line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_line_3: Option<NameLine>,
}

/// How a plastic looks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardPersonalization {
    /// Its lines of text.
    pub text: NameLines,
    /// EMBOSS, LASER or FLAT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perso_type: Option<Text<16>>,
    /// What comes with it, for the embosser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub carrier: Option<Value>,
    /// Its pictures, for the embosser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub images: Option<Value>,
}

/// How a plastic is made and sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fulfillment {
    /// How it looks.
    pub card_personalization: CardPersonalization,
    /// Where it is sent, for the embosser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub shipping: Option<Value>,
    /// Why it is made; NEW if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card_fulfillment_reason: Option<FulfillmentReason>,
}

/// What happens with its first activation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivationActions {
    /// Whether the plastic that it replaces is TERMINATED then; true if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate_reissued_source_card: Option<bool>,
}

/// What is kept of a plastic.
#[derive(Clone, Serialize, Deserialize)]
pub struct CardDetails {
    /// Token of the card that it is a plastic of.
    pub card: String,
    /// The cardholder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_token: Option<Token>,
    /// When it was made, RFC 3339 in UTC.
    pub created_time: String,
    /// When any of this was changed last, RFC 3339 in UTC.
    pub last_modified_time: String,
    /// Which PIN the embosser gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_status: Option<PinStatus>,
    /// How far it is on its way.
    #[serde(default)]
    pub fulfillment_status: FulfillmentStatus,
    /// How it is made and sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fulfillment: Option<Fulfillment>,
    /// The issuer's own names and values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Whether it is made before others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expedite: Option<bool>,
    /// The plastic that it replaces under the same PAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reissue_pan_from_card_token: Option<Token>,
    /// The plastic that it replaces under a new PAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_pan_from_card_token: Option<Token>,
    /// Key of that plastic's card, since its token may stand for another card by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_pan_from_card_key: Option<[u8; 16]>,
    /// The version of the card's PIN that ends with its first activation, where it is still the
    /// card's then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_pin: Option<u32>,
    /// What happens with its first activation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_actions: Option<ActivationActions>,
    /// Of the payload that it was made with; none for a card of the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<PayloadDigest>,
}

impl CardDetails {
    /// Of a plastic of this card that nothing was kept of.
    #[must_use]
    pub fn new(card: &str, now: Timestamp) -> CardDetails {
        CardDetails {
            card: card.to_owned(),
            user_token: None,
            created_time: now.to_string(),
            last_modified_time: now.to_string(),
            pin_status: None,
            fulfillment_status: FulfillmentStatus::default(),
            fulfillment: None,
            metadata: None,
            expedite: None,
            reissue_pan_from_card_token: None,
            new_pan_from_card_token: None,
            new_pan_from_card_key: None,
            ends_pin: None,
            activation_actions: None,
            digest: None,
        }
    }

    /// Whether the plastic that it replaces is TERMINATED with its first activation.
    #[must_use]
    pub fn ends_source(&self) -> bool {
        let actions = self.activation_actions.as_ref();
        actions.and_then(|it| it.terminate_reissued_source_card).unwrap_or(true)
    }

    /// The change that writes it, where this version was read; 0 for none.
    ///
    /// # Errors
    /// If it cannot be sealed.
    pub fn write<W: Seams>(
        &self,
        switch: &Switch<W>,
        token: &str,
        read: u64,
    ) -> Result<DocumentChange, Refused> {
        let json = Zeroizing::new(serde_json::to_vec(self).unwrap_or_default());
        debug_assert!(!json.is_empty(), "details are a JSON object with texts as keys");
        let place = (DocumentKind::CardDetails, token);
        DocumentChange::write(&switch.vault.documents, place, read, &json).map_err(Refused::Sealing)
    }
}

/// What is kept of the plastic with this token, and its version.
///
/// # Errors
/// If it cannot be read.
pub async fn of<W: Seams>(
    switch: &Switch<W>,
    token: &str,
) -> Result<Option<(CardDetails, u64)>, Refused> {
    let kind = DocumentKind::CardDetails;
    let Some(document) = switch.store.document(kind, token).await? else { return Ok(None) };
    let json = document.json(&switch.vault.documents).map_err(Refused::Sealing)?;
    let read = serde_json::from_slice(&json);
    // The error may quote what stands there.
    let details = read.map_err(|_| Refused::DocumentUnreadable("card_details"))?;
    Ok(Some((details, document.version)))
}

/// The document by which a card is found among those of its holder.
fn place_of_user(user: &Token, card: &str) -> String {
    format!("{}/{card}", user.as_str())
}

/// Puts a plastic among the cards of its holder.
pub(super) fn link<W: Seams>(
    switch: &Switch<W>,
    user: &Token,
    card: &str,
) -> Result<DocumentChange, Refused> {
    let place = place_of_user(user, card);
    let place = (DocumentKind::CardOfUser, &*place);
    DocumentChange::write(&switch.vault.documents, place, 0, b"{}").map_err(Refused::Sealing)
}

/// Takes a plastic from among the cards of its holder, if it is there.
pub(super) async fn unlink<W: Seams>(
    switch: &Switch<W>,
    user: &Token,
    card: &str,
) -> Result<Option<DocumentChange>, Refused> {
    let place = place_of_user(user, card);
    let known = switch.store.document(DocumentKind::CardOfUser, &place).await?;
    Ok(known.map(|known| DocumentChange::remove(&known)))
}

/// What goes with a plastic that is removed.
pub(super) async fn of_removed<W: Seams>(
    switch: &Switch<W>,
    token: &str,
) -> Result<Vec<DocumentChange>, Refused> {
    let Some(known) = switch.store.document(DocumentKind::CardDetails, token).await? else {
        return Ok(Vec::new());
    };
    let mut documents = vec![DocumentChange::remove(&known)];
    if let Some((CardDetails { user_token: Some(user), .. }, _)) = of(switch, token).await? {
        documents.extend(unlink(switch, &user, token).await?);
    }
    Ok(documents)
}
