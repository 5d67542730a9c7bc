//! What clients send to simulate transactions, in Marqeta's shapes.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::chip_terminal::ChipForm;
use crate::authorization::currency;
use crate::issuing::Refused;
use crate::issuing::secret::PinText;
use crate::issuing::users::Text;

/// Largest amount of DE4.
const AMOUNT_MAX: u64 = 999_999_999_999;

/// A decimal number, as its text: no binary number holds each of them.
pub struct Decimal(Box<str>);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let text = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
        Ok(Decimal(text.unwrap_or(raw).into()))
    }
}

impl Decimal {
    /// In minor units of a currency.
    pub(super) fn minor_units(&self, name: &'static str, currency: u16) -> Result<u64, Refused> {
        let exponent = currency::exponent(currency).unwrap_or(2);
        let amount = currency::minor_units(&self.0, exponent).ok();
        amount.filter(|amount| *amount <= AMOUNT_MAX).ok_or(Refused::Field {
            name,
            expected: "a decimal number without sign and exponent, with as many digits behind the \
                       point as its currency has, and twelve in all",
        })
    }
}

/// Which account of the cardholder is meant.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccountType {
    /// DE3 has 10.
    Savings,
    /// DE3 has 20.
    Checking,
    /// DE3 has 30.
    Credit,
}

/// Who takes the card.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardAcceptor {
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
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardOptions {
    /// MMyy; that of the card if left out.
    #[schema(pattern = "^(0[1-9]|1[0-2])[0-9]{2}$")]
    pub expiration: Option<String>,
    /// Whether its stripe is read; otherwise its number is typed in.
    #[serde(default = "is_present")]
    #[schema(default = true)]
    pub card_present: bool,
    /// Taken and forgotten: no verification value is checked.
    #[schema(value_type = Option<Object>)]
    pub cvv: Option<IgnoredAny>,
    /// Taken and forgotten.
    #[schema(value_type = Option<Object>)]
    pub billing_address: Option<IgnoredAny>,
}

const fn is_present() -> bool {
    true
}

impl Default for CardOptions {
    fn default() -> CardOptions {
        let (expiration, cvv, billing_address) = (None, None, None);
        CardOptions { expiration, card_present: true, cvv, billing_address }
    }
}

/// An authorization (0100).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationForm {
    /// In the product's currency.
    #[schema(value_type = f64, minimum = 0)]
    pub amount: Decimal,
    /// The card, or one of its plastics.
    pub card_token: String,
    /// Who takes the card: in DE42, its first 15 characters.
    pub mid: Text<50>,
    /// 4 to 12 digits.
    #[serde(alias = "PIN")]
    #[schema(value_type = Option<String>, write_only, pattern = "^[0-9]{4,12}$")]
    pub pin: Option<PinText>,
    /// A chip, in place of a stripe or of a number that is typed in.
    pub chip: Option<ChipForm>,
    /// The part of the amount that is paid out in cash.
    #[schema(value_type = Option<f64>, minimum = 0)]
    pub cash_back_amount: Option<Decimal>,
    /// Whether the amount is not final yet (DE25 06).
    #[serde(default)]
    pub is_pre_auth: bool,
    /// Who takes the card.
    #[serde(default)]
    pub card_acceptor: CardAcceptor,
    /// How the card is used.
    #[serde(default)]
    pub card_options: CardOptions,
    /// Taken and forgotten.
    #[schema(value_type = Option<Object>)]
    pub network_fees: Option<IgnoredAny>,
    /// Taken and forgotten.
    #[schema(value_type = Option<Object>)]
    pub network_metadata: Option<IgnoredAny>,
    /// Taken and forgotten.
    #[schema(value_type = Option<Object>)]
    pub transaction_options: Option<IgnoredAny>,
}

/// A payment in one message (0200).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FinancialForm {
    /// In the product's currency.
    #[schema(value_type = f64, minimum = 0)]
    pub amount: Decimal,
    /// The card, or one of its plastics.
    pub card_token: String,
    /// Who takes the card: in DE42, its first 15 characters.
    pub mid: Text<50>,
    /// 4 to 12 digits.
    #[serde(alias = "PIN")]
    #[schema(value_type = Option<String>, write_only, pattern = "^[0-9]{4,12}$")]
    pub pin: Option<PinText>,
    /// A chip, in place of a stripe or of a number that is typed in.
    pub chip: Option<ChipForm>,
    /// The part of the amount that is paid out in cash. A withdrawal has none.
    #[schema(value_type = Option<f64>, minimum = 0)]
    pub cash_back_amount: Option<Decimal>,
    /// Which account is meant.
    pub account_type: Option<AccountType>,
    /// Who takes the card.
    #[serde(default)]
    pub card_acceptor: CardAcceptor,
    /// How the card is used.
    #[serde(default)]
    pub card_options: CardOptions,
    /// Taken and forgotten.
    #[schema(value_type = Option<Object>)]
    pub network_fees: Option<IgnoredAny>,
}

/// A question for the balance (0200, DE3 30).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BalanceInquiryForm {
    /// The card, or one of its plastics.
    pub card_token: String,
    /// Who takes the card: in DE42, its first 15 characters.
    pub mid: Text<50>,
    /// 4 to 12 digits.
    #[serde(alias = "PIN")]
    #[schema(value_type = Option<String>, write_only, pattern = "^[0-9]{4,12}$")]
    pub pin: Option<PinText>,
    /// Which account is meant.
    pub account_type: Option<AccountType>,
    /// Who takes the card.
    #[serde(default)]
    pub card_acceptor: CardAcceptor,
    /// How the card is used.
    #[serde(default)]
    pub card_options: CardOptions,
    /// Taken and forgotten.
    #[schema(value_type = Option<Object>)]
    pub network_fees: Option<IgnoredAny>,
}

/// A transaction that is taken back (0400, or 0420 as an advice).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReversalForm {
    /// A simulated transaction.
    pub original_transaction_token: String,
    /// How much of it; no more than it was.
    #[schema(value_type = f64, minimum = 0)]
    pub amount: Decimal,
    /// Whether it is told, and not asked.
    #[serde(default)]
    pub is_advice: bool,
    /// Taken and forgotten: the original is named by its token.
    #[schema(value_type = Option<i64>)]
    pub find_original_window_days: Option<IgnoredAny>,
    /// Taken and forgotten.
    #[schema(value_type = Option<Object>)]
    pub network_fees: Option<IgnoredAny>,
}

/// What was decided elsewhere (0120, 0220).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdviceForm {
    /// A simulated transaction.
    pub original_transaction_token: String,
    /// What it comes to.
    #[schema(value_type = f64, minimum = 0)]
    pub amount: Decimal,
    /// Taken and forgotten.
    #[schema(value_type = Option<Object>)]
    pub network_fees: Option<IgnoredAny>,
}

/// An authorization that is cleared (0220).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClearingForm {
    /// A simulated transaction.
    pub original_transaction_token: String,
    /// What it comes to.
    #[schema(value_type = f64, minimum = 0)]
    pub amount: Decimal,
    /// Who took the card: in DE42, its first 15 characters.
    pub mid: Option<Text<50>>,
    /// Whether the money goes back to the cardholder (DE3 20).
    #[serde(default)]
    pub is_refund: bool,
    /// Taken and forgotten: what was decided elsewhere is acknowledged, whatever it was.
    #[schema(value_type = Option<bool>)]
    pub force_post: Option<IgnoredAny>,
    /// Taken and forgotten.
    #[schema(value_type = Option<Object>)]
    pub network_fees: Option<IgnoredAny>,
}
