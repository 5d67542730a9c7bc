//! The steps of a transaction one by one, and all of them, as the switch takes them: for benches,
//! instruction counts and allocation counts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::FutureExt;
use iso_specs::{ElementSet, Spec, decode};
use switch::authorization::{Answer, Reason, response};
use switch::cards::cache::NewCard;
use switch::cards::{CardKey, CardState, Expiry, Pan, Plastic};
use switch::clock::SystemClock;
use switch::config::Config;
use switch::control::{Command, Outcome, execute};
use switch::frame::Frame;
use switch::hsm::{Hsm, PinBlock, PinReference, Verification, VerifyPin};
use switch::issuer::PinText;
use switch::metrics::LinkMetrics;
use switch::run::{PinSwitch, open};
use switch::store::Store;
use switch::switch::Session;
use zeroize::Zeroizing;

use crate::terminal::{Fields, ZPK, pin_block};

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
";
const PIN: &str = "4071";

/// Requests with a PIN, of so many different cards.
const FRAMES: usize = 256;

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
    _directory: tempfile::TempDir,
}

/// PAN of a card, with its check digit.
fn pan(index: usize) -> String {
    let front = format!("476135{index:09}");
    let digits = front.bytes().rev().map(|byte| u32::from(byte - b'0'));
    let doubled = |(place, digit): (usize, u32)| match place % 2 {
        0 => digit * 2 / 10 + digit * 2 % 10,
        _ => digit,
    };
    let sum: u32 = digits.enumerate().map(doubled).sum();
    format!("{front}{}", (10 - sum % 10) % 10)
}

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
        let session = Session::new(link, metrics, Arc::default(), "terminal");
        let cards = add_cards(&switch, &config, cards.max(FRAMES));
        let frames = (0..FRAMES).map(|index| request(&pan(index)).frame(&spec)[2..].to_vec());
        let reference =
            block_on(switch.store.load(&cards[0])).unwrap().unwrap().state.pin.reference;
        Operations {
            session,
            cards,
            frames: frames.collect(),
            // MTI, bitmap, DE2 with its length, DE3, DE4, DE7.
            stan_at: 4 + 16 + 18 + 6 + 12 + 10,
            reference: reference.unwrap(),
            block: PinBlock::new(&pin_block(PIN, &pan(0), 0, ZPK)).unwrap(),
            pan: Pan::parse(pan(0).as_bytes()).unwrap(),
            count: 0,
            reply: Vec::with_capacity(1 << 10),
            spec,
            switch,
            _directory: directory,
        }
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
        let trusted: ElementSet = decoded.message.present();
        for _ in 0..times {
            self.reply.clear();
            response::encode(&decoded.message, trusted, answer, (None, None), &mut self.reply)
                .unwrap();
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
        let methods = &self.switch.products[0].pin_methods;
        let link = &self.session.link;
        let call = VerifyPin {
            block: &self.block,
            zpk: &link.zpk,
            formats: link.pin_block_formats,
            pan: &self.pan,
            reference: &self.reference,
            methods,
        };
        assert_eq!(block_on(self.switch.hsm.verify_pin(call)), Verification::Ok);
    }

    /// A whole transaction, from the frame to the frame of its approval; every so many of them
    /// the journal is written.
    pub fn transaction(&mut self) {
        self.count += 1;
        let frame = &mut self.frames[self.count % FRAMES];
        let stan = format!("{:06}", self.count % 1_000_000);
        frame[self.stan_at..][..6].copy_from_slice(stan.as_bytes());
        let message = Bytes::copy_from_slice(frame);
        let frame = Frame { header: Bytes::new(), message };
        let reply = self.switch.respond(&self.session, frame, Duration::MAX).boxed();
        let reply = block_on(reply).unwrap().reply.expect("an answer");
        // DE39, in front of DE41, DE42 and DE49.
        assert_eq!(&reply.frame[reply.frame.len() - 28..][..2], b"00");
        if self.count.is_multiple_of(BATCH) {
            self.switch.store.flush().unwrap();
        }
    }
}

fn add_cards(switch: &PinSwitch, config: &Config, count: usize) -> Vec<CardKey> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let plastic = || Plastic::new(Expiry::parse(b"2912").unwrap(), 1);
    let card = |index: usize| {
        let pan = Pan::parse(pan(index).as_bytes()).unwrap();
        let identity = switch.vault.identify(&format!("card-{index}"), &pan).unwrap();
        let product = Arc::clone(&config.products[0]);
        NewCard { identity, product, state: CardState::new(plastic()) }
    };
    runtime.block_on(async {
        let mut keys = Vec::with_capacity(count);
        for start in (0..count).step_by(10_000) {
            let cards: Vec<_> = (start..count.min(start + 10_000)).map(card).collect();
            keys.extend(cards.iter().map(|card| card.identity.key));
            assert!(switch.store.add_cards(cards).await.unwrap().iter().all(Result::is_ok));
        }
        for index in 0..FRAMES {
            let token = format!("card-{index}");
            let pin = PinText::new(Zeroizing::new(PIN.to_owned()));
            for command in
                [Command::SetPin { token: token.clone(), pin }, Command::Activate { token }]
            {
                assert!(!matches!(execute(switch, command).await, Outcome::Refused(_)));
            }
        }
        keys
    })
}

/// What needs no disk and no network HSM is there at once.
fn block_on<F: Future>(future: F) -> F::Output {
    future.now_or_never().expect("nothing to wait for")
}
