//! What a data connection's announcement was told as, over a translated control connection,
//! and whether sequence numbers of that are shifted.

use anyhow::Result;
use firewall_common::{
    expectation::{Expectation, ExpectationKey},
    flow::{Direction, Flow, FlowKey, Tuple, status},
    shift::{Shift, Shifts},
};

use std::net::SocketAddr;

use super::tracking::endpoints;
use crate::kernel::maps::{Maps, SequenceShifts};

/// Where a data connection was told to go, and where it is led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    wire: SocketAddr,
    inside: SocketAddr,
}

impl Told {
    /// By what waits for it; `None` where it was told as it is, and of a range of ports, which
    /// nobody has told.
    pub(super) fn waiting(key: &ExpectationKey, expectation: &Expectation) -> Option<Self> {
        let wire = SocketAddr::new(key.dst.to_ip(), key.dport);
        let inside = SocketAddr::new(expectation.inside.to_ip(), expectation.inside_port);
        (expectation.leads_inside() && key.dport != 0).then_some(Self { wire, inside })
    }

    /// By an announced flow that is there.
    pub(super) fn used(key: &FlowKey, flow: &Flow) -> Option<Self> {
        if !flow.has(status::EXPECTED) || !flow.is_translated() {
            return None;
        }
        let [wire, inside] = [flow.wire_original(key), key.tuple(flow.originator())]
            .map(|tuple| SocketAddr::new(tuple.dst.to_ip(), tuple.dport));
        (wire != inside).then_some(Self { wire, inside })
    }

    pub(super) fn sentence(self) -> String {
        let Self { wire, inside } = self;
        format!("its control connection announced {inside}, which was told as {wire}")
    }
}

/// Whether numbers of a control connection are shifted, one sentence.
///
/// # Errors
/// When the map cannot be read.
pub(super) fn shifts(maps: &Maps, control: &Tuple) -> Result<String> {
    let key = FlowKey::of(control).0;
    let found = SequenceShifts::open(maps)?.get(&key)?;
    let flow = maps.flow(&key, crate::kernel::maps::now())?;
    let is_its = |shifts: &Shifts| flow.is_some_and(|(_, flow)| flow.created == shifts.created);
    Ok(sentence(control, found.filter(is_its).as_ref()))
}

fn sentence(control: &Tuple, shifts: Option<&Shifts>) -> String {
    let control = endpoints(control);
    let Some(shifts) = shifts else {
        return format!("no sequence numbers of the control connection {control} are shifted");
    };
    let by = |direction| distance(shifts.side(direction));
    format!(
        "the control connection {control} has its text written anew: sequence numbers are shifted \
         by {:+} on the way to the server, by {:+} on the way to the client",
        by(Direction::Original),
        by(Direction::Reply)
    )
}

/// What is added to the numbers of a direction behind all that was replaced.
fn distance(shift: &Shift) -> i32 {
    let last = shift.edits().last();
    last.map_or(shift.before, |edit| edit.after).cast_signed()
}

#[cfg(test)]
mod tests {
    use firewall_common::time::Nanos;

    use super::*;

    fn control() -> Tuple {
        let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
        Tuple {
            src: address("192.0.2.7"),
            dst: address("198.51.100.9"),
            sport: 39_000,
            dport: 21,
            ..Tuple::default()
        }
    }

    #[test]
    fn the_distance_of_each_direction_is_that_behind_its_last_text() {
        let mut shifts = Shifts::of(Nanos(1));
        let there = shifts.side_mut(Direction::Original);
        there.edits[0].after = 3;
        there.count = 1;
        shifts.side_mut(Direction::Reply).before = 2_u32.wrapping_neg();
        let text = sentence(&control(), Some(&shifts));
        assert!(text.contains("by +3 on the way to the server, by -2 on the way to"), "{text}");
    }

    #[test]
    fn a_connection_whose_text_is_its_own_has_no_shifts() {
        let text = sentence(&control(), None);
        assert!(text.ends_with("192.0.2.7:39000 -> 198.51.100.9:21 are shifted"), "{text}");
    }
}
