//! What both sides made of a script.

use std::fmt;

use super::{
    Difference, Judgement, Script, Settings,
    difference::Subject,
    flow::{Flow, FlowId},
};

/// The judgements and flows of a script; of each pair the kernel's stands first.
#[derive(Clone, Debug)]
pub struct Report {
    pub script: Script,
    /// One pair for each frame.
    pub judgements: Vec<[Judgement; 2]>,
    /// What stood in the tables at the end.
    pub flows: Vec<[Option<Flow>; 2]>,
}

impl Report {
    pub(super) fn new(
        script: Script,
        judgements: Vec<[Judgement; 2]>,
        [kernels, ours]: [Vec<Flow>; 2],
    ) -> Self {
        let mut flows: Vec<_> = kernels.into_iter().map(|flow| [Some(flow), None]).collect();
        for flow in ours {
            let id = flow.id.unordered();
            let same = |pair: &&mut [Option<Flow>; 2]| {
                pair[0].as_ref().is_some_and(|known| known.id.unordered() == id)
            };
            match flows.iter_mut().find(same) {
                Some(pair) => pair[1] = Some(flow),
                None => flows.push([None, Some(flow)]),
            }
        }
        flows.sort_by_key(id);
        Self { script, judgements, flows }
    }

    /// Where the two differ, frames first.
    pub fn differences(&self) -> Vec<Difference> {
        let frames =
            self.judgements.iter().enumerate().filter(|(_, [kernel, ours])| kernel != ours);
        let frames =
            frames.map(|(index, pair)| Difference::new(Subject::Frame { index, pair: *pair }));
        let flows = self.flows.iter().filter(|[kernel, ours]| kernel != ours);
        let flows = flows.map(|pair| Difference::new(Subject::Flow(Box::new(pair.clone()))));
        frames.chain(flows).collect()
    }

    /// The differences that no document names.
    pub fn mistakes(&self) -> Vec<Difference> {
        let mut differences = self.differences();
        differences.retain(|difference| difference.documented(&self.script).is_none());
        differences
    }
}

fn id(pair: &[Option<Flow>; 2]) -> Option<FlowId> {
    pair.iter().flatten().map(|flow| flow.id).next()
}

/// Every frame with its judgements, and every difference.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.script.settings {
            Settings::DEFAULT => writeln!(f, "{}:", self.script.name)?,
            settings => writeln!(f, "{} ({settings:?}):", self.script.name)?,
        }
        for (frame, [kernel, ours]) in self.script.frames().zip(&self.judgements) {
            let mark = if kernel == ours { "  " } else { "≠ " };
            write!(f, "  {mark}{frame}: {kernel}")?;
            if kernel != ours {
                write!(f, ", we say {ours}")?;
            }
            writeln!(f)?;
        }
        for [kernel, ours] in &self.flows {
            let known = kernel.as_ref().or(ours.as_ref()).map(|flow| flow.id);
            let Some(id) = known else { continue };
            let mark = if kernel == ours { "  " } else { "≠ " };
            writeln!(f, "  {mark}{id}")?;
            writeln!(f, "      kernel: {}", Shown(kernel.as_ref()))?;
            if kernel != ours {
                writeln!(f, "      we say: {}", Shown(ours.as_ref()))?;
            }
        }
        Ok(())
    }
}

/// A flow that may not be there.
pub(super) struct Shown<'a>(pub(super) Option<&'a Flow>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(flow) => flow.fmt(f),
            None => f.write_str("no such flow"),
        }
    }
}
