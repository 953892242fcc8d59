//! One rule compiled by itself.

use std::collections::HashMap;

use firewall_common::{
    addr::Family,
    rule::{Rule, RulesetHeader},
};

use super::layout::Layout;
use crate::rules::ast::{self, TableName};

/// A rule as it stands among any others, less the end of its chain; `None` when it takes
/// part in what rules have in common, or jumps, or is wrong.
pub fn alone(family: Family, table: TableName, rule: &ast::Rule) -> Option<Rule> {
    if rule.spec.target.chain().is_some() {
        return None;
    }
    let mut layout = Layout::default();
    let compiled = layout.rule(family, table, rule, &HashMap::new());
    let shares = !layout.pool.is_empty() || !layout.is_right();
    (!shares && layout.header == RulesetHeader::EMPTY).then_some(compiled)
}
