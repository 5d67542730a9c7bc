//! The chips that simulations play. Between two transactions a chip is a document, with its PIN as
//! a block under the PIN encryption key. All of them are under test keys that everybody knows: who
//! can ask for cryptograms under an issuer's keys can forge its cards.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use chip_card::card::{Application, Before, ChipCard, IssuerKeys, Memory, Personalization};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::authorization::{ChipRules, Product};
use crate::cache::Card;
use crate::cards::chip_state::{ChangeKind, Chip};
use crate::cards::{CardState, Embossed, Pan};
use crate::hex::{from_hex, hex};
use crate::hsm::{Hsm, KeptPin, NewPin, TestKeys};
use crate::issuing::change::{self, load};
use crate::issuing::listing::Pages;
use crate::issuing::{Refused, pins, viewable_pin};
use crate::key::Kcv;
use crate::pin::{ClearPin, PinBlock};
use crate::store::document::{Document, DocumentChange, DocumentKind};
use crate::store::record::RecordId;
use crate::store::{Commit, CommitError, Store};
use crate::switch::{Seams, Switch};

/// PIN tries of every chip (R110).
const TRIES: u8 = 3;

/// The PIN of a chip whose embosser got none, where the product says so (R168).
const ZEROS: &[u8] = b"0000";

/// A chip as it is kept.
#[derive(Serialize, Deserialize)]
struct Stored {
    keys: StoredKeys,
    /// None of a chip that was made without a PIN.
    pin: Option<StoredPin>,
    tries_left: u8,
    atc: u16,
    before: StoredBefore,
    /// The end of its last transaction, where it got an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<StoredEnd>,
}

/// See [`TestKeys`].
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredKeys {
    Visa,
    MChip,
}

#[derive(Serialize, Deserialize)]
struct StoredPin {
    block: [u8; PinBlock::TDES_BYTES],
    /// Check value of the key that the block is under.
    key: [u8; Kcv::BYTES],
}

impl Drop for StoredPin {
    fn drop(&mut self) {
        self.block.zeroize();
    }
}

/// See [`Before`].
#[derive(Serialize, Deserialize)]
struct StoredBefore {
    is_incomplete: bool,
    authentication_failed: bool,
    scripts: u8,
    script_failed: bool,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredEnd {
    /// Id of the transaction.
    transaction: String,
    /// DE55 of what follows it, in hexadecimal.
    data: String,
}

impl Stored {
    fn read<W: Seams>(switch: &Switch<W>, document: &Document) -> Result<Stored, Refused> {
        let json = document.json(&switch.vault.documents).map_err(Refused::Sealing)?;
        serde_json::from_slice(&json).map_err(|_| Refused::DocumentUnreadable("virtual chip"))
    }
}

impl StoredKeys {
    const fn of(keys: TestKeys) -> StoredKeys {
        match keys {
            TestKeys::Visa => StoredKeys::Visa,
            TestKeys::MChip => StoredKeys::MChip,
        }
    }

    const fn application(self) -> (Application, IssuerKeys) {
        match self {
            StoredKeys::Visa => (Application::Visa0A, IssuerKeys::DEMO_VISA),
            StoredKeys::MChip => (Application::MChip14, IssuerKeys::DEMO_M_CHIP),
        }
    }
}

/// The document of the chip of a plastic.
fn place(card: &Card, plastic: usize) -> String {
    let sequence = card.state.plastics.get(plastic).map(|plastic| plastic.sequence);
    format!("{}/{:02}", hex(&card.entry.identity.key.0), sequence.unwrap_or_default())
}

/// A chip that is played, with what is known of where it is kept.
pub(super) struct VirtualChip {
    pub(super) card: ChipCard,
    keys: StoredKeys,
    pan: Pan,
    place: String,
    /// Version of its document; 0 for none yet.
    read: u64,
    /// Data of the last transaction's end, with the transaction's id.
    end: Option<StoredEnd>,
    product: Arc<Product>,
}

impl VirtualChip {
    /// The chip of the plastic at this place. One that was produced with a PIN that can be read is
    /// made here, the first time.
    ///
    /// # Errors
    /// [`Refused::NoVirtualChip`], or [`Refused::KeyIsSecret`] where its keys are no test keys.
    pub(super) async fn find<W: Seams>(
        switch: &Switch<W>,
        card: &Card,
        plastic: usize,
    ) -> Result<VirtualChip, Refused> {
        let rules = card.product.chip.as_ref();
        let rules = rules.ok_or(Refused::NoVirtualChip("the cards of its product have none"))?;
        let keys = switch.hsm.test_keys(&rules.keys).await.ok_or(Refused::KeyIsSecret)?;
        let place = place(card, plastic);
        let document = switch.store.document(DocumentKind::VirtualChip, &place).await?;
        let Some(document) = document else {
            if !card.state.is_alive() {
                return Err(Refused::CardTerminated);
            }
            let pin = first_pin(switch, card, rules, plastic).await?;
            return VirtualChip::new(switch, (card, plastic), keys, pin.as_deref());
        };
        let stored = Stored::read(switch, &document)?;
        let pan = pan(switch, card)?;
        let pin = match &stored.pin {
            Some(StoredPin { block, key }) => {
                let kept = KeptPin { block: *block, key: Kcv(*key) };
                Some(viewable_pin::clear(switch, &kept, &pan).await?)
            }
            None => None,
        };
        let StoredBefore { is_incomplete, authentication_failed, scripts, script_failed } =
            stored.before;
        let before = Before { is_incomplete, authentication_failed, scripts, script_failed };
        let mut chip = VirtualChip::made((card, plastic), stored.keys, pan, pin.as_deref());
        let atc = stored.atc.max(chip.card.memory().atc);
        let pin = chip.card.memory().pin.clone();
        let memory = Memory { pin, tries_left: stored.tries_left, atc, before };
        chip.card = chip.card.with_memory(memory);
        Ok(VirtualChip { read: document.version, end: stored.end, ..chip })
    }

    /// A chip as it leaves the embosser, with this PIN or none.
    fn new<W: Seams>(
        switch: &Switch<W>,
        (card, plastic): (&Card, usize),
        keys: TestKeys,
        pin: Option<&ClearPin>,
    ) -> Result<VirtualChip, Refused> {
        let pan = pan(switch, card)?;
        Ok(VirtualChip::made((card, plastic), StoredKeys::of(keys), pan, pin))
    }

    fn made(
        (card, plastic): (&Card, usize),
        keys: StoredKeys,
        pan: Pan,
        pin: Option<&ClearPin>,
    ) -> VirtualChip {
        let (application, issuer_keys) = keys.application();
        let known = card.state.plastics.get(plastic);
        let chip = ChipCard::new(&Personalization {
            application,
            pan: digits(pan.digits()),
            sequence: known.map(|plastic| plastic.sequence).unwrap_or_default(),
            keys: issuer_keys,
            pin: pin.map_or("", |pin| digits(pin.digits())),
            tries_max: TRIES,
            // Where others play the same plastic over a link, this one counts on from there.
            atc: card.state.chip(plastic).map_or(0, |chip| chip.counters.highest),
        });
        let (place, product) = (place(card, plastic), Arc::clone(&card.product));
        VirtualChip { card: chip, keys, pan, place, read: 0, end: None, product }
    }

    /// The change that writes it.
    async fn written<W: Seams>(&self, switch: &Switch<W>) -> Result<DocumentChange, Refused> {
        let memory = self.card.memory();
        let pin = match ClearPin::parse_in_place(memory.pin.as_bytes()) {
            Some(pin) => {
                let new = NewPin::Clear(&pin);
                pins::accept(switch, &self.product, &self.pan, new).await?.kept
            }
            None => None,
        };
        let Before { is_incomplete, authentication_failed, scripts, script_failed } = memory.before;
        let stored = Stored {
            keys: self.keys,
            pin: pin.map(|kept| StoredPin { block: kept.block, key: kept.key.0 }),
            tries_left: memory.tries_left,
            atc: memory.atc,
            before: StoredBefore { is_incomplete, authentication_failed, scripts, script_failed },
            end: self.end.clone(),
        };
        let json = Zeroizing::new(serde_json::to_vec(&stored).unwrap_or_default());
        debug_assert!(!json.is_empty(), "it is a JSON object with texts as keys");
        let place = (DocumentKind::VirtualChip, &*self.place);
        let written = DocumentChange::write(&switch.vault.documents, place, self.read, &json);
        written.map_err(Refused::Sealing)
    }

    /// Keeps what a transaction has changed so far, with another document in the same commit.
    ///
    /// # Errors
    /// [`Refused::ChipInUse`] where somebody else has played it meanwhile.
    pub(super) async fn keep<W: Seams>(
        &mut self,
        switch: &Switch<W>,
        card: &Card,
        beside: Option<DocumentChange>,
    ) -> Result<(), Refused> {
        let documents = [self.written(switch).await?].into_iter().chain(beside).collect();
        // A chip that is made here must not outlive its card.
        let card = Some(card).filter(|_| self.read == 0);
        let commit = Commit { card, documents, ..Commit::default() };
        match switch.store.commit(commit, &mut None).await {
            Ok(_) => {}
            Err(CommitError::Changed(_)) => return Err(Refused::ChipInUse),
            Err(error) => return Err(error.into()),
        }
        let document = switch.store.document(DocumentKind::VirtualChip, &self.place).await?;
        // By now somebody else may have replaced it.
        let own = document.filter(|document| document.replaces == self.read);
        self.read = own.ok_or(Refused::ChipInUse)?.version;
        Ok(())
    }

    /// A transaction of it has ended with this DE55.
    pub(super) fn ended(&mut self, transaction: RecordId, chip_data: &[u8]) {
        let transaction = transaction.to_string();
        self.end = Some(StoredEnd { transaction, data: hex(chip_data) });
    }
}

fn pan<W: Seams>(switch: &Switch<W>, card: &Card) -> Result<Pan, Refused> {
    let identity = &card.entry.identity;
    switch.vault.open(&identity.key, &identity.sealed_pan).map_err(Refused::SealedPan)
}

/// Of a PIN or a PAN, which are digits.
pub(super) fn digits(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// The PIN that the chip of a plastic was produced with.
async fn first_pin<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
    rules: &ChipRules,
    plastic: usize,
) -> Result<Option<Box<ClearPin>>, Refused> {
    let known = card.state.plastics.get(plastic).ok_or(Refused::NoSuchCard)?;
    let has_other = known.chip().is_some_and(|chip: &Chip| chip.has_script_pin);
    match known.embossed() {
        Embossed::NotProduced => {
            Err(Refused::NoVirtualChip("its plastic is not produced: see /simulations/fulfillment"))
        }
        _ if !rules.offline_pin => Ok(None),
        Embossed::NoPin | Embossed::Zeros if !has_other => Ok(pin_of(known.embossed())),
        Embossed::Pin(version) if !has_other && version == card.state.pin.version => {
            current_pin(switch, card).await?.map(Some).ok_or(NOT_READABLE)
        }
        _ => Err(NOT_READABLE),
    }
}

const NOT_READABLE: Refused = Refused::NoVirtualChip(
    "nobody can read the PIN that its plastic was produced with: make the product pin_viewable, \
     set the PIN of a new card, and produce it by /simulations/fulfillment",
);

/// The card's PIN, where a block of it is kept: to be seen, or to come to a chip.
pub(super) async fn current_pin<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
) -> Result<Option<Box<ClearPin>>, Refused> {
    let current = card.state.pin.version;
    if card.state.pin.reference.is_none() {
        return Ok(None);
    }
    let mut waiting = card.state.plastics.iter().filter_map(|plastic| {
        match &plastic.chip()?.sync.kept_change()?.kind {
            ChangeKind::Pin { version, pin } if *version == current => Some(pin.clone()),
            _ => None,
        }
    });
    let kept = match viewable_pin::kept(switch, card).await? {
        Some(kept) => Some(kept),
        None => waiting.next(),
    };
    match kept {
        Some(kept) => viewable_pin::clear(switch, &kept, &pan(switch, card)?).await.map(Some),
        None => Ok(None),
    }
}

/// The chip of a plastic that is produced with this PIN, or with none, as a change of documents;
/// nothing where its product has no chips, or none under test keys.
pub(super) async fn embossed<W: Seams>(
    switch: &Switch<W>,
    (card, plastic): (&Card, usize),
    pin: Option<&ClearPin>,
) -> Result<Option<DocumentChange>, Refused> {
    let Some(rules) = &card.product.chip else { return Ok(None) };
    let Some(keys) = switch.hsm.test_keys(&rules.keys).await else { return Ok(None) };
    let pin = pin.filter(|_| rules.offline_pin);
    let mut chip = VirtualChip::new(switch, (card, plastic), keys, pin)?;
    let known = switch.store.document(DocumentKind::VirtualChip, &chip.place).await?;
    chip.read = known.map_or(0, |known| known.version);
    chip.written(switch).await.map(Some)
}

/// Which PIN an embosser writes to a chip that gets no block of one: none, or 0000 where only
/// EMVOP=Y asks for an offline PIN (Galileo's scenario 3).
pub(super) fn without_block(product: &Product) -> Embossed {
    let issuance = &product.issuance;
    let has_zeros = issuance.parameters.is_some_and(|it| !it.embosses_pin_block)
        && !issuance.enable_offline_pin;
    if has_zeros { Embossed::Zeros } else { Embossed::NoPin }
}

/// The PIN of a chip whose embosser got no block of one.
pub(super) fn pin_of(embossed: Embossed) -> Option<Box<ClearPin>> {
    match embossed {
        Embossed::Zeros => ClearPin::parse_in_place(ZEROS),
        Embossed::NoPin | Embossed::Pin(_) | Embossed::NotProduced => None,
    }
}

/// Makes the chip of a card's first plastic, which was produced with this PIN, if it is not there
/// yet.
///
/// # Errors
/// If there is no such card, or the store has failed.
pub async fn emboss<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    pin: &ClearPin,
) -> Result<(), Refused> {
    let card = load(switch, token).await?;
    let plastic = change::place(&card.state, token);
    let place = place(&card, plastic);
    let known = switch.store.document(DocumentKind::VirtualChip, &place).await?;
    if known.is_some() || !card.state.is_alive() {
        return Ok(());
    }
    let Some(document) = embossed(switch, (&card, plastic), Some(pin)).await? else {
        return Ok(());
    };
    let documents = vec![document];
    let commit = Commit { card: Some(&card), documents, ..Commit::default() };
    match switch.store.commit(commit, &mut None).await {
        // Somebody else was faster.
        Ok(_) | Err(CommitError::Changed(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// DE55 of what follows a transaction, where a chip of this card that is played here has ended it.
pub(super) async fn end_of<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
    transaction: RecordId,
) -> Result<Option<Vec<u8>>, Refused> {
    let transaction = transaction.to_string();
    for document in of_card(switch, card).await? {
        let end = Stored::read(switch, &document)?.end;
        if let Some(end) = end.filter(|end| end.transaction == transaction) {
            return Ok(from_hex(&end.data).map(|data| data.to_vec()));
        }
    }
    Ok(None)
}

/// The chips of a card that are there.
async fn of_card<W: Seams>(switch: &Switch<W>, card: &Card) -> Result<Vec<Arc<Document>>, Refused> {
    let mut documents = Vec::new();
    for plastic in 0..card.state.plastics.len() {
        let place = place(card, plastic);
        documents.extend(switch.store.document(DocumentKind::VirtualChip, &place).await?);
    }
    Ok(documents)
}

/// What becomes of the chips of a card that goes to another state: with its last plastic that is
/// TERMINATED, every block of its PIN is deleted, and theirs too.
pub(in crate::issuing) async fn after<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
    state: &CardState,
) -> Result<Vec<DocumentChange>, Refused> {
    match state.is_alive() {
        true => Ok(Vec::new()),
        false => of_removed(switch, card).await,
    }
}

/// What goes with a card that is removed.
pub(in crate::issuing) async fn of_removed<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
) -> Result<Vec<DocumentChange>, Refused> {
    let chips = of_card(switch, card).await?;
    Ok(chips.iter().map(|chip| DocumentChange::remove(chip)).collect())
}

/// How many chips have their PIN under the key of this check value.
pub(in crate::issuing) async fn made_with<W: Seams>(
    switch: &Switch<W>,
    kcv: Kcv,
) -> Result<usize, Refused> {
    let (mut count, mut pages) = (0, Pages::of(DocumentKind::VirtualChip));
    while let Some(page) = pages.next(switch).await? {
        for (_, document) in &page {
            let pin = Stored::read(switch, document)?.pin;
            count += usize::from(pin.is_some_and(|pin| pin.key == kcv.0));
        }
    }
    Ok(count)
}

/// The chips that are in a terminal now.
#[derive(Clone, Default)]
pub(super) struct InTerminals(Arc<Mutex<HashSet<String>>>);

impl InTerminals {
    /// Puts the chip of the plastic at this place into a terminal.
    ///
    /// # Errors
    /// [`Refused::ChipInUse`] where it is in another one.
    pub(super) fn insert(&self, card: &Card, plastic: usize) -> Result<InTerminal, Refused> {
        let place = place(card, plastic);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.insert(place.clone()) {
            true => Ok(InTerminal { all: self.clone(), place }),
            false => Err(Refused::ChipInUse),
        }
    }
}

/// A chip that is in a terminal, until this is dropped.
pub(super) struct InTerminal {
    all: InTerminals,
    place: String,
}

impl Drop for InTerminal {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorization::issuance::Parameters;

    /// As this release writes it: what a later one must read.
    const STORED: &str = r#"{"keys":"m_chip","pin":{"block":[1,2,3,4,5,6,7,8],"key":[9,10,11]},
        "tries_left":2,"atc":7,"before":{"is_incomplete":true,"authentication_failed":false,
        "scripts":1,"script_failed":false},
        "end":{"transaction":"00000001-0000a000","data":"9F26"}}"#;

    #[test]
    fn a_chip_is_read_as_it_was_written() {
        let stored: Stored = serde_json::from_str(STORED).unwrap();
        let written: serde_json::Value = serde_json::to_value(&stored).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(STORED).unwrap());
        assert_eq!(stored.keys.application().0, Application::MChip14);
    }

    #[test]
    fn zeros_are_embossed_where_only_the_parameter_asks_for_a_pin() {
        let mut product = Product::unknown("none");
        assert_eq!(without_block(&product), Embossed::NoPin);
        product.issuance.parameters = Some(Parameters::default());
        assert_eq!(without_block(&product), Embossed::Zeros);
        product.issuance.enable_offline_pin = true;
        assert_eq!(without_block(&product), Embossed::NoPin);
        let parameters = Parameters { embosses_pin_block: true, ..Parameters::default() };
        product.issuance.enable_offline_pin = false;
        product.issuance.parameters = Some(parameters);
        assert_eq!(without_block(&product), Embossed::NoPin);
    }
}
