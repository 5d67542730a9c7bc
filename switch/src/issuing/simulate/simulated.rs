//! What is to be simulated: the message type, and what the message says, whatever body it came in.

use iso_specs::Mti;

use super::chip_terminal::{ChipForm, Paid};
use super::form::{
    AccountType, AdviceForm, AuthorizationForm, BalanceInquiryForm, CardAcceptor, CardOptions,
    ClearingForm, Decimal, FinancialForm, ReversalForm,
};
use super::message::Outgoing;
use crate::cards::{Expiry, Pan};
use crate::issuing::Refused;
use crate::issuing::secret::PinText;
use crate::issuing::users::Text;

/// Message types.
pub(super) const REQUEST: [u8; 4] = *b"0100";
pub(super) const ADVICE: [u8; 4] = *b"0120";
pub(super) const FINANCIAL_REQUEST: [u8; 4] = *b"0200";
pub(super) const FINANCIAL_ADVICE: [u8; 4] = *b"0220";
pub(super) const REVERSAL: [u8; 4] = *b"0400";
const REVERSAL_ADVICE: [u8; 4] = *b"0420";

/// DE3 begins with the kind of transaction.
pub(super) const GOODS: &str = "00";
pub(super) const CASH: &str = "01";
pub(super) const GOODS_WITH_CASH_BACK: &str = "09";
const REFUND: &str = "20";
const AVAILABLE_FUNDS: &str = "30";

/// DE22 begins with how the PAN came in.
const TYPED_IN: &str = "01";
const STRIPE: &str = "90";

/// The field that names the transaction before.
const ORIGINAL: &str = "original_transaction_token";

/// What is to be simulated.
pub struct Simulated {
    pub(super) mti: Mti,
    pub(super) task: Task,
}

pub(super) enum Task {
    First(Box<First>),
    FollowUp(FollowUp),
}

/// A message that begins a transaction.
#[derive(Default)]
pub(super) struct First {
    pub(super) card_token: String,
    pub(super) amount: Option<Decimal>,
    pub(super) cash_back_amount: Option<Decimal>,
    pub(super) pin: Option<PinText>,
    pub(super) chip: Option<ChipForm>,
    pub(super) kind: &'static str,
    pub(super) account: Option<AccountType>,
    pub(super) is_pre_auth: bool,
    pub(super) mid: Option<Text<50>>,
    pub(super) acceptor: CardAcceptor,
    pub(super) options: CardOptions,
    /// How the PAN came in; as the options say if left out.
    pub(super) pan_entry: Option<&'static str>,
    pub(super) terminal: Option<Text<8>>,
}

/// A message that follows a transaction.
pub(super) struct FollowUp {
    /// Name of the field that names the transaction.
    pub(super) name: &'static str,
    pub(super) original: String,
    pub(super) amount: Option<Decimal>,
    pub(super) mid: Option<Text<50>>,
    pub(super) is_refund: bool,
}

impl Simulated {
    pub(super) fn has_chip(&self) -> bool {
        matches!(&self.task, Task::First(first) if first.chip.is_some())
    }

    pub(super) fn first(mti: [u8; 4], first: First) -> Simulated {
        Simulated::of(mti, Task::First(first.into()))
    }

    pub(super) fn follow_up(mti: [u8; 4], follow_up: FollowUp) -> Simulated {
        Simulated::of(mti, Task::FollowUp(follow_up))
    }

    fn of(mti: [u8; 4], task: Task) -> Simulated {
        let mti = Mti::new(mti);
        debug_assert!(mti.is_some(), "four digits are a message type");
        Simulated { mti: mti.unwrap_or(Mti::AUTHORIZATION_REQUEST), task }
    }

    /// A withdrawal of cash in one message.
    ///
    /// # Errors
    /// If it has cash back.
    pub fn withdrawal(form: FinancialForm) -> Result<Simulated, Refused> {
        match form.cash_back_amount {
            Some(_) => Err(Refused::Fields("no cash_back_amount: all of a withdrawal is cash")),
            None => Ok(financial(form, CASH)),
        }
    }

    /// What was decided elsewhere of a payment in one message.
    #[must_use]
    pub fn financial_advice(form: AdviceForm) -> Simulated {
        told(FINANCIAL_ADVICE, (form.original_transaction_token, form.amount))
    }
}

fn financial(form: FinancialForm, kind: &'static str) -> Simulated {
    let first = First {
        card_token: form.card_token,
        amount: Some(form.amount),
        cash_back_amount: form.cash_back_amount,
        pin: form.pin,
        chip: form.chip,
        kind,
        account: form.account_type,
        mid: Some(form.mid),
        acceptor: form.card_acceptor,
        options: form.card_options,
        ..First::default()
    };
    Simulated::first(FINANCIAL_REQUEST, first)
}

fn told(mti: [u8; 4], (original, amount): (String, Decimal)) -> Simulated {
    let (mid, is_refund) = (None, false);
    let follow_up = FollowUp { name: ORIGINAL, original, amount: Some(amount), mid, is_refund };
    Simulated::follow_up(mti, follow_up)
}

impl From<AuthorizationForm> for Simulated {
    fn from(form: AuthorizationForm) -> Simulated {
        let first = First {
            card_token: form.card_token,
            amount: Some(form.amount),
            cash_back_amount: form.cash_back_amount,
            pin: form.pin,
            chip: form.chip,
            kind: GOODS,
            is_pre_auth: form.is_pre_auth,
            mid: Some(form.mid),
            acceptor: form.card_acceptor,
            options: form.card_options,
            ..First::default()
        };
        Simulated::first(REQUEST, first)
    }
}

impl From<FinancialForm> for Simulated {
    fn from(form: FinancialForm) -> Simulated {
        financial(form, GOODS)
    }
}

impl From<BalanceInquiryForm> for Simulated {
    fn from(form: BalanceInquiryForm) -> Simulated {
        let first = First {
            card_token: form.card_token,
            pin: form.pin,
            kind: AVAILABLE_FUNDS,
            account: form.account_type,
            mid: Some(form.mid),
            acceptor: form.card_acceptor,
            options: form.card_options,
            ..First::default()
        };
        Simulated::first(FINANCIAL_REQUEST, first)
    }
}

impl From<ReversalForm> for Simulated {
    fn from(form: ReversalForm) -> Simulated {
        let mti = if form.is_advice { REVERSAL_ADVICE } else { REVERSAL };
        told(mti, (form.original_transaction_token, form.amount))
    }
}

impl From<AdviceForm> for Simulated {
    fn from(form: AdviceForm) -> Simulated {
        told(ADVICE, (form.original_transaction_token, form.amount))
    }
}

impl From<ClearingForm> for Simulated {
    fn from(form: ClearingForm) -> Simulated {
        let ClearingForm { mid, is_refund, .. } = form;
        let (original, amount) = (form.original_transaction_token, Some(form.amount));
        let follow_up = FollowUp { name: ORIGINAL, original, amount, mid, is_refund };
        Simulated::follow_up(FINANCIAL_ADVICE, follow_up)
    }
}

impl First {
    /// DE14, if it is said.
    pub(super) fn expiry(&self) -> Result<Option<Expiry>, Refused> {
        let Some(text) = &self.options.expiration else { return Ok(None) };
        let wrong = Refused::Field { name: "card_options/expiration", expected: "MMyy" };
        Expiry::from_month_and_year(text).map(Some).ok_or(wrong)
    }

    /// Whether a PIN is entered, for the issuer or the chip.
    pub(super) fn has_pin(&self) -> bool {
        let for_chip = self.chip.as_ref().is_some_and(|chip| chip.pin_entered.is_some());
        self.pin.is_some() || for_chip
    }

    /// DE3 begins with it.
    const fn kind(&self) -> &'static str {
        match &self.cash_back_amount {
            Some(_) => GOODS_WITH_CASH_BACK,
            None => self.kind,
        }
    }

    /// What is paid with a chip.
    pub(super) fn paid(&self, amount: u64) -> Result<Paid, Refused> {
        if !self.options.card_present {
            return Err(Refused::Fields("no chip where card_options say that no card is there"));
        }
        let transaction_type = u8::from_str_radix(self.kind(), 16).unwrap_or_default();
        Ok(Paid { amount, transaction_type, has_online_pin: self.pin.is_some() })
    }

    /// Writes how the card is used, and where.
    pub(super) fn describe(&self, outgoing: &mut Outgoing) -> Result<(), Refused> {
        let kind = self.kind();
        let account = self.account.map_or("00", AccountType::digits);
        outgoing.set(3, format!("{kind}{account}00").as_bytes());
        let is_present = self.options.card_present;
        let entry = self.pan_entry.unwrap_or(if is_present { STRIPE } else { TYPED_IN });
        // Whether the terminal can take a PIN; without one it does not say so.
        let pin_entry = u8::from(self.pin.is_some());
        outgoing.set(22, format!("{entry}{pin_entry}").as_bytes());
        let condition = match (self.is_pre_auth, is_present) {
            (true, _) => b"06",
            (false, true) => b"00",
            (false, false) => b"01",
        };
        outgoing.set(25, condition);
        if let Some(terminal) = &self.terminal {
            outgoing.terminal(terminal.as_str());
        }
        if let Some(mid) = &self.mid {
            describe_merchant(mid, outgoing)?;
        }
        self.acceptor.describe(if self.kind == CASH { "6011" } else { "5411" }, outgoing)
    }
}

impl AccountType {
    /// As DE3 has it.
    const fn digits(self) -> &'static str {
        match self {
            AccountType::Savings => "10",
            AccountType::Checking => "20",
            AccountType::Credit => "30",
        }
    }
}

impl CardAcceptor {
    fn describe(&self, usual_category: &str, outgoing: &mut Outgoing) -> Result<(), Refused> {
        let category = self.mcc.as_deref().unwrap_or(usual_category);
        if category.len() != 4 || !category.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refused::Field { name: "card_acceptor/mcc", expected: "four digits" });
        }
        outgoing.set(18, category.as_bytes());
        let name = self.name.as_ref().map_or("", Text::as_str);
        let city = self.city.as_ref().map_or("", Text::as_str);
        let state = self.state.as_ref().map_or("", Text::as_str);
        let country = self.country.as_ref().map_or("", Text::as_str);
        outgoing.place([name, city, state, country]);
        Ok(())
    }
}

/// DE42. A PAN is none: messages show it.
fn describe_merchant(mid: &Text<50>, outgoing: &mut Outgoing) -> Result<(), Refused> {
    let mid = mid.as_str();
    let is_pan = Pan::parse(mid.as_bytes()).is_some_and(|pan| pan.can_be_issued());
    if mid.is_empty() || is_pan {
        let expected = "1 to 50 characters, and no PAN";
        return Err(Refused::Field { name: "mid", expected });
    }
    outgoing.merchant(mid);
    Ok(())
}

impl FollowUp {
    /// Writes what it says besides.
    pub(super) fn describe(&self, outgoing: &mut Outgoing) -> Result<(), Refused> {
        if self.is_refund {
            outgoing.set(3, format!("{REFUND}0000").as_bytes());
        }
        self.mid.as_ref().map_or(Ok(()), |mid| describe_merchant(mid, outgoing))
    }
}
