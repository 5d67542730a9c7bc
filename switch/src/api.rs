//! A door: HTTP with JSON, for who issues cards. It has threads of its own, so that nothing of it
//! runs on a thread that serves links: each call is parsed, `issuing` does it, and what comes back
//! is rendered.

mod api_keys;
mod body;
mod caller;
mod cards;
mod events;
mod if_match;
mod limits;
mod list;
mod once;
mod ping;
mod pins;
mod problem;
mod products;
mod query;
mod router;
mod simulate;
mod tls;
mod transactions;
mod transitions;
mod users;
mod whole;
mod wipe;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::EXPECT;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::clock::Clock;
use crate::config::{ApiConfig, Profile};
use crate::issuing::simulate::Simulator;
use crate::listener::{Door, Shares};
use crate::shutdown::Shutdown;
use crate::switch::{Seams, Switch};
use limits::CallLimits;
use once::UnderWay;
use whole::RequestIds;
use wipe::{HeldBody, Pieces, WipingStream};

/// What every call works with.
struct Api<W: Seams> {
    switch: Arc<Switch<W>>,
    limits: CallLimits,
    request_ids: RequestIds,
    simulator: Simulator,
    under_way: UnderWay,
    profile: Profile,
}

/// The OpenAPI 3.1 description of all routes, as indented JSON.
#[must_use]
pub fn description<W: Seams>() -> String {
    let json = serde_json::to_string_pretty(&router::openapi::<W>()).unwrap_or_default();
    debug_assert!(!json.is_empty(), "a description is an object with texts as keys");
    json
}

/// The bound address.
pub struct ApiListener {
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    profile: Profile,
}

impl ApiListener {
    /// Binds the address.
    ///
    /// # Errors
    /// If it cannot be bound, or has no TLS with these files; the text names them.
    pub fn bind(config: &ApiConfig) -> io::Result<ApiListener> {
        let (address, tls, profile) = (config.listen, config.tls.as_ref(), config.profile);
        let tls = tls.map(tls::acceptor).transpose()?;
        let bound = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(ApiListener { listener, tls, profile })
        });
        bound.map_err(|error| io::Error::new(error.kind(), format!("api: {address}: {error}")))
    }

    /// Where it really listens.
    ///
    /// # Errors
    /// As of the operating system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves calls on threads of its own until the switch stops; whether all of them have ended.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start<W: Seams>(
        self,
        switch: &Arc<Switch<W>>,
        shutdown: &Shutdown,
    ) -> io::Result<CancellationToken> {
        let threads = switch.limits.api.threads;
        let simulator = Simulator::new(switch.clock.now());
        let simulator = simulator.ok_or_else(|| io::Error::other("no dialect to simulate in"))?;
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("api")
            .enable_all()
            .build()?;
        let (switch, shutdown, ended) =
            (Arc::clone(switch), shutdown.clone(), CancellationToken::new());
        let has_ended = ended.clone().drop_guard();
        std::thread::Builder::new().name("api".to_owned()).spawn(move || {
            let _has_ended = has_ended;
            match runtime.block_on(async { TcpListener::from_std(self.listener) }) {
                Ok(listener) => {
                    let served = (listener, self.tls, self.profile);
                    runtime.block_on(serve(served, switch, simulator, shutdown));
                }
                Err(error) => tracing::error!(%error, "the API cannot be served"),
            }
        })?;
        Ok(ended)
    }
}

/// Accepts connections until the switch stops, then waits for the calls in flight.
async fn serve<W: Seams>(
    (listener, tls, profile): (TcpListener, Option<TlsAcceptor>, Profile),
    switch: Arc<Switch<W>>,
    simulator: Simulator,
    shutdown: Shutdown,
) {
    let limits = switch.limits.api;
    let metrics = Arc::clone(&switch.metrics.api);
    let mut door = Door::new(limits.connections_max, &metrics);
    let shares = Shares::new(limits.connections_per_address_max);
    let router = router::router(Arc::new(Api {
        switch: Arc::clone(&switch),
        limits: CallLimits::new(&limits),
        request_ids: RequestIds::default(),
        simulator,
        under_way: UnderWay::default(),
        profile,
    }));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.request_seconds_max);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let entered = door.enter(accepted, &switch.clock).await;
        let Some(((stream, peer), place)) = entered else { continue };
        let Some(share) = shares.take(peer.ip()) else {
            door.refuse(&switch.clock);
            continue;
        };
        let calls = Calls { router: router.clone(), peer, body_bytes_max: limits.body_bytes_max };
        // Small answers leave at once; who cannot have that still gets them.
        let _ = stream.set_nodelay(true);
        let (http, tls, shutdown) = (http.clone(), tls.clone(), shutdown.clone());
        let within = limits.request_seconds_max;
        // hyper waits for ever for who does not read his answer.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(within));
        let stream = Box::pin(stream);
        let connection = async move {
            let Some(tls) = tls else { return converse(http, stream, calls, shutdown).await };
            match timeout(within, tls.accept(stream)).await {
                Ok(Ok(stream)) => converse(http, stream, calls, shutdown).await,
                // What breaks is the affair of the peer.
                Ok(Err(_)) => false,
                Err(_) => true,
            }
        };
        let metrics = Arc::clone(&metrics);
        connections.spawn(async move {
            let _places = (place, share);
            metrics.timed_out.increment(u64::from(connection.await));
        });
    }
    connections.close();
    connections.wait().await;
}

/// What answers the calls of one connection.
#[derive(Clone)]
struct Calls {
    router: Router,
    peer: SocketAddr,
    body_bytes_max: usize,
}

impl Calls {
    async fn answer(
        self,
        request: hyper::Request<Incoming>,
        pieces: Pieces,
    ) -> Result<Response, Infallible> {
        let awaits = request.headers().contains_key(EXPECT);
        let (mut head, body) = request.into_parts();
        head.extensions.insert(ConnectInfo(self.peer));
        let body = HeldBody::new(body, pieces);
        let rest = body.share();
        let request = hyper::Request::from_parts(head, Body::new(body));
        let response = self.router.oneshot(request).await;
        // Who waits for a word before the body has not sent it.
        if !awaits {
            rest.read_rest(self.body_bytes_max).await;
        }
        response
    }
}

/// The calls of one connection, one after the other; whether it was too slow.
async fn converse(
    http: http1::Builder,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    calls: Calls,
    shutdown: Shutdown,
) -> bool {
    let pieces = Pieces::default();
    let service = service_fn({
        let pieces = pieces.clone();
        move |request| calls.clone().answer(request, pieces.clone())
    });
    let stream = TokioIo::new(WipingStream { stream, pieces: pieces.clone() });
    let was_too_slow = serve_calls(http.serve_connection(stream, service), shutdown).await;
    pieces.end();
    was_too_slow
}

/// Serves a connection to its end; whether it was too slow. hyper's buffers are gone then.
async fn serve_calls<I, S>(
    connection: http1::Connection<TokioIo<WipingStream<I>>, S>,
    shutdown: Shutdown,
) -> bool
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = shutdown.abandon.cancelled() => return false,
            }
        }
    };
    // What breaks otherwise is the affair of the peer.
    ended.is_err_and(|error| error.is_timeout() || is_slow_reader(&error))
}

/// Whether an answer was not read in time.
fn is_slow_reader(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}
