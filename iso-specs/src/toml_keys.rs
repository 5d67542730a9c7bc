//! Reads a TOML file key by key and collects every mistake with its line and place.
//!
//! The file is walked as a tree with positions instead of being given to a derived reader: that
//! one would stop at the first mistake. A reader asks a table's [`Keys`] for what may stand in
//! it; at the end [`Keys::finish`] reports what nobody asked for. A mistake says where it is and
//! what was expected, and never what stands there: a value may be a secret.
//!
//! ```
//! use iso_specs::toml_keys::{Keys, Mistakes};
//!
//! let text = "port = 0\ncolour = true";
//! let (root, mistakes) = Mistakes::parse(text);
//! let mut keys = Keys::of_file(&root, &mistakes);
//! let port = keys.number("port", 1..=65_535_u16);
//! let name = keys.text("name");
//! keys.finish();
//! assert_eq!((port, name), (None, None));
//! let found: Vec<_> = mistakes.into_list().iter().map(ToString::to_string).collect();
//! assert_eq!(found, [
//!     "name: is missing",
//!     "line 1: port: expected a number from 1 to 65535",
//!     "line 2: colour: unknown key",
//! ]);
//! ```

use std::cell::RefCell;
use std::fmt::{self, Display};
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value of the file with its position.
pub type Node<'t> = Spanned<DeValue<'t>>;

/// One mistake of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line in the file, from 1; absent where something is missing from the file as a whole.
    pub line: Option<usize>,
    /// The tables and the key, such as `element 4, max`.
    pub place: String,
    /// The same as a JSON pointer (RFC 6901) from the file as a whole, such as `/element/3/max`.
    pub pointer: String,
    /// What is wrong and what was expected.
    pub expected: String,
}

impl Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}: {}", self.place, self.expected)
    }
}

/// Where a value stands, for a mistake that only a later value reveals.
#[derive(Debug, Clone)]
pub struct Place {
    span: Option<Range<usize>>,
    name: String,
    pointer: String,
}

/// What was found wrong so far. Shared by all tables of a file, hence the cell.
pub struct Mistakes<'t> {
    text: &'t str,
    found: RefCell<Vec<Mistake>>,
}

impl<'t> Mistakes<'t> {
    /// Parses a file. Every syntax error is a mistake already, and the table is what could be
    /// read all the same.
    #[must_use]
    pub fn parse(text: &'t str) -> (DeTable<'t>, Self) {
        let (root, syntax) = DeTable::parse_recoverable(text);
        let mistakes = Self { text, found: RefCell::default() };
        for error in syntax {
            let place = Place { span: error.span(), name: "syntax".into(), pointer: String::new() };
            mistakes.add(&place, error.message());
        }
        (root.into_inner(), mistakes)
    }

    /// A mistake at a place.
    pub fn add(&self, place: &Place, expected: impl Into<String>) {
        let Place { span, name, pointer } = place.clone();
        let before = span.and_then(|span| self.text.as_bytes().get(..span.start));
        let line = before.map(|before| before.iter().filter(|&&byte| byte == b'\n').count() + 1);
        let mistake = Mistake { line, place: name, pointer, expected: expected.into() };
        self.found.borrow_mut().push(mistake);
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// How many were found so far.
    pub(crate) fn count(&self) -> usize {
        self.found.borrow().len()
    }

    /// What was found, in the order of lines; first what has no line.
    #[must_use]
    pub fn into_list(self) -> Vec<Mistake> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|mistake| mistake.line);
        found
    }
}

/// The keys of one table. What is never asked for is an unknown key.
pub struct Keys<'k, 't> {
    /// Absent for a table that the file leaves out.
    table: Option<&'k DeTable<'t>>,
    mistakes: &'k Mistakes<'t>,
    /// Where the table stands; without a name for the file itself.
    place: Place,
    asked: Vec<&'static str>,
}

impl<'k, 't> Keys<'k, 't> {
    /// The keys of the file itself.
    #[must_use]
    pub const fn of_file(table: &'k DeTable<'t>, mistakes: &'k Mistakes<'t>) -> Self {
        let place = Place { span: None, name: String::new(), pointer: String::new() };
        Self { table: Some(table), mistakes, place, asked: Vec::new() }
    }

    /// The table at `node`; `None` and a mistake where it is none.
    fn of(node: &'k Node<'t>, place: Place, mistakes: &'k Mistakes<'t>) -> Option<Self> {
        let table = node.get_ref().as_table();
        if table.is_none() {
            mistakes.add(&place, "expected a table");
            return None;
        }
        Some(Self { table, mistakes, place, asked: Vec::new() })
    }

    /// Every key with its value.
    pub fn entries(&self) -> impl Iterator<Item = (&'k str, &'k Node<'t>)> + use<'k, 't> {
        self.table.into_iter().flatten().map(|(key, node)| (key.get_ref().as_ref(), node))
    }

    /// The table at an entry whose key is not known before; a mistake calls it by `name`.
    pub fn entry_table(&self, key: &str, node: &'k Node<'t>, name: String) -> Option<Self> {
        let place = Place { name, ..self.place_at(key, Some(node.span())) };
        Self::of(node, place, self.mistakes)
    }

    /// A mistake of the table as a whole.
    pub fn mistake(&self, expected: impl Into<String>) {
        self.mistakes.add(&self.place, expected);
    }

    /// A mistake of one value.
    pub fn mistake_at(&self, key: &str, node: &Node<'_>, expected: impl Into<String>) {
        self.mistakes.add(&self.place_at(key, Some(node.span())), expected);
    }

    /// A mistake of the value of a key; of its table where the key is not there.
    pub fn mistake_of(&self, key: &str, expected: impl Into<String>) {
        self.mistakes.add(&self.place(key), expected);
    }

    /// A mistake at a place that was remembered.
    pub fn mistake_in(&self, place: &Place, expected: impl Into<String>) {
        self.mistakes.add(place, expected);
    }

    /// Where the value of a key stands; its table where the key is not there.
    #[must_use]
    pub fn place(&self, key: &str) -> Place {
        let span = self.find(key).map(Spanned::span).or_else(|| self.place.span.clone());
        self.place_at(key, span)
    }

    fn place_at(&self, key: &str, span: Option<Range<usize>>) -> Place {
        let pointer = format!(
            "{}/{}",
            self.place.pointer,
            key.escape_debug().to_string().replace('~', "~0").replace('/', "~1")
        );
        Place { span, name: self.name_of(key), pointer }
    }

    fn name_of(&self, key: &str) -> String {
        let key = key.escape_debug();
        match self.place.name.as_str() {
            "" => key.to_string(),
            place => format!("{place}, {key}"),
        }
    }

    fn find(&self, key: &str) -> Option<&'k Node<'t>> {
        self.entries().find(|(name, _)| *name == key).map(|(_, node)| node)
    }

    /// A key that may be absent.
    pub fn get(&mut self, key: &'static str) -> Option<&'k Node<'t>> {
        self.asked.push(key);
        self.find(key)
    }

    fn require(&mut self, key: &'static str) -> Option<&'k Node<'t>> {
        let node = self.get(key);
        if node.is_none() {
            self.mistake_of(key, "is missing");
        }
        node
    }

    /// A table that must be there.
    pub fn table(&mut self, key: &'static str) -> Option<Self> {
        Self::of(self.require(key)?, self.place(key), self.mistakes)
    }

    /// A table that may be absent.
    pub fn optional_table(&mut self, key: &'static str) -> Option<Self> {
        Self::of(self.get(key)?, self.place(key), self.mistakes)
    }

    /// A table whose keys all have defaults: where it is absent, it has none of them.
    pub fn table_or_empty(&mut self, key: &'static str) -> Self {
        let place = self.place_at(key, None);
        let absent = Self { table: None, mistakes: self.mistakes, place, asked: Vec::new() };
        self.optional_table(key).unwrap_or(absent)
    }

    /// An array of tables, of which there must be one at least; a mistake calls each by `name`
    /// and its number, from 1.
    pub fn tables(&mut self, key: &'static str, name: &str) -> Vec<Self> {
        if self.get(key).is_none() {
            self.mistake_of(key, format!("expected at least one [[{key}]]"));
        }
        self.optional_tables(key, name)
    }

    /// The tables of an array that may be absent; each is called `name` and its number, from 1.
    pub fn optional_tables(&mut self, key: &'static str, name: &str) -> Vec<Self> {
        let nodes = match self.get(key).map(|node| node.get_ref().as_array()) {
            None => return Vec::new(),
            Some(Some(nodes)) if !nodes.is_empty() => nodes,
            Some(_) => {
                self.mistake_of(key, format!("expected at least one [[{key}]]"));
                return Vec::new();
            }
        };
        let list = self.place(key);
        let of = |(index, node): (usize, &'k Node<'t>)| {
            let name = format!("{} {}", self.name_of(name), index + 1);
            let pointer = format!("{}/{index}", list.pointer);
            Self::of(node, Place { span: Some(node.span()), name, pointer }, self.mistakes)
        };
        nodes.iter().enumerate().filter_map(of).collect()
    }

    /// A list that must be there.
    pub fn list(&mut self, key: &'static str) -> Option<&'k Node<'t>> {
        let node = self.require(key)?;
        self.checked_list(key, node)
    }

    /// A list of texts or numbers: `item` reads one, and `None` of it is a mistake of that item.
    /// The key may be absent.
    pub fn optional_items<T>(
        &mut self,
        key: &'static str,
        names: &str,
        item: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let node = self.get(key)?;
        let items = self.checked_list(key, node)?.get_ref().as_array()?;
        Some(items.iter().filter_map(|node| self.known(key, node, names, &item)).collect())
    }

    fn checked_list(&self, key: &str, node: &'k Node<'t>) -> Option<&'k Node<'t>> {
        let is_list = node.get_ref().as_array().is_some();
        if !is_list {
            self.mistake_at(key, node, "expected a list");
        }
        is_list.then_some(node)
    }

    /// A text of one line that must be there.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let node = self.require(key)?;
        self.known(key, node, "a text of one line", |value| {
            let text = value.as_str()?;
            let is_line = !text.is_empty() && !text.chars().any(char::is_control);
            is_line.then(|| text.to_owned())
        })
    }

    /// One of several names, which must be there.
    pub fn name<T>(
        &mut self,
        key: &'static str,
        names: &str,
        from_name: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let node = self.require(key)?;
        self.known(key, node, names, |value| from_name(value.as_str()?))
    }

    /// One of several names; the key may be absent.
    pub fn optional_name<T>(
        &mut self,
        key: &'static str,
        names: &str,
        from_name: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.optional(key, names, |value| from_name(value.as_str()?))
    }

    /// `true` or `false`; the key may be absent.
    pub fn optional_boolean(&mut self, key: &'static str) -> Option<bool> {
        self.optional(key, "true or false", |value| value.as_bool())
    }

    /// A value of any kind that `read` takes; the key may be absent.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        names: &str,
        read: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Option<T> {
        let node = self.get(key)?;
        self.known(key, node, names, read)
    }

    fn known<T>(
        &self,
        key: &str,
        node: &Node<'_>,
        names: &str,
        read: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Option<T> {
        let found = read(node.get_ref());
        if found.is_none() {
            self.mistake_at(key, node, format!("expected {names}"));
        }
        found
    }

    /// A number that must be there.
    pub fn number<T>(&mut self, key: &'static str, allowed: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let node = self.require(key)?;
        self.number_at(key, node, allowed)
    }

    /// A number that may be absent.
    pub fn optional_number<T>(&mut self, key: &'static str, allowed: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let node = self.get(key)?;
        self.number_at(key, node, allowed)
    }

    /// The number at a node that is known to be there.
    pub fn number_at<T>(&self, key: &str, node: &Node<'_>, allowed: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let names = format!("a number from {} to {}", allowed.start(), allowed.end());
        self.known(key, node, &names, |value| {
            integer(value).filter(|number| allowed.contains(number))
        })
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(&self) {
        for (key, node) in self.entries() {
            if !self.asked.contains(&key) {
                self.mistake_at(key, node, "unknown key");
            }
        }
    }
}

/// A whole number that `T` can hold.
#[must_use]
pub fn integer<T: TryFrom<i128>>(value: &DeValue<'_>) -> Option<T> {
    let digits = value.as_integer()?;
    T::try_from(i128::from_str_radix(digits.as_str(), digits.radix()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str, read: impl FnOnce(&mut Keys<'_, '_>)) -> Vec<String> {
        let (root, mistakes) = Mistakes::parse(text);
        let mut keys = Keys::of_file(&root, &mistakes);
        read(&mut keys);
        keys.finish();
        mistakes.into_list().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn numbers_of_every_width_have_their_bounds() {
        let text = "a = -1\nb = 0xff\nc = 1_000\nd = 18446744073709551615\ne = 1.0";
        let found = mistakes(text, |keys| {
            assert_eq!(keys.number("a", -1..=1_i64), Some(-1));
            assert_eq!(keys.number("b", 0..=u8::MAX), Some(255));
            assert_eq!(keys.number("c", 0..=999_u16), None);
            assert_eq!(keys.number("d", 0..=u64::MAX), Some(u64::MAX));
            assert_eq!(keys.number("e", 0..=9_u32), None);
        });
        assert_eq!(
            found,
            [
                "line 3: c: expected a number from 0 to 999",
                "line 5: e: expected a number from 0 to 9",
            ]
        );
    }

    #[test]
    fn tables_and_lists_say_which_of_them_is_wrong() {
        let text = "l = [1, \"x\"]\nb = 1\n[o]\nu = 1\n[[o.t]]\n[[t]]\nn = \"a\"\n[[t]]\n";
        let found = mistakes(text, |keys| {
            let items = keys.optional_items("l", "numbers", integer::<u8>);
            assert_eq!(items, Some(vec![1]));
            assert_eq!(keys.optional_boolean("b"), None);
            let mut inner = keys.table_or_empty("o");
            inner.optional_tables("t", "part").iter_mut().for_each(|table| drop(table.text("n")));
            inner.finish();
            keys.table_or_empty("absent").finish();
            for mut table in keys.tables("t", "thing") {
                table.text("n");
                table.finish();
            }
            assert!(keys.tables("none", "none").is_empty());
        });
        assert_eq!(
            found,
            [
                "none: expected at least one [[none]]",
                "line 1: l: expected numbers",
                "line 2: b: expected true or false",
                "line 4: o, u: unknown key",
                "line 5: o, part 1, n: is missing",
                "line 8: thing 2, n: is missing",
            ]
        );
    }

    #[test]
    fn a_mistake_has_a_json_pointer() {
        let text = "t = [{n = 1}, {n = 2, \"a/b~c\" = 3}]\n[o]\nl = 1\n";
        let (root, mistakes) = Mistakes::parse(text);
        let mut keys = Keys::of_file(&root, &mistakes);
        for mut table in keys.tables("t", "thing") {
            table.number("n", 1..=1_u8);
            table.finish();
        }
        keys.table_or_empty("o").optional_boolean("l");
        keys.text("gone");
        let found: Vec<_> = mistakes.into_list().into_iter().map(|it| it.pointer).collect();
        assert_eq!(found, ["/gone", "/t/1/n", "/t/1/a~1b~0c", "/o/l"]);
    }

    #[test]
    fn a_place_is_kept_for_later() {
        let found = mistakes("a = 1\nb = 2", |keys| {
            let place = keys.place("b");
            keys.get("a");
            keys.get("b");
            keys.mistakes.add(&place, "is like a");
        });
        assert_eq!(found, ["line 2: b: is like a"]);
    }
}
