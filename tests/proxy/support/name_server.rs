//! A DNS server whose answers a test changes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// What is answered to queries for addresses.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These addresses, in this order.
    Addresses(Vec<Ipv4Addr>),
    /// These addresses of both families.
    Both(Vec<Ipv4Addr>, Vec<Ipv6Addr>),
    /// The name has no address.
    Empty,
    /// The name does not exist.
    NoSuchName,
    /// The server has failed.
    ServerFailure,
    /// Nothing.
    Silence,
}

/// A server at port 53 of 127.0.0.53, and the only one that `/etc/resolv.conf` names.
pub struct NameServer(Arc<Shared>);

struct Shared {
    answer: Mutex<Answer>,
    /// The names of queries for addresses, in order; those over TCP end with `/tcp`.
    queries: Mutex<Vec<String>>,
}

impl NameServer {
    /// Starts the server in a network of its own, with further lines in `/etc/resolv.conf`.
    #[expect(clippy::disallowed_methods, reason = "bounded by the test's own traffic")]
    pub async fn start(answer: Answer, more: &str) -> Self {
        let resolv = format!("nameserver 127.0.0.53\noptions timeout:1 attempts:1\n{more}");
        std::fs::write("/etc/resolv.conf", resolv).unwrap();
        let shared = Arc::new(Shared { answer: Mutex::new(answer), queries: Mutex::default() });
        let address = (Ipv4Addr::new(127, 0, 0, 53), 53);
        let udp = UdpSocket::bind(address).await.unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        let of_udp = shared.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                if let Some(mut response) = of_udp.respond(&buffer[..length], "") {
                    if response.len() > 512 {
                        // RFC 1035 4.2.1, with the flag TC.
                        response.truncate(length);
                        response[2] |= 2;
                        response[6..8].fill(0);
                    }
                    udp.send_to(&response, from).await.unwrap();
                }
            }
        });
        let of_tcp = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                tokio::spawn(serve(stream, of_tcp.clone()));
            }
        });
        Self(shared)
    }

    /// Changes the answers.
    pub fn answer(&self, answer: Answer) {
        *self.0.answer.lock().unwrap() = answer;
    }

    /// The names of queries for addresses so far, in order; those over TCP end with `/tcp`.
    pub fn queries(&self) -> Vec<String> {
        self.0.queries.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await.unwrap();
        if let Some(response) = shared.respond(&query, "/tcp") {
            let length = u16::try_from(response.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length[..], &response].concat()).await.unwrap();
        }
    }
}

impl Shared {
    /// The response to a query with one question (RFC 1035 4.1).
    fn respond(&self, query: &[u8], transport: &str) -> Option<Vec<u8>> {
        let (mut end, mut labels) = (12, Vec::new());
        while query[end] != 0 {
            let length = usize::from(query[end]);
            labels.push(String::from_utf8_lossy(&query[end + 1..=end + length]));
            end += 1 + length;
        }
        let is_v4 = query[end + 1..end + 3] == [0, 1];
        let is_v6 = query[end + 1..end + 3] == [0, 28];
        if is_v4 {
            self.queries.lock().unwrap().push(labels.join(".") + transport);
        }
        let v4 = |all: Vec<Ipv4Addr>| all.into_iter().map(IpAddr::V4).collect();
        let v6 = |all: Vec<Ipv6Addr>| all.into_iter().map(IpAddr::V6).collect();
        let (code, addresses): (u8, Vec<IpAddr>) = match self.answer.lock().unwrap().clone() {
            Answer::Addresses(addresses) | Answer::Both(addresses, _) if is_v4 => {
                (0, v4(addresses))
            }
            Answer::Both(_, addresses) if is_v6 => (0, v6(addresses)),
            Answer::Addresses(_) | Answer::Both(..) | Answer::Empty => (0, Vec::new()),
            Answer::ServerFailure => (2, Vec::new()),
            Answer::NoSuchName => (3, Vec::new()),
            Answer::Silence => return None,
        };
        let count = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        let head = [query[0], query[1], 0x81, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0];
        let mut response = [&head[..], &query[12..end + 5]].concat();
        for address in addresses {
            // The name of the question, A or AAAA, IN, a TTL of one second.
            let (kind, octets) = match address {
                IpAddr::V4(v4) => (1, v4.octets().to_vec()),
                IpAddr::V6(v6) => (28, v6.octets().to_vec()),
            };
            response.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 1, 0, octets.len() as u8]);
            response.extend(octets);
        }
        Some(response)
    }
}
