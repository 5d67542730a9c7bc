//! EMV cryptography: from an issuer master key to the cryptogram of one transaction, the answer to
//! it and the secure message to the chip. Pure: keys and data in, values out.

pub(crate) mod cryptogram;
pub(crate) mod derive;
pub(crate) mod script;
