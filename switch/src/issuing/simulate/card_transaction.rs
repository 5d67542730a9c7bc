//! Transactions of Marqeta's newer simulation: one body for all kinds, and the kind in the path.

use serde::Deserialize;
use serde::de::IgnoredAny;
use utoipa::ToSchema;

use super::form::{CardAcceptor, CardOptions, Decimal};
use super::simulated::{
    ADVICE, CASH, FINANCIAL_ADVICE, FINANCIAL_REQUEST, First, FollowUp, GOODS,
    GOODS_WITH_CASH_BACK, REQUEST, REVERSAL, Simulated,
};
use crate::issuing::Refused;
use crate::issuing::secret::PinText;
use crate::issuing::users::Text;

/// How the PAN came into the terminal.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PanEntryMode {
    /// DE22 00.
    Unknown,
    /// DE22 01.
    Manual,
    /// DE22 90.
    MagStripe,
    /// DE22 91.
    MagStripeContactless,
}

impl PanEntryMode {
    /// As DE22 has it.
    const fn digits(self) -> &'static str {
        match self {
            PanEntryMode::Unknown => "00",
            PanEntryMode::Manual => "01",
            PanEntryMode::MagStripe => "90",
            PanEntryMode::MagStripeContactless => "91",
        }
    }
}

/// Who takes the card.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MerchantForm {
    /// In DE42, its first 15 characters.
    pub mid: Option<Text<50>>,
    /// Merchant category code, in DE18: 5411 if left out, and 6011 for cash.
    #[schema(pattern = "^[0-9]{4}$")]
    pub mcc: Option<String>,
    /// In DE43, its first 23 characters.
    pub name: Option<Text<40>>,
    /// In no element.
    pub address: Option<Text<255>>,
    /// In DE43, its first 13 characters.
    pub city: Option<Text<40>>,
    /// In DE43, its first 2 characters.
    pub state: Option<Text<32>>,
    /// In no element.
    pub zip: Option<Text<16>>,
    /// In DE43, its first 2 characters.
    pub country: Option<Text<40>>,
}

/// How the card is used.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UseForm {
    /// MMyy; that of the card if left out.
    #[schema(pattern = "^(0[1-9]|1[0-2])[0-9]{2}$")]
    pub expiration: Option<String>,
    /// Whether its stripe is read, as if left out; otherwise its number is typed in.
    pub card_present: Option<bool>,
    /// 4 to 12 digits; `PIN` is taken too.
    #[serde(alias = "PIN")]
    #[schema(value_type = Option<String>, write_only, pattern = "^[0-9]{4,12}$")]
    pub pin: Option<PinText>,
    /// Taken and forgotten: no verification value is checked.
    #[schema(value_type = Option<Object>)]
    pub cvv: Option<IgnoredAny>,
}

/// The terminal.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pos {
    /// How the PAN came in; as `card_present` says if left out.
    pub pan_entry_mode: Option<PanEntryMode>,
    /// In DE41, its first 8 characters.
    pub terminal_id: Option<Text<8>>,
}

/// A kind of transaction of Marqeta's newer simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
pub enum CardTransactionType {
    /// 0100.
    #[serde(rename = "authorization")]
    Authorization,
    /// 0120.
    #[serde(rename = "authorization.advice")]
    AuthorizationAdvice,
    /// 0220.
    #[serde(rename = "authorization.clearing")]
    AuthorizationClearing,
    /// 0400.
    #[serde(rename = "authorization.reversal")]
    AuthorizationReversal,
    /// 0100 for more, with DE37 of the one before.
    #[serde(rename = "authorization.incremental")]
    AuthorizationIncremental,
    /// 0100, DE3 09.
    #[serde(rename = "authorization.cashback")]
    AuthorizationCashback,
    /// 0100, DE3 01.
    #[serde(rename = "authorization.atm.withdrawal")]
    AuthorizationAtmWithdrawal,
    /// 0200.
    #[serde(rename = "pindebit")]
    Pindebit,
    /// 0200, DE3 01.
    #[serde(rename = "pindebit.atm.withdrawal")]
    PindebitAtmWithdrawal,
}

impl CardTransactionType {
    /// All of them.
    pub const ALL: [CardTransactionType; 9] = [
        CardTransactionType::Authorization,
        CardTransactionType::AuthorizationAdvice,
        CardTransactionType::AuthorizationClearing,
        CardTransactionType::AuthorizationReversal,
        CardTransactionType::AuthorizationIncremental,
        CardTransactionType::AuthorizationCashback,
        CardTransactionType::AuthorizationAtmWithdrawal,
        CardTransactionType::Pindebit,
        CardTransactionType::PindebitAtmWithdrawal,
    ];

    /// As it stands in the path.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CardTransactionType::Authorization => "authorization",
            CardTransactionType::AuthorizationAdvice => "authorization.advice",
            CardTransactionType::AuthorizationClearing => "authorization.clearing",
            CardTransactionType::AuthorizationReversal => "authorization.reversal",
            CardTransactionType::AuthorizationIncremental => "authorization.incremental",
            CardTransactionType::AuthorizationCashback => "authorization.cashback",
            CardTransactionType::AuthorizationAtmWithdrawal => "authorization.atm.withdrawal",
            CardTransactionType::Pindebit => "pindebit",
            CardTransactionType::PindebitAtmWithdrawal => "pindebit.atm.withdrawal",
        }
    }

    const fn row(self) -> ([u8; 4], &'static str) {
        match self {
            CardTransactionType::Authorization | CardTransactionType::AuthorizationIncremental => {
                (REQUEST, GOODS)
            }
            CardTransactionType::AuthorizationAdvice => (ADVICE, GOODS),
            CardTransactionType::AuthorizationClearing => (FINANCIAL_ADVICE, GOODS),
            CardTransactionType::AuthorizationReversal => (REVERSAL, GOODS),
            CardTransactionType::AuthorizationCashback => (REQUEST, GOODS_WITH_CASH_BACK),
            CardTransactionType::AuthorizationAtmWithdrawal => (REQUEST, CASH),
            CardTransactionType::Pindebit => (FINANCIAL_REQUEST, GOODS),
            CardTransactionType::PindebitAtmWithdrawal => (FINANCIAL_REQUEST, CASH),
        }
    }

    /// Whether it follows a transaction, which its body names.
    const fn follows(self) -> bool {
        matches!(
            self,
            CardTransactionType::AuthorizationAdvice
                | CardTransactionType::AuthorizationClearing
                | CardTransactionType::AuthorizationReversal
                | CardTransactionType::AuthorizationIncremental
        )
    }
}

/// A network of Marqeta's.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum NamedNetwork {
    /// Visa.
    Visa,
    /// Mastercard.
    Mastercard,
    /// Discover.
    Discover,
    /// Pulse.
    Pulse,
}

/// A transaction of Marqeta's newer simulation. One that begins needs `card_token` and `amount`,
/// one that follows another `preceding_related_transaction_token`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardTransactionForm {
    /// The card, or one of its plastics.
    pub card_token: Option<String>,
    /// The simulated transaction that it follows.
    pub preceding_related_transaction_token: Option<String>,
    /// In the product's currency. One that follows has the amount of the one before if it is left
    /// out.
    #[schema(value_type = Option<f64>, minimum = 0)]
    pub amount: Option<Decimal>,
    /// The part of the amount that is paid out in cash.
    #[schema(value_type = Option<f64>, minimum = 0)]
    pub cash_back_amount: Option<Decimal>,
    /// Taken and forgotten: all that is simulated comes from the network `simulation`.
    pub network: Option<NamedNetwork>,
    /// Who takes the card.
    #[serde(default)]
    pub card_acceptor: MerchantForm,
    /// How the card is used.
    #[serde(default)]
    pub card_options: UseForm,
    /// The terminal.
    #[serde(default)]
    pub pos: Pos,
}

impl Simulated {
    /// A transaction of Marqeta's newer simulation.
    ///
    /// # Errors
    /// If a field is missing that its kind needs, or one is there that it does not have.
    pub fn card_transaction(
        kind: CardTransactionType,
        form: CardTransactionForm,
    ) -> Result<Simulated, Refused> {
        let (mti, code) = kind.row();
        match kind.follows() {
            true => Ok(Simulated::follow_up(mti, form.follow_up()?)),
            false => Ok(Simulated::first(mti, form.first(code)?)),
        }
    }
}

impl CardTransactionForm {
    fn follow_up(self) -> Result<FollowUp, Refused> {
        let begins = self.card_token.is_some() || self.cash_back_amount.is_some();
        let has_pin = self.card_options.pin.is_some();
        let original = self.preceding_related_transaction_token;
        let original = original.filter(|_| !begins && !has_pin).ok_or(Refused::Fields(
            "preceding_related_transaction_token, and no card_token, cash_back_amount or PIN, for \
             a transaction that follows another",
        ))?;
        let (name, amount) = ("preceding_related_transaction_token", self.amount);
        Ok(FollowUp { name, original, amount, mid: self.card_acceptor.mid, is_refund: false })
    }

    fn first(self, kind: &'static str) -> Result<First, Refused> {
        let follows = self.preceding_related_transaction_token.is_some();
        let begins = self.card_token.zip(self.amount).filter(|_| !follows);
        let (card_token, amount) = begins.ok_or(Refused::Fields(
            "card_token and amount, and no preceding_related_transaction_token, for a transaction \
             that begins",
        ))?;
        if kind == CASH && self.cash_back_amount.is_some() {
            return Err(Refused::Fields("no cash_back_amount: all of a withdrawal is cash"));
        }
        let UseForm { expiration, card_present, pin, .. } = self.card_options;
        let MerchantForm { mid, mcc, name, address, city, state, zip, country } =
            self.card_acceptor;
        Ok(First {
            card_token,
            amount: Some(amount),
            cash_back_amount: self.cash_back_amount,
            pin,
            kind,
            mid,
            acceptor: CardAcceptor { mcc, name, address, city, state, zip, country },
            options: CardOptions {
                expiration,
                card_present: card_present.unwrap_or(true),
                ..CardOptions::default()
            },
            pan_entry: self.pos.pan_entry_mode.map(PanEntryMode::digits),
            terminal: self.pos.terminal_id,
            ..First::default()
        })
    }
}
