//! Given bytes on many connections, again and again, whatever the peer answers. A connection that ends is
//! opened again. What the bytes mean is up to `benches/abuse`.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::Plan;
use crate::buffer::WriteBuffer;
use crate::cli::{AttackOptions, Records};
use crate::client::connect::STEP_TIMEOUT;
use crate::client::connection::Established;
use crate::client::record_writer::RecordWriter;
use crate::client::tasks::Tasks;
use crate::client::tls::Tls;
use crate::error::Error;
use crate::measure::measurement::Measurement;
use crate::measure::process::Sample;

/// Records without content before one with content. rustls, OpenSSL and others accept 32.
const EMPTY_RECORDS: usize = 30;
/// Least size of one write of an attack with such records.
const WRITE_BYTES: usize = 16 << 10;
const READ_BYTES: usize = 64 << 10;
/// Before another attempt if none succeeds.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

pub async fn run(plan: Rc<Plan>, options: &AttackOptions) -> Result<Map<String, Value>, Error> {
    let attack = Rc::new(Attack::new(plan.clone(), options)?);
    let from = Sample::take(&[])?;
    let mut tasks = Tasks::default();
    for number in 0..plan.tunnels_or(1) {
        let attack = attack.clone();
        tasks.spawn(async move { attack.again(number).await });
    }
    let time = async {
        sleep(plan.time()).await;
        Ok(())
    };
    tasks.run_with(time).await?;
    let mut measurement = Measurement::default();
    measurement.add(&from, &Sample::take(&[])?, attack.opened.get() as f64);
    let mut report = measurement.report("attack", None);
    let sent = attack.sent.get() + plan.connector.handshake_bytes.get();
    for (name, count) in [
        ("attempts", attack.attempts.get()),
        ("sent_b", sent),
        ("received_b", attack.received.get()),
        ("open", attack.open.get()),
        ("most_open", attack.most_open.get()),
    ] {
        report.insert(name.into(), count.into());
    }
    Ok(report)
}

struct Attack {
    plan: Rc<Plan>,
    first: Vec<Vec<u8>>,
    repeat: Vec<u8>,
    records: Option<Records>,
    times: u64,
    pause: Duration,
    record_bytes: usize,
    answer: bool,
    paced: bool,
    unread: bool,
    half_close: bool,
    stay: bool,
    attempts: Cell<u64>,
    /// Connections of which the first bytes were sent, and answered if that is required.
    opened: Cell<u64>,
    open: Cell<u64>,
    most_open: Cell<u64>,
    sent: Cell<u64>,
    received: Cell<u64>,
}

impl Attack {
    fn new(plan: Rc<Plan>, options: &AttackOptions) -> Result<Self, Error> {
        let mut first = options.first.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if first.is_empty() {
            first.push(Vec::new());
        }
        let repeat = options.repeat.as_ref().map(read).transpose()?.unwrap_or_default();
        let repeat_empty = repeat.is_empty();
        Ok(Self {
            plan,
            first,
            repeat,
            records: options.records,
            times: if repeat_empty { 0 } else { options.times.unwrap_or(u64::MAX) },
            pause: Duration::from_secs_f64(options.pause),
            record_bytes: options.record,
            answer: options.answer,
            paced: options.paced,
            unread: options.unread,
            half_close: options.half_close,
            stay: options.stay,
            attempts: Cell::default(),
            opened: Cell::default(),
            open: Cell::default(),
            most_open: Cell::default(),
            sent: Cell::default(),
            received: Cell::default(),
        })
    }

    /// Opens a connection again and again.
    async fn again(&self, number: usize) -> Result<(), Error> {
        let first = &self.first[number % self.first.len()];
        loop {
            add(&self.attempts, 1);
            // The peer may end a connection as it likes.
            let pause = match self.connection(first).await {
                Ok(()) => self.pause,
                Err(_) => self.pause.max(RETRY_PAUSE),
            };
            sleep(pause).await;
        }
    }

    async fn connection(&self, first: &[u8]) -> Result<(), Error> {
        let (mut stream, records) = match self.plan.connector.tls {
            Some(_) => self.open_tls(first).await?,
            None => (self.open_plain(first).await?, None),
        };
        stream.set_zero_linger()?;
        add(&self.opened, 1);
        let _open = Open::new(self);
        let (mut reading, mut writing) = stream.split();
        let answered = Notify::new();
        let sending = self.send(&mut writing, records, &answered);
        if self.unread {
            return sending.await;
        }
        tokio::select! {
            ended = self.discard(&mut reading, &answered) => ended,
            done = sending => done,
        }
    }

    async fn open_plain(&self, first: &[u8]) -> Result<TcpStream, Error> {
        let opening = async {
            let mut stream = self.plan.connector.connect().await?;
            self.write(&mut stream, first).await?;
            if self.answer && stream.read(&mut [0; 1]).await? == 0 {
                return Err(Error::new("the peer closed the connection"));
            }
            Ok(stream)
        };
        timeout(STEP_TIMEOUT, opening).await.unwrap_or_else(|_| Err(Error::new("no answer")))
    }

    async fn open_tls(&self, first: &[u8]) -> Result<(TcpStream, Option<RecordWriter>), Error> {
        let established = self.plan.connector.open_stream(first).await?;
        let Established { mut stream, tls, mut partial, .. } = established;
        let Some(mut tls) = tls else { return Ok((stream, None)) };
        if self.answer {
            let answer = answer(&mut stream, &mut tls, &mut partial);
            timeout(STEP_TIMEOUT, answer).await.map_err(|_| Error::new("no answer"))??;
        }
        Ok((stream, Some(RecordWriter::new(*tls)?)))
    }

    /// Sends everything after the first bytes.
    async fn send(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        mut records: Option<RecordWriter>,
        answered: &Notify,
    ) -> Result<(), Error> {
        let mut out = Vec::new();
        if let (Some(records), 1..) = (&mut records, self.times) {
            records.start(&mut out)?;
            self.write(stream, &out).await?;
        }
        for _ in 0..self.times {
            match &mut records {
                Some(records) => {
                    out.clear();
                    self.encrypt(records, &mut out)?;
                    self.write(stream, &out).await?;
                }
                None => self.write(stream, &self.repeat).await?,
            }
            if self.paced {
                answered.notified().await;
            }
            if self.pause > Duration::ZERO {
                sleep(self.pause).await;
            }
        }
        if self.half_close {
            stream.shutdown().await?;
        }
        if self.stay {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    fn encrypt(&self, records: &mut RecordWriter, out: &mut Vec<u8>) -> Result<(), Error> {
        loop {
            for _ in 0..EMPTY_RECORDS {
                match self.records {
                    None => break,
                    Some(Records::Empty) => records.data(&[], out)?,
                    Some(Records::KeyUpdate) => records.key_update(out)?,
                }
            }
            for plain in self.repeat.chunks(self.record_bytes) {
                records.data(plain, out)?;
            }
            if self.records.is_none() || out.len() >= WRITE_BYTES {
                return Ok(());
            }
        }
    }

    async fn write(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        mut bytes: &[u8],
    ) -> Result<(), Error> {
        while !bytes.is_empty() {
            let count = stream.write(bytes).await?;
            add(&self.sent, count as u64);
            bytes = &bytes[count..];
        }
        Ok(())
    }

    async fn discard(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        answered: &Notify,
    ) -> Result<(), Error> {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            match stream.read(&mut bytes).await? {
                0 => return Ok(()),
                count => {
                    add(&self.received, count as u64);
                    answered.notify_one();
                }
            }
        }
    }
}

/// Counts a connection as open until it is dropped.
struct Open<'a>(&'a Attack);

impl<'a> Open<'a> {
    fn new(attack: &'a Attack) -> Self {
        add(&attack.open, 1);
        attack.most_open.set(attack.most_open.get().max(attack.open.get()));
        Self(attack)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

/// Reads until there is plaintext.
async fn answer(stream: &mut TcpStream, tls: &mut Tls, partial: &mut Vec<u8>) -> Result<(), Error> {
    loop {
        let (mut out, mut answered) = (WriteBuffer::default(), false);
        let progress = tls.process(partial, &mut out, |_| {
            answered = true;
            Ok(())
        })?;
        partial.drain(..progress.used);
        stream.write_all(out.as_slice()).await?;
        if answered {
            return Ok(());
        }
        partial.reserve(READ_BYTES);
        if progress.closed || stream.read_buf(partial).await? == 0 {
            return Err(Error::new("the peer closed the connection"));
        }
    }
}

fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get() + count);
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::from(error).context(path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio::task::spawn_local;

    use super::*;
    use crate::cli::{Cli, Role};

    /// Runs an attack against a server that closes each of two connections after nine bytes, and
    /// returns these.
    async fn received(options: &[&str]) -> (Vec<[u8; 9]>, Map<String, Value>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = spawn_local(async move {
            let mut seen = vec![[0; 9]; 2];
            for bytes in &mut seen {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.read_exact(bytes).await.unwrap();
            }
            seen
        });
        let common = ["loadgen", "attack", "--plain", "--seconds", "0.5", "--connect", &address];
        let cli = Cli::try_parse_from(common.iter().chain(options)).unwrap();
        let Role::Attack { common, attack } = cli.role else { panic!("not attack: {cli:?}") };
        let plan = Rc::new(Plan::unverified(common).unwrap());
        let report = run(plan, &attack).await.unwrap();
        (seen.await.unwrap(), report)
    }

    #[test]
    fn connections_send_their_bytes_and_are_opened_again() {
        let file = std::env::temp_dir().join(format!("loadgen-attack-{}", std::process::id()));
        fs::write(&file, "abc").unwrap();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build_local(Default::default()).unwrap();
        let (first, path) = ("--first", file.to_str().unwrap());
        let options = [first, path, "--repeat", path, "--times", "2", "--stay"];
        let (seen, report) = runtime.block_on(received(&options));
        fs::remove_file(&file).unwrap();
        assert_eq!(seen, vec![*b"abcabcabc"; 2]);
        assert!(report["sent_b"].as_u64() >= Some(18), "{report:?}");
        assert_eq!(report["most_open"], json!(1));
    }
}
