//! The metrics port: GET and HEAD of `/metrics`, `/healthz` and `/readyz`, and nothing else. It asks nobody who they
//! are, so it tells no details and is bounded in every direction: one request a connection, few connections, small
//! heads, and a deadline over the whole of each.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::metrics::{Metrics, ReadyReport, TEXT_FORMAT};

/// Connections at one time; further ones wait in the kernel's queue. A Prometheus pair and a person need three.
const MAX_CONNECTIONS: usize = 16;
/// In which the request line and all headers must have come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(3);
/// In which a connection must be over, however slowly its peer reads. Prometheus gives a scrape 10 s by default.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// Headers of a request. Prometheus sends six.
const MAX_HEADERS: usize = 32;
/// Bytes of the request line and headers together.
const MAX_HEAD_BYTES: usize = 4096;
/// Buffer of a connection; 8192 is hyper's minimum.
const BUFFER_BYTES: usize = 8192;
/// After a failed `accept`: out of descriptors it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Looks at the conditions now.
pub type Ready = Arc<dyn Fn() -> ReadyReport + Send + Sync>;

/// How long a connection may take; tests shorten it.
#[derive(Clone, Copy)]
struct Deadlines {
    head: Duration,
    whole: Duration,
}

const DEADLINES: Deadlines = Deadlines { head: HEAD_TIMEOUT, whole: CONNECTION_DEADLINE };

/// Serves the port until `stop` turns true or its sender is gone. Scrapes under way are cut off then.
///
/// # Errors
/// If the listener can't be given to the runtime.
pub async fn serve(
    listener: std::net::TcpListener,
    metrics: Arc<Metrics>,
    ready: Ready,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    serve_within(listener, metrics, ready, stop, DEADLINES).await
}

async fn serve_within(
    listener: std::net::TcpListener,
    metrics: Arc<Metrics>,
    ready: Ready,
    mut stop: watch::Receiver<bool>,
    deadlines: Deadlines,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Dropped at the end, which ends every connection.
    let mut connections = JoinSet::new();
    while !*stop.borrow_and_update() {
        let accepted = tokio::select! {
            accepted = next(&listener, &places) => accepted,
            Some(_) = connections.join_next() => continue,
            changed = stop.changed() => match changed {
                Ok(()) => continue,
                Err(_) => break,
            },
        };
        match accepted {
            Ok((stream, place)) => {
                let (metrics, ready) = (Arc::clone(&metrics), Arc::clone(&ready));
                connections.spawn(async move {
                    connection(stream, metrics, ready, deadlines).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(name: "metrics_accept_failed", %error, "metrics port: can't accept; pausing");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    Ok(())
}

/// A connection with its place. The place comes first, so that those without one wait unaccepted.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn connection(stream: TcpStream, metrics: Arc<Metrics>, ready: Ready, deadlines: Deadlines) {
    let service = service_fn(move |request| {
        let response = answer(&request, &metrics, &ready);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(deadlines.head)
        .keep_alive(false)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(deadlines.whole, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(name: "metrics_connection_ended", %error, "metrics port: connection ended"),
        Err(_) => debug!(name: "metrics_connection_late", "metrics port: connection took too long"),
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics, ready: &Ready) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !["/metrics", "/healthz", "/readyz"].contains(&path) {
        return plain(StatusCode::NOT_FOUND, "not found: there are /metrics, /healthz and /readyz\n");
    }
    // hyper leaves the body of an answer to HEAD out, and keeps its length.
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => {
            // Some gauges are what the last look found.
            drop(ready());
            scrape(metrics)
        }
        "/readyz" => readyz(&ready()),
        // Whoever reads this knows that the process runs and its event loop turns: all that /healthz means.
        _ => plain(StatusCode::OK, "ok\n"),
    }
}

fn scrape(metrics: &Metrics) -> Response<Full<Bytes>> {
    match metrics.render() {
        Ok(text) => response(StatusCode::OK, TEXT_FORMAT, text),
        Err(error) => {
            warn!(name: "metrics_not_rendered", %error, "metrics port: can't render");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be rendered; the log says why\n")
        }
    }
}

fn readyz(report: &ReadyReport) -> Response<Full<Bytes>> {
    let status = if report.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match report.to_json() {
        Ok(json) => response(status, "application/json", json),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the report can't be written\n"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text)
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
#[path = "metrics_port_tests.rs"]
mod tests;
