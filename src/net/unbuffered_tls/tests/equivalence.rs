//! Random sequences of actions: [`UnbufferedTls`] must behave like tokio-rustls.
//!
//! [`UnbufferedTls`]: crate::net::unbuffered_tls::UnbufferedTls

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::client::TlsStream;

use crate::net::testing::{
    Received, close, connected_tokio, connected_unbuffered, ready, recv, send,
};
use crate::net::{SEND_BYTES_MAX, Stream};

/// One step of a test sequence.
#[derive(Clone, Debug)]
enum Action {
    ClientSends(usize),
    ServerSends(usize),
    KeyUpdate,
    ClientCloses,
    ServerCloses,
    Garbage,
    Fin,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (1_usize..30_000).prop_map(Action::ClientSends),
        6 => (1_usize..SEND_BYTES_MAX).prop_map(Action::ServerSends),
        2 => Just(Action::KeyUpdate),
        1 => Just(Action::ClientCloses),
        1 => Just(Action::ServerCloses),
        1 => Just(Action::Garbage),
        1 => Just(Action::Fin),
    ]
}

/// What each side received, and how its connection ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Observed {
    server_read: Vec<u8>,
    server_end: Option<String>,
    client_read: Vec<u8>,
    client_end: Option<String>,
}

/// Performs the actions, then disconnects.
async fn perform<S: Stream>(
    mut stream: S,
    mut far: TlsStream<DuplexStream>,
    actions: &[Action],
) -> Observed {
    let mut observed = Observed::default();
    let (mut client_closed, mut server_closed) = (false, false);
    for (n, action) in actions.iter().enumerate() {
        match action {
            Action::ClientSends(len) if !client_closed => {
                far.write_all(&vec![n as u8; *len]).await.unwrap();
                far.flush().await.unwrap();
            }
            Action::ServerSends(len) if !server_closed && observed.server_end.is_none() => {
                send(&mut stream, &[&[n as u8], &vec![n as u8; *len]]).await.unwrap();
            }
            Action::KeyUpdate if !client_closed => {
                far.get_mut().1.refresh_traffic_keys().unwrap();
                far.flush().await.unwrap();
            }
            Action::ClientCloses if !client_closed => {
                far.get_mut().1.send_close_notify();
                far.flush().await.unwrap();
                client_closed = true;
            }
            Action::ServerCloses if !server_closed => {
                close(&mut stream).await.unwrap();
                server_closed = true;
            }
            Action::Garbage => far.get_mut().0.write_all(&[23, 3, 3, 0, 20, 1]).await.unwrap(),
            Action::Fin => {
                far.get_mut().0.shutdown().await.unwrap();
                client_closed = true;
            }
            Action::ClientSends(_)
            | Action::ServerSends(_)
            | Action::KeyUpdate
            | Action::ClientCloses
            | Action::ServerCloses => continue,
        }
        receive_all(&mut stream, &mut observed).await;
        if matches!(action, Action::Garbage | Action::Fin) {
            break;
        }
    }
    if observed.server_end.is_none() {
        let _ = far.get_mut().0.shutdown().await;
        receive_all(&mut stream, &mut observed).await;
    }
    let _ = ready(&mut stream).await;
    drop(stream);
    let end = far.read_to_end(&mut observed.client_read).await;
    observed.client_end = Some(format!("{end:?}"));
    observed
}

/// Receives everything that is available.
async fn receive_all(stream: &mut impl Stream, observed: &mut Observed) {
    let timeout = std::time::Duration::from_millis(5);
    while observed.server_end.is_none() {
        match tokio::time::timeout(timeout, recv(stream)).await {
            Ok(Ok(Received::Data(data))) => observed.server_read.extend(data),
            Ok(Ok(end)) => observed.server_end = Some(format!("{end:?}")),
            Ok(Err(error)) => observed.server_end = Some(format!("{error:?}")),
            Err(_) => return,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..Default::default()
    })]

    /// The same actions have the same result as over tokio-rustls.
    #[test]
    fn behaves_like_tokio_rustls(actions in proptest::collection::vec(action(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (near, far) = duplex(1 << 22);
            let (stream, far) = connected_tokio(near, far).await;
            let expected = perform(stream, far, &actions).await;
            let (near, far) = duplex(1 << 22);
            let (stream, far) = connected_unbuffered(near, far).await;
            let actual = perform(stream, far, &actions).await;
            assert_eq!(actual, expected);
        });
    }
}
