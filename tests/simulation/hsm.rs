//! The simulated HSM: it knows the few PIN blocks there are, and can be slow, late or silent. A
//! block is a made-up form of eight bytes, so no time goes into DES.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use switch::hsm::{
    AcceptPin, AcceptPinError, AcceptedPin, Authenticated, ChipCall, ChipKeys, ClearPin,
    EnteredPin, Hsm, HsmUnavailable, IssuerAuthenticate, Kcv, KeptPin, MissingKey, MovePin,
    MovePinError, NewPin, PinBlock, PinMethods, PinReference, ReferenceValue, RevealPin, TestKeys,
    VerifyPin,
};
use switch::outcome::{CryptogramOutcome, PinOutcome};
use tokio::time::sleep;

use super::model::Pin;
use super::plan::{PINS, dice, happens};
use super::world::{HSM_LIMIT, World};

/// What an entered PIN looks like on the wire, and what it is compared with.
pub fn block(pin: Pin, pan: &[u8]) -> [u8; 8] {
    let mut block = [0x50 + pin; 8];
    block.iter_mut().skip(1).zip(pan.iter().rev()).for_each(|(to, digit)| *to = *digit);
    block
}

/// A block that reads as no PIN.
pub const BROKEN_BLOCK: [u8; 8] = [0xEE; 8];

/// The reference of a PIN.
pub fn reference(pin: Pin, pan: &[u8]) -> PinReference {
    PinReference { value: ReferenceValue::Block(block(pin, pan)), key: Kcv([0; 3]) }
}

pub struct SimulatedHsm {
    world: Arc<World>,
    dice: Mutex<Rng>,
}

impl SimulatedHsm {
    pub fn new(world: &Arc<World>, life: usize) -> SimulatedHsm {
        let dice = Mutex::new(dice(world.plan.seed, "hsm answers", life));
        SimulatedHsm { world: Arc::clone(world), dice }
    }

    /// How long it takes, and whether an answer comes.
    fn next(&self) -> (Duration, bool) {
        let plan = &self.world.plan.hsm;
        let mut dice = self.dice.try_lock().expect("one thread, and nobody holds it");
        let is_late = happens(&mut dice, plan.late_percent);
        let millis = if is_late { dice.u64(1_000..8_000) } else { dice.u64(0..=plan.millis_max) };
        let is_silent = happens(&mut dice, plan.unavailable_percent);
        if self.world.is_calm() {
            return (Duration::ZERO, true);
        }
        if is_late {
            self.world.history().note("hsm late", &format!("{millis} ms"));
        }
        let now = self.world.history().millis();
        (Duration::from_millis(millis), !is_silent && !plan.down.contains(&now))
    }

    /// Whether an answer comes, after its time. Who asked may have given it up by then.
    async fn answers(&self) -> bool {
        let (takes, answers) = self.next();
        if takes >= HSM_LIMIT {
            sleep(HSM_LIMIT - Duration::from_millis(1)).await;
            self.note_unavailable("in time");
            sleep(takes + Duration::from_millis(1) - HSM_LIMIT).await;
        } else if !takes.is_zero() {
            sleep(takes).await;
        }
        if !answers {
            self.note_unavailable("");
        }
        answers
    }

    fn note_unavailable(&self, what: &str) {
        let mut history = self.world.history();
        let order = history.note("hsm unavailable", what);
        history.hsm_unavailable.push(order);
    }
}

impl Hsm for SimulatedHsm {
    async fn verify_pin(&self, call: VerifyPin<'_>) -> PinOutcome {
        let pan = call.pan.digits();
        let entered = (0..PINS.len() as Pin).map(|pin| block(pin, pan));
        let is_entered = |known: &[u8; 8]| match call.pin {
            EnteredPin::Block(entered) => {
                PinBlock::new(known).is_some_and(|known| known == *entered.block)
            }
            EnteredPin::Clear(_) => unreachable!("every PIN of this world comes over a link"),
        };
        let entered = entered.into_iter().find(is_entered);
        let verification = match (entered, call.reference.value) {
            (None, _) => PinOutcome::BadPinBlock,
            (Some(block), ReferenceValue::Block(right)) if block == right => PinOutcome::Right,
            (Some(_), _) => PinOutcome::Wrong,
        };
        if self.answers().await { verification } else { PinOutcome::Unavailable }
    }

    async fn accept_pin(&self, call: AcceptPin<'_>) -> Result<AcceptedPin, AcceptPinError> {
        let NewPin::Clear(clear) = call.pin else { return Err(AcceptPinError::OtherMethod) };
        let pin = PINS.iter().position(|pin| pin.as_bytes() == clear.digits());
        let pin = pin.expect("an issuer sets one of the PINs there are");
        if !self.answers().await {
            return Err(AcceptPinError::Unavailable);
        }
        let kept = KeptPin { block: block(pin as Pin, call.pan.digits()), key: Kcv([0; 3]) };
        Ok(AcceptedPin { reference: reference(pin as Pin, call.pan.digits()), kept: Some(kept) })
    }

    async fn move_pin(&self, _: MovePin<'_>) -> Result<AcceptedPin, MovePinError> {
        Err(MovePinError::Refused)
    }

    async fn reveal_clear(&self, _: RevealPin<'_>) -> Result<Box<ClearPin>, HsmUnavailable> {
        Err(HsmUnavailable("nobody sees a PIN here".to_owned()))
    }

    async fn verify_arqc(&self, _: ChipCall<'_>) -> CryptogramOutcome {
        // No card of this world makes cryptograms.
        match self.answers().await {
            true => CryptogramOutcome::Wrong,
            false => CryptogramOutcome::Unavailable,
        }
    }

    async fn issuer_authenticate(
        &self,
        _: IssuerAuthenticate<'_>,
    ) -> Result<Authenticated, HsmUnavailable> {
        Err(HsmUnavailable("the simulation has no chips".to_owned()))
    }

    async fn test_keys(&self, _: &ChipKeys) -> Option<TestKeys> {
        None
    }

    async fn check_keys(&self, _: &PinMethods, _: Option<&ChipKeys>) -> Result<(), MissingKey> {
        Ok(())
    }

    async fn health(&self) -> Result<(), HsmUnavailable> {
        Ok(())
    }
}
