//! The firewall says of every frame what nf_conntrack says.

use std::time::Instant;

use anyhow::Result;
use firewall_tests::{
    capability, needs,
    oracle::{
        Report,
        bench::{Bench, Hook, Sites},
        scenarios,
    },
};

mod the_scenarios {
    use super::*;

    #[test]
    fn are_judged_as_the_kernel_does_by_native_xdp() {
        needs!(
            capability::firewall(),
            capability::program("conntrack"),
            capability::program("nft")
        );
        agree_on_scenarios(Hook::Xdp).unwrap();
    }

    #[test]
    fn are_judged_as_the_kernel_does_by_generic_xdp() {
        needs!(
            capability::firewall(),
            capability::program("conntrack"),
            capability::program("nft")
        );
        agree_on_scenarios(Hook::XdpGeneric).unwrap();
    }

    #[test]
    fn are_judged_as_the_kernel_does_by_tc() {
        needs!(
            capability::firewall(),
            capability::program("conntrack"),
            capability::program("nft")
        );
        agree_on_scenarios(Hook::Tc).unwrap();
    }

    fn agree_on_scenarios(hook: Hook) -> Result<()> {
        let sites = Sites::new()?;
        let mut bench = Bench::start(&sites, hook)?;
        let start = Instant::now();
        let reports = bench.play(&scenarios::all())?;
        eprintln!("{} frames in {:?}", bench.frames(), start.elapsed());
        assert_agreement(&reports);
        Ok(())
    }
}

fn assert_agreement(reports: &[Report]) {
    let wrong: Vec<_> = reports.iter().filter(|report| !report.mistakes().is_empty()).collect();
    let told: String = wrong.iter().map(|report| report.to_string()).collect();
    assert!(wrong.is_empty(), "{told}{} of {} scripts differ", wrong.len(), reports.len());
}
