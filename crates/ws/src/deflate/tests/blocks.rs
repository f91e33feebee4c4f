//! Random streams, valid or nearly so.

use super::BitWriter;

/// A sequence of random numbers (xorshift).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// A few blocks with random content.
pub(super) fn stream(random: &mut Random) -> Vec<u8> {
    let mut writer = BitWriter::default();
    for _ in 0..1 + random.below(4) {
        match random.below(8) {
            0 => stored(&mut writer, random),
            1 => {
                writer.bits(0b010, 3);
                noise(&mut writer, random);
            }
            _ => dynamic(&mut writer, random),
        }
    }
    writer.bytes
}

/// Bits that are symbols, or anything else.
fn noise(writer: &mut BitWriter, random: &mut Random) {
    for _ in 0..random.below(200) {
        writer.bits(random.next() as u32, 7);
    }
}

fn stored(writer: &mut BitWriter, random: &mut Random) {
    let len = random.below(300) as u16;
    let complement = if random.one_in(20) { len } else { !len };
    writer.bits(u32::from(random.one_in(4)), 3);
    writer.bytes(&[len.to_le_bytes(), complement.to_le_bytes()].concat());
    writer.bytes(&vec![7; usize::from(len)]);
}

/// A block whose codes are complete, or nearly so.
fn dynamic(writer: &mut BitWriter, random: &mut Random) {
    let counts = [257 + random.below(30), 1 + random.below(30)];
    let mut lengths = Vec::new();
    for (at, count) in counts.into_iter().enumerate() {
        let most = if random.one_in(2) { count } else { count.min(4) };
        let used = 1 + random.below(most);
        let mut all = code(random, used, count);
        if at == 0 && all[256] == 0 && !random.one_in(8) {
            let used = all.iter().position(|len| *len > 0).unwrap();
            all.swap(256, used);
        }
        if random.one_in(8) {
            let at = random.below(count);
            all[at] = random.below(16) as u8;
        }
        lengths.extend(all);
    }
    writer.bits(0b100 | u32::from(random.one_in(8)), 3);
    writer.bits(counts[0] as u32 - 257, 5).bits(counts[1] as u32 - 1, 5).bits(15, 4);
    // The lengths 0 to 13 have codes of 4 bits, 14, 15 and 16 of 5 bits, 17 and 18 of 6 bits.
    let mut code_lengths = [5, 6, 6, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5, 4, 5];
    if random.one_in(16) {
        code_lengths[random.below(19)] = random.below(8) as u32;
    }
    for len in code_lengths {
        writer.bits(len, 3);
    }
    write_lengths(writer, random, &lengths);
    noise(writer, random);
}

/// Writes lengths, some of them as repetitions.
fn write_lengths(writer: &mut BitWriter, random: &mut Random, lengths: &[u8]) {
    let mut at = 0;
    while at < lengths.len() {
        let len = lengths[at];
        let same = lengths[at..].iter().take_while(|other| **other == len).count();
        let repeated = at > 0 && lengths[at - 1] == len;
        let mut taken = same.min(3 + random.below(140));
        match len {
            0 if taken >= 11 && random.one_in(2) => {
                taken = taken.min(138);
                writer.code(0b11_1111, 6).bits(taken as u32 - 11, 7);
            }
            0 if taken >= 3 && random.one_in(2) => {
                taken = taken.min(10);
                writer.code(0b11_1110, 6).bits(taken as u32 - 3, 3);
            }
            _ if taken >= 3 && repeated && random.one_in(2) => {
                taken = taken.min(6);
                writer.code(0b1_1110, 5).bits(taken as u32 - 3, 2);
            }
            0..14 => {
                taken = 1;
                writer.code(u32::from(len), 4);
            }
            _ => {
                taken = 1;
                writer.code(u32::from(len) - 14 + 0b1_1100, 5);
            }
        }
        at += taken;
    }
}

/// The lengths of a complete code of `used` symbols out of `count`.
fn code(random: &mut Random, used: usize, count: usize) -> Vec<u8> {
    let mut leaves = vec![0_u8];
    while leaves.len() < used {
        let at = random.below(leaves.len());
        if leaves[at] < 15 {
            leaves[at] += 1;
            leaves.push(leaves[at]);
        }
    }
    let mut lengths = vec![0; count];
    for len in leaves {
        let mut at = random.below(count);
        while lengths[at] > 0 {
            at = (at + 1) % count;
        }
        lengths[at] = len.max(1);
    }
    lengths
}
