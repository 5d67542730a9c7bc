//! A chip card: its PIN and PIN try counter, its transaction counter, its keys, and the commands
//! that a terminal gives it (EMV Book 3; names and layouts of VIS and M/Chip).

mod keys;
#[cfg(test)]
mod tests;
mod verification;

use keys::{Block, Key, Padding};
pub use verification::Before;
use verification::Facts;
use zeroize::Zeroizing;

/// The issuer master keys of a range of cards.
#[derive(Clone, Copy)]
pub struct IssuerKeys {
    /// IMK-AC: cryptograms.
    pub cryptograms: [u8; 16],
    /// IMK-SMI: MACs of scripts.
    pub script_integrity: [u8; 16],
    /// IMK-SMC: PINs in scripts.
    pub script_confidentiality: [u8; 16],
}

impl IssuerKeys {
    /// Of the demo's cards of BIN 476134. They are public.
    pub const DEMO_VISA: IssuerKeys = IssuerKeys {
        cryptograms: 0x6201_618C_B9C4_F823_B67A_FE7A_6280_4AAE_u128.to_be_bytes(),
        script_integrity: 0xBA32_D0CE_9B40_F775_F8B9_08EC_4F4C_0D98_u128.to_be_bytes(),
        script_confidentiality: 0x43F1_E67A_5DA8_BA4A_541F_D3BC_64F4_6273_u128.to_be_bytes(),
    };

    /// Of the demo's cards of BIN 541333. They are public.
    pub const DEMO_M_CHIP: IssuerKeys = IssuerKeys {
        cryptograms: 0xC7CE_A83B_9767_CDAB_D602_238C_15D0_B6E9_u128.to_be_bytes(),
        script_integrity: 0xCD58_01BF_D3AE_CDFB_0D38_7323_2F10_576E_u128.to_be_bytes(),
        script_confidentiality: 0x587A_735D_19B9_54A8_CD29_04F1_0D8A_3123_u128.to_be_bytes(),
    };
}

/// An application, by its cryptogram version number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// Visa 0A.
    Visa0A,
    /// Visa 12.
    Visa12,
    /// Visa 22.
    Visa22,
    /// M/Chip 10.
    MChip10,
    /// M/Chip 11, with counters under the cryptogram.
    MChip11,
    /// M/Chip 14.
    MChip14,
    /// M/Chip 15, with counters under the cryptogram.
    MChip15,
}

impl Application {
    /// Every application.
    pub const ALL: [Application; 7] = [
        Application::Visa0A,
        Application::Visa12,
        Application::Visa22,
        Application::MChip10,
        Application::MChip11,
        Application::MChip14,
        Application::MChip15,
    ];

    const fn cvn(self) -> u8 {
        match self {
            Application::Visa0A => 0x0A,
            Application::Visa12 => 0x12,
            Application::Visa22 => 0x22,
            Application::MChip10 => 0x10,
            Application::MChip11 => 0x11,
            Application::MChip14 => 0x14,
            Application::MChip15 => 0x15,
        }
    }

    /// Whether it has the layouts of Visa; of M/Chip otherwise.
    #[must_use]
    pub const fn is_visa(self) -> bool {
        matches!(self, Application::Visa0A | Application::Visa12 | Application::Visa22)
    }

    /// Whether a PIN in a script is masked with the card's own key (VIS) and not in ISO format 2.
    const fn has_masked_pin(self) -> bool {
        matches!(self, Application::Visa0A | Application::Visa12)
    }
}

/// What the terminal gives a chip for a cryptogram, as the chip covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalData {
    /// 9F02, packed digits.
    pub amount: [u8; 6],
    /// 9F03, packed digits.
    pub other_amount: [u8; 6],
    /// 9F1A, packed digits.
    pub country: [u8; 2],
    /// 95.
    pub verification_results: [u8; 5],
    /// 5F2A, packed digits.
    pub currency: [u8; 2],
    /// 9A, YYMMDD packed.
    pub date: [u8; 3],
    /// 9C.
    pub transaction_type: u8,
    /// 9F37.
    pub unpredictable: [u8; 4],
}

/// What a chip gives back for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cryptogram {
    /// 9F27: 80 goes online, 40 approves, 00 declines.
    pub information: u8,
    /// 9F26.
    pub value: [u8; 8],
    /// 9F36.
    pub atc: [u8; 2],
    /// 9F10.
    pub application_data: Vec<u8>,
}

/// What VERIFY comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// 9000.
    Right,
    /// 63Cx: so many tries are left.
    Wrong(u8),
    /// 6983: none is left, and the PIN was not looked at.
    Blocked,
}

/// Status word of a command that was carried out.
pub const DONE: u16 = 0x9000;
const WRONG_LENGTH: u16 = 0x6700;
const NOT_NOW: u16 = 0x6985;
const WRONG_MAC: u16 = 0x6988;
const WRONG_DATA: u16 = 0x6A80;
const WRONG_PARAMETERS: u16 = 0x6A86;
const UNKNOWN_COMMAND: u16 = 0x6D00;

/// Bytes of the MAC behind a script command.
const MAC_BYTES: usize = 8;

/// 82: cardholder and issuer verification, terminal risk management.
pub const INTERCHANGE_PROFILE: [u8; 2] = [0x1C, 0x00];

/// What a card is given when it is made.
pub struct Personalization<'a> {
    /// Its application.
    pub application: Application,
    /// Its PAN: up to 16 digits, for which all derivations of card keys are one.
    pub pan: &'a str,
    /// PAN sequence number, 0-99.
    pub sequence: u8,
    /// The issuer's keys.
    pub keys: IssuerKeys,
    /// Its PIN; empty for a card that was made without one, which no entered PIN matches.
    pub pin: &'a str,
    /// PIN tries.
    pub tries_max: u8,
    /// ATC of its last transaction; 0 for a new card.
    pub atc: u16,
}

/// What a card keeps from one transaction to the next.
#[derive(Clone, PartialEq, Eq)]
pub struct Memory {
    /// Its PIN; empty for none. It is wiped from memory when dropped.
    pub pin: Zeroizing<String>,
    /// PIN tries left (9F17).
    pub tries_left: u8,
    /// ATC of its last transaction.
    pub atc: u16,
    /// What it will tell the issuer of the transactions before.
    pub before: Before,
}

/// The card.
pub struct ChipCard {
    application: Application,
    cryptogram_key: Key,
    integrity_key: Key,
    confidentiality_key: Key,
    sequence: u8,
    tries_max: u8,
    memory: Memory,
    transaction: Transaction,
}

/// What lasts for one transaction.
#[derive(Clone, Copy, Default)]
struct Transaction {
    offline_pin: Option<bool>,
    arqc: Block,
    unpredictable: [u8; 4],
    is_authenticated: Option<bool>,
    /// Script commands that came.
    commands: u16,
}

impl ChipCard {
    /// A card as it leaves the embosser.
    #[must_use]
    pub fn new(personalization: &Personalization<'_>) -> ChipCard {
        let Personalization { application, pan, sequence, keys, pin, .. } = personalization;
        let own = |key: [u8; 16]| Key::new(key).of_card(pan, *sequence);
        ChipCard {
            application: *application,
            cryptogram_key: own(keys.cryptograms),
            integrity_key: own(keys.script_integrity),
            confidentiality_key: own(keys.script_confidentiality),
            sequence: *sequence,
            tries_max: personalization.tries_max,
            memory: Memory {
                pin: Zeroizing::new((*pin).to_owned()),
                tries_left: personalization.tries_max,
                atc: personalization.atc,
                before: Before::default(),
            },
            transaction: Transaction::default(),
        }
    }

    /// The card, as it was left by the transactions before.
    #[must_use]
    pub fn with_memory(mut self, memory: Memory) -> ChipCard {
        self.memory = memory;
        self
    }

    /// What it keeps for the next transaction.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether this is its PIN. No terminal can ask it; a test can.
    #[must_use]
    pub fn holds(&self, pin: &str) -> bool {
        *self.memory.pin == *pin
    }

    /// PIN tries left (9F17).
    #[must_use]
    pub const fn tries_left(&self) -> u8 {
        self.memory.tries_left
    }

    /// PAN sequence number (5F34).
    #[must_use]
    pub const fn sequence(&self) -> u8 {
        self.sequence
    }

    /// SELECT: a new transaction.
    pub fn select(&mut self) {
        self.transaction = Transaction::default();
    }

    /// VERIFY with an offline PIN.
    pub fn verify(&mut self, pin: &str) -> Verified {
        if self.memory.tries_left == 0 {
            return Verified::Blocked;
        }
        let is_right = self.holds(pin);
        self.memory.tries_left = if is_right { self.tries_max } else { self.memory.tries_left - 1 };
        self.transaction.offline_pin = Some(is_right);
        if is_right { Verified::Right } else { Verified::Wrong(self.memory.tries_left) }
    }

    /// The first GENERATE AC: it always goes online.
    pub fn first_cryptogram(&mut self, data: &TerminalData) -> Cryptogram {
        self.memory.atc = self.memory.atc.wrapping_add(1);
        self.transaction.unpredictable = data.unpredictable;
        let facts = self.facts(None, false);
        let cryptogram = self.cryptogram(0x80, data, &facts);
        self.transaction.arqc = cryptogram.value;
        self.memory.before.is_incomplete = true;
        cryptogram
    }

    /// EXTERNAL AUTHENTICATE with tag 91: whether the issuer made it for this cryptogram.
    pub fn authenticate_issuer(&mut self, tag_91: &[u8]) -> bool {
        let is_right = match self.application {
            Application::Visa12 | Application::Visa22 => self.accept_update(tag_91),
            _ => self.accept_code(tag_91),
        };
        self.transaction.is_authenticated = Some(is_right);
        match is_right {
            // What was kept of the transactions before has reached the issuer.
            true => self.memory.before = Before::default(),
            false => self.memory.before.authentication_failed = true,
        }
        is_right
    }

    /// The second GENERATE AC. The issuer's approval counts only if it was authenticated.
    pub fn second_cryptogram(
        &mut self,
        data: &TerminalData,
        (approves, was_reached): (bool, bool),
    ) -> Cryptogram {
        let approves = approves && self.transaction.is_authenticated == Some(true);
        let facts = self.facts(Some(approves), !was_reached);
        self.cryptogram(if approves { 0x40 } else { 0x00 }, data, &facts)
    }

    /// A command of a script: its status word.
    pub fn script_command(&mut self, command: &[u8]) -> u16 {
        let status = self.carry_out(command).err().unwrap_or(DONE);
        self.transaction.commands = self.transaction.commands.wrapping_add(1);
        self.memory.before.scripts = (self.memory.before.scripts + 1).min(0x0F);
        self.memory.before.script_failed |= status != DONE;
        status
    }

    fn facts(&self, second: Option<bool>, unable_to_go_online: bool) -> Facts {
        Facts {
            offline_pin: self.transaction.offline_pin,
            tries_left: self.memory.tries_left,
            second,
            unable_to_go_online,
            issuer_authentication: self.transaction.is_authenticated,
            before: self.memory.before,
        }
    }

    fn cryptogram(&self, information: u8, data: &TerminalData, facts: &Facts) -> Cryptogram {
        let atc = self.memory.atc.to_be_bytes();
        let application_data = verification::issuer_application_data(self.application, facts);
        let message = [
            &data.amount[..],
            &data.other_amount,
            &data.country,
            &data.verification_results,
            &data.currency,
            &data.date,
            &[data.transaction_type],
            &data.unpredictable,
            &INTERCHANGE_PROFILE,
            &atc,
            &verification::covered(self.application, &application_data),
        ];
        let value = self.mac(&message.concat());
        Cryptogram { information, value, atc, application_data }
    }

    fn mac(&self, message: &[u8]) -> Block {
        let padding = match self.application {
            Application::Visa0A => Padding::Zeros,
            _ => Padding::Bit,
        };
        self.session_key().mac(message, padding)
    }

    /// The key of the cryptograms of this transaction.
    fn session_key(&self) -> Key {
        let [a, b] = self.memory.atc.to_be_bytes();
        let [c, d, e, f] = self.transaction.unpredictable;
        match self.application {
            Application::Visa0A => self.cryptogram_key,
            Application::MChip10 | Application::MChip11 => {
                self.cryptogram_key.session([a, b, 0, 0, c, d, e, f])
            }
            _ => self.cryptogram_key.session([a, b, 0, 0, 0, 0, 0, 0]),
        }
    }

    /// ARPC method 1 (EMV Book 2, 8.2.1): the response code is mixed into the cryptogram.
    fn accept_code(&self, tag_91: &[u8]) -> bool {
        let Some((expected, code)) = tag_91.split_first_chunk::<8>() else { return false };
        let key = match self.application {
            Application::MChip14 | Application::MChip15 => self.session_key(),
            _ => self.cryptogram_key,
        };
        let mut block = self.transaction.arqc;
        block.iter_mut().zip(code).for_each(|(byte, code)| *byte ^= code);
        code.len() == 2 && key.encrypt(block) == *expected
    }

    /// ARPC method 2 (EMV Book 2, 8.2.2): half a MAC, and a card status update, which may set the
    /// PIN try counter.
    fn accept_update(&mut self, tag_91: &[u8]) -> bool {
        let Some((mac, update)) = tag_91.split_first_chunk::<4>() else { return false };
        let message = [&self.transaction.arqc[..], update].concat();
        let expected = self.session_key().mac(&message, Padding::Bit);
        let is_right = expected.starts_with(mac) && (4..=12).contains(&update.len());
        if let ([first, second, ..], true) = (update, is_right)
            && second & 0x10 != 0
        {
            self.memory.tries_left = (first & 0x0F).min(self.tries_max);
        }
        is_right
    }

    fn carry_out(&mut self, command: &[u8]) -> Result<(), u16> {
        let (head, body) = command.split_first_chunk::<5>().ok_or(WRONG_LENGTH)?;
        let [cla, ins, p1, p2, length] = *head;
        if usize::from(length) != body.len() {
            return Err(WRONG_LENGTH);
        }
        if (cla, ins) != (0x84, 0x24) {
            return Err(UNKNOWN_COMMAND);
        }
        if self.transaction.is_authenticated != Some(true) {
            return Err(NOT_NOW);
        }
        let data_bytes = body.len().checked_sub(MAC_BYTES).ok_or(WRONG_LENGTH)?;
        let (data, mac) = body.split_at_checked(data_bytes).ok_or(WRONG_LENGTH)?;
        let (atc, arqc) = (self.memory.atc.to_be_bytes(), self.transaction.arqc);
        let message = [&head[..], &atc, &arqc, data].concat();
        if self.script_key(&self.integrity_key).mac(&message, Padding::Bit) != mac {
            return Err(WRONG_MAC);
        }
        match (p1, p2) {
            (0, 0) if data.is_empty() => {}
            (0, 1 | 2) => self.memory.pin = self.pin_of(data, p2 == 1).ok_or(WRONG_DATA)?,
            _ => return Err(WRONG_PARAMETERS),
        }
        self.memory.tries_left = self.tries_max;
        Ok(())
    }

    /// The key of this command of a script.
    fn script_key(&self, key: &Key) -> Key {
        match self.application {
            Application::Visa0A | Application::Visa12 => {
                key.visa_script(self.memory.atc.to_be_bytes())
            }
            Application::Visa22 => key.session(self.transaction.arqc),
            _ => {
                let [a, b, rest @ ..] = self.transaction.arqc;
                let counted = u16::from_be_bytes([a, b]).wrapping_add(self.transaction.commands);
                let ([a, b], [c, d, e, f, g, h]) = (counted.to_be_bytes(), rest);
                key.session([a, b, c, d, e, f, g, h])
            }
        }
    }

    /// The PIN in a script; with the current one mixed in where the command says so.
    fn pin_of(&self, data: &[u8], with_current: bool) -> Option<Zeroizing<String>> {
        let key = self.script_key(&self.confidentiality_key);
        let (blocks, rest) = data.as_chunks::<8>();
        let clear = blocks.iter().flat_map(|block| key.decrypt(*block)).collect::<Vec<u8>>();
        let block: Block = match (self.application.is_visa(), clear.as_slice()) {
            (true, [8, block @ .., 0x80, 0, 0, 0, 0, 0, 0]) if rest.is_empty() => block,
            (false, block) if rest.is_empty() && !with_current => block,
            _ => return None,
        }
        .try_into()
        .ok()?;
        let is_masked = self.application.has_masked_pin() || with_current;
        if !is_masked {
            return pin_in(block, 0x20);
        }
        let ([_, _, _, _, key @ ..], _) = self.cryptogram_key.halves();
        let [a, b, c, d, rest @ ..] = block;
        let mut block = [[a, b, c, d], rest].concat();
        block.iter_mut().skip(4).zip(key).for_each(|(byte, key)| *byte ^= key);
        if with_current {
            let current = packed(&self.memory.pin);
            block.iter_mut().zip(current).for_each(|(byte, digits)| *byte ^= digits);
        }
        pin_in(block.try_into().ok()?, 0x00)
    }
}

/// Digits from the left, two a byte, then zeros.
fn packed(digits: &str) -> Block {
    let mut block = [0; 8];
    for (place, digit) in digits.bytes().enumerate() {
        if let Some(byte) = block.get_mut(place / 2) {
            *byte |= if place % 2 == 0 { digit << 4 } else { digit & 0x0F };
        }
    }
    block
}

/// The PIN of a clear block: control digit and length, 4 to 12 digits, then F.
fn pin_in(block: Block, control: u8) -> Option<Zeroizing<String>> {
    let [first, ..] = block;
    let nibbles = block.into_iter().skip(1).flat_map(|byte| [byte >> 4, byte & 0x0F]);
    let length = usize::from(first & 0x0F);
    let (digits, fill): (Vec<_>, Vec<_>) =
        nibbles.enumerate().partition(|(place, _)| *place < length);
    let is_block = first & 0xF0 == control
        && (4..=12).contains(&length)
        && fill.iter().all(|(_, nibble)| *nibble == 0x0F);
    let digit = |(_, nibble): (usize, u8)| char::from_digit(nibble.into(), 10);
    let digits = digits.into_iter().map(digit).collect::<Option<String>>();
    digits.map(Zeroizing::new).filter(|_| is_block)
}
