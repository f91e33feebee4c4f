//! What all versions of HTTP have in common in the body of a request.

use bytes::Bytes;
use hyper::body::Body as HttpBody;

use crate::upstream::http1::connection::BodyError;

/// The body of a client's request, in any version of HTTP.
pub trait ClientBody:
    HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static
{
}

impl<B> ClientBody for B where
    B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static
{
}
