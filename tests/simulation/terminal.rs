//! Terminals and the links between them and the switch: what is due is sent, in pieces or
//! together, cut off in the middle of a frame, read slowly, and sent again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tests::terminal::Fields;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split};
use tokio::time::sleep;

use super::hsm::{BROKEN_BLOCK, block};
use super::model::{Call, Entered};
use super::plan::{Plan, RequestPlan, TERMINALS, dice, happens, pan};
use super::world::{World, end};

/// Elements that an answer gives back.
const ECHOED: [u8; 9] = [2, 3, 4, 7, 11, 32, 37, 41, 49];

/// Something to send.
#[derive(Clone, Copy)]
struct Due {
    at_millis: u64,
    request: usize,
    is_repeat: bool,
    other_body: bool,
}

struct Terminal {
    world: Arc<World>,
    number: usize,
    due: VecDeque<Due>,
    dice: Rng,
}

/// Sends what a terminal has to send, over as many connections as it takes.
pub async fn play(world: Arc<World>, number: usize) {
    let mut terminal = Terminal {
        due: due(&world, number),
        dice: dice(world.plan.seed, "terminal", number),
        number,
        world,
    };
    while !terminal.due.is_empty() {
        terminal.connect().await;
    }
}

fn due(world: &World, terminal: usize) -> VecDeque<Due> {
    let of = |(request, plan): (usize, &RequestPlan)| {
        let own = plan.sendings.iter().filter(|sending| sending.terminal == terminal);
        let due = own.map(|sending| Due {
            at_millis: sending.at_millis,
            request,
            is_repeat: sending.is_repeat,
            other_body: sending.other_body,
        });
        due.collect::<Vec<_>>()
    };
    let mut due: Vec<Due> = world.plan.requests.iter().enumerate().flat_map(of).collect();
    due.sort_by_key(|due| due.at_millis);
    due.into()
}

impl Terminal {
    /// One connection: all that is due, then what has to be sent again is due.
    async fn connect(&mut self) {
        let Some((connection, stream)) = self.world.connect(self.number) else {
            return sleep(Duration::from_millis(self.dice.u64(1..20))).await;
        };
        let (reader, mut writer) = split(stream);
        let reader_dice = dice(self.world.plan.seed, "reader", connection);
        let number = self.number;
        let world = Arc::clone(&self.world);
        let reading = tokio::spawn(read(world, connection, number, reader, reader_dice));
        if self.send_all(connection, &mut writer).await {
            end(reading).await;
        } else {
            // Our side is closed: what is in flight is answered all the same.
            let _ = writer.shutdown().await;
            reading.await.expect("a reader that goes on to the end");
        }
        drop(writer);
        self.repeat(connection);
    }

    /// Whether the connection was cut.
    async fn send_all(&mut self, connection: usize, out: &mut WriteHalf<DuplexStream>) -> bool {
        while let Some(first) = self.due.front() {
            let now = self.world.history().millis();
            sleep(Duration::from_millis(first.at_millis.saturating_sub(now))).await;
            let now = self.world.history().millis();
            let batch: Vec<Due> =
                self.due.iter().take_while(|due| due.at_millis <= now).copied().collect();
            let frames: Vec<Vec<u8>> = batch.iter().map(|due| self.frame(*due)).collect();
            let plan = &self.world.plan.links;
            let is_cut = happens(&mut self.dice, plan.cut_percent);
            let in_pieces = happens(&mut self.dice, plan.pieces_percent);
            let mut bytes = frames.concat();
            if is_cut {
                bytes.truncate(self.dice.usize(0..bytes.len()));
                self.world.history().cut(connection, &format!("after {} bytes", bytes.len()));
            }
            let mut whole = 0;
            for (due, frame) in batch.iter().zip(&frames) {
                whole += frame.len();
                // A frame that is not whole was never sent.
                if whole <= bytes.len() {
                    self.due.pop_front();
                    let mti = self.mti(*due);
                    let mut history = self.world.history();
                    history.sent(connection, due.request, &mti, due.other_body);
                }
            }
            if self.write(&bytes, in_pieces, out).await.is_err() || is_cut {
                return is_cut;
            }
        }
        false
    }

    async fn write(
        &mut self,
        mut bytes: &[u8],
        in_pieces: bool,
        out: &mut WriteHalf<DuplexStream>,
    ) -> std::io::Result<()> {
        while in_pieces && bytes.len() > 1 {
            let (piece, rest) = bytes.split_at(self.dice.usize(1..bytes.len()));
            out.write_all(piece).await?;
            sleep(Duration::from_millis(self.dice.u64(0..4))).await;
            bytes = rest;
        }
        out.write_all(bytes).await
    }

    /// What was not decided is sent again, most of it.
    fn repeat(&mut self, connection: usize) {
        let now = self.world.history().millis();
        let undecided = self.world.history().undecided(connection);
        for request in undecided {
            if happens(&mut self.dice, 75) {
                let (is_repeat, at_millis) = (self.dice.bool(), now + self.dice.u64(0..30));
                self.due.push_back(Due { at_millis, request, is_repeat, other_body: false });
            }
        }
        self.due.make_contiguous().sort_by_key(|due| due.at_millis);
    }

    fn mti(&self, due: Due) -> String {
        let mti = self.world.plan.requests[due.request].mti;
        format!("{mti}{}", u8::from(due.is_repeat))
    }

    fn frame(&self, due: Due) -> Vec<u8> {
        let plan = &self.world.plan.requests[due.request];
        let fields = fields(&self.world.plan, plan, &self.mti(due), due.other_body);
        let (link, _) = TERMINALS[self.number];
        fields.frame(&self.world.config.links[link].dialect)
    }
}

/// DE55 of Visa's CVN 0A in which everything but the cryptogram could be: 9F26, 9F10 with a chip
/// that asks to go online, 9F02, 9F03, 9F1A, 95, 5F2A, 9A, 9C, 9F37, 82, 9F36.
const FORGED_CHIP_DATA: &[u8] = b"\x9F\x26\x08FORGERY!\x9F\x10\x07\x06\x01\x0A\x03\xA0\x00\x00\
    \x9F\x02\x06\x00\x00\x00\x00\x10\x00\x9F\x03\x06\x00\x00\x00\x00\x00\x00\x9F\x1A\x02\x02\x76\
    \x95\x05\x00\x00\x00\x00\x00\x5F\x2A\x02\x09\x78\x9A\x03\x26\x11\x21\x9C\x01\x00\
    \x9F\x37\x04\x01\x02\x03\x04\x82\x02\x18\x00\x9F\x36\x02\x00\x07";

/// A request as a message.
fn fields(all: &Plan, plan: &RequestPlan, mti: &str, other_body: bool) -> Fields {
    let pan = pan(plan.card);
    let (stan, rrn) = (format!("{:06}", plan.stan + 1), format!("{:012}", plan.stan + 1));
    let amount = format!("{:012}", amount(plan, other_body));
    let (entered, is_cash, is_forged) = match plan.call {
        Call::Authorization { entered, is_cash, is_forged } => (entered, is_cash, is_forged),
        _ => (Entered::Nothing, false, false),
    };
    let code: &[u8] = if is_cash { b"010000" } else { b"000000" };
    let mut fields = Fields::new(mti);
    fields.set(2, pan.as_bytes()).set(3, code).set(4, amount.as_bytes());
    fields.set(7, b"1121120000").set(11, stan.as_bytes()).set(14, b"2912").set(22, b"901");
    fields.set(32, b"12345").set(37, rrn.as_bytes()).set(41, b"TERM0001").set(49, b"978");
    if let Call::Reversal { of, by_de90: true } = plan.call {
        let RequestPlan { mti, stan, .. } = &all.requests[of];
        let known = format!("{mti}0{:06}1121120000{:011}{:011}", stan + 1, 12_345, 0);
        fields.set(90, known.as_bytes());
    }
    if is_forged {
        fields.set(22, b"051").set(55, FORGED_CHIP_DATA);
    }
    match entered {
        Entered::Nothing => {}
        Entered::Pin(pin) => drop(fields.set(52, &block(pin, pan.as_bytes()))),
        Entered::Broken => drop(fields.set(52, &BROKEN_BLOCK)),
    }
    fields
}

/// DE4, by which a request and one with its key and another body are told apart.
fn amount(plan: &RequestPlan, other_body: bool) -> usize {
    1_000 + 10 * plan.stan + usize::from(other_body)
}

/// Reads answers until the switch closes.
async fn read(
    world: Arc<World>,
    connection: usize,
    terminal: usize,
    mut stream: ReadHalf<DuplexStream>,
    mut dice: Rng,
) {
    let (link, network) = TERMINALS[terminal];
    loop {
        if happens(&mut dice, world.plan.links.slow_reader_percent) {
            world.history().note("slow reader", &connection.to_string());
            sleep(Duration::from_millis(dice.u64(1..40))).await;
        }
        let mut header = [0; 2];
        if stream.read_exact(&mut header).await.is_err() {
            break;
        }
        let mut frame = vec![0; usize::from(u16::from_be_bytes(header))];
        if stream.read_exact(&mut frame).await.is_err() {
            break;
        }
        let answer = Fields::read(&world.config.links[link].dialect, &frame);
        let is_answer_to = |plan: &RequestPlan, other_body| {
            // The function of an answer is one more than that of its request.
            let mti = match plan.mti {
                "010" => "0110",
                "020" => "0210",
                "012" => "0130",
                "022" => "0230",
                "040" => "0410",
                _ => "0430",
            };
            let asked = fields(&world.plan, plan, mti, other_body);
            let echoed = |element: &u8| asked.values.get(element) == answer.values.get(element);
            plan.network == network && answer.mti == mti && ECHOED.iter().all(echoed)
        };
        world.history().answered(connection, is_answer_to, (&frame, &answer));
    }
    world.history().read_to_the_end(connection);
}
