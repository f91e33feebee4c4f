//! A handshake that an operator describes, as a browser or another program would send it.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{CONNECTION, HOST, ORIGIN, UPGRADE};
use hyper::http::request::Parts;
use hyper::{Request, Uri};

use crate::client::{ClientInfo, TlsInfo, TlsVersion};
use crate::control_protocol::response::{CommandError, CommandErrorKind};
use crate::proxy::snapshot::Snapshot;

/// A handshake described by an operator.
pub(super) struct HypotheticalRequest {
    pub(super) head: Parts,
    pub(super) host: Box<str>,
    pub(super) port: u16,
    pub(super) secure: bool,
    address: IpAddr,
    /// Whether the operator gave no address.
    pub(super) is_example_address: bool,
}

impl HypotheticalRequest {
    /// Builds the request that a browser or, without an origin, another program would send.
    pub(super) fn parse(
        url: &str,
        origin: Option<&str>,
        address: Option<&str>,
        headers: &[String],
    ) -> Result<Self, CommandError> {
        let bad = |message: String| CommandError::new(CommandErrorKind::BadRequest, message);
        let hint = "write an absolute URL, such as wss://chat.example.com/ws";
        let uri: Uri = url.parse().map_err(|_| bad(format!("\"{url}\" is not a URL; {hint}")))?;
        let scheme = uri.scheme_str().map(str::to_ascii_lowercase);
        let secure = match scheme.as_deref() {
            Some("wss" | "https") => true,
            Some("ws" | "http") => false,
            Some(_) | None => return Err(bad(format!("\"{url}\" is not a ws or wss URL; {hint}"))),
        };
        let Some(authority) = uri.authority() else {
            return Err(bad(format!("\"{url}\" has no host; {hint}")));
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = Request::builder()
            .uri(target)
            .header(HOST, authority.as_str())
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        for field in headers {
            let hint = "write NAME: VALUE, such as \"Cookie: room=7\"";
            let (name, value) = field
                .split_once(':')
                .ok_or_else(|| bad(format!("\"{field}\" is not a header field; {hint}")))?;
            request = request.header(name.trim(), value.trim());
        }
        let request = request.body(()).map_err(|error| bad(error.to_string()))?;
        let (is_example_address, address) = (address.is_none(), address.unwrap_or(EXAMPLE_ADDRESS));
        Ok(Self {
            head: request.into_parts().0,
            host: authority.host().to_ascii_lowercase().trim_end_matches('.').into(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            secure,
            address: address
                .parse()
                .map_err(|_| bad(format!("\"{address}\" is not an IP address")))?,
            is_example_address,
        })
    }

    /// The client that sends it, at the end of the TLS handshake.
    pub(super) fn client(&self, snapshot: &Snapshot) -> ClientInfo {
        let peer = SocketAddr::new(self.address, 0);
        let mut client = ClientInfo::new(peer, snapshot.settings.client_key, "explain".into());
        client.secure = self.secure;
        // Literal addresses are not sent as SNI (RFC 6066 3).
        let sni = self.host.parse::<IpAddr>().is_err() && !self.host.starts_with('[');
        client.tls = self.secure.then(|| TlsInfo {
            sni: sni.then(|| self.host.clone()),
            version: TlsVersion::V13,
            cipher: "",
        });
        client
    }
}

/// A documentation address, which belongs to no client (RFC 5737).
const EXAMPLE_ADDRESS: &str = "192.0.2.1";
