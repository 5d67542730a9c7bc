//! Lists: what part of one is wanted, and in which order.

use std::sync::Arc;

use compact_str::CompactString;

use super::Refused;
use crate::store::Store;
use crate::store::document::{Document, DocumentKind};
use crate::store::page::PAGE_ITEMS_MAX;
use crate::switch::{Seams, Switch};

/// The part of a list that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The field that it is sorted by: one of those that the list names.
    pub sort_by: &'static str,
    /// Whether the largest comes first.
    pub is_descending: bool,
    /// How many are left out before the first.
    pub start_index: usize,
    /// How many at most.
    pub count: usize,
    /// The token of the one that it begins behind; with `start_index`, that many later.
    pub after: Option<String>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// In order.
    pub items: Vec<T>,
    /// What stands in `after` of the next part; `None` at the end.
    pub next: Option<String>,
}

impl Wanted {
    /// The part of a list that is there as a whole. Items of one key are in the order of their
    /// tokens.
    ///
    /// # Errors
    /// If `after` is the token of none.
    pub fn choose<T, K: Ord>(
        &self,
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> K,
        token: impl Fn(&T) -> String,
    ) -> Result<Listed<T>, Refused> {
        let mut items: Vec<T> = items.into_iter().collect();
        items.sort_by_cached_key(|item| (key(item), token(item)));
        if self.is_descending {
            items.reverse();
        }
        let behind = match &self.after {
            None => 0,
            Some(after) => {
                let place = items.iter().position(|item| token(item) == *after);
                let expected = "the token of the last item that you have";
                place.ok_or(Refused::Parameter { name: "after", expected })? + 1
            }
        };
        let first = behind.saturating_add(self.start_index).min(items.len());
        let mut chosen = items.split_off(first);
        let has_more = chosen.len() > self.count;
        chosen.truncate(self.count);
        let next = chosen.last().filter(|_| has_more).map(token);
        Ok(Listed { items: chosen, next })
    }
}

impl<T> Listed<T> {
    /// The same with each item made into another thing.
    ///
    /// # Errors
    /// The first.
    pub fn try_map<U, E>(self, each: impl FnMut(T) -> Result<U, E>) -> Result<Listed<U>, E> {
        let items = self.items.into_iter().map(each).collect::<Result<_, E>>()?;
        Ok(Listed { items, next: self.next })
    }
}

/// The documents of a kind, in the order of their tokens, a page at a time: between two pages other
/// tasks have their turn.
pub(super) struct Pages {
    kind: DocumentKind,
    /// Of what was read last; empty before the first page.
    after: CompactString,
    is_over: bool,
}

impl Pages {
    pub(super) fn of(kind: DocumentKind) -> Pages {
        Pages { kind, after: CompactString::default(), is_over: false }
    }

    /// The next page, each document with its token; `None` after the last one.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) async fn next<W: Seams>(
        &mut self,
        switch: &Switch<W>,
    ) -> Result<Option<Vec<(CompactString, Arc<Document>)>>, Refused> {
        if self.is_over {
            return Ok(None);
        }
        if !self.after.is_empty() {
            tokio::task::yield_now().await;
        }
        let after = Some(&*self.after).filter(|after| !after.is_empty());
        let page = switch.store.documents(self.kind, after, PAGE_ITEMS_MAX).await?;
        match page.next {
            Some(next) => self.after = next,
            None => self.is_over = true,
        }
        Ok(Some(page.items))
    }
}

/// All documents of a kind, in the order of their tokens: a pointer for each.
pub(super) async fn documents<W: Seams>(
    switch: &Switch<W>,
    kind: DocumentKind,
) -> Result<Vec<Arc<Document>>, Refused> {
    let (mut all, mut pages) = (Vec::new(), Pages::of(kind));
    while let Some(page) = pages.next(switch).await? {
        all.extend(page.into_iter().map(|(_, document)| document));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(wanted: &Wanted) -> Result<(String, Option<String>), Refused> {
        let items = [("a", 3), ("b", 1), ("c", 3), ("d", 2)];
        let listed = wanted.choose(items, |item| item.1, |item| item.0.to_owned())?;
        Ok((listed.items.iter().map(|item| item.0).collect(), listed.next))
    }

    #[test]
    fn parts_follow_each_other_in_both_ways() {
        let all =
            Wanted { sort_by: "n", is_descending: false, start_index: 0, count: 9, after: None };
        assert_eq!(choose(&all).unwrap(), ("bdac".to_owned(), None));
        let newest = Wanted { is_descending: true, count: 2, ..all };
        assert_eq!(choose(&newest).unwrap(), ("ca".to_owned(), Some("a".to_owned())));
        let later = Wanted { start_index: 2, ..newest.clone() };
        assert_eq!(choose(&later).unwrap(), ("db".to_owned(), None));
        let behind = Wanted { after: Some("a".to_owned()), ..newest };
        assert_eq!(choose(&behind).unwrap(), ("db".to_owned(), None));
        let far = Wanted { start_index: usize::MAX, ..behind };
        assert_eq!(choose(&far).unwrap(), (String::new(), None));
        let unknown = Wanted { after: Some("z".to_owned()), ..newest };
        assert!(choose(&unknown).is_err());
    }
}
