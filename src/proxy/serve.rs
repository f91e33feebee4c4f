//! One TCP connection, in order: permit, PROXY header, a turn, TLS, then HTTP until the connection ends or becomes
//! a tunnel. Each request is handled in `request.rs`.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Response;
use tokio::select;
use tokio::time::timeout;

use super::dropped::report_drop;
use super::opening::Opening;
use super::redirect::ListenerRedirect;
use super::request::ConnectionContext;
use super::serve_http2::OpenedHttp2;
use super::session::{PendingTunnel, start};
use super::snapshot::Snapshot;
use super::state::ProxyState;
use crate::admission::concurrency::Permit;
use crate::admission::pending::PendingConnection;
use crate::admission::pending_memory::{BUFFER_BYTES, UNREAD_BYTES};
use crate::admission::turns::{OpeningProgress, Turn, Turns};
use crate::client::{AddrSource, ClientInfo, ClientKey, HttpProtocol};
use crate::config::settings::ListenerSettings;
use crate::downstream::h1::{self, ConnectionWait, Served};
use crate::downstream::http2::preface;
use crate::downstream::interim::InterimSender;
use crate::listener::key::ListenerKey;
use crate::listener::proxy_protocol::read_proxy_header;
use crate::listener::socket::AcceptedStream;
use crate::net::Stream;
use crate::net::plain::PlainStream;
use crate::net::socket::Socket;
use crate::reject::drop_reason::DropReason;
use crate::sessions::connection::Connection;
use crate::sys::clock::now;
use crate::telemetry::metrics::HandshakeStage;
use crate::telemetry::metrics::handles::OpenConnection;
use crate::tls::terminate::TlsConnection;

/// Serves an accepted connection from its first byte to its record.
pub async fn serve(state: Arc<ProxyState>, accepted: AcceptedStream, key: ListenerKey) {
    let started = now();
    let snapshot = state.snapshot();
    // A reload removed the listener while the connection was accepted.
    let Some(listener) = snapshot.listener(key) else { return };
    let counted = snapshot.listener_counts(key).map(|counts| counts.accepted());
    let prefixes = snapshot.settings.client_key;
    let mut client = ClientInfo::new(accepted.peer, prefixes, listener.name.clone());
    let accepting = accept_connection(&state, &snapshot, listener, accepted, counted, &mut client);
    match accepting.await {
        Ok(None) => {}
        // In a task of its own, which keeps neither the snapshot nor the memory of the opening.
        Ok(Some(http2)) => drop(state.tasks.spawn(http2.serve(state.clone(), key, started))),
        Err(reason) => {
            report_drop(&state, &snapshot, Some(listener), &client, &reason, now() - started);
        }
    }
}

/// A connection with a permit, before its first byte is read.
struct AdmittedConnection<'a> {
    snapshot: &'a Snapshot,
    listener: &'a ListenerSettings,
    io: Socket,
    local: SocketAddr,
    permit: Permit,
    pending: Arc<PendingConnection>,
    counted: Option<OpenConnection>,
    /// Since when it waits for its turn.
    waiting: Instant,
}

/// Takes a permit before any work that costs more. `client` is shown in the record of a dropped connection
/// and is completed step by step.
async fn accept_connection(
    state: &Arc<ProxyState>,
    snapshot: &Snapshot,
    listener: &ListenerSettings,
    accepted: AcceptedStream,
    counted: Option<OpenConnection>,
    client: &mut ClientInfo,
) -> Result<Option<OpenedHttp2>, DropReason> {
    let settings = &snapshot.settings;
    let AcceptedStream { mut io, mut local, .. } = accepted;
    let check = |client: &ClientInfo| {
        listener.addresses.check(&client.addr).map_err(DropReason::AddressDenied)?;
        // The connections of a trusted proxy belong to many clients.
        if snapshot.trusted_proxies.contains(&client.addr) {
            return Ok(());
        }
        snapshot.client_rates.connections.admit(client.key)
    };
    if !listener.proxy_protocol {
        check(client)?;
    }
    if listener.proxy_protocol && !snapshot.trusted_proxies.contains(&client.addr) {
        return Err(DropReason::ProxyHeaderUntrusted);
    }
    // Before the PROXY header its client is unknown.
    let newcomer = (!listener.proxy_protocol).then_some(client.key);
    let mut permit = state
        .concurrency
        .admit_connection(snapshot.capacity.connections, || state.pending.make_room(newcomer))?;
    if listener.proxy_protocol
        && let Some(address) = proxy_header(state, snapshot, &mut io, client).await?
    {
        local = address;
        // A header without addresses is a check of the balancer itself, which is a trusted proxy.
        check(client)?;
    }
    let pending = if snapshot.trusted_proxies.contains(&client.addr) {
        PendingConnection::permanent()
    } else {
        let limit = settings.concurrency.connections_per_client;
        let make_room = || state.pending.make_room_of_client(client.key);
        permit.assign_client(client.key, limit, make_room)?;
        state.pending.add(client.key)
    };
    let waiting = now();
    let turn = first_turn(&state.turns, client.key, &pending, settings.timeouts.tls).await?;
    let key = client.key;
    let admitted = AdmittedConnection {
        snapshot,
        listener,
        io,
        local,
        permit,
        pending: pending.clone(),
        counted,
        waiting,
    };
    let work = Box::pin(secure_and_serve(state, admitted, client));
    let opening = Opening::new(work, pending, state.turns.clone(), key, turn);
    opening.await.map_err(DropReason::Shed)?
}

/// Waits until this connection may be worked on, at most for `limit`.
async fn first_turn(
    turns: &Arc<Turns>,
    client: ClientKey,
    pending: &PendingConnection,
    limit: Duration,
) -> Result<Turn, DropReason> {
    let request = turns.request(client, OpeningProgress::New);
    select! {
        biased;
        cause = poll_fn(|cx| pending.poll_shed(cx)) => Err(DropReason::Shed(cause)),
        turn = timeout(limit, request) => turn.map_err(|_| DropReason::Overloaded),
    }
}

/// Performs the TLS handshake if the listener has TLS, then serves HTTP.
async fn secure_and_serve(
    state: &Arc<ProxyState>,
    admitted: AdmittedConnection<'_>,
    client: &mut ClientInfo,
) -> Result<Option<OpenedHttp2>, DropReason> {
    let AdmittedConnection { snapshot, listener, mut io, local, permit, pending, counted, waiting } =
        admitted;
    let context = |client: &ClientInfo, waited: Duration| ConnectionContext {
        state: state.clone(),
        connection: Arc::new(Connection::accepted(client.clone(), permit, counted)),
        local,
        health_path: listener.health_path.clone(),
        request_head: listener.request_head,
        redirect: ListenerRedirect::of(listener),
        waited,
        pending,
    };
    let started = now();
    state.metrics.handshake_stage_took(HandshakeStage::Turn, started.duration_since(waiting));
    match (&snapshot.tls, listener.tls) {
        (Some(tls), true) => {
            // The wait and the TLS handshake share one deadline.
            let limit =
                snapshot.settings.timeouts.tls.saturating_sub(started.duration_since(waiting));
            let terminating = Box::pin(tls.terminate(io, limit, listener.http2));
            let TlsConnection { stream, info, protocol } = terminating.await?;
            state.metrics.handshake_stage_took(HandshakeStage::Tls, now().duration_since(started));
            (client.secure, client.tls, client.protocol) = (true, Some(info), protocol);
            if protocol == HttpProtocol::Http2 {
                return OpenedHttp2::open(stream, context(client, Duration::ZERO)).await;
            }
            serve_http(stream, context(client, Duration::ZERO)).await?;
        }
        // The configuration requires certificates for a TLS listener, so this case does not occur.
        (None, true) => {}
        (_, false) => {
            let mut waited = Duration::ZERO;
            if listener.http2 {
                let limit = snapshot.settings.timeouts.request_header;
                client.protocol = preface::detect(&mut io, limit, state.wait_draining()).await?;
                waited = now().duration_since(started);
            }
            let stream = Box::new(PlainStream::new(io));
            if client.protocol == HttpProtocol::Http2 {
                return OpenedHttp2::open(stream, context(client, waited)).await;
            }
            serve_http(stream, context(client, waited)).await?;
        }
    }
    Ok(None)
}

/// Reads the PROXY header and replaces `client` by the client that it names. Returns the address that the
/// client connected to, if the header contains addresses.
async fn proxy_header(
    state: &ProxyState,
    snapshot: &Snapshot,
    io: &mut Socket,
    client: &mut ClientInfo,
) -> Result<Option<SocketAddr>, DropReason> {
    let settings = &snapshot.settings;
    let reading = read_proxy_header(io, settings.timeouts.proxy_header);
    let Some(proxied) = Box::pin(reading).await? else { return Ok(None) };
    let source = AddrSource::ProxyHeader;
    *client = client.forwarded_for(proxied.source, source, settings.client_key);
    state.metrics.forwarded_address(source);
    Ok(Some(proxied.destination))
}

/// Serves HTTP until the connection ends or becomes a tunnel, which is then started.
async fn serve_http<S: Stream + Send + 'static>(
    stream: Box<S>,
    context: ConnectionContext,
) -> Result<(), DropReason> {
    let context = Arc::new(context);
    let (state, limits) = (&context.state, context.request_head);
    let timeouts = context.timeouts();
    let handler = |request, framing, interim: InterimSender| {
        let context = context.clone();
        async move {
            context.pending.set_busy();
            let send_interim = |response: &Response<()>| interim.send(response);
            let reply = context.handle_request(request, framing, &send_interim).await;
            context.pending.set_opened();
            reply
        }
    };
    let on_wait = |wait: ConnectionWait| {
        if wait.is_idle {
            context.pending.set_idle();
        }
        context.pending.set_buffered(buffered_bytes(wait));
    };
    let serving = h1::serve(stream, timeouts, limits, state.wait_draining(), handler, on_wait);
    let served: Served<S, PendingTunnel> = Box::pin(serving).await?;
    match served {
        Served::Closed => {}
        Served::Upgraded(client, tunnel) => start(state, client, *tunnel),
        Served::Abandoned(tunnel) => tunnel.abandon(),
    }
    Ok(())
}

/// The memory that a connection takes for what it waits with, in bytes.
fn buffered_bytes(wait: ConnectionWait) -> u64 {
    let head = wait.head_bytes as u64;
    // hyper's buffer grows by doubling.
    let buffers = if wait.has_buffers { BUFFER_BYTES + 2 * head } else { head };
    buffers + if wait.is_stalled { UNREAD_BYTES } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connection_without_a_turn_is_dropped_as_overloaded() {
        let client = ClientKey::sample(1);
        let turns = Turns::new(1);
        let limit = Duration::from_secs(10);
        let pending = PendingConnection::permanent();
        let held = first_turn(&turns, client, &pending, limit).await.unwrap();
        let waited = now();
        let dropped = first_turn(&turns, client, &pending, limit).await.unwrap_err();
        assert_eq!((dropped, now() - waited), (DropReason::Overloaded, limit));
        drop(held);
        first_turn(&turns, client, &pending, limit).await.unwrap();
    }
}
