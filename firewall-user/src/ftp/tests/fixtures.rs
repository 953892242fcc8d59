use std::{fs, path::Path};

use super::script::{Case, Wire, cases};
use crate::ftp::Action;

/// Every written conversation, with the name of its file.
pub(super) fn all() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/ftp");
    let mut files: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        all.extend(cases(&text).into_iter().map(|case| (name.clone(), case)));
    }
    all
}

fn is_met(expected: &str, action: &Action) -> bool {
    match action {
        Action::Open(hole) => expected == format!("open {hole}"),
        Action::Close(hole) => expected == format!("close {hole}"),
        Action::Encrypted => expected == "encrypted",
        Action::Note(note) => {
            expected.strip_prefix("note ").is_some_and(|words| note.to_string().contains(words))
        }
    }
}

#[test]
fn every_written_conversation_comes_out_as_written() {
    let all = all();
    assert!(all.len() >= 40, "only {} conversations", all.len());
    for (file, case) in all {
        let mut wire = Wire::new(&case, [1000, u32::MAX - 100]);
        for (step, expected) in &case.steps {
            let actions = wire.step(step);
            let is_as_written = actions.len() == expected.len()
                && expected.iter().zip(&actions).all(|(expected, action)| is_met(expected, action));
            assert!(
                is_as_written,
                "{file}, {}, at {step:?}: wanted {expected:#?}, came {actions:#?}",
                case.title
            );
        }
    }
}
