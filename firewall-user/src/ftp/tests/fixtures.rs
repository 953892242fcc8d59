use std::{fs, path::Path};

use super::script::{Case, Wire, cases};
use crate::helper::Action;

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
        Action::Admit(passage) => expected == format!("admit {passage}"),
        Action::Dismiss(passage) => expected == format!("dismiss {passage}"),
        Action::Encrypted => expected == "encrypted",
        Action::Decrypted => expected == "decrypted",
        Action::Note(note) => {
            expected.strip_prefix("note ").is_some_and(|words| note.to_string().contains(words))
        }
    }
}

#[test]
fn every_written_conversation_comes_out_as_written() {
    let all = all();
    assert!(all.len() >= 200, "only {} conversations", all.len());
    let mut titles: Vec<_> = all.iter().map(|(_, case)| &case.title).collect();
    titles.sort();
    assert!(titles.windows(2).all(|pair| pair[0] != pair[1]), "two cases have one title");
    let wrong: Vec<_> = all.iter().filter_map(|(file, case)| mistake(file, case)).collect();
    assert!(wrong.is_empty(), "{} went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The first step of a case that does not come out as written.
fn mistake(file: &str, case: &Case) -> Option<String> {
    let mut wire = Wire::new(case, [1000, u32::MAX - 100]);
    case.steps.iter().find_map(|(step, expected)| {
        let actions = wire.step(step);
        let is_as_written = actions.len() == expected.len()
            && expected.iter().zip(&actions).all(|(expected, action)| is_met(expected, action));
        let title = &case.title;
        (!is_as_written)
            .then(|| format!("{file}, {title}: {step}: wanted {expected:#?}, came {actions:#?}"))
    })
}
