//! Keys that everybody knows: those that were ever printed as the demo's. They protect nothing, and
//! only loopback addresses may use them.

use super::key::{Key, KeyUsage};
use crate::hex::from_hex;
use crate::hsm::TestKeys;

/// The demo's master key (AES-256). Public: it protects nothing.
pub const MASTER_KEY: [u8; 32] = *b"pinswitch demo master key public";

/// The zone PIN key of the demo's links, in hexadecimal. Public.
pub const ZPK: &str = "ECC25208B6FD2023E9767A5489BC9415";

/// The PIN verification key of the demo, for the method `visa_pvv`, in hexadecimal. Public.
pub const PVK: &str = "D9867045BC1343B3025D7A0EE3BC2AE9";

/// The embosser's zone PIN key of the demo, in hexadecimal. Public.
pub const EMBOSSER_ZPK: &str = "A179FDC85E70C4FDFE015486024654A7";

/// IMK-AC, IMK-SMI and IMK-SMC of the demo's chips with a Visa application, in hexadecimal. Public.
pub const VISA_ISSUER_MASTER_KEYS: [&str; 3] = [
    "6201618CB9C4F823B67AFE7A62804AAE",
    "BA32D0CE9B40F775F8B908EC4F4C0D98",
    "43F1E67A5DA8BA4A541FD3BC64F46273",
];

/// IMK-AC, IMK-SMI and IMK-SMC of the demo's chips with an M/Chip application, in hexadecimal.
/// Public.
pub const M_CHIP_ISSUER_MASTER_KEYS: [&str; 3] = [
    "C7CEA83B9767CDABD602238C15D0B6E9",
    "CD5801BFD3AECDFB0D3873232F10576E",
    "587A735D19B954A8CD2904F10D8A3123",
];

/// Whether a key has a value that was ever printed as the demo's.
#[must_use]
pub fn is_public(key: &Key) -> bool {
    let others = [ZPK, PVK, EMBOSSER_ZPK];
    let mut all = others.iter().chain(&VISA_ISSUER_MASTER_KEYS).chain(&M_CHIP_ISSUER_MASTER_KEYS);
    all.any(|text| from_hex(text).is_some_and(|value| key.has_value(&value)))
}

/// Which of the demo's issuer master keys a key is, with the usage that it has there.
#[must_use]
pub(super) fn test_keys(key: &Key) -> Option<TestKeys> {
    let sets =
        [(TestKeys::Visa, VISA_ISSUER_MASTER_KEYS), (TestKeys::MChip, M_CHIP_ISSUER_MASTER_KEYS)];
    let found = sets.into_iter().find(|(_, [ac, smi, smc])| {
        let text = match key.attributes().usage {
            KeyUsage::Cryptograms => ac,
            KeyUsage::ScriptIntegrity => smi,
            KeyUsage::ScriptConfidentiality => smc,
            _ => return false,
        };
        from_hex(text).is_some_and(|value| key.has_value(&value))
    });
    found.map(|(set, _)| set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::software::key::KeyAttributes;

    #[test]
    fn a_test_key_is_one_by_its_value_and_its_usage() {
        use KeyUsage::{Cryptograms, ScriptConfidentiality, ScriptIntegrity};
        let of = |usage, text: &str| {
            let value = from_hex(text).unwrap();
            test_keys(&Key::new(KeyAttributes::usual(usage), value).unwrap())
        };
        let usages = [Cryptograms, ScriptIntegrity, ScriptConfidentiality];
        for (place, usage) in usages.into_iter().enumerate() {
            for (other, text) in VISA_ISSUER_MASTER_KEYS.iter().enumerate() {
                assert_eq!(of(usage, text), Some(TestKeys::Visa).filter(|_| other == place));
            }
            let text = M_CHIP_ISSUER_MASTER_KEYS[place];
            assert_eq!(of(usage, text), Some(TestKeys::MChip));
            assert_eq!(of(usage, "0123456789ABCDEFFEDCBA9876543210"), None);
        }
        assert_eq!(of(KeyUsage::VisaPvv, PVK), None);
    }
}
