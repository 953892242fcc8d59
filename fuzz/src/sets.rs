//! Any text as lines of ipset: reading never panics, a mistake is named within its line,
//! and an element that is read is printed as one that is read as the same again.

use firewall_user::sets::{Action, Element, kind_name, read};

/// Elements that one text may stand for: a whole network of addresses is a loop.
const ELEMENTS: usize = 1_000;

pub fn sets(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut header = None;
    for line in text.lines() {
        match read(line) {
            Ok(line) => match line.action {
                Some(Action::Create { header: made, .. }) => {
                    let kind = firewall_common::set::Kind::from_byte(made.kind);
                    assert!(kind.is_some_and(|kind| kind_name(kind).contains(':')));
                    header = Some(made);
                }
                Some(Action::Add { element, .. } | Action::Delete { element, .. }) => {
                    let Some(header) = &header else { continue };
                    if let Ok(element) = Element::read(element, header) {
                        understood(&element, header);
                    }
                }
                _ => {}
            },
            Err(refusal) => {
                assert!(!refusal.to_string().trim().is_empty());
                assert!(refusal.column as usize <= line.chars().count());
            }
        }
    }
}

fn understood(element: &Element, header: &firewall_common::set::SetHeader) {
    let mut seen = 0;
    let _ = element.each(header, |key| {
        let text = firewall_user::sets::element_text(&key, header);
        let again = firewall_user::sets::element_of(&text, header);
        let again = again.unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
        let mut keys = Vec::new();
        let _ = again.each(header, |key| {
            keys.push(key);
            Ok::<(), ()>(())
        });
        assert_eq!(keys, [key], "{text}");
        seen += 1;
        if seen < ELEMENTS { Ok(()) } else { Err(()) }
    });
}
