//! A flow that was announced over a translated connection is translated as that is (kernel:
//! `nf_nat_follow_master`), and comes to no rule of table nat: its other side knows its sender by
//! the address that the control connection has, whatever the rules say of other ports.
//!
//! Where it goes stands in the announcement, which has led it there ([`super::arrival`]); here is
//! the source with which it leaves. The port of that is kept where it is free ([`super::birth`]).
//! What was announced over a connection that is not translated is shown to table nat as any other.

use super::{desk::done, translation::face};
use crate::{
    conntrack::find,
    flow::{Direction, status},
    scratch::Scratch,
    tables::Tables,
    walk::nat as shown,
};

/// Has the flow that the packet on the desk begins, and which was announced, follow the one that
/// announced it, if that is translated.
#[inline(always)]
pub fn follow<T: Tables>(tables: &T, scratch: &mut Scratch) {
    let Scratch { nat, master_key, headers, walk, .. } = scratch;
    let Some((_, master)) = find(tables, master_key, nat.ports.now) else { return };
    if !master.is_translated() {
        return;
    }
    master_key.write_tuple(master.originator(), &mut nat.owner);
    let (bit, direction, other) = if nat.owner.src == headers.tuple.src {
        (status::SOURCE_TRANSLATED, Direction::Original, &nat.owner.dst)
    } else if nat.owner.dst == headers.tuple.src {
        (status::DESTINATION_TRANSLATED, Direction::Reply, &nat.owner.src)
    } else {
        return;
    };
    let has_name = master.has(bit);
    if *other == headers.tuple.dst {
        walk.nat = shown::NONE;
    } else if !has_name {
        // To a third host, by the configuration's leave: how that is reached the rules know.
        return;
    }
    nat.done |= done::FOLLOWS;
    nat.leaving = headers.tuple;
    if !has_name {
        return;
    }
    nat.leaving.src = master.faces.source[direction.index() & 1];
    if matches!(direction, Direction::Original) {
        nat.faces.flags |= master.faces.flags & face::MASQUERADE;
    }
}
