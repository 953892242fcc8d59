//! Loading the programs, with new maps or with those of a daemon before.

use std::thread;

use anyhow::{Context, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader,
    maps::Array,
    programs::{Program, SchedClassifier, Xdp},
};

use firewall_common::{control::SocketLayout, pressure::Bounded, rule::counter_place};

use super::{cpus, pins::Pins, raw::Raw, types::socket_layout};

pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("FIREWALL_EBPF_OBJECT"));

/// The maps that are pinned; the others are a program's own desk.
const PINNED: [&str; 58] = [
    "assured",
    "assured6",
    "awaited",
    "buckets",
    "by_hand",
    "clock",
    "counted",
    "devices",
    "early",
    "embryonic",
    "embryonic6",
    "embryonic_nat",
    "embryonic_nat6",
    "epoch",
    "events",
    "expectations",
    "first_devices",
    "flow_events",
    "extra_memory",
    "extras",
    "faces",
    "fragments",
    "generation",
    "heartbeat",
    "helper_ports",
    "helper_stats",
    "hops",
    "mappings",
    "masters",
    "options",
    "patterns",
    "port_sets",
    "pressure",
    "punts",
    "recent",
    "refusals",
    "rule_bases",
    "rule_counters",
    "rule_index",
    "rules",
    "rulesets",
    "ruleset_text",
    "set_changes",
    "SET_COMMENTS",
    "SET_ENTRIES",
    "set_hosts",
    "set_names",
    "set_references",
    "sequence_shifts",
    "set_slots",
    "set_worlds",
    "sets",
    "stats",
    "timeouts",
    "translations",
    "translations6",
    "unread",
    "unread_untold",
];

/// Bytes of the ring of flow events: 37,000 of them, or a third of a second of
/// what one CPU can report while the daemon does something else.
const FLOW_EVENTS: u32 = 8 << 20;

/// As many embryonic flows take so little memory that IPv6 has them, too.
const FEW: u32 = 4_096;

/// How large the tables are, in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSizes {
    /// Of each family.
    pub assured: u32,
    /// Of IPv4; of IPv6 see [`TableSizes::embryonic6`].
    pub embryonic: u32,
    /// Announced connections, and as many data connections whose control
    /// connection is known.
    pub expectations: u32,
    /// Datagrams whose later fragments are on the way.
    pub fragments: u32,
}

/// The sizes that somebody has named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizesNamed {
    pub assured: Option<u32>,
    pub embryonic: Option<u32>,
    pub expectations: Option<u32>,
    pub fragments: Option<u32>,
}

impl SizesNamed {
    /// With the defaults for the others.
    pub fn or_default(self) -> TableSizes {
        let default = TableSizes::default();
        TableSizes {
            assured: self.assured.unwrap_or(default.assured),
            embryonic: self.embryonic.unwrap_or(default.embryonic),
            expectations: self.expectations.unwrap_or(default.expectations),
            fragments: self.fragments.unwrap_or(default.fragments),
        }
    }

    /// Each with the name of its table, and of its key in the configuration.
    pub fn named(self) -> impl Iterator<Item = (Bounded, &'static str, u32)> {
        [
            (Bounded::Assured, "max_flows", self.assured),
            (Bounded::Embryonic, "max_embryonic", self.embryonic),
            (Bounded::Expectations, "max_expectations", self.expectations),
            (Bounded::Fragments, "max_fragments", self.fragments),
        ]
        .into_iter()
        .filter_map(|(table, key, size)| Some((table, key, size?)))
    }
}

impl TableSizes {
    /// Embryonic flows of IPv6: a fourth of those of IPv4, where that is not few. A table that
    /// recycles takes all its memory at the start, on hosts without IPv6, too.
    pub fn embryonic6(&self) -> u32 {
        (self.embryonic / 4).max(self.embryonic.min(FEW))
    }

    /// Hints of the short way, as the binary logarithm: one for each confirmed flow of IPv4.
    fn hint_bits(&self) -> u32 {
        self.assured.next_power_of_two().ilog2()
    }
}

impl Default for TableSizes {
    /// As many embryonic flows as confirmed ones: who is answered after 100,000 SYNs of
    /// others must still be known (`tests/tests/flood.rs`).
    fn default() -> Self {
        Self { assured: 262_144, embryonic: 262_144, expectations: 16_384, fragments: 8_192 }
    }
}

/// The loaded programs.
#[derive(Debug)]
pub struct Programs {
    pub(super) ebpf: Ebpf,
}

impl Programs {
    /// Loads the programs. Maps that are pinned already are taken over with
    /// what they hold, at the size that they have.
    ///
    /// # Errors
    /// What the kernel said, with the verifier's last words.
    pub fn load(pins: &Pins, sizes: TableSizes) -> Result<Self> {
        let cpus = cpus::numbers().context("cannot tell how many CPUs there may be")?;
        let hint_bits = sizes.hint_bits();
        let mut loader = EbpfLoader::new();
        for name in PINNED {
            loader.map_pin_path(name, pins.map(name));
        }
        loader
            .map_max_entries("assured", sizes.assured)
            .map_max_entries("assured6", sizes.assured)
            .map_max_entries("embryonic", sizes.embryonic)
            .map_max_entries("embryonic6", sizes.embryonic6())
            .map_max_entries("expectations", sizes.expectations)
            .map_max_entries("masters", sizes.expectations)
            .map_max_entries("fragments", sizes.fragments)
            // A flow has two faces at most.
            .map_max_entries("translations", sizes.assured.saturating_mul(2))
            .map_max_entries("translations6", sizes.assured.saturating_mul(2))
            .map_max_entries("embryonic_nat", sizes.embryonic)
            .map_max_entries("embryonic_nat6", sizes.embryonic6())
            // A mapping has two entries: there is one for every fourth flow.
            .map_max_entries("mappings", (sizes.assured / 2).max(2))
            .map_max_entries("hints", 1 << hint_bits)
            .override_global("HINT_BITS", &hint_bits, true)
            .map_max_entries("flow_events", FLOW_EVENTS)
            .map_max_entries("rule_counters", counter_place(cpus, 0));
        let mut ebpf = loader.load(OBJECT).context("cannot load the firewall's maps")?;
        tell_layout(&mut ebpf)?;
        verify(&mut ebpf)?;
        for (name, program) in ebpf.programs() {
            let verified = program.info()?.verified_instruction_count();
            tracing::debug!("{name}: {} instructions verified", verified.unwrap_or_default());
        }
        Ok(Self { ebpf })
    }
}

/// Tells the programs where the group of a socket's owner stands. A kernel that does not say
/// will do for rules that do not ask: [`super::ruleset`] refuses the others.
fn tell_layout(ebpf: &mut Ebpf) -> Result<()> {
    let layout = match socket_layout() {
        Ok(layout) => layout,
        Err(error) => {
            tracing::warn!("rules with --gid-owner will be refused: {error:#}");
            return Ok(());
        }
    };
    let map = ebpf.map_mut("socket_layout").ok_or_else(|| lacks("socket_layout"))?;
    let mut map: Array<_, Raw<SocketLayout>> = map.try_into()?;
    map.set(0, Raw(layout), 0).context("cannot write map socket_layout")
}

/// Has the kernel verify the programs, which takes its time: all at once.
fn verify(ebpf: &mut Ebpf) -> Result<()> {
    thread::scope(|scope| {
        let loading: Vec<_> = ebpf
            .programs_mut()
            .map(|(name, program)| {
                let loaded = scope.spawn(|| match program {
                    Program::Xdp(program) => program.load(),
                    Program::SchedClassifier(program) => program.load(),
                    _ => Ok(()),
                });
                (name.to_owned(), loaded)
            })
            .collect();
        for (name, loaded) in loading {
            match loaded.join() {
                Ok(loaded) => loaded.map_err(|error| refused(&name, &error))?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })
}

pub(super) fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program = ebpf.program_mut("firewall_xdp").ok_or_else(|| lacks("firewall_xdp"))?;
    Ok(program.try_into()?)
}

pub(super) fn classifier<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut SchedClassifier> {
    let program = ebpf.program_mut(name).ok_or_else(|| lacks(name))?;
    Ok(program.try_into()?)
}

fn lacks(name: &str) -> anyhow::Error {
    anyhow!("the eBPF object lacks {name}: build again")
}

/// The whole message of the verifier is long; its end says what is wrong.
pub(super) fn refused(what: &str, error: &aya::programs::ProgramError) -> anyhow::Error {
    const LINES: usize = 24;
    let text = match error {
        aya::programs::ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let lines: Vec<_> = log.lines().collect();
            let end = lines.len().saturating_sub(LINES);
            format!("{io_error}\n{}", lines[end..].join("\n"))
        }
        other => other.to_string(),
    };
    anyhow!("the kernel refused the program {what}: {text}")
}

#[cfg(test)]
mod tests {
    use firewall_common::shortcut::hint::PLACE_BITS;

    use super::*;

    #[test]
    fn there_is_a_hint_for_each_flow() {
        assert_eq!(TableSizes::default().hint_bits(), PLACE_BITS);
        for (assured, bits) in [(16, 4), (1_000, 10), (1_025, 11), (67_108_864, 26)] {
            let sizes = TableSizes { assured, ..TableSizes::default() };
            assert_eq!(sizes.hint_bits(), bits, "of {assured}");
        }
    }

    #[test]
    fn ipv6_has_a_fourth_of_the_embryonic_flows_unless_those_are_few() {
        for (embryonic, of_ipv6) in
            [(262_144, 65_536), (16_385, 4_096), (8_192, 4_096), (4_096, 4_096), (64, 64)]
        {
            let sizes = TableSizes { embryonic, ..TableSizes::default() };
            assert_eq!(sizes.embryonic6(), of_ipv6, "of {embryonic}");
        }
    }
}
