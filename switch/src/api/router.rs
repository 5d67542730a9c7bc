//! The routes, each with its description: what is served is what `/openapi.json` says.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::handler::Handler;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{MethodRouter, get};
use axum::{Router, middleware};
use utoipa::__dev::{SchemaReferences, Tags};
use utoipa::openapi::path::{Operation, Parameter};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Info, OpenApi, Paths, Ref, RefOr, Response, Schema};
use utoipa::{IntoResponses, Path};
use utoipa_axum::PathItemExt;
use utoipa_axum::router::OpenApiRouter;

use super::problem::{self, Changed, Door, Keyed, NoSuch, OfBody, OfList, Problem, Refusals};
use super::{
    Api, api_keys, caller, cards, events, ping, pins, products, simulate, transactions,
    transitions, users, whole,
};
use crate::switch::Seams;

/// All routes.
pub(super) fn router<W: Seams>(api: Arc<Api<W>>) -> Router {
    let (routes, _) = described::<W>().split_for_parts();
    // Written once: anybody may ask for it.
    let text = Bytes::from(super::description::<W>());
    let headers = [(CONTENT_TYPE, "application/json")];
    let routes = routes.route("/openapi.json", get(async move || (headers, text)));
    Router::new()
        // Marqeta's clients put /v3 before every path.
        .nest("/v3", routes.clone())
        .merge(routes)
        .fallback(async || Problem::new(Door::NoSuchResource, "no resource has this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(Door::MethodNotAllowed, "the resource has no such method")
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&api), whole::call::<W>))
        .with_state(api)
}

/// The description of all routes.
pub(super) fn openapi<W: Seams>() -> OpenApi {
    described::<W>().into_openapi()
}

/// The routes that clients know, in the order of the description.
fn described<W: Seams>() -> OpenApiRouter<Arc<Api<W>>> {
    OpenApiRouter::with_openapi(description())
        .add(ping::ping::<W>, ping::__path_ping)
        .add(ping::echo::<W>, ping::__path_echo)
        .add(api_keys::list::<W>, api_keys::__path_list)
        .add(api_keys::add::<W>, api_keys::__path_add)
        .add(api_keys::revoke::<W>, api_keys::__path_revoke)
        .add(events::list::<W>, events::__path_list)
        .add(users::list::<W>, users::__path_list)
        .add(users::create::<W>, users::__path_create)
        .add(users::show::<W>, users::__path_show)
        .add(users::update::<W>, users::__path_update)
        .add(products::list::<W>, products::__path_list)
        .add(products::create::<W>, products::__path_create)
        .add(products::show::<W>, products::__path_show)
        .add(products::update::<W>, products::__path_update)
        .add(cards::issue::<W>, cards::__path_issue)
        .add(cards::list::<W>, cards::__path_list)
        .add(cards::show::<W>, cards::__path_show)
        .add(cards::update::<W>, cards::__path_update)
        .add(cards::patch::<W>, cards::__path_patch)
        .add(cards::show_pan::<W>, cards::__path_show_pan)
        .add(cards::by_pan::<W>, cards::__path_by_pan)
        .add(cards::of_user::<W>, cards::__path_of_user)
        .add(transitions::create::<W>, transitions::__path_create)
        .add(transitions::show::<W>, transitions::__path_show)
        .add(transitions::of_card::<W>, transitions::__path_of_card)
        .add(transactions::list::<W>, transactions::__path_list)
        .add(transactions::show::<W>, transactions::__path_show)
        .add(transactions::related::<W>, transactions::__path_related)
        .add(transactions::of_card::<W>, transactions::__path_of_card)
        .add(pins::control::<W>, pins::__path_control)
        .add(pins::set::<W>, pins::__path_set)
        .add(pins::reveal::<W>, pins::__path_reveal)
        .add(pins::verify::<W>, pins::__path_verify)
        .add(pins::unblock::<W>, pins::__path_unblock)
        .add(pins::reset_tries::<W>, pins::__path_reset_tries)
        .add(simulate::authorization::<W>, simulate::__path_authorization)
        .add(simulate::authorization_advice::<W>, simulate::__path_authorization_advice)
        .add(simulate::clearing::<W>, simulate::__path_clearing)
        .add(simulate::reversal::<W>, simulate::__path_reversal)
        .add(simulate::financial::<W>, simulate::__path_financial)
        .add(simulate::financial_advice::<W>, simulate::__path_financial_advice)
        .add(simulate::withdrawal::<W>, simulate::__path_withdrawal)
        .add(simulate::balance_inquiry::<W>, simulate::__path_balance_inquiry)
        .add(simulate::card_transaction::<W>, simulate::__path_card_transaction)
        .add(simulate::fulfillment::<W>, simulate::__path_fulfillment)
}

fn description() -> OpenApi {
    let scheme = |scheme| SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build());
    let mut openapi = OpenApi::new(Info::new("pinswitch", env!("CARGO_PKG_VERSION")), Paths::new());
    openapi.info.description = Some(
        "The HTTP API of pinswitch, a real-time authorization switch for card issuers.".to_owned(),
    );
    let components = Components::builder()
        .schema_from::<problem::Body<'_>>()
        .schema_from::<problem::Mistake>()
        .parameter("audit_user", caller::audit_user_parameter())
        .security_scheme("basic", scheme(HttpAuthScheme::Basic))
        .security_scheme("bearer", scheme(HttpAuthScheme::Bearer));
    let components = refusals().into_iter().fold(components, |components, (name, responses)| {
        responses.into_iter().fold(components, |components, (status, response)| {
            components.response(format!("{name}{status}"), response)
        })
    });
    openapi.components = Some(components.build());
    let none: [&str; 0] = [];
    openapi.security =
        Some(["basic", "bearer"].map(|name| SecurityRequirement::new(name, none)).to_vec());
    openapi
}

/// Where `fields` chooses what is shown of one thing, none of its fields is sure to be there.
fn describe_parts(operation: &mut Operation, schemas: &mut Vec<(String, RefOr<Schema>)>) {
    let is_fields = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(parameter) => parameter.name == "fields",
        RefOr::Ref(_) => false,
    };
    if !operation.parameters.iter().flatten().any(is_fields) {
        return;
    }
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        for content in response.content.values_mut() {
            let RefOr::T(content) = content else { continue };
            let Some(RefOr::Ref(whole)) = &mut content.schema else { continue };
            let name = whole.ref_location.rsplit('/').next().unwrap_or_default().to_owned();
            // Of a list `fields` chooses what is shown of each item.
            let known = schemas.iter().find(|(known, _)| *known == name && name != "List");
            let Some((_, RefOr::T(Schema::Object(object)))) = known else { continue };
            let mut part = object.clone();
            part.required.clear();
            let name = format!("{name}Part");
            whole.ref_location = format!("#/components/schemas/{name}");
            schemas.push((name, RefOr::T(Schema::Object(part))));
        }
    }
}

/// How a call may be refused follows from what it takes; what its description says besides stays.
fn describe_refusals(is_of_one: bool, operation: &mut Operation) {
    let takes = |wanted: &str| {
        operation.parameters.iter().flatten().any(|parameter| match parameter {
            RefOr::T(parameter) => parameter.name == wanted,
            RefOr::Ref(_) => false,
        })
    };
    let of = [
        true,
        is_of_one,
        takes("count"),
        operation.request_body.is_some(),
        takes("Idempotency-Key"),
        takes("If-Match"),
    ];
    for ((name, responses), _) in refusals().into_iter().zip(of).filter(|(_, is_its)| *is_its) {
        for (status, _) in responses {
            let response = Ref::from_response_name(format!("{name}{status}"));
            operation.responses.responses.entry(status).or_insert(RefOr::Ref(response));
        }
    }
}

/// What is described once, with its name: how any call may be refused, one about one thing, for a
/// list, with a body, with an Idempotency-Key and with If-Match.
fn refusals() -> [(&'static str, BTreeMap<String, RefOr<Response>>); 6] {
    [
        ("Refused", Refusals::responses()),
        ("NoSuch", NoSuch::responses()),
        ("OfList", OfList::responses()),
        ("OfBody", OfBody::responses()),
        ("Keyed", Keyed::responses()),
        ("Changed", Changed::responses()),
    ]
}

/// Adds a route with its description. `utoipa_axum::routes!` does the same for functions that are
/// not generic.
trait Add<S> {
    fn add<H, T, P>(self, handler: H, description: P) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        P: Path + SchemaReferences + for<'t> Tags<'t>;
}

impl<S: Clone + Send + Sync + 'static> Add<S> for OpenApiRouter<S> {
    fn add<H, T, P>(self, handler: H, _: P) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        P: Path + SchemaReferences + for<'t> Tags<'t>,
    {
        let mut schemas = Vec::new();
        P::schemas(&mut schemas);
        let mut paths = Paths::new();
        let mut operation = P::operation();
        let tags = P::tags();
        // The name of its function is unique among those of its tag.
        operation.operation_id = operation.operation_id.map(|it| format!("{}_{it}", tags.concat()));
        describe_parts(&mut operation, &mut schemas);
        // Where a key is wanted, its owner may say for whom he acts.
        if operation.security.is_none() {
            let audit_user = Ref::new("#/components/parameters/audit_user");
            operation.parameters.get_or_insert_default().push(RefOr::Ref(audit_user));
        }
        describe_refusals(P::path().contains('{'), &mut operation);
        operation.tags = Some(tags.into_iter().map(str::to_owned).collect());
        paths.add_path_operation(P::path(), P::methods(), operation);
        let methods = P::methods().iter().fold(MethodRouter::new(), |router, method| {
            router.on(method.to_method_filter(), handler.clone())
        });
        self.routes((schemas, paths, methods))
    }
}
