//! A connection for plain HTTP: a TCP stream and optional TLS.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connect::{Connector, STEP_TIMEOUT, within};
use super::connection::Established;
use super::tls::Tls;
use crate::buffer::WriteBuffer;
use crate::error::Error;

const READ_BYTES: usize = 256 << 10;

pub struct HttpConnection {
    stream: TcpStream,
    tls: Option<Box<Tls>>,
    wire: Vec<u8>,
    /// Bytes at the start of `wire` that are an incomplete TLS record.
    partial: usize,
    out: WriteBuffer,
}

impl HttpConnection {
    pub async fn open(connector: &Connector) -> Result<Self, Error> {
        let Established { stream, tls, partial: mut wire, .. } = connector.open_stream(&[]).await?;
        let partial = wire.len();
        wire.resize(partial + READ_BYTES, 0);
        Ok(Self { stream, tls, wire, partial, out: WriteBuffer::default() })
    }

    pub async fn send(&mut self, plain: &[u8]) -> Result<(), Error> {
        let bytes = match &mut self.tls {
            Some(tls) => {
                self.out.clear();
                tls.encrypt(plain, &mut self.out)?;
                self.out.as_slice()
            }
            None => plain,
        };
        within("request", STEP_TIMEOUT, async { Ok(self.stream.write_all(bytes).await?) }).await
    }

    /// Reads once and passes the plaintext to `on_plaintext`.
    pub async fn receive(
        &mut self,
        mut on_plaintext: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let read = self.stream.read(&mut self.wire[self.partial..]);
        let count = within("response", STEP_TIMEOUT, async { Ok(read.await?) }).await?;
        if count == 0 {
            return Err(Error::new("the peer closed the connection"));
        }
        let end = self.partial + count;
        let Some(tls) = &mut self.tls else { return on_plaintext(&self.wire[..end]) };
        self.out.clear();
        let progress = tls.process(&mut self.wire[..end], &mut self.out, on_plaintext)?;
        if progress.closed {
            return Err(Error::new("the peer sent close_notify"));
        }
        self.wire.copy_within(progress.used..end, 0);
        self.partial = end - progress.used;
        self.stream.write_all(self.out.as_slice()).await?;
        Ok(())
    }

    /// Sends close_notify and closes the connection.
    pub fn close(mut self) {
        if let Some(tls) = &mut self.tls {
            self.out.clear();
            tls.close_notify(&mut self.out);
            // The connection is closed either way.
            let _ = self.stream.try_write(self.out.as_slice());
        }
    }
}
