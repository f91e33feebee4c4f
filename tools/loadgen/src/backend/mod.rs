//! The application behind the proxy: a plain WebSocket server, as cheap as it can be, since it
//! shares its core with the load.

mod head;
mod job;
mod peer;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::buffer::Outgoing;
use crate::fail::Fail;
use crate::pattern::Pool;
pub use head::field;
use peer::Peer;

const BACKLOG: i32 = 4096;
const READ_BYTES: usize = 256 << 10;
const HEAD_WAIT: Duration = Duration::from_secs(10);

/// What all sockets share.
pub struct House {
    /// One socket reads at a time, so one buffer does.
    reading: RefCell<Vec<u8>>,
    writing: RefCell<Outgoing>,
    pools: RefCell<HashMap<usize, Rc<Pool>>>,
    /// Who is at `/broadcast`.
    crowd: RefCell<BTreeMap<u64, Rc<Peer>>>,
    next: Cell<u64>,
}

impl House {
    fn pool(&self, size: usize) -> Result<Rc<Pool>, Fail> {
        if let Some(pool) = self.pools.borrow().get(&size) {
            return Ok(pool.clone());
        }
        let pool = Rc::new(Pool::bare(size)?);
        self.pools.borrow_mut().insert(size, pool.clone());
        Ok(pool)
    }
}

pub async fn run(address: SocketAddr) -> Result<(), Fail> {
    let listener = listen(address)?;
    writeln!(std::io::stdout().lock(), "listening {}", listener.local_addr()?)?;
    let house = Rc::new(House {
        reading: RefCell::new(vec![0; READ_BYTES]),
        writing: RefCell::default(),
        pools: RefCell::default(),
        crowd: RefCell::default(),
        next: Cell::new(0),
    });
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let house = house.clone();
                tokio::task::spawn_local(async move {
                    // Whatever a peer did wrong, it is told by its end.
                    let _ = serve(stream, house).await;
                });
            }
            // No descriptors: some will be free again.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(mut stream: TcpStream, house: Rc<House>) -> Result<(), Fail> {
    stream.set_nodelay(true)?;
    let (job, rest) = timeout(HEAD_WAIT, head::take(&mut stream, &house))
        .await
        .map_err(|_| Fail::new("no request"))??;
    let (reading, writing) = stream.into_split();
    let peer = Rc::new(Peer::new(writing));
    let here = house.next.replace(house.next.get() + 1);
    if job.listens() {
        house.crowd.borrow_mut().insert(here, peer.clone());
    }
    let done = job::run(reading, &peer, job, &house, rest).await;
    house.crowd.borrow_mut().remove(&here);
    done
}

fn listen(address: SocketAddr) -> Result<TcpListener, Fail> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into())?)
}
