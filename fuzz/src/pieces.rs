//! Bytes as they come from a socket: in pieces, whose sizes follow from a seed.

/// The pieces of some bytes.
pub struct Pieces<'b> {
    rest: &'b [u8],
    chance: Chance,
}

/// Numbers that a seed decides.
pub struct Chance(u32);

impl Chance {
    pub fn new(seed: u8) -> Self {
        Self(u32::from(seed) + 1)
    }

    /// Less than `below` (xorshift).
    pub fn pick(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % below
    }
}

impl<'b> Pieces<'b> {
    pub fn of(bytes: &'b [u8], seed: u8) -> Self {
        Self { rest: bytes, chance: Chance::new(seed) }
    }
}

impl<'b> Iterator for Pieces<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        // Short ones most often: what is cut in two there is found.
        let most = [1, 3, 16, 5000][self.chance.pick(4)];
        let length = (1 + self.chance.pick(most)).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(piece)
    }
}
