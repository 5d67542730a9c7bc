//! How a card's cryptograms and scripts are made, by name: what an HSM is asked for. Which
//! [`CryptogramProfile`] belongs to which cryptogram version number (CVN) is said in
//! `authorization/cvn.rs`; the software HSM computes them in `software/emv`.

/// How the card's master keys come from the issuer's (EMV Book 2, A1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardKeyMethod {
    /// Option A: the 16 rightmost digits of PAN and PAN sequence number.
    A,
    /// Option B: option A for a PAN of up to 16 digits, else their SHA-1 in decimal digits.
    B,
}

/// The key of the application cryptogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKeyMethod {
    /// The card's master key itself (Visa CVN 0A).
    None,
    /// Common session key: from the ATC (EMV Book 2, A1.3.1).
    Common,
    /// M/Chip SKD: from ATC and unpredictable number.
    Skd,
    /// The tree of EMV 2000 (EMV 4.0 Book 2, A1.3), height 8, branch factor 4.
    Emv2000,
}

/// What fills the last block of a MAC (ISO/IEC 9797-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacPadding {
    /// Method 1: zeros, none where the data fills its last block.
    Zeros,
    /// Method 2: 80, then zeros.
    Bit,
}

/// How the issuer's answer is made (EMV Book 2, 8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpcMethod {
    /// Method 1: eight bytes over a response code of two, under this key.
    One(ArpcKey),
    /// Method 2: four bytes over the card status update (CSU), under the session key.
    Two,
}

/// The key of an ARPC of method 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpcKey {
    /// The card's master key.
    Card,
    /// The session key.
    Session,
}

/// The keys of secure messaging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptKeyMethod {
    /// Visa: the card's master key, its left half with the ATC and its right half with the ATC's
    /// complement.
    VisaAtc,
    /// Common session key from the cryptogram; one more in its first two bytes for each further
    /// command where the card counts them.
    Common {
        /// Whether the card counts commands.
        counts: bool,
    },
}

/// How a new PIN goes to the chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptPinMethod {
    /// Visa: the PIN block of VIS, which half of the card's master key goes into; with its length
    /// before it and padding behind it.
    Vis,
    /// ISO 9564-1 format 2, with its length before it and padding behind it.
    Iso2Padded,
    /// ISO 9564-1 format 2 alone (M/Chip).
    Iso2,
    /// ISO 9564-1 format 2 with padding behind it, in CBC (CCD; EMV Book 2, 9.3.2).
    Iso2Chained,
}

/// How the cryptograms and scripts of a kind of card are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CryptogramProfile {
    /// The card's master keys.
    pub card_keys: CardKeyMethod,
    /// The key of the application cryptogram.
    pub session_key: SessionKeyMethod,
    /// Padding of the application cryptogram.
    pub padding: MacPadding,
    /// The issuer's answer.
    pub arpc: ArpcMethod,
    /// The keys of scripts.
    pub script_keys: ScriptKeyMethod,
    /// A PIN in a script.
    pub script_pin: ScriptPinMethod,
}

/// What tells the chip the issuer's decision: the two bytes of method 1, or the card status update
/// of method 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuerAnswer {
    /// ARPC response code.
    Code([u8; 2]),
    /// Card status update (CSU).
    Update([u8; 4]),
}
