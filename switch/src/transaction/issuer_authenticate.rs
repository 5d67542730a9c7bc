//! The step that makes what the chip is told.

use super::attempt::Attempt;
use super::verify::{HsmTime, chip_call};
use crate::authorization::issuer_script;
use crate::authorization::response::{self, ChipAnswer};
use crate::authorization::{Answer, CryptogramCheck, Decision, Reason};
use crate::cache::Card;
use crate::cards::chip_state::{ChangeKind, ScriptId};
use crate::hsm::emv::IssuerAnswer;
use crate::hsm::{Hsm, IssuerAuthenticate};
use crate::store::StoreError;
use crate::switch::{Seams, Switch};

/// What a chip is to be told.
struct Told<'a> {
    check: &'a CryptogramCheck,
    answer: IssuerAnswer,
    reason: Reason,
    script: Option<(ScriptId, &'a ChangeKind)>,
}

impl<W: Seams> Switch<W> {
    /// What the chip is told of a decision, as DE55. Without it nothing is approved.
    pub(super) async fn issuer_authenticate(
        &self,
        work: &Attempt<'_>,
        card: &Card,
        decision: Decision,
    ) -> (Decision, Option<Vec<u8>>) {
        let Some(chip) = &decision.chip else { return (decision, None) };
        let (check, answer, script) = (&chip.check, chip.answer, chip.script());
        let told = Told { check, answer, reason: decision.reason, script };
        match self.tell_chip(work, card, told).await {
            Some(de55) => (decision, Some(de55)),
            None => (decision.without_chip(&card.state), None),
        }
    }

    /// What the chip was told before, made again from the same cryptogram; `None` where the HSM
    /// does not make it now: the decision stands without it. A script whose PIN is no longer there
    /// is left out.
    pub(super) async fn answer_again(
        &self,
        work: &Attempt<'_>,
        given: Answer,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(card) = self.card_of(work).await? else { return Ok(None) };
        let (state, product) = (&card.state, &card.product);
        let (request, transaction) = (&work.request, work.identity.key.digest);
        let check = match given.chip {
            ChipAnswer::Script(id) => {
                CryptogramCheck::of_repeat(request, state, product, (id, transaction))
            }
            _ => CryptogramCheck::of_request(request, state, product),
        };
        let Some(check) = check else { return Ok(None) };
        let script = match (given.chip, state.chip(check.plastic)) {
            (ChipAnswer::Script(id), Some(chip)) => {
                issuer_script::again(&chip.sync, id).map(|kind| (id, kind))
            }
            _ => None,
        };
        let reason = given.reason;
        let answer = check.cvn.answer(reason.arc(), reason == Reason::Approved);
        let told = Told { check: &check, answer, reason, script };
        Ok(self.tell_chip(work, &card, told).await)
    }

    async fn tell_chip(&self, work: &Attempt<'_>, card: &Card, told: Told<'_>) -> Option<Vec<u8>> {
        let rules = card.product.chip.as_ref()?;
        let (script, answer) = (told.script.map(|(_, kind)| kind), told.answer);
        let call = IssuerAuthenticate { chip: chip_call(work, card, told.check)?, answer, script };
        let mut time = HsmTime::of(work);
        let answered = self.in_time(&mut time, self.hsm.issuer_authenticate(call)).await;
        let authenticated = answered?.ok()?;
        let script = told.script.map(|(id, _)| (id, rules.script_template));
        let names_code = work.session.link.dialect.chip_response_code();
        let code = names_code.then(|| told.reason.arc());
        Some(response::de55(&authenticated, script, code))
    }
}
