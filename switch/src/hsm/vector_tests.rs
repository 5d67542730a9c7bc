//! `tests/vectors/crypto.json`: values made by independent implementations.

use serde_json::Value;

use super::ClearPin;
use super::cipher::{AesKey, TdesKey};
use super::key::{Algorithm, Key, KeyAttributes, KeyUsage, Operation, check_value, from_hex, hex};
use super::key_block::ProtectionKey;
use super::pin_block::{self, PinBlockFormat, PinBlockFormats};
use super::pin_method::{
    DecimalisationTable, Digits, Ibm3624, ValidationData, ibm3624_offset, visa_pvv,
};
use super::{KeyName, pin_method};
use crate::cards::Pan;

/// All vectors of one kind; there must be some.
fn vectors(kind: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/crypto.json");
    let text = std::fs::read_to_string(path).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let found = all[kind].as_array().unwrap().clone();
    let counted = all["meta"]["counts"][kind].as_u64().unwrap();
    assert!(!found.is_empty() && found.len() as u64 == counted, "{kind}");
    found
}

fn text<'v>(vector: &'v Value, field: &str) -> &'v str {
    vector[field].as_str().unwrap_or_else(|| panic!("{} has no {field}", vector["id"]))
}

fn bytes<const N: usize>(vector: &Value, field: &str) -> [u8; N] {
    from_hex(text(vector, field)).unwrap().as_slice().try_into().unwrap()
}

fn pan(vector: &Value) -> Pan {
    // Format 1 has none; any will do.
    Pan::parse(vector["pan"].as_str().unwrap_or("4761340000000019").as_bytes()).unwrap()
}

fn pin(vector: &Value) -> ClearPin {
    ClearPin::parse(text(vector, "pin").as_bytes()).unwrap()
}

/// Single-length keys are in vectors only: as triple length they are K1-K1-K1.
fn tdes(vector: &Value, field: &str) -> TdesKey {
    let value = from_hex(text(vector, field)).unwrap();
    let whole = if value.len() == 8 { value.repeat(3) } else { value.to_vec() };
    TdesKey::new(&whole).unwrap()
}

fn format(vector: &Value) -> PinBlockFormat {
    let digit = text(vector, "format").strip_prefix("ISO-").unwrap();
    PinBlockFormat::from_control_digit(digit.parse().unwrap()).unwrap()
}

fn read(vector: &Value, formats: &[PinBlockFormat]) -> Option<(ClearPin, PinBlockFormat)> {
    let clear = tdes(vector, "key").decrypt(&bytes(vector, "encrypted_block"));
    pin_block::read(&clear, &pan(vector), PinBlockFormats::new(formats))
}

#[test]
fn pin_blocks() {
    for vector in vectors("pin_blocks") {
        let format = format(&vector);
        let read = match format {
            PinBlockFormat::Iso4 => {
                let key = AesKey::new(&from_hex(text(&vector, "aes_key")).unwrap()).unwrap();
                let block = bytes(&vector, "encrypted_block");
                pin_block::read_iso4(&key, &block, &pan(&vector)).map(|pin| (pin, format))
            }
            _ => read(&vector, &PinBlockFormat::ALL),
        };
        let (read, read_as) = read.unwrap_or_else(|| panic!("{}", vector["id"]));
        assert_eq!((read.digits(), read_as), (pin(&vector).digits(), format), "{}", vector["id"]);
        if format == PinBlockFormat::Iso0 {
            let made = pin_block::iso0(&pin(&vector), &pan(&vector)).unwrap();
            assert_eq!(hex(&*made), text(&vector, "clear_block"));
            let encrypted = tdes(&vector, "key").encrypt(&made);
            assert_eq!(hex(&encrypted), text(&vector, "encrypted_block"));
        }
        if let Some(kcv) = vector["kcv3"].as_str() {
            let key = from_hex(text(&vector, "key")).unwrap();
            assert_eq!(check_value(Algorithm::Tdes, &key).unwrap().to_string(), kcv);
        }
    }
}

/// Each block is refused by the format it claims to have.
#[test]
fn pin_blocks_negative() {
    for vector in vectors("pin_blocks_negative") {
        assert!(read(&vector, &[format(&vector)]).is_none(), "{}", vector["id"]);
    }
}

/// A block of format 4 for another PAN, or altered in any byte, is no block.
#[test]
fn format_4_is_bound_to_its_pan() {
    let format_4 = vectors("pin_blocks").into_iter().filter(|v| format(v) == PinBlockFormat::Iso4);
    let mut count = 0;
    for vector in format_4 {
        let key = AesKey::new(&from_hex(text(&vector, "aes_key")).unwrap()).unwrap();
        let block: [u8; 16] = bytes(&vector, "encrypted_block");
        let other = Pan::parse(b"4761340000000019").unwrap();
        assert!(pin_block::read_iso4(&key, &block, &other).is_none());
        for place in 0..block.len() {
            let mut altered = block;
            altered[place] ^= 1;
            assert!(pin_block::read_iso4(&key, &altered, &pan(&vector)).is_none());
        }
        count += 1;
    }
    assert!(count >= 3);
}

#[test]
fn visa_pvvs() {
    for vector in vectors("visa_pvv") {
        let pvki = text(&vector, "pvki").parse().unwrap();
        let pvv = visa_pvv(&tdes(&vector, "pvk"), pvki, &pin(&vector), &pan(&vector)).unwrap();
        let pvv: String = pvv.iter().map(u8::to_string).collect();
        assert_eq!(pvv, text(&vector, "pvv"), "{}", vector["id"]);
        let clear = tdes(&vector, "zpk").decrypt(&bytes(&vector, "iso0_under_zpk"));
        let formats = PinBlockFormats::new(&[PinBlockFormat::Iso0]);
        let (read, _) = pin_block::read(&clear, &pan(&vector), formats).unwrap();
        assert_eq!(read.digits(), pin(&vector).digits());
    }
}

#[test]
fn ibm3624_offsets() {
    for vector in vectors("ibm3624_offset") {
        let rule = match text(&vector, "validation_rule") {
            "16 rightmost PAN digits" => "rightmost-16",
            "leftmost 11 PAN digits then F fill" => "leftmost-11-F",
            _ => text(&vector, "thales_validation12"),
        };
        let method = Ibm3624 {
            pvk: KeyName::parse("pvk").unwrap(),
            decimalisation_table: DecimalisationTable::parse(text(&vector, "decimalisation_table"))
                .unwrap(),
            validation_data: ValidationData::parse(rule).unwrap(),
        };
        let offset = ibm3624_offset(&tdes(&vector, "pvk"), &method, &pin(&vector), &pan(&vector));
        let expected = Digits::parse(text(&vector, "offset"));
        assert!(offset.is_some() && offset == expected, "{}", vector["id"]);
        // The offset of the natural PIN is all zeros.
        let natural = ClearPin::parse(text(&vector, "natural_pin").as_bytes()).unwrap();
        let offset = ibm3624_offset(&tdes(&vector, "pvk"), &method, &natural, &pan(&vector));
        assert!(offset == Digits::parse(&"0".repeat(natural.digits().len())));
    }
    assert_eq!(pin_method::PVV_DIGITS, 4);
}

#[test]
fn key_blocks() {
    for vector in vectors("tr31") {
        let algorithm = match text(&vector, "version") {
            "B" => Algorithm::Tdes,
            _ => Algorithm::Aes,
        };
        let usual = KeyAttributes::usual(KeyUsage::KeyBlockProtection);
        let value = from_hex(text(&vector, "kbpk")).unwrap();
        let kbpk = Key::new(KeyAttributes { algorithm, ..usual }, value).unwrap();
        let kbpk = ProtectionKey::of(&kbpk, Operation::Decrypt).unwrap();
        let key = kbpk.unwrap(text(&vector, "key_block")).unwrap();
        let KeyAttributes { usage, algorithm, mode, version, exportable } = key.attributes();
        assert_eq!(usage.code(), text(&vector, "key_usage"));
        assert_eq!(algorithm.letter().to_string(), text(&vector, "algorithm"));
        assert_eq!(mode.letter().to_string(), text(&vector, "mode_of_use"));
        assert_eq!((version, exportable), (0, text(&vector, "exportability") == "E"));
        assert!(key.has_value(&from_hex(text(&vector, "key")).unwrap()));
    }
}
