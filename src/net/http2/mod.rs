//! One stream of an HTTP/2 connection as a byte stream: what the client sends on it, and the memory that
//! waiting bytes take. The connection itself is in `src/downstream/http2/`.

pub mod receiver;
pub mod stream;
pub mod unread;
pub mod waiting;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
