//! Every target holds for every input of its corpus.

use firewall_fuzz::{TARGETS, corpus};

#[test]
fn every_target_holds_for_its_corpus() {
    for target in TARGETS {
        let inputs = corpus::of(target.name).expect("each target has a corpus");
        assert!(!inputs.is_empty(), "the corpus of {} is empty", target.name);
        for input in inputs {
            // Names the input when the target panics.
            let named = Named(&input.path);
            (target.run)(&input.bytes);
            drop(named);
        }
    }
}

#[test]
fn every_target_holds_for_no_input_and_for_bytes_of_one_value() {
    for target in TARGETS {
        (target.run)(&[]);
        for byte in [0, 1, 0x7f, 0xff] {
            (target.run)(&[byte; 300]);
        }
    }
}

struct Named<'p>(&'p std::path::Path);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was {}", self.0.display());
        }
    }
}
