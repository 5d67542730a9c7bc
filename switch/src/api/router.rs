//! The routes, each with its description: what is served is what `openapi.json` says.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::handler::Handler;
use axum::http::header::{ALLOW, CACHE_CONTROL, HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use axum::{Json, Router};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, Info, License, OpenApi, Paths};
use utoipa::{__dev::SchemaReferences, __dev::Tags, Path};
use utoipa_axum::router::OpenApiRouter;

use super::problem::{Door, Problem};
use super::{Api, api_keys, events, ping};
use crate::cards::Pan;
use crate::clock::Clock;
use crate::switch::Seams;

/// All routes, and their description.
pub(super) fn router<W: Seams>(api: Arc<Api<W>>) -> (Router, OpenApi) {
    let description = Components::builder()
        .security_scheme("basic", SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Basic).build()))
        .build();
    let mut openapi = OpenApi::new(info(), Paths::new());
    openapi.components = Some(description);
    let routes = OpenApiRouter::with_openapi(openapi)
        .add(ping::ping::<W>, ping::__path_ping)
        .add(api_keys::list::<W>, api_keys::__path_list)
        .add(api_keys::add::<W>, api_keys::__path_add)
        .add(api_keys::revoke::<W>, api_keys::__path_revoke)
        .add(events::list::<W>, events::__path_list);
    let (routes, openapi) = routes.split_for_parts();
    let described = openapi.clone();
    let routes = routes.route("/openapi.json", axum::routing::get(async move || Json(described)));
    // Marqeta's clients put /v3 before every path.
    let router = Router::new()
        .nest("/v3", routes.clone())
        .merge(routes)
        .fallback(async || Problem::new(Door::NoSuchResource, "no resource has this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(Door::MethodNotAllowed, "the resource has no such method")
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&api), whole::<W>))
        .with_state(api);
    (router, openapi)
}

/// The description of all routes.
#[must_use]
pub fn openapi() -> OpenApi { todo!() }

fn info() -> Info {
    let mut info = Info::new("pinswitch", env!("CARGO_PKG_VERSION"));
    info.description = Some("A real-time authorization switch for card issuers.".to_owned());
    info
}

/// Adds a route with its description.
trait Add<S> {
    fn add<H, T, P>(self, handler: H, description: P) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        P: Path + SchemaReferences;
}

impl<S: Clone + Send + Sync + 'static> Add<S> for OpenApiRouter<S> {
    fn add<H, T, P>(self, handler: H, _: P) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        P: Path + SchemaReferences,
    {
        let mut schemas = Vec::new();
        P::schemas(&mut schemas);
        let mut paths = Paths::new();
        paths.add_path_operation(P::path(), P::methods(), P::operation());
        let methods = P::methods().into_iter().fold(MethodRouter::new(), |router, method| {
            router.on(method.to_method_filter(), handler.clone())
        });
        self.routes((schemas, paths, methods))
    }
}
