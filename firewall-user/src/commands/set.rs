//! `firewall set`: the sets of the running instance.

use anyhow::{Result, bail};

use super::{maps, source};
use crate::{
    cli::args::{Global, Output, SetElement, SetList, SetName, Sets},
    sets::{self, Form, Listing},
};

pub fn set(global: &Global, command: &Sets) -> Result<()> {
    let maps = maps(global)?;
    let change = |words: &[&str], exist| sets::change(&maps, words, exist);
    match command {
        Sets::Create(set) => {
            change(&words(&["create", &set.name, &set.kind], &set.options), set.exist)
        }
        Sets::Add(element) => change(&element_words("add", element), element.exist),
        Sets::Del(element) => change(&element_words("del", element), element.exist),
        Sets::Test(element) => {
            if !sets::test(&maps, &element_words("test", element))? {
                bail!("{} is not in set {}", element.element, element.set);
            }
            println!("{} is in set {}", element.element, element.set);
            Ok(())
        }
        Sets::List(list) => sets::list(&maps, &listing(global, list), None),
        Sets::Save(SetName { name }) => {
            let listing = Listing { form: Form::Save, set: name.clone(), ..Listing::default() };
            sets::list(&maps, &listing, None)
        }
        Sets::Flush(SetName { name }) => change(&named("flush", name.as_deref()), false),
        Sets::Destroy(SetName { name }) => change(&named("destroy", name.as_deref()), false),
        Sets::Rename(pair) => change(&["rename", &pair.from, &pair.to], false),
        Sets::Swap(pair) => change(&["swap", &pair.from, &pair.to], false),
        Sets::Restore(restore) => {
            let (name, text) = source::text(&restore.file, "sets")?;
            sets::load(&maps, &name, &text, restore.exist)
        }
    }
}

fn listing(global: &Global, list: &SetList) -> Listing {
    Listing {
        form: match global.output {
            Output::Text => Form::Plain,
            Output::Json => Form::Json,
        },
        set: list.name.clone(),
        names_only: list.names,
        terse: list.terse,
        sorted: list.sorted,
    }
}

fn words<'a>(first: &[&'a str], rest: &'a [String]) -> Vec<&'a str> {
    first.iter().copied().chain(rest.iter().map(String::as_str)).collect()
}

fn element_words<'a>(command: &'a str, element: &'a SetElement) -> Vec<&'a str> {
    words(&[command, &element.set, &element.element], &element.options)
}

fn named<'a>(command: &'a str, name: Option<&'a str>) -> Vec<&'a str> {
    [command].into_iter().chain(name).collect()
}
