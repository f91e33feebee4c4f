//! The fields of a request that records show. A tunnel keeps them for its lifetime, packed into one
//! allocation.

/// Texts of a request, already redacted and truncated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFields<'a> {
    /// Host that the request names; empty if there is none.
    pub host: &'a str,
    /// Request target; empty if there is none.
    pub target: &'a str,
    /// `User-Agent` header field, redacted like the others.
    pub user_agent: Option<&'a str>,
    /// `X-Request-Id` header field as forwarded to the backend.
    pub request_id: Option<&'a str>,
    /// `traceparent` header field, if it is valid (W3C Trace Context 3.2).
    pub traceparent: Option<&'a str>,
    /// Subprotocol that the backend selected.
    pub subprotocol: Option<&'a str>,
    /// What trusted proxies sent that could not be understood.
    pub forwarded_invalid: Option<&'a str>,
    /// Why the handshake would have been rejected if the violation were not only reported.
    pub would_reject: Option<&'a str>,
    /// Names of headers that were not forwarded because of an underscore.
    pub dropped_headers: Option<&'a str>,
    /// Why the first backend was the first, unless the client alone decided.
    pub choice: Option<&'a str>,
}

/// [`RequestFields`] in one allocation. An absent field takes at most one byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedFields(Box<str>);

impl RequestFields<'_> {
    /// Copies the fields into one allocation of exact size.
    pub fn pack(&self) -> PackedFields {
        let parts = [
            self.host,
            self.target,
            self.user_agent.unwrap_or_default(),
            self.request_id.unwrap_or_default(),
            self.traceparent.unwrap_or_default(),
            self.subprotocol.unwrap_or_default(),
            self.forwarded_invalid.unwrap_or_default(),
            self.would_reject.unwrap_or_default(),
            self.dropped_headers.unwrap_or_default(),
            self.choice.unwrap_or_default(),
        ];
        // Redacted text contains no line break; one would only shift the fields after it.
        let present = parts.iter().rposition(|part| !part.is_empty()).map_or(0, |last| last + 1);
        let parts = &parts[..present];
        let mut packed = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                packed.push(char::from(SEPARATOR));
            }
            packed.push_str(part);
        }
        PackedFields(packed.into())
    }
}

impl PackedFields {
    /// The packed fields; an empty text counts as absent.
    pub fn unpack(&self) -> RequestFields<'_> {
        let mut rest = Some(&*self.0);
        // The fields are too short for the searches of the library.
        let mut next = || {
            let packed = rest.take()?;
            let part = match packed.bytes().position(|byte| byte == SEPARATOR) {
                Some(end) => {
                    rest = packed.get(end + 1..);
                    packed.get(..end)?
                }
                None => packed,
            };
            Some(part).filter(|part| !part.is_empty())
        };
        RequestFields {
            host: next().unwrap_or_default(),
            target: next().unwrap_or_default(),
            user_agent: next(),
            request_id: next(),
            traceparent: next(),
            subprotocol: next(),
            forwarded_invalid: next(),
            would_reject: next(),
            dropped_headers: next(),
            choice: next(),
        }
    }
}

const SEPARATOR: u8 = b'\n';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_preserves_every_combination() {
        let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
        for bits in 0..1024 {
            let text = |bit: u32, text| if bits & (1 << bit) == 0 { "" } else { text };
            let given = RequestFields {
                host: text(0, "a.example"),
                target: text(1, "/ws?a=1"),
                user_agent: some(text(2, "Some Browser/1.0 (X11; \"odd\")")),
                request_id: some(text(3, "4e6a")),
                traceparent: some(text(4, "00-1-2-01")),
                subprotocol: some(text(5, "chat")),
                forwarded_invalid: some(text(6, "x-forwarded-proto: neither http nor https: on")),
                would_reject: some(text(7, "subprotocol that was not offered")),
                dropped_headers: some(text(8, "x_token, x_user")),
                choice: some(text(9, "round_robin")),
            };
            assert_eq!(given.pack().unpack(), given);
        }
    }

    #[test]
    fn absent_fields_take_almost_no_memory() {
        let given = RequestFields { host: "a", target: "/", ..RequestFields::default() };
        assert_eq!(given.pack().0.len(), 3);
        assert_eq!(RequestFields::default().pack().0.len(), 0);
        let chat = RequestFields { subprotocol: Some("chat"), ..given };
        assert_eq!(chat.pack().0.len(), 3 + 4 + 4);
        assert_eq!(size_of::<PackedFields>(), 16);
    }
}
