//! The server: small pages for few clients, each in bounded time.

use std::{convert::Infallible, fs, future::Future, io, sync::Arc, thread, time::Duration};

use collapse_metrics::Format;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net,
    sync::{Semaphore, oneshot},
    time::{sleep, timeout},
};

use crate::rights;

use super::{
    address::{Address, Listener, Socket},
    shelf::Shelf,
};

/// Connections at a time; others wait.
const CONNECTIONS: usize = 16;

/// Time for a request's head.
const HEAD_TIME: Duration = Duration::from_secs(3);

/// Time for a connection from beginning to end.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// Most of a request that is read, bytes.
const HEAD_SIZE: usize = 16 << 10;

/// Pause after a connection that could not be accepted: descriptors may be short.
const PAUSE: Duration = Duration::from_millis(100);

/// The page at `/`.
const INDEX: &str = "<!doctype html><html lang=\"en\"><title>collapse</title><h1>collapse</h1>\
    <p>KVM's huge pages, per VM: <a href=\"/metrics\">metrics</a>, <a href=\"/healthz\">health</a>\n";

/// A server in a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    address: Address,
}

impl Server {
    /// Serves what is on the shelf.
    pub fn start(listener: Listener, shelf: Arc<Shelf>) -> io::Result<Self> {
        let Listener { socket, address } = listener;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serve = move || {
            rights::give_up_all();
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    failed = serve(socket, shelf) => {
                        if let Err(error) = failed {
                            log::warn!("metrics are not served any more: {error}");
                        }
                    }
                }
            });
        };
        let thread = thread::Builder::new().name("metrics".to_owned()).spawn(serve)?;
        Ok(Self { stop: Some(stop), thread: Some(thread), address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A thread that has ended listens no more, and has said why.
        drop(self.stop.take());
        let _ = self.thread.take().map(thread::JoinHandle::join);
        if let Address::Unix(path) = &self.address {
            let _ = fs::remove_file(path);
        }
    }
}

async fn serve(socket: Socket, shelf: Arc<Shelf>) -> io::Result<()> {
    match socket {
        Socket::Tcp(listener) => {
            let listener = net::TcpListener::from_std(listener)?;
            accept(shelf, async || Ok(listener.accept().await?.0)).await
        }
        Socket::Unix(listener) => {
            let listener = net::UnixListener::from_std(listener)?;
            accept(shelf, async || Ok(listener.accept().await?.0)).await
        }
    }
}

async fn accept<S, F>(shelf: Arc<Shelf>, mut next: impl FnMut() -> F) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        match next().await {
            Ok(stream) => {
                let shelf = Arc::clone(&shelf);
                tokio::spawn(async move {
                    // Whatever becomes of a connection is its client's affair.
                    let _ = timeout(CONNECTION_TIME, connection(stream, shelf)).await;
                    drop(place);
                });
            }
            Err(error) => {
                log::debug!("a connection could not be accepted: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    shelf: Arc<Shelf>,
) -> hyper::Result<()> {
    let answer = service_fn(|request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), accepts(&request), &shelf);
        async { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

fn accepts<B>(request: &Request<B>) -> &str {
    request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default()
}

fn respond(method: &Method, path: &str, accept: &str, shelf: &Shelf) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/metrics" => {
            let format = Format::negotiate(accept);
            match shelf.latest().map(|page| page.text(format)) {
                Some(Ok(text)) => page(StatusCode::OK, format.content_type(), text),
                _ => page(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "nothing was measured so far\n"),
            }
        }
        "/healthz" if shelf.is_fresh() => page(StatusCode::OK, PLAIN, "ok\n"),
        "/healthz" => page(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "nothing is being measured\n"),
        "/" => page(StatusCode::OK, "text/html; charset=utf-8", INDEX),
        _ => page(StatusCode::NOT_FOUND, PLAIN, "there are /metrics, /healthz and /\n"),
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn page(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (hyper::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (hyper::header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ] {
        page.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    page
}
