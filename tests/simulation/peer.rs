//! A WebSocket peer, client or backend, that sends random messages and notes all that it receives. It
//! shares no code with the program: frames come from the reference builder of the property tests.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use ws::Side;

use crate::reference::{ParsedFrame, frame, frame_len, frames};
use crate::rng::Rng;

/// What one end of a tunnel sent and received.
#[derive(Debug, Default)]
pub struct PeerLog {
    /// Data frames, noted before they are written.
    pub sent: Vec<(u8, Vec<u8>)>,
    /// Raw bytes after the handshake.
    pub received: Vec<u8>,
    /// Whether it sent a whole Close.
    pub closed: bool,
    /// Whether writing ended inside a frame.
    pub stopped_inside_frame: bool,
    /// Whether reading ended with an error instead of an end.
    pub read_failed: bool,
    /// Whether the network broke the connection.
    pub network_broke: bool,
    /// Whether this peer ended the connection without a Close.
    pub left: bool,
}

/// How a peer ends, if nothing else ends the tunnel before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Close,
    Eof,
    Stay,
}

/// How writing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteEnd {
    /// After a whole Close.
    Closed,
    /// Possibly inside a frame.
    InsideFrame,
    /// Without a Close, as the peer wanted.
    Left,
    /// Reading had ended.
    NothingToAnswer,
}

/// Talks until the tunnel ends, or `deadline`. `payload_tag` makes the payloads of each tunnel and side
/// differ from all others.
pub async fn talk<S: AsyncRead + AsyncWrite>(
    stream: S,
    side: Side,
    payload_tag: u64,
    mut rng: Rng,
    deadline: Instant,
) -> PeerLog {
    let (reader, writer) = split(stream);
    let (answers, pending) = mpsc::channel(1024);
    let read = read(reader, side, answers, rng.fork(), deadline);
    let write = write(writer, side, payload_tag, pending, rng, deadline);
    let ((received, read_failed), (sent, end)) = tokio::join!(read, write);
    PeerLog {
        sent,
        received,
        closed: end == WriteEnd::Closed,
        stopped_inside_frame: end == WriteEnd::InsideFrame,
        read_failed,
        left: end == WriteEnd::Left,
        network_broke: false,
    }
}

/// Reads to the end. Has pings answered, and a Close.
async fn read<R: AsyncRead + Unpin>(
    mut reader: R,
    side: Side,
    answers: mpsc::Sender<Vec<u8>>,
    mut rng: Rng,
    deadline: Instant,
) -> (Vec<u8>, bool) {
    let (mut received, mut answered) = (Vec::new(), 0);
    let mut piece = vec![0; 16 << 10];
    let slow = rng.chance(20);
    loop {
        // Data that has arrived is read even after a deadline; a slow reader needs an end.
        if Instant::now() >= deadline {
            return (received, true);
        }
        if slow && rng.chance(30) {
            sleep(Duration::from_millis(rng.below(2_000))).await;
        }
        let most = rng.between(1, piece.len() as u64) as usize;
        match timeout_at(deadline, reader.read(&mut piece[..most])).await {
            Ok(Ok(0)) => return (received, false),
            Ok(Ok(len)) => received.extend_from_slice(&piece[..len]),
            Ok(Err(_)) | Err(_) => return (received, true),
        }
        let next = frame_len(&received[answered..]);
        if next.is_none_or(|len| len > (received.len() - answered) as u64) {
            continue;
        }
        let (whole, rest) = frames(&received[answered..]);
        for ParsedFrame { first, payload, .. } in whole {
            let answer = match first {
                0x89 => frame(side, 0x8a, &payload),
                0x88 => frame(side, 0x88, &payload),
                _ => continue,
            };
            // A writer that has ended answers nothing any more.
            let _ = answers.try_send(answer);
        }
        answered = received.len() - rest;
    }
}

/// Writes random messages with pauses, and answers between frames.
async fn write<W: AsyncWrite + Unpin>(
    mut writer: W,
    side: Side,
    payload_tag: u64,
    mut answers: mpsc::Receiver<Vec<u8>>,
    mut rng: Rng,
    deadline: Instant,
) -> (Vec<(u8, Vec<u8>)>, WriteEnd) {
    let mut sent = Vec::new();
    let mut messages = rng.below(40);
    let leaving = [Ending::Close, Ending::Eof, Ending::Stay][rng.below(3) as usize];
    let mut queue: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut next = Instant::now();
    loop {
        let bytes = tokio::select! {
            biased;
            answer = answers.recv() => match answer {
                Some(answer) => answer,
                // The reader has ended: nothing more comes back.
                None => return (sent, WriteEnd::NothingToAnswer),
            },
            () = sleep_until(next) => {
                if queue.is_empty() && messages > 0 {
                    messages -= 1;
                    queue = message(&mut rng, payload_tag, sent.len());
                    next = Instant::now() + pause(&mut rng);
                }
                if queue.is_empty() {
                    match leaving {
                        Ending::Stay => next = deadline,
                        Ending::Eof => {
                            let _ = writer.shutdown().await;
                            return (sent, WriteEnd::Left);
                        }
                        Ending::Close => {
                            let close = frame(side, 0x88, &1000u16.to_be_bytes());
                            let failed = writer.write_all(&close).await.is_err();
                            let end = if failed { WriteEnd::InsideFrame } else { WriteEnd::Closed };
                            return (sent, end);
                        }
                    }
                    if Instant::now() >= deadline {
                        return (sent, WriteEnd::Left);
                    }
                    continue;
                }
                let (first, payload) = queue.remove(0);
                let bytes = frame(side, first, &payload);
                sent.push((first, payload));
                bytes
            }
        };
        let is_close = bytes[0] == 0x88;
        match timeout_at(deadline, writer.write_all(&bytes)).await {
            Ok(Ok(())) if is_close => return (sent, WriteEnd::Closed),
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return (sent, WriteEnd::InsideFrame),
        }
    }
}

/// A message in one to three frames.
fn message(rng: &mut Rng, payload_tag: u64, count: usize) -> Vec<(u8, Vec<u8>)> {
    let len = match rng.below(10) {
        0 => 0,
        1..=6 => rng.below(200),
        7..=8 => rng.below(8_000),
        _ => rng.below(150_000),
    };
    let mut content = Rng::new(payload_tag ^ ((count as u64) << 32));
    let payload: Vec<u8> = (0..len).map(|_| content.next() as u8).collect();
    let parts = rng.between(1, 3) as usize;
    let size = payload.len() / parts + 1;
    let mut pieces: Vec<Vec<u8>> = payload.chunks(size).map(<[u8]>::to_vec).collect();
    if pieces.is_empty() {
        pieces.push(Vec::new());
    }
    let last = pieces.len() - 1;
    let first = |at: usize| (if at == 0 { 2 } else { 0 }) | (if at == last { 0x80 } else { 0 });
    pieces.into_iter().enumerate().map(|(at, piece)| (first(at), piece)).collect()
}

fn pause(rng: &mut Rng) -> Duration {
    Duration::from_millis(match rng.below(20) {
        0 => rng.between(10_000, 70_000),
        1..=6 => rng.below(1_000),
        _ => rng.below(5),
    })
}
