//! Bytes on their way out. It never shrinks what it has filled with zeros once, so that a big
//! write does not begin with clearing its memory.

#[derive(Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Outgoing {
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    pub fn clear(&mut self) {
        self.from = 0;
        self.to = 0;
    }

    /// So many of the waiting bytes are gone.
    pub fn sent(&mut self, count: usize) {
        self.from += count;
        if self.from >= self.to {
            self.clear();
        }
    }

    /// Room for so many bytes behind what waits; `filled` tells how many were put there.
    pub fn room(&mut self, bytes: usize) -> &mut [u8] {
        if self.bytes.len() < self.to + bytes {
            self.bytes.resize(self.to + bytes, 0);
        }
        &mut self.bytes[self.to..]
    }

    pub fn filled(&mut self, count: usize) {
        self.to = (self.to + count).min(self.bytes.len());
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.filled(bytes.len());
    }
}
