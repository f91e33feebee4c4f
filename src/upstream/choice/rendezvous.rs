//! Weighted rendezvous hashing: no state, the same result on every machine, and a backend that comes or
//! goes moves only the keys that it gets or had.

use crate::client::ClientKey;

/// A hashed key, to which the id of a backend is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash(u64);

impl KeyHash {
    /// The hash of a client key.
    pub fn of_client(key: ClientKey) -> Self {
        Self::of_text(&key.to_bytes())
    }

    /// The hash of any other key.
    pub fn of_text(text: &[u8]) -> Self {
        Self(fnv(FNV_OFFSET, text))
    }

    /// The score of a backend for this key. The backend with the highest `-w / ln(u)` is selected, which
    /// gives each backend the share `w / sum(w)` of all keys (Schindelhauer and Schomaker 2005).
    pub fn score(self, id: &str, weight: f64) -> f64 {
        -weight / self.fraction(id.as_bytes()).ln()
    }

    /// A number strictly between 0 and 1 for this key and `purpose`.
    pub fn fraction(self, purpose: &[u8]) -> f64 {
        // The upper 53 bits.
        ((self.with(purpose) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// FNV-1a (64 bits) over the bytes of the key and then of `more`, followed by the 64-bit finalizer of
    /// MurmurHash3, because FNV-1a alone gives similar upper bits for similar keys.
    ///
    /// This function must never change: a different one would assign every client of every deployment to a
    /// different backend.
    pub fn with(self, more: &[u8]) -> u64 {
        let mut hash = fnv(self.0, more);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

fn fnv(start: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    // Eight at a time, which takes half as long.
    let (chunks, rest) = bytes.as_chunks::<8>();
    let hash = chunks.iter().fold(start, |hash, chunk| chunk.iter().fold(hash, step));
    rest.iter().fold(hash, step)
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_never_changes() {
        assert_eq!(KeyHash::of_text(b"").with(b""), 0xefd0_1f60_ba99_2926);
        assert_eq!(KeyHash::of_text(b"tide").with(b"gate"), 0xc55e_1c4c_d59a_58e2);
    }
}
