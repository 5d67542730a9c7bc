//! Lists as Marqeta's clients ask for them: `count`, `start_index`, `sort_by` and `fields`, and
//! `after` as a cursor beside them.

use axum::Json;
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::problem::{Door, Problem};
use super::query::Query;
use crate::issuing::listing::{Listed, Wanted};

/// Most items of a part.
const COUNT_MAX: usize = 100;
const COUNT_EXPECTED: &str = "a whole number from 1 to 100";

/// What can be asked of one list.
pub(super) struct ListOf {
    /// How many items a part has where nothing is said.
    pub(super) count: usize,
    /// Fields that it can be sorted by.
    pub(super) sorts: &'static [&'static str],
    /// How it is sorted where nothing is said, as `sort_by` would say it.
    pub(super) sort_by: &'static str,
}

/// What a call asks of a list.
pub(super) struct ListQuery {
    pub(super) wanted: Wanted,
    fields: Fields,
}

/// The fields that are shown; by default all.
pub(super) struct Fields(Option<Vec<String>>);

/// The parameters of a list, for its description; `sort_by` is each list's own.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct ListParameters {
    /// How many items at most.
    #[param(minimum = 1, maximum = 100)]
    count: Option<usize>,
    /// How many items are left out before the first.
    #[param(minimum = 0)]
    start_index: Option<usize>,
    /// Names of the fields that are shown, with commas between; all if left out.
    #[param(pattern = "^[a-z0-9_]+(,[a-z0-9_]+)*$")]
    fields: Option<String>,
    /// Behind which item the list begins: `next` of the last answer.
    after: Option<String>,
}

/// A part of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct List {
    /// How many items these are.
    count: usize,
    /// The place of the first of them.
    start_index: usize,
    /// The place of the last of them.
    end_index: usize,
    /// Whether there are more.
    is_more: bool,
    /// What to send as `after` for the next ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Each as a call for it alone shows it, or those of its fields that were asked for.
    #[schema(value_type = Vec<Object>)]
    data: Vec<Value>,
}

impl ListQuery {
    /// Takes the parameters of a list; the call takes others before this.
    ///
    /// # Errors
    /// All mistakes of the query, also those made before; 413 for too many items.
    pub(super) fn read(mut query: Query, of: &ListOf) -> Result<ListQuery, Problem> {
        let count = query.value("count", COUNT_EXPECTED).unwrap_or(of.count);
        if count == 0 {
            query.mistake("count", &format!("expected {COUNT_EXPECTED}"));
        }
        let start_index = query.value("start_index", "a whole number from 0").unwrap_or(0);
        let after = query.text("after");
        let sort_by = query.text("sort_by");
        let sort = sort_by.as_deref().map_or_else(|| of.sort(of.sort_by), |text| of.sort(text));
        if sort.is_none() {
            let expected = format!("expected {}, or - and one of them", of.sorts.join(", "));
            query.mistake("sort_by", &expected);
        }
        let fields = Fields::take(&mut query);
        query.finish()?;
        if count > COUNT_MAX {
            let text = format!("count: expected {COUNT_EXPECTED}");
            return Err(Problem::new(Door::CountTooLarge, &text));
        }
        let (sort_by, is_descending) = sort.unwrap_or_default();
        let wanted = Wanted { sort_by, is_descending, start_index, count, after };
        Ok(ListQuery { wanted, fields })
    }

    /// The answer.
    pub(super) fn answer<T: Serialize>(&self, listed: Listed<T>) -> Json<List> {
        let Listed { items, next } = listed;
        let (count, start_index) = (items.len(), self.wanted.start_index);
        Json(List {
            count,
            start_index,
            end_index: start_index.saturating_add(count.saturating_sub(1)),
            is_more: next.is_some(),
            next,
            data: items.iter().map(|item| self.fields.of(item)).collect(),
        })
    }
}

impl ListOf {
    /// A field and whether the largest comes first. Marqeta's clients write `lastModifiedTime`.
    fn sort(&self, text: &str) -> Option<(&'static str, bool)> {
        let (name, is_descending) = match text.strip_prefix('-') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let is_meant = |known: &&&str| {
            let without_underscores = known.bytes().filter(|byte| *byte != b'_');
            **known == name
                || (!name.contains('_')
                    && without_underscores.eq(name.bytes().map(|it| it.to_ascii_lowercase())))
        };
        self.sorts.iter().find(is_meant).map(|known| (*known, is_descending))
    }
}

impl Fields {
    /// Takes `fields` of a query.
    pub(super) fn take(query: &mut Query) -> Fields {
        let Some(text) = query.text("fields") else { return Fields(None) };
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        if names.iter().any(|name| name.is_empty() || !name.bytes().all(valid)) {
            query.mistake("fields", "expected names of fields with commas between");
        }
        Fields(Some(names))
    }

    /// What is shown of an answer.
    pub(super) fn of(&self, view: &impl Serialize) -> Value {
        let mut shown = serde_json::to_value(view).unwrap_or_default();
        debug_assert!(shown.is_object(), "a view is a JSON object");
        if let (Some(names), Value::Object(fields)) = (&self.0, &mut shown) {
            fields.retain(|name, _| names.contains(name));
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OF: ListOf = ListOf {
        count: 5,
        sorts: &["token", "last_modified_time"],
        sort_by: "-last_modified_time",
    };

    fn read(query: &str) -> Result<ListQuery, Problem> {
        ListQuery::read(Query::of(query), &OF)
    }

    #[test]
    fn a_list_is_asked_for_in_marqetas_way() {
        let Ok(ListQuery { wanted, .. }) = read("") else { panic!() };
        assert_eq!((wanted.count, wanted.start_index, wanted.after), (5, 0, None));
        assert_eq!((wanted.sort_by, wanted.is_descending), ("last_modified_time", true));
        for (text, sort) in [
            ("lastModifiedTime", ("last_modified_time", false)),
            ("-lastModifiedTime", ("last_modified_time", true)),
            ("last_modified_time", ("last_modified_time", false)),
            ("-token", ("token", true)),
        ] {
            let Ok(ListQuery { wanted, .. }) = read(&format!("sort_by={text}")) else { panic!() };
            assert_eq!((wanted.sort_by, wanted.is_descending), sort);
        }
        for wrong in [
            "count=0",
            "count=101",
            "count=-1",
            "start_index=-1",
            "sort_by=",
            "sort_by=--token",
            "sort_by=pan",
            "fields=",
            "fields=a,,b",
            "fields=A",
            "other=1",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_shows_the_fields_that_were_asked_for() {
        let Ok(query) = read("start_index=10&fields=token,%20name") else { panic!() };
        let items = vec![json!({"token": "a", "name": "b", "c": 1}), json!({"c": 2})];
        let list = query.answer(Listed { items, next: Some("a".to_owned()) }).0;
        assert_eq!((list.count, list.start_index, list.end_index), (2, 10, 11));
        assert!(list.is_more);
        assert_eq!(list.data, [json!({"token": "a", "name": "b"}), json!({})]);
    }
}
