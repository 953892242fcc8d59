//! That a watcher was not told everything.

use super::line::Line;

/// Where something was lost.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The watcher's queue was full: it reads too slowly.
    Reader = 0,
    /// The kernel's ring of flow events was full.
    FlowRing = 1,
    /// So was that of drops, or there were more in a second than are told.
    DropRing = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub place: Place,
    pub count: u64,
}

/// `[LOST] 37 events of flows: more at once than the ring holds`
pub fn text(line: &mut Line, loss: &Loss) {
    let what = match loss.place {
        Place::Reader => " events: this reader is too slow",
        Place::FlowRing => " events of flows: more at once than the ring holds",
        Place::DropRing => " drops: more at once than are told",
    };
    line.text("[LOST] ").number(loss.count).text(what);
}

/// One JSON object, `"event":"lost"`; `at` is `reader`, `flow-ring` or `drop-ring`.
pub fn json(line: &mut Line, loss: &Loss) {
    let at = match loss.place {
        Place::Reader => "reader",
        Place::FlowRing => "flow-ring",
        Place::DropRing => "drop-ring",
    };
    line.text("{\"event\":\"lost\",\"count\":").number(loss.count);
    line.text(",\"at\":\"").text(at).text("\"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_says_how_many_and_where() {
        let loss = Loss { place: Place::Reader, count: 37 };
        let (mut line, mut object) = (Line::default(), Line::default());
        text(&mut line, &loss);
        json(&mut object, &loss);
        assert_eq!(line.as_bytes(), b"[LOST] 37 events: this reader is too slow");
        assert_eq!(object.as_bytes(), br#"{"event":"lost","count":37,"at":"reader"}"#);
    }
}
