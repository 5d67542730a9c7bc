//! `/cardproducts`: the products, in Marqeta's shapes and with what is ours and Galileo's besides.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use super::Api;
use super::caller::Caller;
use super::if_match::{IfMatch, etag};
use super::list::{Fields, List, ListOf, ListParameters, ListQuery};
use super::once::{IdempotencyKey, OnceBody};
use super::problem::Problem;
use super::query::Query;
use crate::config::ProductSettings;
use crate::issuing::Refused;
use crate::issuing::api_keys::Scope;
use crate::issuing::products::{self, ManagedBy, ProductView};
use crate::issuing::tokens::Token;
use crate::switch::Seams;

const LIST: ListOf = ListOf { count: 5, sorts: products::SORTS, sort_by: "-created_time" };

/// Who may read products: who makes them, and who makes cards of them.
const READERS: [Scope; 2] = [Scope::Products, Scope::CardsRead];

/// A number, or a text with it.
#[derive(Deserialize)]
struct NumberOrText;

impl PartialSchema for NumberOrText {
    fn schema() -> RefOr<Schema> {
        let types = SchemaType::from_iter([Type::Integer, Type::Number, Type::String]);
        ObjectBuilder::new().schema_type(types).into()
    }
}

impl ToSchema for NumberOrText {}

/// A product. Its settings have the names of a `[[products]]` table of the configuration, whose
/// comments say more; Marqeta's and Galileo's stand beside them. Each is there once, in whichever
/// spelling.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Product)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct ProductForm {
    /// Its name, by which cards refer to it; one is made where it is left out.
    token: Option<Token>,
    /// What people call it. A new one needs it.
    #[schema(min_length = 1, max_length = 40)]
    name: Option<String>,
    /// Shown as it was sent. A new one needs it.
    #[schema(format = Date)]
    start_date: Option<String>,
    /// Shown as it was sent.
    #[schema(format = Date)]
    end_date: Option<String>,
    /// Shown as it was sent; false if left out. Nothing depends on it.
    active: Option<bool>,
    /// Marqeta's groups: `fulfillment`, `card_life_cycle`, `poi`, `transaction_controls` and
    /// others, most of which are only shown.
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
    /// Leading digits of the PANs of its cards, 4 to 11 each.
    bins: Option<Vec<String>>,
    /// ISO 4217 numeric code of the accounts.
    currency: Option<NumberOrText>,
    /// Offset in which the last day of an expiry month ends, such as `-06:00`.
    #[schema(pattern = "^[+-][0-9]{2}:[0-9]{2}$")]
    utc_offset: Option<String>,
    /// When a PIN must come: `cash`, `card_present` or `never`.
    pin_required: Option<String>,
    /// Consecutive wrong PINs that suspend the card, or `none`; 3 if left out.
    pin_retry_limit: Option<NumberOrText>,
    /// Whether a PIN that is set lifts a suspension for wrong PINs; false if left out.
    pin_set_lifts_suspension: Option<bool>,
    /// Whether PINs of its cards may be shown; false if left out.
    pin_viewable: Option<bool>,
    /// Largest amount of a transaction, in minor units of `currency`.
    #[schema(minimum = 1)]
    limit_per_transaction: Option<u64>,
    /// Currencies that are allowed, ISO 4217 numeric; all if left out.
    allowed_currencies: Option<Vec<u16>>,
    /// How new PINs are verified.
    #[schema(value_type = Option<Object>)]
    pin_verification: Option<Value>,
    /// How PINs that were set before may be verified still.
    #[schema(value_type = Option<Vec<Object>>)]
    earlier_pin_verification: Option<Value>,
    /// Its chips: the names of their keys, `imk_ac`, `imk_smi` and `imk_smc`, and their rules.
    #[schema(value_type = Option<Object>)]
    chip: Option<Value>,
    /// The embosser that gets its files.
    #[schema(min_length = 1, max_length = 64)]
    embosser: Option<String>,
    /// Country, ISO 3166-1 alpha-2. `MX` has rules of its own.
    #[schema(pattern = "^[A-Z]{2}$")]
    region: Option<String>,
    /// Cardholder verification methods of its chips, the first first: `pin_online`, `pin_offline`,
    /// `signature`, `no_cvm`. Left out, the PIN comes first: online, but in Canada and Latin
    /// America (not Colombia) offline, where the chip holds it.
    cvm_order: Option<Vec<String>>,
    /// Galileo's parameters.
    parameters: Option<GalileoParameters>,
    /// `file` where the configuration decides what it is, and else `api`.
    #[schema(read_only)]
    managed_by: Option<String>,
    /// When it was made, RFC 3339 in UTC.
    #[schema(read_only, format = DateTime)]
    created_time: Option<String>,
    /// When it was changed last, RFC 3339 in UTC.
    #[schema(read_only, format = DateTime)]
    last_modified_time: Option<String>,
}

/// Galileo's parameters of a product.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "UPPERCASE")]
#[expect(dead_code, reason = "only its description is used")]
struct GalileoParameters {
    /// Y: the PIN is encoded in the chip. Otherwise it is verified online only.
    emvop: Option<String>,
    /// PINBLOCK: the emboss file has the encrypted PIN block.
    embfl: Option<String>,
    /// A decimal amount in the product's currency: below it no offline PIN is needed after a change
    /// of the PIN.
    ftpam: Option<NumberOrText>,
    /// For how many days after a change of the PIN that holds.
    ftpdy: Option<NumberOrText>,
    /// How many days the PIN block of a changed PIN is kept for the chip; 7 if left out.
    ofpbe: Option<NumberOrText>,
    /// Y: a reissue keeps the PIN. Otherwise it becomes 0000.
    kppin: Option<String>,
    /// Y: a card that replaces a lost or stolen one, or is reissued, gets a random PIN. Region MX
    /// only.
    srpel: Option<String>,
    /// `home_phone`, `mobile_phone` or `prn`: the last four digits of which are the first PIN.
    caspo: Option<String>,
    /// The first statuses of the account (two letters) and of the card (one).
    xaact: Option<String>,
}

/// A part of all products.
#[utoipa::path(
    get,
    path = "/cardproducts",
    tag = "cardproducts",
    params(
        ("sort_by" = Option<String>, Query,
         pattern = "^-?(token|name|start_date|startDate|created_time|createdTime|\
                    last_modified_time|lastModifiedTime)$",
         description = "What it is sorted by; with `-` before it, the largest first."),
        ListParameters,
    ),
    responses(
        (status = 200, description = "The part; the newest come first.", body = List),
    ),
)]
pub(super) async fn list<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
) -> Result<Json<List>, Problem> {
    let actor = caller.may_one_of(&READERS)?;
    let query = ListQuery::read(query, &LIST)?;
    let part = products::part(&api.switch, actor, &query.wanted).await?;
    Ok(query.answer(part.try_map(|view| Ok::<_, Problem>(shown(view)))?))
}

/// A new product. The same token with the same settings gives the same answer again.
#[utoipa::path(
    post,
    path = "/cardproducts",
    tag = "cardproducts",
    params(IdempotencyKey),
    request_body = ProductForm,
    responses(
        (status = 201, description = "The product, as it was sent.", body = ProductForm,
         headers(("ETag" = String, description = "Its version, for If-Match."))),
    ),
)]
pub(super) async fn create<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(mut settings, named): OnceBody<ProductSettings>,
) -> Result<impl IntoResponse, Problem> {
    let actor = caller.may(Scope::Products)?;
    query.finish()?;
    let token = token(&mut settings)?;
    let begun = api.begin(actor, &named).await?;
    let product = match begun.made_token() {
        Some(made) => products::show(&api.switch, actor, made).await?,
        None => products::create(&api.switch, begun.call, token, settings).await?,
    };
    Ok((StatusCode::CREATED, etag(product.version), Json(shown(product))))
}

/// A product.
#[utoipa::path(
    get,
    path = "/cardproducts/{token}",
    tag = "cardproducts",
    params(
        ("token" = String, Path, description = "The product's token."),
        ("fields" = Option<String>, Query, pattern = "^[a-z0-9_]+(,[a-z0-9_]+)*$",
         description = "Names of the fields that are shown; all if left out."),
    ),
    responses(
        (status = 200, description = "The product, or the fields that were asked for.",
         body = ProductForm,
         headers(("ETag" = String, description = "Its version, for If-Match."))),
    ),
)]
pub(super) async fn show<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(token): Path<String>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let actor = caller.may_one_of(&READERS)?;
    let fields = Fields::take(&mut query);
    query.finish()?;
    let product = products::show(&api.switch, actor, &token).await?;
    Ok((etag(product.version), Json(fields.of(&shown(product)))))
}

/// Changes the settings of a product that the body names; tables are merged, and `null` removes a
/// setting. Its cards follow the new rules from the answer on.
#[utoipa::path(
    put,
    path = "/cardproducts/{token}",
    tag = "cardproducts",
    params(
        ("token" = String, Path, description = "The product's token."),
        ("If-Match" = Option<String>, Header,
         description = "Only where the product has one of these versions still."),
        IdempotencyKey,
    ),
    request_body = ProductForm,
    responses(
        (status = 200, description = "The product as it is now.", body = ProductForm,
         headers(("ETag" = String, description = "Its version, for If-Match."))),
    ),
)]
pub(super) async fn update<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(path): Path<String>,
    (query, IfMatch(expected)): (Query, IfMatch),
    OnceBody(mut changes, named): OnceBody<ProductSettings>,
) -> Result<impl IntoResponse, Problem> {
    let actor = caller.may(Scope::Products)?;
    query.finish()?;
    if token(&mut changes)?.is_some_and(|token| token.as_str() != path) {
        let expected = "the token of the path, or none";
        return Err(Refused::Field { name: "token", expected }.into());
    }
    let begun = api.begin(actor, &named).await?;
    let product = match begun.made_token() {
        Some(made) => products::show(&api.switch, actor, made).await?,
        None => products::update(&api.switch, begun.call, &path, &changes, &expected).await?,
    };
    Ok((etag(product.version), Json(shown(product))))
}

/// The token among settings.
fn token(settings: &mut ProductSettings) -> Result<Option<Token>, Refused> {
    match settings.take("token") {
        None | Some(Value::Null) => Ok(None),
        Some(token) => Token::read(token.as_str().unwrap_or_default()).map(Some),
    }
}

/// A product as it is shown: its settings as they were sent, and what is known besides.
pub(super) fn shown(view: ProductView) -> Map<String, Value> {
    let order: Vec<_> = view.cvm_order.iter().map(|one| one.name()).collect();
    let ProductView { token, managed_by, settings, created_time, last_modified_time, .. } = view;
    let is_of_file = managed_by == ManagedBy::File;
    let mut shown = Map::new();
    shown.insert("name".to_owned(), json!(token));
    shown.insert("active".to_owned(), json!(is_of_file));
    if !order.is_empty() {
        shown.insert("cvm_order".to_owned(), json!(order));
    }
    let given = settings.entries().iter().filter(|(_, value)| !value.is_null());
    shown.extend(given.map(|(name, value)| (name.clone(), value.clone())));
    for (name, value) in [
        ("token", Some(json!(token))),
        ("managed_by", Some(json!(managed_by))),
        ("created_time", created_time.map(Value::from)),
        ("last_modified_time", last_modified_time.map(Value::from)),
    ] {
        shown.extend(value.map(|value| (name.to_owned(), value)));
    }
    shown
}
