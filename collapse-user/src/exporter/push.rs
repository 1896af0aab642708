//! Sending to a collector of `OpenTelemetry` (OTLP over HTTP), from a thread of its own.
//!
//! All counters are those since the start, so that a message that did not arrive is made up for by the next: what is sent
//! again is the latest numbers, never older ones, and nothing piles up.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
    thread,
    time::Duration,
};

use collapse_feed::{Machine, recording::Clocks};
use collapse_metrics::Origin;
use http_body_util::Full;
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::oneshot,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::shelf::Shelf;
use crate::rights;

/// Tries of one sending, with these pauses in between.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)];

/// Time for one try.
const TRY_TIME: Duration = Duration::from_secs(5);

/// The path of OTLP's metrics.
const PATH: &str = "/v1/metrics";

/// A collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    address: SocketAddr,
    /// Host and port, as the request says them.
    authority: String,
    path: String,
}

impl FromStr for Collector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected http://ADDR:PORT, such as http://127.0.0.1:4318".to_owned();
        let url: Uri = text.parse().map_err(|_| expected())?;
        match url.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(
                    "there is no TLS: let a collector on this machine pass it on".to_owned()
                );
            }
            _ => return Err(expected()),
        }
        let authority = url.authority().ok_or_else(expected)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let address = match host {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            // A static program has no resolver of names.
            _ => host.parse().map_err(|_| format!("{host} is no IP address; {}", expected()))?,
        };
        let address = SocketAddr::new(address, authority.port_u16().unwrap_or(4318));
        let path = if url.path() == "/" { PATH } else { url.path() };
        Ok(Self { address, authority: authority.to_string(), path: path.to_owned() })
    }
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no answer within {TRY_TIME:?}")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("it answers {0}")]
    Status(StatusCode),
}

impl Refusal {
    /// Whether another try may help, as the protocol has it.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            _ => true,
        }
    }
}

/// A thread that sends what is on the shelf now and then.
#[derive(Debug)]
pub struct Push {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<io::Result<()>>,
}

impl Push {
    /// Sends every `interval`; without one, at the end only. `clocks` are those of `machine`, at any moment.
    pub fn start(
        to: Collector,
        interval: Option<Duration>,
        machine: Machine,
        clocks: Clocks,
        shelf: Arc<Shelf>,
    ) -> io::Result<Self> {
        let origin = Origin { host: machine.name, version: env!("CARGO_PKG_VERSION"), clocks };
        let (stop, mut stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut sender = Sender { to, origin, shelf, is_failing: false };
        let send = move || {
            rights::give_up_all();
            runtime.block_on(async {
                if let Some(interval) = interval {
                    tokio::select! {
                        _ = &mut stopped => {}
                        () = sender.send_every(interval) => {}
                    }
                } else {
                    // That it is dropped says the same.
                    let _ = stopped.await;
                }
                sender.send().await.map_err(|why| io::Error::other(why.to_string()))
            })
        };
        let thread = thread::Builder::new().name("otlp".to_owned()).spawn(send)?;
        Ok(Self { stop, thread })
    }

    /// Sends the last numbers.
    ///
    /// # Errors
    ///
    /// If they did not arrive.
    pub fn finish(self) -> io::Result<()> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
    }
}

struct Sender {
    to: Collector,
    origin: Origin,
    shelf: Arc<Shelf>,
    /// Whether the latest sending failed.
    is_failing: bool,
}

impl Sender {
    async fn send_every(&mut self, time: Duration) {
        let mut ticks = interval(time);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let sent = self.send().await;
            match &sent {
                Err(why) if !self.is_failing => {
                    log::warn!("cannot send to {}: {why}; going on", self.to.authority);
                }
                Ok(()) if self.is_failing => {
                    log::info!("{} takes metrics again", self.to.authority);
                }
                _ => {}
            }
            self.is_failing = sent.is_err();
        }
    }

    /// Sends the latest numbers, if there are any, with a few tries.
    async fn send(&self) -> Result<(), Refusal> {
        let mut sent = Ok(());
        for pause in PAUSES {
            sleep(pause).await;
            let Some(page) = self.shelf.latest() else { return Ok(()) };
            let message = page.otlp(&self.origin);
            sent = timeout(TRY_TIME, post(&self.to, message))
                .await
                .unwrap_or_else(|late| Err(late.into()));
            match &sent {
                Err(why) if why.is_temporary() => {}
                _ => break,
            }
        }
        sent
    }
}

async fn post(to: &Collector, message: Vec<u8>) -> Result<(), Refusal> {
    let stream = TcpStream::connect(to.address).await?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(&to.path)
        .header(HOST, &to.authority)
        .header(CONTENT_TYPE, "application/x-protobuf")
        .header(USER_AGENT, concat!("collapse/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(message)))
        .map_err(io::Error::other)?;
    let answer = requests.send_request(request);
    tokio::pin!(connection, answer);
    let answer = tokio::select! {
        answer = &mut answer => answer?,
        // It may end right behind the answer.
        _ = &mut connection => answer.await?,
    };
    if answer.status().is_success() { Ok(()) } else { Err(Refusal::Status(answer.status())) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use collapse_feed::{Mmu, fixtures::full_coverage};
    use collapse_metrics::{Exposition, Options, Scene};
    use collapse_model::Model;
    use collector::receive;

    use super::*;

    fn shelf() -> Arc<Shelf> {
        let (model, coverage) = (Model::default(), full_coverage(Mmu::Tdp));
        let scene = Scene { model: &model, coverage: &coverage, kernel: "6.12", version: "1" };
        let shelf = Arc::<Shelf>::default();
        shelf.put(Arc::new(Exposition::new(&scene, Options::default())));
        shelf
    }

    fn start(port: u16, interval: Option<Duration>) -> Push {
        let to = format!("http://127.0.0.1:{port}").parse().unwrap();
        let clocks = Clocks { monotonic: 0, wall: 1 };
        Push::start(to, interval, Machine::default(), clocks, shelf()).unwrap()
    }

    /// Answers one request, and returns its first line and the size of its message.
    fn answer(listener: &TcpListener, status: &str) -> (String, usize) {
        let mut received = receive(listener, status).unwrap();
        (received.head.swap_remove(0), received.message.len())
    }

    #[test]
    fn collectors_are_addresses() {
        let parse = |text: &str| text.parse::<Collector>();
        let collector = parse("http://127.0.0.1:4318").unwrap();
        assert_eq!(collector.address, SocketAddr::from(([127, 0, 0, 1], 4318)));
        assert_eq!(
            (collector.authority.as_str(), collector.path.as_str()),
            ("127.0.0.1:4318", PATH)
        );
        assert_eq!(parse("http://localhost").unwrap().address, collector.address);
        let other = parse("http://[::1]:80/otlp/v1/metrics").unwrap();
        assert_eq!((other.address.port(), other.path.as_str()), (80, "/otlp/v1/metrics"));
        for (text, says) in [
            ("https://127.0.0.1:4318", "no TLS"),
            ("http://collector:4318", "collector is no IP address"),
            ("127.0.0.1:4318", "expected http://"),
            ("", "expected http://"),
        ] {
            assert!(parse(text).unwrap_err().contains(says), "{text}");
        }
    }

    #[test]
    fn what_is_refused_for_now_is_sent_again_and_what_is_refused_for_good_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let push = start(port, None);
        let ends = thread::spawn(|| push.finish());
        let (line, size) = answer(&listener, "503 Service Unavailable");
        assert!(line == "post /v1/metrics http/1.1" && size > 1000, "{line} {size}");
        answer(&listener, "200 OK");
        ends.join().unwrap().unwrap();

        let push = start(port, None);
        let ends = thread::spawn(|| push.finish());
        answer(&listener, "400 Bad Request");
        let error = ends.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("400"), "{error}");
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_collector_that_comes_back_gets_numbers_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let push = start(address.port(), Some(Duration::from_millis(10)));
        answer(&listener, "200 OK");
        // Gone: nobody listens, and what comes is refused by the kernel.
        drop(listener);
        thread::sleep(Duration::from_millis(100));
        let listener = TcpListener::bind(address).unwrap();
        answer(&listener, "200 OK");
        drop(listener);
        // The last numbers do not arrive, which takes as long as all tries.
        assert!(push.finish().is_err());
    }
}
