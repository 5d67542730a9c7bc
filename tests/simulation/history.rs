//! What was seen from outside: who sent what, who was answered what, and how the switch ended.
//! Every event has a number of its own, so before and after are never in doubt. The trace holds
//! no PIN and no PAN: cards and PINs are named by their place in a list.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use switch::store::record::EventId;
use tests::terminal::Fields;
use tokio::time::Instant;

use super::model::{Call, Reply};
use super::plan::{Ending, Plan, RequestPlan, TERMINALS};

/// What came back for one sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub order: u64,
    pub millis: u64,
    /// DE39, DE44, DE38.
    pub code: [u8; 2],
    pub reason: String,
    pub approval: String,
}

impl Answer {
    /// 91 decides nothing, and 94 says only that another came first.
    pub fn decides(&self) -> bool {
        !matches!(&self.code, b"91" | b"94")
    }
}

#[derive(Clone, Debug)]
pub struct Sending {
    /// The life of the switch that it was sent to.
    pub life: usize,
    pub link: usize,
    pub other_body: bool,
    pub order: u64,
    pub millis: u64,
    pub answer: Option<Answer>,
}

pub struct Request {
    pub plan: RequestPlan,
    pub sendings: Vec<Sending>,
}

/// A command of the issuer.
pub struct Command {
    pub card: usize,
    pub call: Call,
    pub life: usize,
    pub begin: u64,
    /// What was heard of it, and the number of that event.
    pub heard: Option<(u64, Heard)>,
}

/// What the issuer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Reply(Reply),
    /// Nothing was changed.
    Refused,
}

#[derive(Default)]
pub struct Connection {
    pub life: usize,
    pub link: usize,
    /// When it was read to its end, in milliseconds, and nothing had ended it before its time: all
    /// answers were owed.
    pub whole: Option<u64>,
    /// Request and sending of each that was sent.
    pub sent: Vec<(usize, usize)>,
}

/// One life of the switch, from start to end.
#[derive(Default)]
pub struct Life {
    /// Its disk failed, and it said 91 until it ended.
    pub failed: Option<End>,
    pub end: Option<End>,
}

/// When and how something ended.
#[derive(Clone, Copy)]
pub struct End {
    pub order: u64,
    pub millis: u64,
    pub ending: Ending,
}

pub struct History {
    start: Instant,
    order: u64,
    pub trace: Vec<String>,
    /// How often each kind of thing happened.
    pub tally: BTreeMap<String, u64>,
    pub requests: Vec<Request>,
    pub commands: Vec<Command>,
    pub connections: Vec<Connection>,
    pub lives: Vec<Life>,
    /// Orders at which the HSM gave no answer.
    pub hsm_unavailable: Vec<u64>,
    /// What nobody may ever see.
    pub wrongs: Vec<String>,
    /// Whether the power has failed once more at the end.
    pub had_last_power_failure: bool,
    /// What the reader of events was told, by its id.
    pub told: BTreeMap<EventId, String>,
}

impl History {
    pub fn new(plan: &Plan, start: Instant) -> History {
        let request = |plan: &RequestPlan| Request { plan: plan.clone(), sendings: Vec::new() };
        History {
            start,
            order: 0,
            trace: Vec::new(),
            tally: BTreeMap::new(),
            requests: plan.requests.iter().map(request).collect(),
            commands: Vec::new(),
            connections: Vec::new(),
            lives: Vec::new(),
            hsm_unavailable: Vec::new(),
            wrongs: Vec::new(),
            had_last_power_failure: false,
            told: BTreeMap::new(),
        }
    }

    pub fn millis(&self) -> u64 {
        u64::try_from((Instant::now() - self.start).as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes that something of this kind happened; its number.
    pub fn note(&mut self, kind: &str, what: &str) -> u64 {
        self.order += 1;
        let millis = self.millis();
        self.trace.push(format!("{:>4} {millis:>6} ms  {kind} {what}", self.order));
        match self.tally.get_mut(kind) {
            Some(count) => *count += 1,
            None => drop(self.tally.insert(kind.to_owned(), 1)),
        }
        self.order
    }

    /// The reader of events was told something. An id has one content for ever.
    pub fn told(&mut self, id: EventId, what: String) {
        match self.told.get(&id) {
            Some(known) if *known == what => {
                self.note("told again", &format!("{id}: {what}"));
            }
            Some(known) => self.wrong(format!("{id} was {known:?} and is {what:?}")),
            None => {
                self.note("told", &format!("{id}: {what}"));
                self.told.insert(id, what);
            }
        }
    }

    pub fn wrong(&mut self, what: String) {
        self.note("WRONG", &what);
        self.wrongs.push(what);
    }

    /// The life that runs now, or ran last.
    pub fn life(&self) -> usize {
        self.lives.len().saturating_sub(1)
    }

    pub fn began(&mut self, survivors: usize) {
        self.lives.push(Life::default());
        self.note("start", &format!("life {} with {survivors} records", self.life()));
    }

    pub fn ended(&mut self, ending: Ending, survivors: usize) {
        let order = self.note(&format!("{ending:?}"), &format!("{survivors} records are left"));
        let (life, millis) = (self.life(), self.millis());
        self.lives[life].end.get_or_insert(End { order, millis, ending });
    }

    pub fn failed(&mut self) {
        let order = self.note("store failed", "");
        let (life, millis) = (self.life(), self.millis());
        self.lives[life].failed = Some(End { order, millis, ending: Ending::DiskFailed });
    }

    pub fn connected(&mut self, terminal: usize) -> usize {
        let (number, life) = (self.connections.len(), self.life());
        let (link, _) = TERMINALS[terminal];
        self.connections.push(Connection { life, link, ..Connection::default() });
        self.note("connect", &format!("terminal {terminal} as {number}"));
        number
    }

    pub fn cut(&mut self, connection: usize, why: &str) {
        self.note("cut", &format!("{connection}: {why}"));
    }

    /// The switch has closed, and all it sent was read.
    pub fn read_to_the_end(&mut self, connection: usize) {
        let life = &self.lives[self.connections[connection].life];
        let is_whole = life.end.is_none() && life.failed.is_none();
        self.connections[connection].whole = is_whole.then(|| self.millis());
        self.note("end", &connection.to_string());
    }

    pub fn sent(&mut self, connection: usize, request: usize, mti: &str, other_body: bool) {
        let plan = &self.requests[request].plan;
        let body = if other_body { " with another body" } else { "" };
        let what =
            format!("{mti} {request} on {connection}: card {} {:?}{body}", plan.card, plan.call);
        let order = self.note("send", &what);
        let (millis, Connection { life, link, .. }) =
            (self.millis(), &self.connections[connection]);
        let (life, link) = (*life, *link);
        let sendings = &mut self.requests[request].sendings;
        sendings.push(Sending { life, link, other_body, order, millis, answer: None });
        self.connections[connection].sent.push((request, sendings.len() - 1));
    }

    /// An answer came, with these bytes: to the oldest sending of its request on this connection
    /// that has none.
    pub fn answered(
        &mut self,
        connection: usize,
        is_answer_to: impl Fn(&RequestPlan, bool) -> bool,
        (frame, answer): (&[u8], &Fields),
    ) {
        let text = |element| answer.text(element);
        let what = format!("{} {} {} {}", text(39), text(44), text(38), digest(frame));
        let sent = &self.connections[connection].sent;
        let open = sent.iter().copied().find(|(request, sending)| {
            let Request { plan, sendings } = &self.requests[*request];
            let sending = &sendings[*sending];
            sending.answer.is_none() && is_answer_to(plan, sending.other_body)
        });
        let Some((request, sending)) = open else {
            return self.wrong(format!("an answer to nothing on {connection}: {what}"));
        };
        self.note(&format!("answer {}", text(39)), &format!("{request} on {connection}: {what}"));
        let code = text(39).as_bytes().try_into().unwrap_or_default();
        let (order, millis) = (self.order, self.millis());
        let answer = Answer { order, millis, code, reason: text(44), approval: text(38) };
        self.requests[request].sendings[sending].answer = Some(answer);
    }

    /// Requests sent on a connection that still have no answer that decides.
    pub fn undecided(&self, connection: usize) -> Vec<usize> {
        let mut requests: Vec<usize> =
            self.connections[connection].sent.iter().map(|(request, _)| *request).collect();
        requests.dedup();
        requests.retain(|request| {
            let sendings = &self.requests[*request].sendings;
            let decided = |sending: &Sending| sending.answer.as_ref().is_some_and(Answer::decides);
            !sendings.iter().any(decided) && sendings.len() < SENDINGS_MAX
        });
        requests
    }
}

/// By which two frames are told apart where their bytes must not be shown.
fn digest(frame: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(frame);
    format!("{} bytes {:016x}", frame.len(), hasher.finish())
}

/// Sendings of one request after which it is given up.
const SENDINGS_MAX: usize = 6;
