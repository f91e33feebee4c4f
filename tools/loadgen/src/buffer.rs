//! A write buffer. Its memory stays allocated and initialised when the buffer is emptied, so that
//! the next large write need not zero it again.

#[derive(Default)]
pub struct WriteBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl WriteBuffer {
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes that are not consumed yet.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Removes `count` pending bytes from the front.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.end {
            self.clear();
        }
    }

    /// Space for `bytes` after the pending data; call `commit` with the number of bytes written.
    pub fn reserve(&mut self, bytes: usize) -> &mut [u8] {
        if self.bytes.len() < self.end + bytes {
            self.bytes.resize(self.end + bytes, 0);
        }
        &mut self.bytes[self.end..]
    }

    pub fn commit(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.commit(bytes.len());
    }
}
