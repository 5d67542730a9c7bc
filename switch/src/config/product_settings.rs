//! The settings of a product as somebody wrote them, in TOML or in JSON: one description, which is
//! stored, shown and changed, and read by one reader into the rules.

use std::fmt;

use iso_specs::toml_keys::{Keys, Mistakes, Node, integer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::de::DeValue;

use super::product;
use crate::authorization::Product;

/// The settings of a product, with the names of a `[[products]]` table but for its `name`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProductSettings(Map<String, Value>);

impl fmt::Debug for ProductSettings {
    /// Hidden: a decimalisation table may be among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProductSettings(..)")
    }
}

/// What is wrong with one setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{pointer}: {expected}")]
pub struct WrongSetting {
    /// Where it is: a JSON pointer (RFC 6901) into the settings.
    pub pointer: String,
    /// What is wrong and what was expected; never what stands there.
    pub expected: String,
}

impl ProductSettings {
    /// The settings of a table of a file, without its `name`.
    pub(super) fn of_table(keys: &Keys<'_, '_>) -> ProductSettings {
        let settings = keys.entries().filter(|(key, _)| *key != "name");
        ProductSettings(settings.map(|(key, node)| (key.to_owned(), value_of(node))).collect())
    }

    /// The currency that stands there, whatever else does.
    #[must_use]
    pub fn currency(&self) -> Option<u16> {
        u16::try_from(self.0.get("currency")?.as_u64()?).ok()
    }

    /// The rules of a product of this name and version.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn product(&self, name: &str, version: u64) -> Result<Product, Vec<WrongSetting>> {
        // By way of TOML, so that one reader serves both; `null` stands for what is left out.
        let wrong = |pointer: &str, expected: String| WrongSetting {
            pointer: pointer.to_owned(),
            expected,
        };
        let written = without_null(&self.0);
        let text = toml::to_string(&written).map_err(|error| {
            vec![wrong("", format!("expected settings that TOML can hold: {error}"))]
        })?;
        let (root, mistakes) = Mistakes::parse(&text);
        let mut keys = Keys::of_file(&root, &mistakes);
        let product = product::read(&mut keys, Some(name.to_owned()));
        let found = mistakes.into_list();
        match product.filter(|_| found.is_empty()) {
            Some(product) => Ok(Product { version, ..product }),
            None => {
                debug_assert!(!found.is_empty(), "what cannot be read has left its mistake");
                Err(found.into_iter().map(|it| wrong(&it.pointer, it.expected)).collect())
            }
        }
    }
}

fn without_null(settings: &Map<String, Value>) -> Map<String, Value> {
    let given = settings.iter().filter(|(_, value)| !value.is_null());
    let inner = given.map(|(key, value)| match value {
        Value::Object(inner) => (key.clone(), Value::Object(without_null(inner))),
        value => (key.clone(), value.clone()),
    });
    inner.collect()
}

fn value_of(node: &Node<'_>) -> Value {
    let value = node.get_ref();
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        // What no setting may be is refused when it is read, whatever it is here.
        DeValue::Integer(_) => integer::<i64>(value).map_or(Value::Null, Value::from),
        DeValue::Float(float) => float.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(is_true) => Value::Bool(*is_true),
        DeValue::Datetime(moment) => Value::String(moment.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(value_of).collect()),
        DeValue::Table(table) => {
            let entries = table.iter();
            Value::Object(entries.map(|(k, v)| (k.get_ref().to_string(), value_of(v))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_settings_of_every_product_of_the_demo_read_as_its_rules() {
        let config = Config::demo(None).unwrap();
        assert_eq!(config.products.len(), config.product_settings.len());
        for (product, settings) in config.products.iter().zip(&config.product_settings) {
            let text = serde_json::to_string(settings).unwrap();
            let again: ProductSettings = serde_json::from_str(&text).unwrap();
            assert_eq!(again.product(&product.name, 1).unwrap(), **product);
        }
    }

    #[test]
    fn every_mistake_has_its_pointer() {
        let settings: ProductSettings = serde_json::from_str(
            r#"{"bins": ["476134", 5], "currency": 1000, "pin_retry_limit": null, "colour": 1,
                "chip": {"ftpam": -1, "cvn": [{"scheme": "visa", "cvn": "zz"}]}}"#,
        )
        .unwrap();
        let wrong = settings.product("one", 1).unwrap_err();
        let pointers: Vec<_> = wrong.iter().map(|wrong| wrong.pointer.as_str()).collect();
        for pointer in ["/bins", "/currency", "/colour", "/chip/ftpam", "/chip/cvn/0/cvn"] {
            assert!(pointers.contains(&pointer), "{pointer} is not in {pointers:?}");
        }
    }

    #[test]
    fn what_toml_cannot_hold_is_a_mistake() {
        for settings in [r#"{"currency": 18446744073709551615}"#, r#"{"bins": [null]}"#] {
            let settings: ProductSettings = serde_json::from_str(settings).unwrap();
            assert!(settings.product("one", 1).is_err());
        }
    }
}
