//! The steps of a transaction one by one, and all of them, as the switch takes them: for benches,
//! instruction counts and allocation counts.

use std::sync::Arc;
use std::time::Duration;

use crate::switch_under_test::execute;
use bytes::Bytes;
use chip_card::card::{Application, ChipCard, IssuerKeys, Personalization};
use chip_card::terminal::{Otherwise, Payment, PinEntry, Purchase};
use futures_util::future::FutureExt;
use iso_specs::{ElementSet, Spec, decode};
use switch::authorization::response::{self, Response};
use switch::authorization::{Answer, ChipData, CryptogramCheck, Reason};
use switch::cache::NewCard;
use switch::cards::chip_state::ChangeKind;
use switch::cards::{CardKey, CardState, Expiry, Pan, Plastic};
use switch::clock::SystemClock;
use switch::config::Config;
use switch::control::{CardForm, Command, NewState, Reply};
use switch::frame::Frame;
use switch::hsm::emv::IssuerAnswer;
use switch::hsm::{
    EnteredBlock, EnteredPin, Hsm, IssuerAuthenticate, PinBlock, PinReference, VerifyPin,
};
use switch::issuing::secret::PinText;
use switch::metrics::LinkMetrics;
use switch::outcome::{CryptogramOutcome, PinOutcome};
use switch::run::{PinSwitch, open};
use switch::session::Session;
use switch::store::Store;
use zeroize::Zeroizing;

use crate::terminal::{Fields, ZPK, pan, pin_block};

const CONFIG: &str = "
    hsm.master_key_file = \"demo\"
    admin.listen = \"127.0.0.1:0\"
    log.transactions = false
    store.snapshot_mb = 100000
    [[links]]
    name = \"link\"
    network = \"net\"
    listen = \"127.0.0.1:0\"
    dialect = \"iso8583-1987-ascii\"
    zpk = \"demo-zpk\"
    [[products]]
    name = \"debit\"
    bins = [\"476135\"]
    currency = 978
    [[products]]
    name = \"chip\"
    bins = [\"476134\"]
    currency = 978
    [products.chip]
    imk_ac = \"demo-visa-imk-ac\"
    imk_smi = \"demo-visa-imk-smi\"
    imk_smc = \"demo-visa-imk-smc\"
    offline_pin = true
";
const PIN: &str = "4071";

/// Requests with a PIN, of so many different cards.
const FRAMES: usize = 256;

/// Cards with a chip: more than answers come between two syncs.
const CHIPS_MAX: usize = 65_536;

/// What is written is on the disk after this time.
const SYNCED_WITHIN: Duration = Duration::from_millis(200);

/// Answers that leave with one write of the journal, as in a busy link.
const BATCH: usize = 64;

/// A switch with cards, and what a peer sends to it.
pub struct Operations {
    switch: PinSwitch,
    session: Session,
    spec: Arc<Spec>,
    cards: Vec<CardKey>,
    frames: Vec<Vec<u8>>,
    /// Where DE11 stands in each frame.
    stan_at: usize,
    reference: PinReference,
    block: PinBlock,
    pan: Pan,
    count: usize,
    reply: Vec<u8>,
    /// In step with the switch.
    chips: Vec<ChipCard>,
    /// DE55 of a request of one more, whose PIN was changed, and the change.
    chip_data: ChipData,
    change: ChangeKind,
    _directory: tempfile::TempDir,
}

/// BINs of the cards, and of those with chips.
const BIN: &str = "476135";
const CHIP_BIN: &str = "476134";

fn request(pan: &str) -> Fields {
    let mut fields = Fields::new("0100");
    fields.set(2, pan.as_bytes()).set(3, b"010000").set(4, b"000000001250");
    fields.set(7, b"1121120000").set(11, b"000000").set(14, b"2912").set(18, b"6011");
    fields.set(22, b"901").set(32, b"12345").set(37, b"000000000001").set(41, b"TERM0001");
    fields.set(42, b"MERCHANT0000001").set(49, b"978").set(52, &pin_block(PIN, pan, 0, ZPK));
    fields
}

impl Operations {
    /// A switch with `cards` cards, at least as many as there are frames.
    pub fn new(cards: usize) -> Operations {
        let directory = tempfile::tempdir().unwrap();
        let text = format!("data_dir = {:?}\n{CONFIG}", directory.path().display().to_string());
        let config = Config::parse(&text, "bench", directory.path()).unwrap();
        let (switch, _) = open(&config, SystemClock).unwrap();
        let link = Arc::clone(&config.links[0]);
        let spec = Arc::clone(&link.dialect);
        let metrics = LinkMetrics::new(&link.network, &link.name);
        let session = Session::new(link, metrics, Arc::default(), Arc::default(), "terminal");
        let cards = add_cards(&switch, &config, cards.max(FRAMES));
        let chips = cards.len().min(CHIPS_MAX);
        add_chips(&switch, chips);
        let frames = (0..FRAMES).map(|index| request(&pan(BIN, index)).frame(&spec)[2..].to_vec());
        let data = ChipData::read(&payment(&mut chip_card(0)).chip_data()).unwrap();
        let card = block_on(switch.store.load_by_token("chip-0")).unwrap().unwrap();
        let change = card.state.chip(0).unwrap().sync.change().unwrap().kind.clone();
        let reference =
            block_on(switch.store.load(&cards[0])).unwrap().unwrap().state.pin.reference;
        Operations {
            session,
            cards,
            frames: frames.collect(),
            // MTI, bitmap, DE2 with its length, DE3, DE4, DE7.
            stan_at: 4 + 16 + 18 + 6 + 12 + 10,
            reference: reference.unwrap(),
            block: PinBlock::new(&pin_block(PIN, &pan(BIN, 0), 0, ZPK)).unwrap(),
            pan: Pan::parse(pan(BIN, 0).as_bytes()).unwrap(),
            count: 0,
            reply: Vec::with_capacity(1 << 10),
            chips: (1..chips).map(chip_card).collect(),
            chip_data: data,
            change,
            spec,
            switch,
            _directory: directory,
        }
    }

    /// Verifies a cryptogram of Visa 0A and makes its answer, with the script of a PIN change or
    /// without.
    pub fn chip(&mut self, with_script: bool) {
        let pan = Pan::parse(pan(CHIP_BIN, 0).as_bytes()).unwrap();
        let product = self.switch.products.product("chip").unwrap();
        let rules = product.chip.as_ref().unwrap();
        let check = CryptogramCheck::of(&self.chip_data, rules, 0, 1).unwrap();
        let chip = check.call(&self.chip_data, rules, &pan).unwrap();
        assert_eq!(block_on(self.switch.hsm.verify_arqc(chip)), CryptogramOutcome::Right);
        let answer = IssuerAnswer::Code(*b"00");
        let call = IssuerAuthenticate { chip, answer, script: with_script.then_some(&self.change) };
        let authenticated = block_on(self.switch.hsm.issuer_authenticate(call)).unwrap();
        assert_eq!(authenticated.command.is_some(), with_script);
    }

    /// Requests of contact chips that have verified their PIN, each with the next cryptogram. What
    /// was answered before is on the disk then: a card that has just changed would wait for it.
    pub fn chip_requests(&mut self, count: u64) -> Vec<Bytes> {
        self.switch.store.flush().unwrap();
        std::thread::sleep(SYNCED_WITHIN);
        let request = |_| {
            self.count += 1;
            let index = self.count % self.chips.len();
            let data = payment(&mut self.chips[index]).chip_data();
            let mut fields = request(&pan(CHIP_BIN, index + 1));
            fields.values.remove(&52);
            fields.set(3, b"000000").set(18, b"5411").set(22, b"051").set(23, b"001");
            fields.set(11, format!("{:06}", self.count % 1_000_000).as_bytes()).set(55, &data);
            Bytes::copy_from_slice(&fields.frame(&self.spec)[2..])
        };
        (0..count).map(request).collect()
    }

    /// A whole transaction of a contact chip, from the frame to the frame of its approval.
    pub fn chip_transaction(&mut self, message: Bytes) {
        self.count += 1;
        let reply = self.respond(message);
        // DE55, of which 91 is all, in front of it DE49, DE42 and DE41, and DE39.
        assert_eq!(&reply[reply.len() - 24..][..4], b"910A");
        assert_eq!(&reply[reply.len() - 55..][..2], b"00");
    }

    /// Reads a request and three of its elements.
    pub fn decode(&mut self) {
        let decoded = decode(&self.spec, &self.frames[0]).unwrap();
        let message = &decoded.message;
        assert!(decoded.fault.is_none() && message.number(4) == Some(1_250));
        assert!(message.text::<19>(2).is_some() && message.bytes::<8>(52).is_some());
    }

    /// Writes the response to a request that was read before: an approval.
    pub fn encode(&mut self, times: u32) {
        let decoded = decode(&self.spec, &self.frames[0]).unwrap();
        let answer = Answer { approval_code: Some(*b"123456"), ..Answer::new(Reason::Approved) };
        let response = Response { answer, fault: None, de55: None };
        let trusted: ElementSet = decoded.message.present();
        for _ in 0..times {
            self.reply.clear();
            response::encode(&decoded.message, trusted, response, &mut self.reply).unwrap();
        }
        assert!(self.reply.starts_with(b"0110"));
    }

    /// Finds a card, another one each time.
    pub fn lookup(&mut self) {
        // Steps of a prime number, so that no cache has seen the next one lately.
        self.count = (self.count + 611_953) % self.cards.len();
        let card = block_on(self.switch.store.load(&self.cards[self.count])).unwrap();
        assert!(card.is_some_and(|card| card.state.pin.tries == 0));
    }

    /// Digests a PAN to the key of its card.
    pub fn card_key(&mut self) {
        assert_eq!(self.switch.vault.card_key(&self.pan), self.cards[0]);
    }

    /// Verifies a right PIN.
    pub fn verify_pin(&mut self) {
        let methods = &self.switch.products.product("debit").unwrap().pin_methods;
        let link = &self.session.link;
        let call = VerifyPin {
            pin: EnteredPin::Block(EnteredBlock {
                block: &self.block,
                zpk: &link.zpk,
                formats: link.pin_block_formats,
            }),
            pan: &self.pan,
            reference: &self.reference,
            methods,
        };
        assert_eq!(block_on(self.switch.hsm.verify_pin(call)), PinOutcome::Right);
    }

    /// A whole transaction, from the frame to the frame of its approval; every so many of them
    /// the journal is written.
    pub fn transaction(&mut self) {
        self.count += 1;
        let frame = &mut self.frames[self.count % FRAMES];
        let stan = format!("{:06}", self.count % 1_000_000);
        frame[self.stan_at..][..6].copy_from_slice(stan.as_bytes());
        let message = Bytes::copy_from_slice(frame);
        let reply = self.respond(message);
        // DE39, in front of DE41, DE42 and DE49.
        assert_eq!(&reply[reply.len() - 28..][..2], b"00");
    }

    fn respond(&mut self, message: Bytes) -> Vec<u8> {
        let frame = Frame { header: Bytes::new(), message };
        let reply = self.switch.respond(&self.session, frame, Duration::MAX).boxed();
        let reply = block_on(reply).unwrap().reply.expect("an answer");
        if self.count.is_multiple_of(BATCH) {
            self.switch.store.flush().unwrap();
        }
        reply.frame
    }
}

fn add_chips(switch: &PinSwitch, count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = || PinText::new(Zeroizing::new(PIN.to_owned()));
    let card = |index: usize| CardForm {
        token: format!("chip-{index}"),
        pan: Zeroizing::new(pan(CHIP_BIN, index)),
        expiration: "2912".to_owned(),
        pan_sequence_number: "01".to_owned(),
        card_product_token: "chip".to_owned(),
        state: Some(NewState::Active),
        pin: Some(text()),
        pvv: None,
        pvki: None,
        pin_offset: None,
    };
    let add = Command::AddMany((0..count).map(card).collect());
    let change = Command::SetPin { token: "chip-0".to_owned(), pin: text() };
    for command in [add, change] {
        assert!(!matches!(runtime.block_on(execute(switch, command)), Reply::Refused(_)));
    }
}

fn chip_card(index: usize) -> ChipCard {
    ChipCard::new(&Personalization {
        application: Application::Visa0A,
        pan: &pan(CHIP_BIN, index),
        sequence: 1,
        keys: IssuerKeys::DEMO_VISA,
        pin: PIN,
        tries_max: 3,
        atc: 0,
    })
}

fn payment(chip: &mut ChipCard) -> Payment {
    let purchase = Purchase {
        amount: 1_250,
        currency: 978,
        date: [0x26, 0x11, 0x21],
        transaction_type: 0x00,
        unpredictable: [1, 2, 3, 4],
    };
    Payment::begin(chip, &purchase, (PinEntry::Offline(&[PIN]), Otherwise::Fails))
}

fn add_cards(switch: &PinSwitch, config: &Config, count: usize) -> Vec<CardKey> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let plastic = || Plastic::new(Expiry::parse(b"2912").unwrap(), 1);
    let card = |index: usize| {
        let pan = Pan::parse(pan(BIN, index).as_bytes()).unwrap();
        let identity = switch.vault.identify(&format!("card-{index}"), &pan).unwrap();
        let product = switch.products.get(&config.products[0].name).expect("a product");
        NewCard { identity, product, state: CardState::new(plastic()) }
    };
    runtime.block_on(async {
        let mut keys = Vec::with_capacity(count);
        for start in (0..count).step_by(10_000) {
            let cards: Vec<_> = (start..count.min(start + 10_000)).map(card).collect();
            keys.extend(cards.iter().map(|card| card.identity.key));
            let cards = cards.into_iter().map(Into::into).collect();
            assert!(switch.store.add_cards(cards).await.unwrap().iter().all(Result::is_ok));
        }
        for index in 0..FRAMES {
            let token = format!("card-{index}");
            let pin = PinText::new(Zeroizing::new(PIN.to_owned()));
            for command in
                [Command::SetPin { token: token.clone(), pin }, Command::Activate { token }]
            {
                assert!(!matches!(execute(switch, command).await, Reply::Refused(_)));
            }
        }
        keys
    })
}

/// What needs no disk and no network HSM is there at once.
fn block_on<F: Future>(future: F) -> F::Output {
    future.now_or_never().expect("nothing to wait for")
}
