//! What a request said of itself, as records may show it; for a tunnel it is kept as long as the
//! tunnel lives, so it is packed into one allocation.

/// Texts of a request, already redacted and cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFields<'a> {
    /// `Host` as asked for; empty if there was none.
    pub host: &'a str,
    /// Target; empty if there was none.
    pub target: &'a str,
    /// `User-Agent` as sent.
    pub user_agent: Option<&'a str>,
    /// `X-Request-Id`, as the backend gets it.
    pub request_id: Option<&'a str>,
    /// `traceparent` (W3C Trace Context), if it was lawful.
    pub traceparent: Option<&'a str>,
    /// The subprotocol that the backend chose.
    pub subprotocol: Option<&'a str>,
}

/// The same in one piece of memory. What is absent costs a byte at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedFields(Box<str>);

impl RequestFields<'_> {
    /// One allocation of exactly as many bytes as it takes.
    pub fn pack(&self) -> PackedFields {
        let parts = [
            self.host,
            self.target,
            self.user_agent.unwrap_or_default(),
            self.request_id.unwrap_or_default(),
            self.traceparent.unwrap_or_default(),
            self.subprotocol.unwrap_or_default(),
        ];
        // Texts that were cut hold no such byte; one that does would only shift what follows.
        let joined = parts.join(BETWEEN);
        PackedFields(joined.trim_end_matches(BETWEEN).into())
    }
}

impl PackedFields {
    /// The texts again; an empty one counts as absent.
    pub fn particulars(&self) -> RequestFields<'_> {
        let mut parts = self.0.split(BETWEEN);
        let mut next = || parts.next().filter(|part| !part.is_empty());
        RequestFields {
            host: next().unwrap_or_default(),
            target: next().unwrap_or_default(),
            user_agent: next(),
            request_id: next(),
            traceparent: next(),
            subprotocol: next(),
        }
    }
}

const BETWEEN: &str = "\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
        for bits in 0..64 {
            let text = |bit: u32, text| if bits & (1 << bit) == 0 { "" } else { text };
            let given = RequestFields {
                host: text(0, "a.example"),
                target: text(1, "/ws?a=1"),
                user_agent: some(text(2, "Some Browser/1.0 (X11; \"odd\")")),
                request_id: some(text(3, "4e6a")),
                traceparent: some(text(4, "00-1-2-01")),
                subprotocol: some(text(5, "chat")),
            };
            assert_eq!(given.pack().particulars(), given);
        }
    }

    #[test]
    fn what_is_absent_is_nearly_free() {
        let given = RequestFields { host: "a", target: "/", ..RequestFields::default() };
        assert_eq!(given.pack().0.len(), 3);
        assert_eq!(RequestFields::default().pack().0.len(), 0);
        let chat = RequestFields { subprotocol: Some("chat"), ..given };
        assert_eq!(chat.pack().0.len(), 3 + 4 + 4);
        assert_eq!(size_of::<PackedFields>(), 16);
    }
}
