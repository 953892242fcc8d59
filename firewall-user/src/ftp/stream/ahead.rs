//! Segments that came before their turn.

use std::ops::Range;

use super::seq::Seq;

/// How many bytes may wait for a gap to be filled.
pub const MAX_AHEAD_BYTES: usize = 16 * 1024;

/// How many pieces, whatever their size.
pub const MAX_AHEAD_PIECES: usize = 32;

/// A copied part of the stream.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    seq: Seq,
    bytes: Box<[u8]>,
}

impl Piece {
    pub(super) fn seq(&self) -> Seq {
        self.seq
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn end(&self) -> Seq {
        self.seq.plus(self.bytes.len())
    }

    /// The part of a segment at `seq` of `len` bytes that this piece covers,
    /// as a range in the segment and one in the piece.
    fn overlap(&self, seq: Seq, len: usize) -> Option<(Range<usize>, Range<usize>)> {
        let from = self.seq.bytes_after(seq);
        let skipped = seq.bytes_after(self.seq);
        let shared = len.saturating_sub(from).min(self.bytes.len().saturating_sub(skipped));
        (shared > 0).then(|| (from..from + shared, skipped..skipped + shared))
    }
}

/// What waits, in order and without overlaps.
#[derive(Clone, Debug, Default)]
pub(super) struct Ahead {
    pieces: Vec<Piece>,
}

impl Ahead {
    /// Whether a segment repeats what waits, wherever the two overlap.
    pub(super) fn agrees_with(&self, seq: Seq, bytes: &[u8]) -> bool {
        self.pieces.iter().all(|piece| match piece.overlap(seq, bytes.len()) {
            Some((in_segment, in_piece)) => bytes[in_segment] == piece.bytes[in_piece],
            None => true,
        })
    }

    /// Keeps what of a segment is not there yet. `next` precedes all.
    pub(super) fn insert(&mut self, next: Seq, seq: Seq, bytes: &[u8]) {
        for missing in self.uncovered(seq, bytes.len()) {
            let seq = seq.plus(missing.start);
            self.pieces.push(Piece { seq, bytes: bytes[missing].into() });
        }
        self.pieces.sort_by_key(|piece| piece.seq.since(next));
    }

    fn uncovered(&self, seq: Seq, len: usize) -> Vec<Range<usize>> {
        let mut missing = Vec::new();
        let mut from = 0;
        for (covered, _) in self.pieces.iter().filter_map(|piece| piece.overlap(seq, len)) {
            missing.push(from..covered.start);
            from = covered.end;
        }
        missing.push(from..len);
        missing.retain(|range| !range.is_empty());
        missing
    }

    /// Takes the first piece if it begins at or before `next`.
    pub(super) fn take_at(&mut self, next: Seq) -> Option<Piece> {
        let first = self.first()?;
        (!next.is_before(first)).then(|| self.pieces.remove(0))
    }

    pub(super) fn first(&self) -> Option<Seq> {
        self.pieces.first().map(Piece::seq)
    }

    pub(super) fn is_over_bounds(&self) -> bool {
        self.pieces.len() > MAX_AHEAD_PIECES || self.bytes() > MAX_AHEAD_BYTES
    }

    /// Forgets everything; where the last piece ended.
    pub(super) fn clear(&mut self) -> Option<Seq> {
        std::mem::take(&mut self.pieces).last().map(Piece::end)
    }

    pub(super) fn memory(&self) -> usize {
        self.bytes() + self.pieces.capacity() * size_of::<Piece>()
    }

    fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.bytes.len()).sum()
    }
}
