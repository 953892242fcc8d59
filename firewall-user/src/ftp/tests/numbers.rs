/// Numbers that look random and are the same in every run (xorshift, Marsaglia 2003).
pub(super) struct Numbers(pub(super) u64);

impl Default for Numbers {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Numbers {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    /// The pieces of a text, by random cuts in their order.
    pub(super) fn pieces<'t>(&mut self, text: &'t [u8], cuts: usize) -> Vec<&'t [u8]> {
        let mut bounds: Vec<usize> = (0..cuts).map(|_| self.below(text.len() + 1)).collect();
        bounds.extend([0, text.len()]);
        bounds.sort_unstable();
        bounds.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
    }
}
