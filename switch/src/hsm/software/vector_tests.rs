//! `tests/vectors/crypto.json`: values made by independent implementations.

use serde_json::Value;

use super::cipher::{AesKey, TdesKey};
use super::emv::cryptogram;
use super::emv::derive::{self, DerivedKey, Tree};
use super::emv::script;
use super::key::{Algorithm, Key, KeyAttributes, KeyUsage, Operation, check_value};
use super::key_block::ProtectionKey;
use super::pin_block;
use super::pin_verification::{ibm3624_offset, visa_pvv};
use crate::cards::Pan;
use crate::hex::{from_hex, hex};
use crate::hsm::ClearPin;
use crate::hsm::KeyName;
use crate::hsm::emv::{
    ArpcKey, ArpcMethod, CardKeyMethod, CryptogramProfile, MacPadding, ScriptKeyMethod,
    ScriptPinMethod, SessionKeyMethod,
};
use crate::hsm::pin_method::{DecimalisationTable, Ibm3624, ValidationData};
use crate::pin::{Digits, PVV_DIGITS};
use crate::pin::{PinBlockFormat, PinBlockFormats};

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
    assert_eq!(PVV_DIGITS, 4);
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

/// The profiles of the vectors, written a second time from what the vectors say of themselves.
fn profile(name: &str) -> CryptogramProfile {
    use SessionKeyMethod::{Common, None, Skd};
    let session_key = match name {
        "VisaCVN10" => None,
        "VisaCVN18" | "VisaCVN22" | "MasterCardCVN20" | "MasterCardCVN21" => Common,
        "MasterCardCVN16" | "MasterCardCVN17" | "InteracCVN133" => Skd,
        _ => panic!("no profile {name}"),
    };
    let is_visa = name.starts_with("Visa");
    let two = is_visa && session_key == Common;
    let card_key = matches!(name, "VisaCVN10" | "MasterCardCVN16" | "MasterCardCVN17");
    let key = if card_key { ArpcKey::Card } else { ArpcKey::Session };
    let script = match name {
        "VisaCVN10" | "VisaCVN18" => (ScriptKeyMethod::VisaAtc, ScriptPinMethod::Vis),
        "VisaCVN22" => (ScriptKeyMethod::Common { counts: false }, ScriptPinMethod::Iso2Padded),
        _ => (ScriptKeyMethod::Common { counts: true }, ScriptPinMethod::Iso2),
    };
    CryptogramProfile {
        card_keys: if two { CardKeyMethod::B } else { CardKeyMethod::A },
        session_key,
        padding: if name == "VisaCVN10" { MacPadding::Zeros } else { MacPadding::Bit },
        arpc: if two { ArpcMethod::Two } else { ArpcMethod::One(key) },
        script_keys: script.0,
        script_pin: script.1,
    }
}

fn card_key(vector: &Value, issuer: &str) -> DerivedKey {
    let method = profile(text(vector, "profile")).card_keys;
    let sequence = text(vector, "psn").parse().unwrap();
    derive::card_key(&tdes(vector, issuer), method, &pan(vector), sequence)
}

fn session_key(vector: &Value) -> DerivedKey {
    let tag = |name| from_hex(text(&vector["tags"], name)).unwrap();
    let (atc, unpredictable) = (tag("9F36"), tag("9F37"));
    derive::session_key(
        &card_key(vector, "imk_ac"),
        profile(text(vector, "profile")).session_key,
        atc.as_slice().try_into().unwrap(),
        unpredictable.as_slice().try_into().unwrap(),
    )
}

#[test]
fn card_keys() {
    for vector in vectors("icc_master_key") {
        for (method, field) in [(CardKeyMethod::A, "option_a"), (CardKeyMethod::B, "option_b")] {
            let sequence = text(&vector, "psn").parse().unwrap();
            let key = derive::card_key(&tdes(&vector, "imk"), method, &pan(&vector), sequence);
            assert_eq!(hex(key.bytes()), text(&vector, field), "{}", vector["id"]);
        }
    }
}

#[test]
fn application_cryptograms() {
    const ORDER: [&str; 10] =
        ["9F02", "9F03", "9F1A", "95", "5F2A", "9A", "9C", "9F37", "82", "9F36"];
    for vector in vectors("arqc") {
        for issuer in ["ac", "smi", "smc"] {
            let key = card_key(&vector, &format!("imk_{issuer}"));
            assert_eq!(hex(key.bytes()), text(&vector, &format!("icc_mk_{issuer}")));
        }
        let session = session_key(&vector);
        assert_eq!(hex(session.bytes()), text(&vector, "session_key_ac"), "{}", vector["id"]);
        let tags = &vector["tags"];
        let elements: String = ORDER.iter().map(|tag| text(tags, tag)).collect();
        let elements = from_hex(&elements).unwrap();
        let iad = from_hex(text(&vector, "iad_part_in_mac")).unwrap();
        let padding = profile(text(&vector, "profile")).padding;
        let arqc = hex(&session.mac(&[&elements, &iad], padding));
        assert_eq!(arqc, text(&vector, "arqc"), "{}", vector["id"]);
        assert_ne!(arqc, text(&vector, "arqc_wrong"));
    }
}

#[test]
fn issuer_authentication() {
    let cryptograms = vectors("arqc");
    for vector in vectors("arpc") {
        let of = cryptograms.iter().find(|known| known["id"] == vector["arqc_ref"]).unwrap();
        let (card, session) = (card_key(of, "imk_ac"), session_key(of));
        let method = profile(text(&vector, "profile")).arpc;
        let key = cryptogram::arpc_key(method, &card, &session);
        assert_eq!(hex(key.bytes()), text(&vector, "arpc_key"), "{}", vector["id"]);
        let arqc = bytes(&vector, "arqc");
        let tag_91 = match method {
            ArpcMethod::One(_) => {
                let code = bytes(&vector, "arpc_response_code");
                cryptogram::arpc_one(key, arqc, code).to_vec()
            }
            ArpcMethod::Two => {
                let update: [u8; 4] = bytes(&vector, "csu");
                let proprietary = from_hex(text(&vector, "proprietary_auth_data")).unwrap();
                let arpc = cryptogram::arpc_two(key, arqc, update, &proprietary);
                assert_eq!(hex(&arpc), text(&vector, "arpc"));
                [&arpc[..], &update, &proprietary].concat()
            }
        };
        assert_eq!(hex(&tag_91), text(&vector, "tag_91"), "{}", vector["id"]);
    }
}

#[test]
fn issuer_scripts() {
    let optional_pin = |vector: &Value, field: &str| {
        vector[field].as_str().map(|digits| ClearPin::parse(digits.as_bytes()).unwrap())
    };
    for vector in vectors("issuer_scripts") {
        let profile = profile(text(&vector, "profile"));
        let (atc, arqc) = (bytes(&vector, "atc"), bytes(&vector, "arqc"));
        let key = |issuer| {
            let card = card_key(&vector, issuer);
            script::script_key(&card, profile.script_keys, atc, arqc, 0)
        };
        let (integrity, confidentiality) = (key("imk_smi"), key("imk_smc"));
        assert_eq!(hex(integrity.bytes()), text(&vector, "smi_session_key"), "{}", vector["id"]);
        let mut data = from_hex(text(&vector, "command_data")).unwrap().to_vec();
        if let Some(new) = optional_pin(&vector, "new_pin") {
            assert_eq!(hex(confidentiality.bytes()), text(&vector, "smc_session_key"));
            // The payment system's form is the one of VIS wherever the current PIN goes in.
            let current = optional_pin(&vector, "current_pin");
            let method = match text(&vector, "pin_block_format").starts_with("VIS") {
                true => ScriptPinMethod::Vis,
                false => profile.script_pin,
            };
            let card = card_key(&vector, "imk_ac");
            let pins = (&new, current.as_ref());
            let enciphered = script::enciphered_pin(&confidentiality, &card, method, pins);
            assert_eq!(hex(&enciphered), hex(&data), "{}", vector["id"]);
            data = enciphered;
        }
        let head: [u8; 5] = bytes(&vector, "command_header");
        let head = *head.first_chunk().unwrap();
        let command = script::command(&integrity, head, &data, (atc, arqc));
        assert_eq!(hex(&command), text(&vector, "apdu"), "{}", vector["id"]);
    }
}

#[test]
fn session_keys_of_emv_2000() {
    for vector in vectors("emv2000_session_key") {
        let number = |field: &str| vector[field].as_u64().unwrap();
        let shape = Tree {
            height: number("height").try_into().unwrap(),
            branch_factor: number("branch").try_into().unwrap(),
        };
        assert_eq!(text(&vector, "iv"), "0".repeat(32));
        let card = DerivedKey::from_bytes(bytes(&vector, "icc_mk"));
        let atc = u16::from_be_bytes(bytes(&vector, "atc"));
        let key = derive::emv2000_session_key(&card, atc, shape);
        assert_eq!(hex(key.bytes()), text(&vector, "sk"), "{}", vector["id"]);
    }
}
