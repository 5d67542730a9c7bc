//! Reads the keys of a TOML table and collects every mistake with its line.
//!
//! The file is walked as a tree with positions instead of being given to a derived reader: that
//! one would stop at the first mistake.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{SpecErrors, SpecMistake};

pub(super) type Node<'t> = Spanned<DeValue<'t>>;

/// What was found wrong so far. Shared by all tables of a file, hence the cell.
pub(super) struct Mistakes<'t> {
    text: &'t str,
    found: RefCell<Vec<SpecMistake>>,
}

impl<'t> Mistakes<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, found: RefCell::new(Vec::new()) }
    }

    pub(super) fn add(
        &self,
        span: Option<Range<usize>>,
        place: impl Into<String>,
        expected: impl Into<String>,
    ) {
        let before = span.and_then(|span| self.text.as_bytes().get(..span.start));
        let line = before.map(|before| before.iter().filter(|&&byte| byte == b'\n').count() + 1);
        let mistake = SpecMistake { line, place: place.into(), expected: expected.into() };
        self.found.borrow_mut().push(mistake);
    }

    pub(super) fn into_errors(self) -> Option<SpecErrors> {
        SpecErrors::new(self.found.into_inner())
    }
}

/// The keys of one table. What is never asked for is an unknown key.
pub(super) struct Keys<'k, 't> {
    table: &'k DeTable<'t>,
    mistakes: &'k Mistakes<'t>,
    /// What a mistake calls the table; empty for the file itself.
    place: String,
    span: Option<Range<usize>>,
    asked: Vec<&'static str>,
}

impl<'k, 't> Keys<'k, 't> {
    pub(super) const fn of_file(table: &'k DeTable<'t>, mistakes: &'k Mistakes<'t>) -> Self {
        Self { table, mistakes, place: String::new(), span: None, asked: Vec::new() }
    }

    /// The table at `node`; `None` and a mistake where it is none.
    pub(super) fn of(
        node: &'k Node<'t>,
        place: impl Into<String>,
        mistakes: &'k Mistakes<'t>,
    ) -> Option<Self> {
        let (place, span) = (place.into(), Some(node.span()));
        let Some(table) = node.get_ref().as_table() else {
            mistakes.add(span, place, "expected a table");
            return None;
        };
        Some(Self { table, mistakes, place, span, asked: Vec::new() })
    }

    /// Every key with its value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'k str, &'k Node<'t>)> + use<'k, 't> {
        self.table.iter().map(|(key, node)| (key.get_ref().as_ref(), node))
    }

    /// A mistake of the table as a whole.
    pub(super) fn mistake(&self, expected: impl Into<String>) {
        self.mistakes.add(self.span.clone(), self.place.as_str(), expected);
    }

    /// A mistake of one value.
    pub(super) fn mistake_at(&self, key: &str, node: &Node<'_>, expected: impl Into<String>) {
        self.mistakes.add(Some(node.span()), self.place_of(key), expected);
    }

    fn place_of(&self, key: &str) -> String {
        let key = key.escape_debug();
        if self.place.is_empty() { key.to_string() } else { format!("{}, {key}", self.place) }
    }

    /// A key that may be absent.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'k Node<'t>> {
        self.asked.push(key);
        self.entries().find(|(name, _)| *name == key).map(|(_, node)| node)
    }

    fn require(&mut self, key: &'static str) -> Option<&'k Node<'t>> {
        let node = self.get(key);
        if node.is_none() {
            self.mistakes.add(self.span.clone(), self.place_of(key), "is missing");
        }
        node
    }

    /// A table that must be there.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Self> {
        Self::of(self.require(key)?, self.place_of(key), self.mistakes)
    }

    /// A table that may be absent.
    pub(super) fn optional_table(&mut self, key: &'static str) -> Option<Self> {
        Self::of(self.get(key)?, self.place_of(key), self.mistakes)
    }

    /// A list that must be there.
    pub(super) fn list(&mut self, key: &'static str) -> Option<&'k Node<'t>> {
        let node = self.require(key)?;
        if node.get_ref().as_array().is_none() {
            self.mistake_at(key, node, "expected a list");
            return None;
        }
        Some(node)
    }

    /// A text of one line that must be there.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let node = self.require(key)?;
        let text = node.get_ref().as_str();
        let text = text.filter(|text| !text.is_empty() && !text.chars().any(char::is_control));
        if text.is_none() {
            self.mistake_at(key, node, "expected a text of one line");
        }
        text.map(str::to_owned)
    }

    /// One of several names, which must be there.
    pub(super) fn name<T>(
        &mut self,
        key: &'static str,
        names: &str,
        from_name: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let node = self.require(key)?;
        self.known(key, node, names, from_name)
    }

    /// One of several names; the key may be absent.
    pub(super) fn optional_name<T>(
        &mut self,
        key: &'static str,
        names: &str,
        from_name: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let node = self.get(key)?;
        self.known(key, node, names, from_name)
    }

    fn known<T>(
        &self,
        key: &str,
        node: &Node<'_>,
        names: &str,
        from_name: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let found = node.get_ref().as_str().and_then(from_name);
        if found.is_none() {
            self.mistake_at(key, node, format!("expected {names}"));
        }
        found
    }

    /// A number that must be there.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<u16>,
    ) -> Option<u16> {
        let node = self.require(key)?;
        self.number_at(key, node, allowed)
    }

    /// A number that may be absent.
    pub(super) fn optional_number(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<u16>,
    ) -> Option<u16> {
        let node = self.get(key)?;
        self.number_at(key, node, allowed)
    }

    /// The number at a node that is known to be there.
    pub(super) fn number_at(
        &self,
        key: &str,
        node: &Node<'_>,
        allowed: RangeInclusive<u16>,
    ) -> Option<u16> {
        let integer = node.get_ref().as_integer();
        let number = integer
            .and_then(|digits| u16::from_str_radix(digits.as_str(), digits.radix()).ok())
            .filter(|number| allowed.contains(number));
        if number.is_none() {
            let (first, last) = (allowed.start(), allowed.end());
            self.mistake_at(key, node, format!("expected a number from {first} to {last}"));
        }
        number
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(&self) {
        for (key, node) in self.entries() {
            if !self.asked.contains(&key) {
                self.mistake_at(key, node, "unknown key");
            }
        }
    }
}
