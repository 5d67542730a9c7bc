//! `echo-http`: an HTTP server that does as little as one can with the framework of the switch's
//! API. Each body goes back as it came. What a call of the API costs more is the API's own cost.

use std::io::{self, Write};
use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

/// Serves until the process ends. Prints `listening ADDRESS` first.
pub(crate) fn serve(address: SocketAddr, threads: u16) -> io::Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(threads.into()).enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        writeln!(io::stdout(), "listening {}", listener.local_addr()?)?;
        let answer =
            async |body: Bytes| (StatusCode::CREATED, [(CONTENT_TYPE, "application/json")], body);
        axum::serve(listener, Router::new().fallback(answer)).await
    })
}
