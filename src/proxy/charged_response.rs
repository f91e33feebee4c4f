//! The responses of backends keep the memory of their requests counted. In HTTP/2, what their clients do not read counts as
//! well.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::admission::request_memory::RequestCharge;
use crate::client::HttpProtocol;
use crate::downstream::response::{Body, BoxError, boxed};
use crate::net::http2::unread::UnreadResponse;

/// A response whose body holds the charge.
pub fn forwarded<B>(
    mut response: Response<B>,
    protocol: HttpProtocol,
    charge: &Arc<RequestCharge>,
) -> Response<B> {
    if protocol == HttpProtocol::Http2 {
        response.extensions_mut().insert(UnreadResponse::new(charge.clone()));
    }
    response
}

/// The response with which a backend declined an upgrade. Its body gets the charge.
pub fn declined(
    response: Response<Body>,
    protocol: HttpProtocol,
    charge: Arc<RequestCharge>,
) -> Response<Body> {
    let response = forwarded(response, protocol, &charge);
    response.map(|body| boxed(ChargedBody { body, _charge: charge }))
}

/// A body with the charge of its request.
#[derive(Debug)]
struct ChargedBody {
    body: Body,
    _charge: Arc<RequestCharge>,
}

impl HttpBody for ChargedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
