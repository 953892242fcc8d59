//! Any text as rules: reading and compiling never panic, a mistake is named, and
//! what is printed is read as the same rules again.
//!
//! The first byte chooses the family; the rest is the text.

use firewall_common::addr::Family;
use firewall_user::rules::{self, BuiltinServices, ListOptions, Ruleset};

pub fn rules(data: &[u8]) {
    let [family, text @ ..] = data else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let family = if family & 1 == 0 { Family::Ipv4 } else { Family::Ipv6 };
    match rules::parse("text", text, family, &BuiltinServices) {
        Ok(ruleset) => understood(&ruleset),
        Err(errors) => assert!(!errors.to_string().trim().is_empty()),
    }
}

fn understood(ruleset: &Ruleset) {
    let saved = rules::to_save(ruleset, None);
    let again = rules::parse("saved", &saved, ruleset.family, &BuiltinServices);
    let again = again.unwrap_or_else(|errors| panic!("{errors}\n{saved}"));
    assert_eq!(rules::to_save(&again, None), saved);
    assert_eq!(compile(&again).map_err(drop), compile(ruleset).map_err(drop));
    for table in &ruleset.tables {
        let options = ListOptions {
            table: table.name,
            verbose: true,
            line_numbers: true,
            ..Default::default()
        };
        rules::list(ruleset, &|_| Default::default(), &options);
    }
    for line in rules::json(ruleset, &|_| Default::default()).lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    }
}

/// The compiled rules as bytes, or what is wrong with them.
fn compile(ruleset: &Ruleset) -> Result<Vec<u8>, String> {
    let other = match ruleset.family {
        Family::Ipv4 => Family::Ipv6,
        Family::Ipv6 => Family::Ipv4,
    };
    let other = Ruleset::empty(other);
    let compiled = match ruleset.family {
        Family::Ipv4 => rules::compile(ruleset, &other),
        Family::Ipv6 => rules::compile(&other, ruleset),
    };
    let compiled = compiled.map_err(|errors| errors.to_string())?;
    assert_eq!(compiled.rules.len(), compiled.origins.len());
    let mut bytes = bytemuck::bytes_of(&compiled.header).to_vec();
    bytes.extend(bytemuck::cast_slice::<_, u8>(&compiled.rules));
    bytes.extend(bytemuck::cast_slice::<_, u8>(&compiled.port_sets));
    bytes.extend(bytemuck::cast_slice::<_, u8>(&compiled.extras));
    bytes.extend(bytemuck::cast_slice::<_, u8>(&compiled.texts));
    Ok(bytes)
}
