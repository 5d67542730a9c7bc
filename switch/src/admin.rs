//! Metrics and health over HTTP, on an address of their own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::hsm::Hsm;
use crate::listener::Door;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::switch::{Seams, Switch};

/// What the pages show.
struct Admin<W: Seams> {
    switch: Arc<Switch<W>>,
    metrics: PrometheusHandle,
    process: metrics_process::Collector,
    shutdown: Shutdown,
}

/// The bound address.
pub struct AdminListener(TcpListener);

impl AdminListener {
    /// Binds the address.
    ///
    /// # Errors
    /// If it cannot be bound; the text names it.
    pub async fn bind(address: SocketAddr) -> io::Result<AdminListener> {
        let listener = TcpListener::bind(address).await;
        listener
            .map(AdminListener)
            .map_err(|error| io::Error::new(error.kind(), format!("admin: {address}: {error}")))
    }

    /// Where it really listens.
    ///
    /// # Errors
    /// As of the operating system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves GET /metrics, /livez and /readyz until the process ends, so that a stop can be
    /// watched to its end. A connection has one request, so that it does not stay.
    pub async fn serve<W: Seams>(
        self,
        switch: Arc<Switch<W>>,
        metrics: PrometheusHandle,
        shutdown: Shutdown,
    ) {
        let limits = switch.limits.doors;
        let own = Arc::clone(&switch.metrics.admin);
        let process = metrics_process::Collector::default();
        process.describe();
        let admin = Arc::new(Admin { switch: Arc::clone(&switch), metrics, process, shutdown });
        let router = Router::new()
            .route("/metrics", get(metrics_page::<W>))
            .route("/livez", get(livez))
            .route("/readyz", get(readyz::<W>))
            .with_state(admin);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.admin_request_seconds_max)
            .keep_alive(false);
        let seconds_max = limits.admin_request_seconds_max + limits.admin_answer_seconds_max;
        let mut door = Door::new(limits.admin_connections_max, &own);
        loop {
            let accepted = self.0.accept().await;
            let Some(((stream, _), place)) = door.enter(accepted, &switch.clock).await else {
                continue;
            };
            let service = TowerToHyperService::new(router.clone());
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let own = Arc::clone(&own);
            tokio::spawn(async move {
                let _place = place;
                // What breaks otherwise is the affair of the peer.
                let too_slow = match timeout(seconds_max, connection).await {
                    Ok(ended) => ended.is_err_and(|error| error.is_timeout()),
                    Err(_) => true,
                };
                own.timed_out.increment(u64::from(too_slow));
            });
        }
    }
}

async fn metrics_page<W: Seams>(State(admin): State<Arc<Admin<W>>>) -> impl IntoResponse {
    admin.process.collect();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], admin.metrics.render())
}

/// The process answers: its event loop runs.
async fn livez() -> &'static str {
    "ok\n"
}

/// Whether requests can be answered, check by check; 503 if one fails.
async fn readyz<W: Seams>(State(admin): State<Arc<Admin<W>>>) -> impl IntoResponse {
    let stopping = admin.shutdown.stop.is_cancelled();
    let checks = [
        ("store", admin.switch.store.health().map_err(|error| error.to_string())),
        ("hsm", admin.switch.hsm.health().await.map_err(|error| error.to_string())),
        ("accepting", if stopping { Err("the switch is stopping".to_owned()) } else { Ok(()) }),
    ];
    let line = |(name, result): &(&str, Result<(), String>)| match result {
        Ok(()) => format!("{name}: ok\n"),
        Err(error) => format!("{name}: {error}\n"),
    };
    let ready = checks.iter().all(|(_, result)| result.is_ok());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, checks.iter().map(line).collect::<String>())
}
