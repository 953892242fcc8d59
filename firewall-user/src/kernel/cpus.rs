//! The machine's CPUs, as the kernel lists them.

use std::{fs, io};

const ONLINE: &str = "/sys/devices/system/cpu/online";
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// The numbers of those that run; `None` when the kernel does not say.
pub(super) fn online() -> Option<Vec<usize>> {
    parse(&fs::read_to_string(ONLINE).ok()?)
}

/// One more than the greatest number that a CPU can have.
///
/// # Errors
/// When the kernel does not say.
pub(super) fn numbers() -> io::Result<u32> {
    let last = parse(&fs::read_to_string(POSSIBLE)?).and_then(|cpus| cpus.into_iter().max());
    let last = last.ok_or_else(|| io::Error::other(format!("{POSSIBLE} names no CPU")))?;
    Ok(last as u32 + 1)
}

/// `0-3,6`
fn parse(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_is_read_as_the_kernel_writes_it() {
        assert_eq!(parse("0\n"), Some(vec![0]));
        assert_eq!(parse("0-3,6,8-9\n"), Some(vec![0, 1, 2, 3, 6, 8, 9]));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn every_cpu_that_runs_has_a_number_below_the_count_of_numbers() {
        let numbers = numbers().unwrap() as usize;
        assert!(online().unwrap().into_iter().all(|cpu| cpu < numbers));
    }
}
