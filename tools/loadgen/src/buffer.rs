//! A write buffer. It never shrinks its zeroed memory, so that a large write does not start by
//! clearing it again.

#[derive(Default)]
pub struct WriteBuffer {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl WriteBuffer {
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    pub fn clear(&mut self) {
        self.from = 0;
        self.to = 0;
    }

    /// Removes `count` pending bytes from the front.
    pub fn consume(&mut self, count: usize) {
        self.from += count;
        if self.from >= self.to {
            self.clear();
        }
    }

    /// Space for `bytes` after the pending data; call `commit` with the number of bytes written.
    pub fn reserve(&mut self, bytes: usize) -> &mut [u8] {
        if self.bytes.len() < self.to + bytes {
            self.bytes.resize(self.to + bytes, 0);
        }
        &mut self.bytes[self.to..]
    }

    pub fn commit(&mut self, count: usize) {
        self.to = (self.to + count).min(self.bytes.len());
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.commit(bytes.len());
    }
}
