//! `-m set` and `-j SET`: what rules say of sets.

use firewall_common::set::ask::compare;

/// `-m set --match-set NAME src,dst` and its further options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetMatch {
    pub negated: bool,
    pub set: SetPart,
    pub return_nomatch: bool,
    /// `! --update-counters`
    pub skips_counters: bool,
    /// `! --update-subcounters`
    pub skips_subcounters: bool,
    pub packets: Option<Compared>,
    pub bytes: Option<Compared>,
}

/// A set, and which parts of a packet its elements are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetPart {
    pub name: String,
    /// Bit n: the nth is `src`.
    pub sources: u8,
    pub dimensions: u8,
}

/// `--packets-gt 5` and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// One of [`compare`], but none.
    pub how: u32,
    pub value: u64,
}

/// `-j SET`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetTarget {
    pub add: Option<SetPart>,
    pub del: Option<SetPart>,
    pub exist: bool,
    /// In seconds.
    pub timeout: Option<u32>,
}

/// How many of `src` and `dst` there may be (IPSET_DIM_MAX).
pub(crate) const MOST_DIMENSIONS: u8 = 6;

impl SetPart {
    /// `src,dst`
    pub(crate) fn directions(&self) -> String {
        let side = |n: u8| if self.sources >> n & 1 == 1 { "src" } else { "dst" };
        (0..self.dimensions).map(side).collect::<Vec<_>>().join(",")
    }
}

impl Compared {
    /// Behind `--packets-` or `--bytes-`.
    fn option(self) -> &'static str {
        match self.how {
            compare::BELOW => "lt",
            compare::ABOVE => "gt",
            _ => "eq",
        }
    }

    /// `! --packets-eq 5`
    fn text(self, dashes: &str, of: &str) -> String {
        let not = if self.how == compare::NOT_EQUAL { "! " } else { "" };
        format!(" {not}{dashes}{of}-{} {}", self.option(), self.value)
    }
}

impl SetMatch {
    /// What stands behind `-m set`, in the order of iptables; a listing has no `dashes`.
    pub(crate) fn text(&self, dashes: &str) -> String {
        let not = if self.negated { "! " } else { "" };
        let SetPart { name, .. } = &self.set;
        let mut text = format!("{not}{dashes}match-set {name} {}", self.set.directions());
        if self.return_nomatch {
            text += &format!(" {dashes}return-nomatch");
        }
        if self.skips_counters {
            text += &format!(" ! {dashes}update-counters");
        }
        if self.skips_subcounters {
            text += &format!(" ! {dashes}update-subcounters");
        }
        for (of, compared) in [("packets", self.packets), ("bytes", self.bytes)] {
            if let Some(compared) = compared {
                text += &compared.text(dashes, of);
            }
        }
        text
    }
}

impl SetTarget {
    /// As [`SetMatch::text`], behind `-j SET`.
    pub(crate) fn text(&self, dashes: &str) -> String {
        let mut words = Vec::new();
        for (option, part) in [("add-set", &self.add), ("del-set", &self.del)] {
            if let Some(part) = part {
                words.push(format!("{dashes}{option} {} {}", part.name, part.directions()));
            }
        }
        if self.exist {
            words.push(format!("{dashes}exist"));
        }
        if let Some(timeout) = self.timeout {
            words.push(format!("{dashes}timeout {timeout}"));
        }
        words.join(" ")
    }
}
