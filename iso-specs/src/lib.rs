//! The ISO 8583 message language as data.
//!
//! A *dialect* (what one network speaks) is a TOML file with one line per data element; see
//! [`Spec`]. [`decode`] reads a frame into a table of offsets without copying, an
//! [`OutgoingMessage`] writes one, [`tlv`] reads and writes the chip data of DE55, and [`redact`]
//! is the only way to show a message to a person. [`toml_keys`] reads the TOML files.
//!
//! The crate is pure: no I/O, clock, randomness, logging or async code.
//!
//! ```
//! use iso_specs::{Mti, OutgoingMessage, Spec, decode};
//!
//! let text = Spec::builtin("iso8583-1987-ascii").ok_or("not embedded")?;
//! let spec = Spec::from_toml(text)?;
//! let frame = b"0800822000000000000004000000000000001121083000000001301";
//! let echo = decode(&spec, frame)?;
//! assert_eq!(echo.message.mti(), Mti::NETWORK_MANAGEMENT_REQUEST);
//! assert_eq!(echo.message.number(70), Some(301));
//!
//! let mut answer = OutgoingMessage::new(echo.message.mti().response());
//! answer.set(39, b"00");
//! let mut out = Vec::new();
//! answer.encode(&spec, &mut out)?;
//! assert_eq!(out, b"0810000000000200000000");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bitmap;
mod data_element;
mod decode;
mod encode;
mod encoding;
mod error;
mod length;
mod message;
mod mti;
mod padding;
mod pattern;
pub mod redact;
mod spec;
mod text;
pub mod tlv;
pub mod toml_keys;
mod wrapper;

pub use bitmap::{BitmapEncoding, ElementSet, Elements};
pub use data_element::{ChipTag, ContentType, DataElement, Sensitivity};
pub use decode::{Decoded, Examined, MAX_FRAME_BYTES, decode, examine, mti};
pub use encode::OutgoingMessage;
pub use encoding::{CodePage, Encoding, Sign, UnusedNibble};
pub use error::{
    EncodeError, EncodeErrorKind, FieldError, FieldErrorKind, FramingError, FramingErrorKind,
    SpecErrors,
};
pub use length::{Length, PrefixEncoding};
pub use message::{Field, Message, Value};
pub use mti::{Mti, MtiEncoding};
pub use padding::Padding;
pub use pattern::Pattern;
pub use spec::{PinChange, ResponseCodeColumn, Spec};
pub use text::Text;
