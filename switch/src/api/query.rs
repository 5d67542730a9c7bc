//! The parameters of a query. Each is named once, an unknown one is refused, and no value is
//! repeated in an answer.

use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::problem::{Mistake, Problem};

/// The parameters that a call has not taken yet, and the mistakes in those that it has.
pub(super) struct Query {
    parameters: Vec<(String, String)>,
    mistakes: Vec<Mistake>,
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Query::of(query))
    }
}

impl Query {
    /// The parameters of a query.
    pub(super) fn of(query: &str) -> Query {
        Query {
            parameters: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            mistakes: Vec::new(),
        }
    }

    /// A text; `None` where it is left out.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let place = self.parameters.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.parameters.swap_remove(place);
        if self.parameters.iter().any(|(known, _)| known == name) {
            self.mistake(name, "expected it once");
        }
        Some(value)
    }

    /// A value of another type.
    pub(super) fn value<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        let text = self.text(name)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.mistake(name, &format!("expected {expected}"));
        }
        value
    }

    /// A number of a range.
    pub(super) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<usize>,
        default: usize,
    ) -> usize {
        let (least, most) = (range.start(), range.end());
        let expected = format!("a whole number from {least} to {most}");
        let Some(number) = self.value(name, &expected) else { return default };
        if !range.contains(&number) {
            self.mistake(name, &format!("expected {expected}"));
        }
        number
    }

    /// Adds a mistake of a parameter.
    pub(super) fn mistake(&mut self, name: &str, detail: &str) {
        self.mistakes.push(Mistake { pointer: name.to_owned(), detail: detail.to_owned() });
    }

    /// To be called when all that may stand there was taken.
    ///
    /// # Errors
    /// All mistakes.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        self.parameters.retain({
            let taken: Vec<_> = self.mistakes.iter().map(|it| it.pointer.clone()).collect();
            move |(name, _)| !taken.contains(name)
        });
        if !self.parameters.is_empty() {
            // Its name is the client's, and so is not repeated.
            let detail = "the query has a parameter that is not known here".to_owned();
            self.mistakes.push(Mistake { pointer: String::new(), detail });
        }
        match self.mistakes.is_empty() {
            true => Ok(()),
            false => Err(Problem::all(self.mistakes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_query_is_taken_once_and_within_its_range() {
        let mut query = Query::of("count=7&after=00000001-00000002&fields=a%2Cb");
        assert_eq!(query.number("count", 1..=10, 5), 7);
        assert_eq!(query.number("start_index", 0..=10, 3), 3);
        assert_eq!(query.text("fields").as_deref(), Some("a,b"));
        assert_eq!(query.text("after").as_deref(), Some("00000001-00000002"));
        assert!(query.finish().is_ok());
        for wrong in ["count=11", "count=x", "count=-1", "count=1&count=2", "other=1", "count="] {
            let mut query = Query::of(wrong);
            query.number("count", 1..=10, 5);
            assert!(query.finish().is_err(), "{wrong}");
        }
    }
}
