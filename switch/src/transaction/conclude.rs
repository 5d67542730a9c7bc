//! The step of an advice or a reversal that reads what it tells of the chip.

use super::attempt::Attempt;
use super::verify::HsmTime;
use crate::authorization::{Conclusion, Decision, Reason, conclude, concluding_cryptogram};
use crate::cache::Card;
use crate::switch::{Seams, Switch};

impl<W: Seams> Switch<W> {
    /// The decision on an advice or a reversal that is answered with this reason. `reversed` is the
    /// digest of the transaction that a reversal takes back.
    pub(super) async fn conclude(
        &self,
        work: &Attempt<'_>,
        card: Option<&Card>,
        reason: Reason,
        reversed: Option<u128>,
    ) -> Decision {
        let Some(card) = card else { return Decision::unchanged(reason) };
        let (state, product) = (&*card.state, &*card.product);
        let cryptogram = match concluding_cryptogram(&work.request, state, product, reversed) {
            Some(check) => Some(self.verify_arqc(work, card, check, &mut HsmTime::of(work)).await),
            None => None,
        };
        let is_signed_on = work.session.is_signed_on();
        let conclusion = Conclusion { reason, cryptogram, reversed, is_signed_on };
        conclude(&work.request, state, product, conclusion)
    }
}
