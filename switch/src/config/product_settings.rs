//! The settings of a product as somebody wrote them, in TOML or in JSON: one description, which is
//! stored, shown and changed, and read by one reader into the rules.

use std::fmt;

use iso_specs::toml_keys::{Keys, Mistakes, Node, integer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use toml::de::DeValue;

use super::product;
use crate::authorization::Product;

/// The settings of a product, with the names of a `[[products]]` table. `name` is what people call
/// it: in a table of a file that is its token, and is not among them.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ProductSettings(Map<String, Value>);

/// Galileo's parameters, each a text: a number is taken as it was written, since a binary float
/// would be another amount.
const PARAMETERS: &str = "parameters";

/// Longest name of a product, in characters.
const NAME_CHARACTERS_MAX: usize = 40;

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
        let settings = settings.map(|(key, node)| match key {
            PARAMETERS => (key.to_owned(), parameters_of(node)),
            key => (key.to_owned(), value_of(node)),
        });
        ProductSettings(settings.collect())
    }

    /// A setting, as it was written.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Takes a setting out.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// All of them.
    #[must_use]
    pub const fn entries(&self) -> &Map<String, Value> {
        &self.0
    }

    /// These settings with others in their place, and each table merged in the same way; `null`
    /// removes a setting (RFC 7396).
    #[must_use]
    pub fn changed_by(mut self, others: &ProductSettings) -> ProductSettings {
        merge(&mut self.0, &others.0);
        self
    }

    /// The currency that stands there, whatever else does.
    #[must_use]
    pub fn currency(&self) -> Option<u16> {
        match self.0.get("currency")? {
            Value::String(digits) => digits.parse().ok(),
            number => u16::try_from(number.as_u64()?).ok(),
        }
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
        let mut written = without_null(&self.0);
        let is_name = |name: &Value| {
            let name = name.as_str().unwrap_or_default();
            (1..=NAME_CHARACTERS_MAX).contains(&name.chars().count())
                && !name.chars().any(char::is_control)
        };
        let mut found = Vec::new();
        if written.remove("name").is_some_and(|name| !is_name(&name)) {
            let expected = format!("expected a text of 1 to {NAME_CHARACTERS_MAX} characters");
            found.push(wrong("/name", expected));
        }
        let text = toml::to_string(&written).map_err(|error| {
            vec![wrong("", format!("expected settings that TOML can hold: {error}"))]
        })?;
        let (root, mistakes) = Mistakes::parse(&text);
        let mut keys = Keys::of_file(&root, &mistakes);
        let product = product::read(&mut keys, Some(name.to_owned()));
        let in_rules = mistakes.into_list().into_iter();
        found.extend(in_rules.map(|mistake| wrong(&mistake.pointer, mistake.expected)));
        match product.filter(|_| found.is_empty()) {
            Some(product) => Ok(Product { version, ..product }),
            None => {
                debug_assert!(!found.is_empty(), "what cannot be read has left its mistake");
                Err(found)
            }
        }
    }
}

fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(name), value) {
            (_, Value::Null) => drop(into.remove(name)),
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
            _ => drop(into.insert(name.clone(), value.clone())),
        }
    }
}

impl<'de> Deserialize<'de> for ProductSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ProductSettings, D::Error> {
        deserializer.deserialize_map(SettingsVisitor)
    }
}

struct SettingsVisitor;

impl<'de> Visitor<'de> for SettingsVisitor {
    type Value = ProductSettings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ProductSettings, A::Error> {
        let mut settings = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = match name.as_str() {
                PARAMETERS => parameters(&map.next_value::<Box<RawValue>>()?)?,
                _ => map.next_value::<Once>()?.0,
            };
            once(settings.insert(name, value).as_ref())?;
        }
        Ok(ProductSettings(settings))
    }
}

/// A JSON value in which nothing is named twice.
struct Once(Value);

fn once<E: Error>(before: Option<&Value>) -> Result<(), E> {
    match before {
        None => Ok(()),
        Some(_) => Err(E::custom("duplicate field: each is named once")),
    }
}

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Once, D::Error> {
        deserializer.deserialize_any(OnceVisitor).map(Once)
    }
}

struct OnceVisitor;

impl<'de> Visitor<'de> for OnceVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, is_true: bool) -> Result<Value, E> {
        Ok(Value::Bool(is_true))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Once(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            once(object.insert(name, map.next_value::<Once>()?.0).as_ref())?;
        }
        Ok(Value::Object(object))
    }
}

/// `parameters` from its JSON.
fn parameters<E: Error>(json: &RawValue) -> Result<Value, E> {
    /// Names and values in their order.
    struct Entries(Vec<(String, Box<RawValue>)>);

    impl<'de> Deserialize<'de> for Entries {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
            deserializer.deserialize_map(EntriesVisitor)
        }
    }

    struct EntriesVisitor;

    impl<'de> Visitor<'de> for EntriesVisitor {
        type Value = Entries;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
            }
            Ok(Entries(entries))
        }
    }

    let Ok(Entries(entries)) = serde_json::from_str(json.get()) else {
        // What is no object is refused by whoever reads the settings.
        return serde_json::from_str(json.get()).map_err(E::custom);
    };
    let mut object = Map::new();
    for (name, value) in entries {
        let text = value.get();
        let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        let value = match is_number {
            true => Value::String(text.to_owned()),
            false => serde_json::from_str::<Once>(text).map_err(E::custom)?.0,
        };
        once(object.insert(name, value).as_ref())?;
    }
    Ok(Value::Object(object))
}

/// `parameters` from its TOML.
fn parameters_of(node: &Node<'_>) -> Value {
    let DeValue::Table(table) = node.get_ref() else { return value_of(node) };
    let text = |node: &Node<'_>| match node.get_ref() {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().into(),
        DeValue::Float(number) => number.as_str().into(),
        _ => value_of(node),
    };
    Value::Object(table.iter().map(|(k, v)| (k.get_ref().to_string(), text(v))).collect())
}

fn without_null(settings: &Map<String, Value>) -> Map<String, Value> {
    let given = settings.iter().filter(|(_, value)| !value.is_null());
    given.map(|(key, value)| (key.clone(), value_without_null(value))).collect()
}

fn value_without_null(value: &Value) -> Value {
    match value {
        Value::Object(inner) => Value::Object(without_null(inner)),
        Value::Array(items) => Value::Array(items.iter().map(value_without_null).collect()),
        value => value.clone(),
    }
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
    use crate::authorization::issuance::{Cvm, FirstPin, InitialStatuses, Parameters, Region};
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

    fn settings(json: &str) -> ProductSettings {
        serde_json::from_str(json).unwrap()
    }

    fn wrong(json: &str) -> Vec<String> {
        let wrong = settings(json).product("one", 1).unwrap_err();
        wrong.into_iter().map(|wrong| wrong.pointer).collect()
    }

    /// With chips that hold the PIN by what stands in `more`.
    fn chip(more: &str) -> String {
        format!(
            "{{\"bins\": [\"476134\"], \"currency\": \"978\", \"chip\": {{\"imk_ac\": \"a\", \
             \"imk_smi\": \"b\", \"imk_smc\": \"c\"}}, {more}}}"
        )
    }

    #[test]
    fn ftpam_is_exact_in_every_spelling() {
        let ftpam = |more: &str| {
            let product = settings(&chip(more)).product("one", 1).unwrap();
            product.chip.unwrap().ftpam
        };
        assert_eq!(ftpam(r#""parameters": {"EMVOP": "Y", "FTPAM": "50.01"}"#), Some(5_001));
        assert_eq!(ftpam(r#""parameters": {"EMVOP": "Y", "FTPAM": 50.01}"#), Some(5_001));
        assert_eq!(ftpam(r#""parameters": {"FTPAM": 50}"#), Some(5_000));
        assert_eq!(ftpam(r#""parameters": {"EMVOP": "Y"}"#), None);
        // A binary float has no such number.
        let exact = ftpam(r#""parameters": {"FTPAM": 9007199254.93}"#);
        assert_eq!(exact, Some(900_719_925_493));
        for more in ["50.001", "1.00000000000000000001", "0", "-1", "1e1", "true", "\"\"", "[]"] {
            let more = format!("\"parameters\": {{\"FTPAM\": {more}}}");
            assert_eq!(wrong(&chip(&more)), ["/parameters/FTPAM"], "{more}");
        }
    }

    #[test]
    fn a_setting_is_there_once_in_whichever_spelling() {
        let bins = r#"{"currency": 978, "bins": ["476135"],
                       "config": {"fulfillment": {"bin_prefix": "476134"}}}"#;
        assert_eq!(wrong(bins), ["/config/fulfillment/bin_prefix"]);
        let chip = |setting: &str, parameter: &str| {
            format!(
                "{{\"bins\": [\"476134\"], \"currency\": 978, \"chip\": {{\"imk_ac\": \"a\", \
                 \"imk_smi\": \"b\", \"imk_smc\": \"c\", {setting}}}, \
                 \"parameters\": {{{parameter}}}}}"
            )
        };
        for (key, setting, parameter) in [
            ("offline_pin", "true", "\"EMVOP\": \"Y\""),
            ("ftpam", "5000", "\"FTPAM\": \"50.00\""),
            ("ftpdy", "7", "\"FTPDY\": 7"),
            ("ofpbe", "7", "\"OFPBE\": \"7\""),
        ] {
            let json = chip(&format!("\"{key}\": {setting}"), parameter);
            assert_eq!(wrong(&json), [format!("/chip/{key}")]);
        }
        assert!(serde_json::from_str::<ProductSettings>(r#"{"a": 1, "a": 1}"#).is_err());
        let twice = r#"{"parameters": {"FTPAM": "1", "FTPAM": "1"}}"#;
        assert!(serde_json::from_str::<ProductSettings>(twice).is_err());
        assert!(serde_json::from_str::<ProductSettings>(r#"{"chip": {"a": 1, "a": 1}}"#).is_err());
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let text = "[[products]]\nname = \"one\"\nbins = [\"476134\"]\ncurrency = 392\n\
                    region = \"US\"\n[products.chip]\nimk_ac = \"a\"\nimk_smi = \"b\"\n\
                    imk_smc = \"c\"\n[products.parameters]\nEMVOP = \"Y\"\nFTPAM = 50\nFTPDY = 3\n";
        let (root, mistakes) = Mistakes::parse(text);
        let mut keys = Keys::of_file(&root, &mistakes);
        let table = keys.tables("products", "product").remove(0);
        let of_toml = ProductSettings::of_table(&table);
        let of_json = settings(
            r#"{"bins": ["476134"], "currency": 392, "region": "US",
                "chip": {"imk_ac": "a", "imk_smi": "b", "imk_smc": "c"},
                "parameters": {"EMVOP": "Y", "FTPAM": 50, "FTPDY": "3"}}"#,
        );
        assert_eq!(of_toml, of_json);
        let chip = of_toml.product("one", 1).unwrap().chip.unwrap();
        assert_eq!((chip.ftpam, chip.ftpdy, chip.offline_pin), (Some(50), Some(3), true));
    }

    /// R138, R142, R143: FTPDY and OFPBE in days; OFPBE is 7 where nothing is said, and FTPDY 0 is
    /// none.
    #[test]
    fn days_of_a_change() {
        let days = |more: &str| {
            let product = settings(&chip(more)).product("one", 1).unwrap();
            (product.chip.as_ref().and_then(|it| it.ftpdy), product.retention().ofpbe)
        };
        assert_eq!(days(r#""parameters": {"FTPDY": 3, "OFPBE": "30"}"#), (Some(3), 30));
        assert_eq!(days(r#""parameters": {"FTPDY": "0"}"#), (None, 7));
        assert_eq!(days(r#""parameters": {"EMVOP": "Y"}"#), (None, 7));
    }

    /// R144, R145, R146, R149, R151: what is said of PINs and statuses of new cards.
    #[test]
    fn parameters_of_issuance() {
        let of = |more: &str| settings(&chip(more)).product("one", 1).unwrap().issuance;
        assert_eq!(of(r#""pin_viewable": true"#).parameters, None);
        let none = of(r#""parameters": {}"#).parameters.unwrap();
        assert_eq!(none, Parameters::default());
        let all =
            of(r#""region": "MX", "parameters": {"EMBFL": "PINBLOCK", "KPPIN": "Y", "SRPEL": "Y",
               "CASPO": "mobile_phone", "XAACT": "YNX"}"#);
        let expected = Parameters {
            embosses_pin_block: true,
            keeps_pin: true,
            draws_pin_of_replacement: true,
            first_pin: Some(FirstPin::MobilePhone),
            initial: Some(InitialStatuses { account: *b"YN", card: b'X' }),
        };
        assert_eq!((all.parameters, all.region), (Some(expected), Some(Region::MEXICO)));
    }

    /// R175: where a product says no order of verification methods, its region does.
    #[test]
    fn a_region_has_an_order_of_verification_methods() {
        let of = |json: String| -> Vec<&str> {
            let product = settings(&json).product("one", 1).unwrap();
            product.issuance.cvm_order.into_iter().map(Cvm::name).collect()
        };
        let online = ["pin_online", "pin_offline", "signature", "no_cvm"];
        let offline = ["pin_offline", "pin_online", "signature", "no_cvm"];
        for (region, order) in [
            ("US", online),
            ("CO", online),
            ("CA", offline),
            ("MX", offline),
            ("BR", offline),
            ("AR", offline),
            ("FR", online),
        ] {
            let holds = r#""parameters": {"EMVOP": "Y", "EMBFL": "PINBLOCK"}"#;
            let region = format!(r#""region": "{region}", "#);
            assert_eq!(of(chip(&format!("{region}{holds}"))), order, "{region}");
            let without = ["pin_online", "signature", "no_cvm"];
            assert_eq!(of(chip(&format!(r#"{region}"parameters": {{}}"#))), without, "{region}");
            let said = format!(r#"{region}{holds}, "cvm_order": ["no_cvm", "pin_offline"]"#);
            assert_eq!(of(chip(&said)), ["no_cvm", "pin_offline"]);
        }
        assert_eq!(of(chip(r#""parameters": {"EMVOP": "Y"}"#)), online);
    }

    #[test]
    fn a_change_merges_tables_and_null_removes() {
        let before = settings(r#"{"a": 1, "chip": {"x": 1, "y": {"z": 1}}, "bins": ["1", "2"]}"#);
        let change = settings(r#"{"a": null, "chip": {"y": {"w": 2}}, "bins": ["3"], "b": null}"#);
        let after = settings(r#"{"chip": {"x": 1, "y": {"w": 2, "z": 1}}, "bins": ["3"]}"#);
        assert_eq!(before.changed_by(&change), after);
    }
}
