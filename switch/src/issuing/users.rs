//! Users: the cardholders, as their issuer names them. What the switch needs of one is kept sealed;
//! what it must not know (numbers of documents, passwords) is taken and forgotten at once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};
use zeroize::Zeroizing;

use super::listing::{self, Listed, Wanted};
use super::tokens::{Expected, PayloadDigest, Token};
use super::{Call, Refused, audit, card_details};
use crate::clock::Clock;
use crate::event::Actor;
use crate::store::document::{Document, DocumentChange, DocumentKind};
use crate::store::{COMMIT_ATTEMPTS_MAX, Changed, Commit, CommitError, Store};
use crate::switch::{Seams, Switch};

/// A text of at most so many characters, none of which controls anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Text<const MAX: usize>(String);

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<MAX>, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        let is_text = text.chars().count() <= MAX && !text.chars().any(char::is_control);
        is_text.then(|| Text(text.into_owned())).ok_or_else(|| {
            let expected = format!("a text of at most {MAX} characters, none of control");
            D::Error::invalid_value(Unexpected::Other("text"), &&*expected)
        })
    }
}

impl<const MAX: usize> PartialSchema for Text<MAX> {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(MAX));
        text.pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]*$")).into()
    }
}

impl<const MAX: usize> ToSchema for Text<MAX> {
    fn name() -> Cow<'static, str> {
        format!("TextUpTo{MAX}").into()
    }
}

impl<const MAX: usize> Text<MAX> {
    /// As it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A value that is taken and forgotten: it is compared with a payload of before, and wiped.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Forgotten(Zeroizing<String>);

impl<'de> Deserialize<'de> for Forgotten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Forgotten, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Forgotten(Zeroizing::new(raw.get().to_owned())))
    }
}

/// As Marqeta's clients say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Gender {
    /// Female.
    F,
    /// Male.
    M,
}

/// Names and values of the issuer's own, without meaning here.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(BTreeMap<String, Text<255>>);

impl PartialSchema for Metadata {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().schema_type(Type::Object);
        object.additional_properties(Some(Text::<255>::schema())).into()
    }
}

impl ToSchema for Metadata {}

/// Makes the forms of a user of a table with a line for each field that is kept, and each that is
/// not.
macro_rules! user {
    (
        kept { $($(#[$doc:meta])* $name:ident: $type:ty;)* }
        forgotten { $($forgotten:ident;)* }
    ) => {
        /// A cardholder as a client sends it.
        #[derive(Default, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct UserForm {
            /// The issuer's name for the user; one is made where it is left out.
            pub token: Option<Token>,
            $($(#[$doc])* pub $name: Option<$type>,)*
            $(
                /// Taken and forgotten.
                #[schema(value_type = Option<serde_json::Value>)]
                pub $forgotten: Option<Forgotten>,
            )*
        }

        /// What is kept of a cardholder.
        #[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct UserFields {
            $(
                $(#[$doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $name: Option<$type>,
            )*
        }

        /// A cardholder as it is shown.
        #[derive(Serialize, ToSchema)]
        pub struct UserView {
            /// The issuer's name for the user.
            pub token: String,
            $(
                $(#[$doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$type>,
            )*
            /// ACTIVE, or SUSPENDED where `active` is false.
            pub status: &'static str,
            /// When it was made, RFC 3339 in UTC.
            #[schema(format = DateTime)]
            pub created_time: String,
            /// When it was changed last, RFC 3339 in UTC.
            #[schema(format = DateTime)]
            pub last_modified_time: String,
            /// Its version, which is in no body.
            #[serde(skip)]
            pub version: u64,
        }

        impl UserFields {
            /// These fields, with those that a form names in their place.
            fn changed_by(self, form: UserForm) -> UserFields {
                self.replaced_by(UserFields { $($name: form.$name,)* })
            }

            /// These fields, with others in their place.
            fn replaced_by(self, others: UserFields) -> UserFields {
                UserFields { $($name: others.$name.or(self.$name),)* }
            }
        }

        impl StoredUser {
            fn view(self, token: &str, version: u64) -> UserView {
                let is_active = self.fields.is_active();
                let status = if is_active { "ACTIVE" } else { "SUSPENDED" };
                let StoredUser { mut fields, created_time, last_modified_time, .. } = self;
                fields.active = Some(is_active);
                UserView {
                    token: token.to_owned(),
                    $($name: fields.$name,)*
                    status,
                    created_time,
                    last_modified_time,
                    version,
                }
            }
        }
    };
}

user! {
    kept {
        /// Whether the user's cards may be put into use; true if left out.
        active: bool;
        /// How the user is addressed.
        honorific: Text<10>;
        /// Given name.
        first_name: Text<40>;
        /// Middle name.
        middle_name: Text<40>;
        /// Family name.
        last_name: Text<40>;
        /// F or M.
        gender: Gender;
        /// Date of birth, `yyyy-MM-dd`, or a moment of that day.
        birth_date: Text<30>;
        /// E-mail address.
        email: Text<255>;
        /// Telephone number. Its last four digits can be the first PIN, where the product says so.
        phone: Text<16>;
        /// Street and number.
        address1: Text<255>;
        /// The rest of the address.
        address2: Text<255>;
        /// City.
        city: Text<40>;
        /// State or province.
        state: Text<32>;
        /// Postal code.
        postal_code: Text<10>;
        /// The same by its older name.
        zip: Text<10>;
        /// Country.
        country: Text<40>;
        /// Company.
        company: Text<255>;
        /// Whether the user holds a company's card.
        corporate_card_holder: bool;
        /// Whether the balance of `parent_token` is used.
        uses_parent_account: bool;
        /// The user that this one belongs to.
        parent_token: Token;
        /// The issuer's own names and values.
        metadata: Metadata;
    }
    forgotten {
        account_holder_group_token;
        authentication;
        birth_place;
        business_token;
        id_card_expiration_date;
        id_card_number;
        identifications;
        ip_address;
        nationality;
        notes;
        passport_expiration_date;
        passport_number;
        password;
        ssn;
        title;
    }
}

impl UserFields {
    /// Whether the user's cards may be put into use.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active.unwrap_or(true)
    }
}

/// A user as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredUser {
    fields: UserFields,
    created_time: String,
    last_modified_time: String,
    /// Of the payload that it was made with.
    digest: PayloadDigest,
}

/// Fields that a list of users can be sorted by.
pub const SORTS: &[&str] = &["token", "created_time", "last_modified_time"];

/// A new user. The same token with the same payload gives what is there.
///
/// # Errors
/// If the token stands for a user that was made with another payload, or the store has failed.
pub async fn create<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    form: UserForm,
) -> Result<UserView, Refused> {
    let created = create_unaudited(switch, call, form).await;
    audited(call.actor, "create user", created)
}

async fn create_unaudited<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    form: UserForm,
) -> Result<UserView, Refused> {
    let digest = PayloadDigest::of(&switch.vault.documents, "user", &form);
    let token = form.token.clone().map_or_else(Token::random, Ok)?;
    let token = token.as_str();
    let now = switch.clock.now().to_string();
    let stored = StoredUser {
        fields: UserFields::default().changed_by(form),
        created_time: now.clone(),
        last_modified_time: now,
        digest,
    };
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        if let Some(known) = switch.store.document(DocumentKind::User, token).await? {
            let stored = StoredUser::read(switch, &known)?;
            return match stored.digest == digest {
                true => Ok(stored.view(token, known.version)),
                false => Err(Refused::OtherPayload),
            };
        }
        if write(switch, call, (token, 0), &stored).await? {
            return shown(switch, token).await;
        }
    }
    Err(Refused::Busy)
}

/// Changes the fields of a user that the form names.
///
/// # Errors
/// If there is no such user, or it has another version than was expected.
pub async fn update<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    token: &str,
    form: UserForm,
    expected: &Expected,
) -> Result<UserView, Refused> {
    let updated = update_unaudited(switch, call, (token, expected), form).await;
    audited(call.actor, "change user", updated)
}

async fn update_unaudited<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    (token, expected): (&str, &Expected),
    form: UserForm,
) -> Result<UserView, Refused> {
    if form.token.as_ref().is_some_and(|named| named.as_str() != token) {
        return Err(Refused::Field { name: "token", expected: "the token of the path, or none" });
    }
    let changes = UserFields::default().changed_by(form);
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let known = switch.store.document(DocumentKind::User, token).await?;
        let known = known.ok_or(Refused::NoSuchUser)?;
        expected.check(known.version)?;
        let stored = StoredUser::read(switch, &known)?;
        let fields = stored.fields.clone().replaced_by(changes.clone());
        let last_modified_time = switch.clock.now().to_string();
        let stored = StoredUser { fields, last_modified_time, ..stored };
        if write(switch, call, (token, known.version), &stored).await? {
            return shown(switch, token).await;
        }
    }
    Err(Refused::Busy)
}

/// A user.
///
/// # Errors
/// If there is none with this token.
pub async fn show<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
) -> Result<UserView, Refused> {
    audit::of_reading(actor, "user", shown(switch, token).await)
}

async fn shown<W: Seams>(switch: &Switch<W>, token: &str) -> Result<UserView, Refused> {
    let document = switch.store.document(DocumentKind::User, token).await?;
    let document = document.ok_or(Refused::NoSuchUser)?;
    Ok(StoredUser::read(switch, &document)?.view(token, document.version))
}

/// What is kept of a user.
///
/// # Errors
/// If there is none with this token.
pub async fn fields<W: Seams>(switch: &Switch<W>, token: &str) -> Result<UserFields, Refused> {
    let document = switch.store.document(DocumentKind::User, token).await?;
    let document = document.ok_or(Refused::NoSuchUser)?;
    Ok(StoredUser::read(switch, &document)?.fields)
}

/// Whether the holder of the plastic with this token, if it has one, may use it.
pub(super) async fn is_holder_active<W: Seams>(
    switch: &Switch<W>,
    card: &str,
) -> Result<bool, Refused> {
    let details = card_details::of(switch, card).await?;
    match details.and_then(|(details, _)| details.user_token) {
        Some(user) => Ok(fields(switch, user.as_str()).await?.is_active()),
        None => Ok(true),
    }
}

/// A part of the list of all users.
///
/// # Errors
/// If `after` is the token of none.
pub async fn list<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    wanted: &Wanted,
) -> Result<Listed<UserView>, Refused> {
    audit::of_reading(actor, "users", listed(switch, wanted).await)
}

async fn listed<W: Seams>(
    switch: &Switch<W>,
    wanted: &Wanted,
) -> Result<Listed<UserView>, Refused> {
    let documents = listing::documents(switch, DocumentKind::User).await?;
    let view = |document: &Document| {
        let stored = StoredUser::read(switch, document)?;
        Ok(stored.view(&document.token, document.version))
    };
    let token = |view: &UserView| view.token.clone();
    match wanted.sort_by {
        // Versions rise with time, so that only what is shown has to be opened.
        "last_modified_time" => {
            let chosen =
                wanted.choose(documents, |it| it.version, |document| document.token.to_string())?;
            chosen.try_map(|document| view(&document))
        }
        "created_time" => {
            let views = documents.iter().map(|document| view(document));
            let views = views.collect::<Result<Vec<_>, Refused>>()?;
            wanted.choose(views, |view| view.created_time.clone(), token)
        }
        _ => {
            let chosen = wanted.choose(documents, |_| (), |document| document.token.to_string())?;
            chosen.try_map(|document| view(&document))
        }
    }
}

/// Writes a user where this version was read; whether nobody else did meanwhile.
async fn write<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    (token, read): (&str, u64),
    stored: &StoredUser,
) -> Result<bool, Refused> {
    let json = Zeroizing::new(serde_json::to_vec(stored).unwrap_or_default());
    debug_assert!(!json.is_empty(), "a user is a JSON object with texts as keys");
    let place = (DocumentKind::User, token);
    let change = DocumentChange::write(&switch.vault.documents, place, read, &json);
    let mut documents = vec![change.map_err(Refused::Sealing)?];
    documents.extend(call.made(switch, token)?);
    match switch.store.commit(Commit { documents, ..Commit::default() }, &mut None).await {
        Ok(_) => Ok(true),
        Err(CommitError::Changed(Changed::Document(..))) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A line for a change of a user, without anything of the person.
fn audited(
    actor: &Actor,
    action: &str,
    done: Result<UserView, Refused>,
) -> Result<UserView, Refused> {
    let refused = done.as_ref().err().map(Refused::code);
    let user = done.as_ref().ok().map(|view| view.token.as_str());
    tracing::info!(target: "audit", action, user, done = done.is_ok(), %actor, ?refused);
    done
}

impl StoredUser {
    fn read<W: Seams>(switch: &Switch<W>, document: &Document) -> Result<StoredUser, Refused> {
        let json = document.json(&switch.vault.documents).map_err(Refused::Sealing)?;
        serde_json::from_slice(&json).map_err(|_| Refused::DocumentUnreadable("user"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(json: &str) -> UserForm {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_must_not_be_known_is_not_kept() {
        let form = form(
            r#"{"first_name": "Ada", "ssn": "123456789", "password": "secret", "phone": "555",
                "identifications": [{"type": "SSN", "value": "123456789"}]}"#,
        );
        let kept = serde_json::to_string(&UserFields::default().changed_by(form)).unwrap();
        assert_eq!(kept, r#"{"first_name":"Ada","phone":"555"}"#);
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let before = UserFields::default().changed_by(form(r#"{"city": "Rome", "phone": "1"}"#));
        let after = before.changed_by(form(r#"{"phone": "2", "active": false, "state": null}"#));
        let json = serde_json::to_string(&after).unwrap();
        assert_eq!(json, r#"{"active":false,"phone":"2","city":"Rome"}"#);
        assert!(!after.is_active());
    }

    #[test]
    fn lengths_are_in_characters_and_nothing_is_repeated() {
        let long = "ä".repeat(40);
        assert!(serde_json::from_str::<Text<40>>(&format!("\"{long}\"")).is_ok());
        for wrong in [format!("\"{long}ä\""), "\"Ada\\u0000\"".to_owned()] {
            let error = serde_json::from_str::<Text<40>>(&wrong).unwrap_err().to_string();
            assert!(error.contains(", expected a text of at most 40") && !error.contains("Ada"));
        }
    }
}
