//! What a terminal and its network do: PIN blocks, messages, frames. The PIN block is made here
//! from the standard's text, not with the switch's code.

use std::collections::BTreeMap;
use std::time::Duration;

use des::TdesEde2;
use des::cipher::{Block, BlockCipherEncrypt, KeyInit};
use iso_specs::{Mti, OutgoingMessage, Spec, decode};
use switch::cards::pan::check_digit;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The demo's zone PIN key.
pub const ZPK: &str = "ECC25208B6FD2023E9767A5489BC9415";
/// Another key.
pub const WRONG_ZPK: &str = "9BE61C3E68EA1379155226163BAD345E";

/// Longest wait for an answer that comes.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How long is waited to see that none comes.
const SILENCE: Duration = Duration::from_millis(200);

/// A made-up PAN of 16 digits: the BIN's six, the number, the check digit.
pub fn pan(bin: &str, number: usize) -> String {
    let front = format!("{bin}{number:09}");
    format!("{front}{}", check_digit(front.as_bytes()))
}

/// A PIN block of format 0 or 3 under a zone key, as DE52 carries it.
pub fn pin_block(pin: &str, pan: &str, format: u8, zpk: &str) -> [u8; 8] {
    let fill = if format == 0 { "F" } else { "C" };
    let mut field = format!("{format:X}{:X}{pin}", pin.len());
    field += &fill.repeat(16 - field.len());
    let account = format!("0000{}", &pan[pan.len() - 13..pan.len() - 1]);
    let (field, account) = (bytes(&field), bytes(&account));
    let clear: Vec<u8> = field.iter().zip(&account).map(|(a, b)| a ^ b).collect();
    encrypt(clear.try_into().unwrap(), zpk)
}

/// Eight bytes under a zone key.
pub fn encrypt(clear: [u8; 8], zpk: &str) -> [u8; 8] {
    let mut block = Block::<TdesEde2>::from(clear);
    TdesEde2::new_from_slice(&bytes(zpk)).unwrap().encrypt_block(&mut block);
    block.into()
}

/// Bytes of a hexadecimal text.
pub fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// A message to send, or one that came: canonical values by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    pub mti: String,
    pub values: BTreeMap<u8, Vec<u8>>,
}

impl Fields {
    pub fn new(mti: &str) -> Fields {
        Fields { mti: mti.to_owned(), values: BTreeMap::new() }
    }

    pub fn set(&mut self, element: u8, value: &[u8]) -> &mut Fields {
        self.values.insert(element, value.to_vec());
        self
    }

    /// A value as text; empty where it is absent.
    pub fn text(&self, element: u8) -> String {
        let value = self.values.get(&element).cloned().unwrap_or_default();
        String::from_utf8(value).unwrap()
    }

    /// The frame, with its length header.
    pub fn frame(&self, spec: &Spec) -> Vec<u8> {
        let mti = Mti::new(self.mti.as_bytes().try_into().unwrap()).unwrap();
        let mut message = OutgoingMessage::new(mti);
        for (element, value) in &self.values {
            message.set(*element, value);
        }
        let mut body = Vec::new();
        message.encode(spec, &mut body).expect("a message that the dialect can carry");
        framed(&body)
    }

    /// What a frame without its header says.
    pub fn read(spec: &Spec, frame: &[u8]) -> Fields {
        let decoded = decode(spec, frame).expect("a readable answer");
        assert_eq!(decoded.fault, None, "{}", decoded.message);
        let mut buffer = [0; 1024];
        let value = |field: iso_specs::Field<'_>, buffer: &mut [u8]| {
            (field.element().number(), field.canonical(buffer).unwrap().to_vec())
        };
        let values = decoded.message.elements().map(|field| value(field, &mut buffer)).collect();
        Fields { mti: decoded.message.mti().to_string(), values }
    }
}

/// A body with its length header.
pub fn framed(body: &[u8]) -> Vec<u8> {
    [&u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A frame, without its header.
    Frame(Vec<u8>),
    /// Nothing, while the connection stayed open.
    Silence,
    /// The other side closed.
    Closed,
}

/// One side of a connection to the switch.
pub struct Terminal<S> {
    pub stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Terminal<S> {
    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next answer, which must come.
    pub async fn receive(&mut self) -> Vec<u8> {
        match self.next(ANSWER_WAIT).await {
            Reply::Frame(frame) => frame,
            other => panic!("an answer was expected, not {other:?}"),
        }
    }

    /// The answer to a frame; `None` where the other side ends before it.
    pub async fn ask(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        self.stream.write_all(frame).await.ok()?;
        match self.next(ANSWER_WAIT).await {
            Reply::Frame(frame) => Some(frame),
            Reply::Closed => None,
            Reply::Silence => panic!("an answer was expected"),
        }
    }

    /// The next answer, if one comes.
    pub async fn answer_or_silence(&mut self) -> Reply {
        self.next(SILENCE).await
    }

    async fn next(&mut self, wait: Duration) -> Reply {
        let mut header = [0; 2];
        match timeout(wait, self.stream.read_exact(&mut header)).await {
            Err(_) => return Reply::Silence,
            Ok(Err(_)) => return Reply::Closed,
            Ok(Ok(_)) => {}
        }
        let mut frame = vec![0; usize::from(u16::from_be_bytes(header))];
        self.stream.read_exact(&mut frame).await.unwrap();
        Reply::Frame(frame)
    }
}
