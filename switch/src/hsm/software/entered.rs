//! PIN blocks that came over a link, under a live version of its zone PIN key.

use super::key::{KeyFault, KeyUsage, Operation};
use super::{Cipher, Loaded, Ring, pin_block};
use crate::cards::Pan;
use crate::hsm::{
    AcceptPinError, BlockBeside, ClearPin, EnteredBlock, EnteredPin, PinBlockFormat, VerifyPin,
};
use crate::outcome::PinOutcome;
use crate::pin::weak::is_weak;

impl Ring {
    /// Reads the block under each live version of the zone key, the newest first: the PIN is
    /// right if it is right under one of them. A block read under the wrong version is garbage,
    /// which a format without fixed fill may take for a wrong PIN.
    pub(super) fn verify_block(&self, block: EnteredBlock<'_>, call: &VerifyPin<'_>) -> PinOutcome {
        let Some(zone) = self.zone_keys.get(block.zpk) else { return PinOutcome::Unavailable };
        let mut outcome = PinOutcome::BadPinBlock;
        for (age, key) in zone.versions.iter().rev().enumerate() {
            let read = match read_block(key, block, call.pan) {
                Ok(read) => read,
                Err(_) => return PinOutcome::Unavailable,
            };
            let Some((pin, format)) = read else { continue };
            let compared = self.compare(&pin, format.is_bound_to_pan(), call);
            let compared = compared.unwrap_or(PinOutcome::Unavailable);
            let tells_more = match compared {
                PinOutcome::Right | PinOutcome::Unavailable => true,
                PinOutcome::Wrong => outcome == PinOutcome::BadPinBlock,
                PinOutcome::BadPinBlock => false,
            };
            if tells_more {
                outcome = compared;
                zone.under_older.increment(u64::from(age > 0));
            }
            if matches!(outcome, PinOutcome::Right | PinOutcome::Unavailable) {
                break;
            }
        }
        outcome
    }

    /// The new PIN beside a current one, read under the version of the zone key under which that
    /// is right.
    pub(super) fn read_beside(&self, beside: &BlockBeside<'_>) -> Result<ClearPin, AcceptPinError> {
        let BlockBeside { block, current } = *beside;
        let EnteredPin::Block(entered) = current.pin else { return Err(AcceptPinError::Unusable) };
        let zone = self.zone_keys.get(entered.zpk).ok_or(AcceptPinError::Unavailable)?;
        let is_right = |key: &&Loaded| {
            let read = read_block(key, entered, current.pan).ok().flatten();
            read.is_some_and(|(pin, format)| {
                let compared = self.compare(&pin, format.is_bound_to_pan(), &current);
                compared == Ok(PinOutcome::Right)
            })
        };
        let key = zone.versions.iter().rev().find(is_right).ok_or(AcceptPinError::Unavailable)?;
        let read = read_block(key, EnteredBlock { block, ..entered }, current.pan)?;
        let (pin, _) = read.ok_or(AcceptPinError::Unusable)?;
        if is_weak(&pin, current.pan.digits()) { Err(AcceptPinError::Weak) } else { Ok(pin) }
    }
}

/// The PIN in the block of a request, and its format.
fn read_block(
    key: &Loaded,
    EnteredBlock { block, formats, .. }: EnteredBlock<'_>,
    pan: &Pan,
) -> Result<Option<(ClearPin, PinBlockFormat)>, KeyFault> {
    let cipher = key.cipher(KeyUsage::PinEncryption, Operation::Decrypt)?;
    let block = block.bytes();
    Ok(match cipher {
        Cipher::Tdes(key) => block
            .try_into()
            .ok()
            .and_then(|block| pin_block::read(&key.decrypt(block), pan, formats)),
        Cipher::Aes(key) if formats.contains(PinBlockFormat::Iso4) => {
            let block = block.try_into().ok();
            let pin = block.and_then(|block| pin_block::read_iso4(key, block, pan));
            pin.map(|pin| (pin, PinBlockFormat::Iso4))
        }
        Cipher::Aes(_) => None,
    })
}
