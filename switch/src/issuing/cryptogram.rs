//! Every intermediate value of a cryptogram, to find out why it is wrong.

use super::change::load;
use super::{Refused, audit};
use crate::authorization::{ChipData, CryptogramCheck};
use crate::event::Actor;
use crate::hex::from_hex;
use crate::hsm::software::SoftwareHsm;
use crate::switch::{Seams, Switch};

/// The values of the cryptogram in a DE55 of a card (hexadecimal digits), by name, in order. Under
/// public test keys only: who can ask for cryptograms under an issuer's keys can forge its cards.
///
/// # Errors
/// If DE55 cannot be read or verified, or the keys are no public test keys.
pub async fn explain<W: Seams<Hsm = SoftwareHsm>>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
    de55: &str,
) -> Result<Vec<(String, String)>, Refused> {
    let explained = explain_unaudited(switch, token, de55).await;
    audit::of_card(switch, actor, ("explain-cryptogram", token), explained).await
}

async fn explain_unaudited<W: Seams<Hsm = SoftwareHsm>>(
    switch: &Switch<W>,
    token: &str,
    de55: &str,
) -> Result<Vec<(String, String)>, Refused> {
    let wrong = |expected| Refused::Field { name: "DE55", expected };
    let card = load(switch, token).await?;
    let (identity, product) = (&card.entry.identity, &card.product);
    let pan = switch.vault.open(&identity.key, &identity.sealed_pan);
    let pan = pan.map_err(Refused::SealedPan)?;
    let bytes = from_hex(de55.trim()).ok_or(wrong("hexadecimal digits"))?;
    let chip = ChipData::read(&bytes);
    let chip = chip.ok_or(wrong("BER-TLV, tags that are read, once and of their length"))?;
    let rules = product.chip.as_ref().ok_or(Refused::Fields("a product with keys for chips"))?;
    let plastic = card.state.plastic(None, chip.sequence);
    let (_, plastic) = plastic.ok_or(wrong("the 5F34 of a plastic of this card"))?;
    let sequence = chip.sequence.unwrap_or(plastic.sequence);
    let check = CryptogramCheck::of(&chip, rules, 0, sequence).map_err(Refused::Cryptogram)?;
    let call = check.call(&chip, rules, &pan);
    let call = call.ok_or(wrong("all that its cryptogram covers"))?;
    let explained = switch.hsm.explain_arqc(call).ok_or(Refused::KeyIsSecret)?;
    let covers: Vec<String> = check.cvn.covers.parts().map(|part| part.to_string()).collect();
    let covers = ("covers".to_owned(), covers.join(" "));
    Ok([covers].into_iter().chain(explained).collect())
}
