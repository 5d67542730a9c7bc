//! The steps of a request that speak with its chip.

use std::time::Duration;

use super::{Attempt, HsmTime};
use crate::authorization::issuer_script;
use crate::authorization::response::ChipAnswer;
use crate::authorization::{
    Answer, ChipData, ChipRules, CryptogramCheck, Decision, Outcomes, Reason, Request, decision,
    response,
};
use crate::cards::chip::{ChangeKind, ScriptId};
use crate::cards::{Card, CardKey, Pan, Plastic};
use crate::hsm::emv::IssuerAnswer;
use crate::hsm::{ChipCall, Hsm, IssuerAuthenticate, Verification};
use crate::session::Session;
use crate::store::StoreError;
use crate::switch::{Seams, Switch};

impl<W: Seams> Switch<W> {
    pub(super) async fn verify_arqc(
        &self,
        (request, time): (&Request, &mut HsmTime),
        card: &Card,
        check: &CryptogramCheck,
    ) -> Verification {
        let Some(call) = call_of(request, card, check) else { return Verification::Mismatch };
        let answered = self.in_time(time, self.hsm.verify_arqc(call)).await;
        let verification = answered.unwrap_or(Verification::Unavailable);
        self.metrics.cryptogram_verified(verification);
        verification
    }

    /// What the chip is told of a decision, as DE55. Without it nothing is approved.
    pub(super) async fn issuer_authenticate(
        &self,
        attempt: &Attempt<'_>,
        card: &Card,
        decision: Decision,
    ) -> (Decision, Option<Vec<u8>>) {
        let Some(outcome) = &decision.chip else { return (decision, None) };
        let of = (attempt.session, attempt.request, attempt.arrived);
        let told = (&outcome.check, outcome.answer, decision.reason);
        match self.tell_chip(of, card, told, outcome.script()).await {
            Some(data) => (decision, Some(data)),
            None => (decision.without_chip(), None),
        }
    }

    /// What the chip was told before, made again from the same cryptogram; `None` where the HSM
    /// does not make it now: the decision stands without it. A script whose PIN is no longer there
    /// is left out.
    pub(super) async fn answer_again(
        &self,
        of: (&Session, &Request, Duration),
        key: &CardKey,
        answer: Answer,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (_, request, _) = of;
        let Some(card) = self.load(request, key).await? else { return Ok(None) };
        let Some(check) = decision::cryptogram_of(request, &card.state, &card.entry.product) else {
            return Ok(None);
        };
        let script = match (answer.chip, card.state.chip(check.plastic)) {
            (ChipAnswer::Script(id), Some(chip)) => {
                issuer_script::again(&chip.sync, id).map(|kind| (id, kind))
            }
            _ => None,
        };
        let approves = answer.reason == Reason::Approved;
        let told = check.cvn.answer(answer.reason.arc(), approves);
        Ok(self.tell_chip(of, &card, (&check, told, answer.reason), script).await)
    }

    async fn tell_chip(
        &self,
        (session, request, arrived): (&Session, &Request, Duration),
        card: &Card,
        (check, answer, reason): (&CryptogramCheck, IssuerAnswer, Reason),
        script: Option<(ScriptId, &ChangeKind)>,
    ) -> Option<Vec<u8>> {
        let rules = card.entry.product.chip.as_ref()?;
        let call = IssuerAuthenticate {
            chip: call_of(request, card, check)?,
            answer,
            script: script.map(|(_, kind)| kind),
        };
        let mut time = HsmTime::of(arrived);
        let answered = self.in_time(&mut time, self.hsm.issuer_authenticate(call)).await;
        let authenticated = answered?.ok()?;
        let script = script.map(|(id, _)| (id, rules.script_template));
        let code = session.link.dialect.chip_response_code().then(|| reason.arc());
        Some(response::chip_data(&authenticated, script, code))
    }

    /// An advice or a reversal: what it tells of a script that was sent. A cryptogram in it that is
    /// right, or the name of the script, is evidence.
    pub(super) async fn conclude(
        &self,
        attempt: &mut Attempt<'_>,
        card: &Card,
        reason: Reason,
        reversed: Option<u128>,
    ) -> Decision {
        let (request, state, product) = (attempt.request, &card.state, &card.entry.product);
        let check = decision::cryptogram_of(request, state, product);
        let waits = |plastic: &Plastic| {
            plastic.chip.as_ref().is_some_and(|chip| chip.sync.on_its_way().is_some())
        };
        let waits = state.plastics.iter().any(waits);
        let cryptogram = match check.filter(|_| waits) {
            Some(check) => {
                let of = (request, &mut HsmTime::of(attempt.arrived));
                Some((check, self.verify_arqc(of, card, &check).await))
            }
            None => None,
        };
        attempt.known.cryptogram = cryptogram;
        let is_signed_on = attempt.session.is_signed_on();
        let outcomes = Outcomes { pin: None, cryptogram };
        decision::conclude((request, reason), state, product, outcomes, (reversed, is_signed_on))
    }
}

/// The cryptogram of chip data as the HSM needs it; `None` where something of it is missing.
pub(crate) fn chip_call<'a>(
    rules: &'a ChipRules,
    chip: &ChipData,
    pan: &'a Pan,
    check: &'a CryptogramCheck,
) -> Option<ChipCall<'a>> {
    let view = chip.iad.as_ref()?.view(&rules.iads)?;
    Some(ChipCall {
        keys: &rules.keys,
        profile: &check.cvn.profile,
        pan,
        sequence: check.sequence,
        covered: check.cvn.covers.data(chip, &view)?,
        arqc: chip.cryptogram?,
        atc: chip.atc?,
        // Where the key is not made of it, it may be left out.
        unpredictable: chip.unpredictable.unwrap_or_default(),
    })
}

fn call_of<'a>(
    request: &'a Request,
    card: &'a Card,
    check: &'a CryptogramCheck,
) -> Option<ChipCall<'a>> {
    let rules = card.entry.product.chip.as_ref()?;
    chip_call(rules, request.chip.as_ref()?, request.pan.as_ref()?, check)
}
