//! The client side, against a server with rustls' buffered API.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::net::testing::configs_for;
use crate::net::tls_engine::ClientEngine;

type ClientStream<Io> = UnbufferedTls<ClientEngine, Io>;

async fn connected<Io: Transport>(
    (server, client): (ServerConfig, ClientConfig),
    near: Io,
    far: DuplexStream,
) -> (ClientStream<Io>, TlsStream<DuplexStream>) {
    let accept = TlsAcceptor::from(Arc::new(server)).accept(far);
    let name = ServerName::try_from("localhost").unwrap();
    let engine = ClientEngine::new(Arc::new(client), name).unwrap();
    // The server completes the handshake with the first data.
    let client = async {
        let mut stream = UnbufferedTls::connect(near, engine).await.unwrap();
        send(&mut stream, &[b"first"]).await.unwrap();
        ready(&mut stream).await.unwrap();
        *stream
    };
    let (near, far) = tokio::join!(client, accept);
    let mut far = far.unwrap();
    let mut first = [0; 5];
    far.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"first");
    (near, far)
}

#[tokio::test]
async fn client_relays_with_both_versions() {
    for version in [&TLS12, &TLS13] {
        let (near, far) = duplex(1 << 20);
        let (mut stream, mut far) = connected(configs_for(&[version]), near, far).await;
        assert_eq!(stream.engine_mut().common_state().protocol_version(), Some(version.version));
        for size in [1, 125, 16 * 1024, 60_000] {
            far.write_all(&vec![7; size]).await.unwrap();
            far.flush().await.unwrap();
            let mut got = 0;
            while got < size {
                let Received::Data(data) = recv(&mut stream).await.unwrap() else { panic!() };
                got += data.len();
            }
            send(&mut stream, &[&vec![7; size]]).await.unwrap();
            far.read_exact(&mut vec![0; size]).await.unwrap();
            assert!(is_idle(&stream));
        }
        close(&mut stream).await.unwrap();
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
        far.shutdown().await.unwrap();
        assert_eq!(recv(&mut stream).await.unwrap(), Received::Closed);
    }
}

#[tokio::test]
async fn finished_is_sent_with_the_first_data() {
    let (near, far) = duplex(1 << 20);
    let near = Counted { pipe: near, reads: 0, writes: 0 };
    let (stream, _far) = connected(configs_for(&[&TLS13]), near, far).await;
    // The ClientHello, and the Finished together with the data.
    assert_eq!(stream.wire.io.writes, 2);
}

#[tokio::test]
async fn wrong_name_is_an_error_and_sends_an_alert() {
    let (near, far) = duplex(1 << 20);
    let (server, client) = configs();
    let name = ServerName::try_from("other.example").unwrap();
    let engine = ClientEngine::new(Arc::new(client), name).unwrap();
    let accept = TlsAcceptor::from(Arc::new(server)).accept(far);
    let (near, far) = tokio::join!(UnbufferedTls::connect(near, engine), accept);
    assert_eq!(near.unwrap_err().kind(), io::ErrorKind::InvalidData);
    let alert = far.unwrap_err().to_string();
    assert!(alert.contains("BadCertificate"), "{alert}");
}
