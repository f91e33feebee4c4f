//! Plain HTTP requests in a closed loop on kept-alive connections.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::task::JoinSet;

use super::Plan;
use crate::cli::Method;
use crate::client::connect::Connector;
use crate::client::http::HttpConnection;
use crate::error::Error;
use crate::http::{Body, BodyVerifier, Event, MessageReader, field};
use crate::measure::measurement::{Measurement, Stats};
use crate::measure::process::Sample;
use crate::message::MessagePool;

const MIB: u64 = 1 << 20;
/// Adjacent connections start with different messages, so that swapped responses are detected.
const APART: u64 = 7;
/// What a browser sends with a polling request of Socket.IO.
const POLLING_FIELDS: &str = "Connection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/142.0.0.0 Safari/537.36\r\nAccept: */*\r\nSec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nReferer: https://localhost/\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n";
const POLLING_QUERY: &str = "EIO=4&transport=polling&t=PfK4v2c&sid=lv_VI97HAXpY6yYWAAAC&";

/// Ends each connection after `count` requests, or all of them after the time of the plan.
pub async fn run(
    plan: &Plan,
    method: Method,
    count: Option<usize>,
) -> Result<Map<String, Value>, Error> {
    let size = plan.size_or(1 << 10) as u64;
    let load = Rc::new(Load {
        method,
        size,
        pool: Rc::new(MessagePool::unmasked(Body::part_bytes(size))?),
        path: plan.path_or(if method == Method::Poll { "/socket.io/" } else { "/" }).to_owned(),
        connector: plan.connector.clone(),
        stats: Stats::new(),
        opened: Cell::new(0),
    });
    let connections = plan.tunnels_or(64);
    let clients = (0..connections as u64).map(|number| Client::new(number, load.clone())).collect();
    let clients = match count {
        None => run_until(Stop::after(plan.warmup()), clients).await?,
        Some(_) => clients,
    };
    load.opened.set(0);
    let (before, from) = (load.stats.units.get(), Sample::take(&plan.common.pids)?);
    load.stats.measuring.set(true);
    let stop = count.map_or_else(|| Stop::after(plan.time()), Stop::AfterRequests);
    let clients = run_until(stop, clients).await?;
    let to = Sample::take(&plan.common.pids)?;
    let requests = load.stats.units.get() - before;
    clients.into_iter().filter_map(|client| client.connection).for_each(HttpConnection::close);

    let units = if size < MIB { requests as f64 } else { (requests * size) as f64 / MIB as f64 };
    let mut measurement = Measurement::default();
    measurement.add(&from, &to, units);
    let mut report = measurement.report("http", Some(&load.stats));
    report.insert("connections".into(), connections.into());
    report.insert("requests".into(), requests.into());
    report.insert("backend_connections_opened".into(), load.opened.get().into());
    Ok(report)
}

/// When a client sends no further request.
#[derive(Clone, Copy)]
enum Stop {
    At(Instant),
    AfterRequests(usize),
}

impl Stop {
    fn after(time: Duration) -> Self {
        Self::At(Instant::now() + time)
    }

    fn is_reached(self, requests: usize) -> bool {
        match self {
            Self::At(end) => Instant::now() >= end,
            Self::AfterRequests(count) => requests >= count,
        }
    }
}

/// Sends requests until `stop`, at least one for each client. Ends when every client has its last
/// response, so that no request is measured in part.
async fn run_until(stop: Stop, clients: Vec<Client>) -> Result<Vec<Client>, Error> {
    let mut running = JoinSet::new();
    for mut client in clients {
        running.spawn_local(async move {
            let (number, mut requests) = (client.number + 1, 0);
            loop {
                let done = client.request().await;
                done.map_err(|error| error.context(format!("connection {number}")))?;
                requests += 1;
                if stop.is_reached(requests) {
                    return Ok(client);
                }
            }
        });
    }
    let mut done = Vec::with_capacity(running.len());
    while let Some(ended) = running.join_next().await {
        done.push(ended.unwrap_or_else(|error| Err(Error::new(error.to_string())))?);
    }
    Ok(done)
}

/// What all clients share.
struct Load {
    method: Method,
    /// Size of a body in bytes.
    size: u64,
    pool: Rc<MessagePool>,
    path: String,
    connector: Rc<Connector>,
    stats: Rc<Stats>,
    /// Responses that were the first ones on their connection to the backend.
    opened: Cell<u64>,
}

struct Client {
    number: u64,
    load: Rc<Load>,
    /// Opened with the first request: proxies do not wait long for it.
    connection: Option<HttpConnection>,
    reader: MessageReader,
    next: u64,
}

impl Client {
    fn new(number: u64, load: Rc<Load>) -> Self {
        let (connection, reader) = (None, MessageReader::default());
        Self { number, load, connection, reader, next: number * APART }
    }

    async fn request(&mut self) -> Result<(), Error> {
        let start = Instant::now();
        self.exchange().await?;
        self.load.stats.latency(start.elapsed());
        self.load.stats.add(1);
        Ok(())
    }

    async fn exchange(&mut self) -> Result<(), Error> {
        let load = &self.load;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(HttpConnection::open(&load.connector).await?),
        };
        let (message, pool) = (self.next, load.pool.clone());
        self.next += 1;
        let is_post = match load.method {
            Method::Get => false,
            Method::Post => true,
            Method::Poll => message.is_multiple_of(2),
        };
        let body = Body::new(pool.clone(), if is_post { load.size } else { 0 }, message);
        for piece in body.with_head(&load.head(is_post, message)) {
            connection.send(&piece).await?;
        }
        let mut response = Response {
            reader: &mut self.reader,
            size: if is_post { 2 } else { load.size },
            generated: (!is_post).then(|| BodyVerifier::new(pool, message)),
            answer: Vec::new(),
            opened: false,
            is_complete: false,
        };
        while !response.is_complete {
            connection.receive(|plain| response.on_bytes(plain)).await?;
        }
        load.opened.set(load.opened.get() + u64::from(response.opened));
        Ok(())
    }
}

impl Load {
    /// The head of a request.
    fn head(&self, is_post: bool, message: u64) -> String {
        let Self { method, size, path, .. } = self;
        let host = &self.connector.host;
        let (query, mut fields) = match method {
            Method::Get | Method::Post => ("", "User-Agent: loadgen\r\nAccept: */*\r\n".to_owned()),
            Method::Poll => (POLLING_QUERY, POLLING_FIELDS.to_owned()),
        };
        if is_post {
            fields += &format!(
                "Origin: https://localhost\r\nContent-Type: text/plain;charset=UTF-8\r\n\
                 Content-Length: {size}\r\n"
            );
        }
        let verb = if is_post { "POST" } else { "GET" };
        format!(
            "{verb} {path}?{query}size={size}&message={message} HTTP/1.1\r\nHost: {host}\r\n\
             {fields}\r\n"
        )
    }
}

/// A response that is being received.
struct Response<'c> {
    reader: &'c mut MessageReader,
    /// Expected size of the body in bytes.
    size: u64,
    /// The expected body of a response to GET.
    generated: Option<BodyVerifier>,
    /// The body of a response to POST.
    answer: Vec<u8>,
    /// Whether it is the first one on its connection to the backend.
    opened: bool,
    is_complete: bool,
}

impl Response<'_> {
    fn on_bytes(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while let Some(event) = self.reader.next(&mut bytes)? {
            if self.is_complete {
                return Err(Error::new("received a response without a request"));
            }
            match event {
                Event::Head { text, length } => self.on_head(&text, length)?,
                Event::Body(part) => match &mut self.generated {
                    Some(generated) => generated.verify(part)?,
                    None => self.answer.extend_from_slice(part),
                },
            }
            self.is_complete = self.reader.is_complete();
        }
        if self.is_complete && self.generated.is_none() && self.answer != b"ok" {
            return Err(Error::new("wrong byte in the response to a POST"));
        }
        Ok(())
    }

    fn on_head(&mut self, head: &str, length: u64) -> Result<(), Error> {
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            let fault = field(head, "x-fault").unwrap_or_default();
            return Err(Error::new(format!("request rejected: {status}; {fault}")));
        }
        if length != self.size {
            let size = self.size;
            return Err(Error::new(format!("a response has {length} bytes, expected {size}")));
        }
        if field(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return Err(Error::new("the proxy does not keep the connection open"));
        }
        let number = field(head, "x-request-number");
        self.opened = number.ok_or_else(|| Error::new("not a response of the backend"))? == "1";
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::backend;
    use crate::cli::{Cli, Role};

    async fn report(address: &str, method: &str, size: &str, more: &[&str]) -> Map<String, Value> {
        let command = ["loadgen", "http", "--plain", "--connect", address, "--connections", "3"];
        let times = ["--seconds", "0", "--warmup", "0"];
        let load = ["--method", method, "--size", size];
        let command = command.into_iter().chain(times).chain(load);
        let cli = Cli::try_parse_from(command.chain(more.iter().copied())).unwrap();
        let Role::Http { common, method, count } = cli.role else { panic!("not http: {cli:?}") };
        run(&Plan::new(common, false).unwrap(), method, count).await.unwrap()
    }

    #[test]
    fn counts_requests_and_mib_of_each_method() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build_local(Default::default()).unwrap();
        runtime.block_on(async {
            let listener = backend::listen("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = listener.local_addr().unwrap().to_string();
            tokio::task::spawn_local(async move { backend::accept(&listener).await });
            for (method, size, units) in [
                ("get", "1024", 3.0),
                ("get", "0", 3.0),
                ("get", "1572864", 4.5),
                ("post", "1572864", 4.5),
                ("poll", "1024", 3.0),
            ] {
                let report = report(&address, method, size, &[]).await;
                let place = format!("{method} {size}: {report:?}");
                assert_eq!(report["units"], units, "{place}");
                assert_eq!(report["requests"], 3, "{place}");
                assert_eq!(report["backend_connections_opened"], 0, "{place}");
            }
            let counted = report(&address, "get", "9", &["--count", "5"]).await;
            assert_eq!(counted["requests"], 15, "{counted:?}");
        });
    }
}
