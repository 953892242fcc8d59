//! A report as one page that needs nothing else: a bar for each figure.

use std::fmt::Write as _;

use crate::report::{Figure, Report, number, rate};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem}\
h2{margin-top:2rem}table{border-collapse:collapse;width:100%}\
td{padding:.15rem .6rem;vertical-align:middle}td.n{text-align:right;white-space:nowrap}\
svg{display:block}.met{color:#18794e}.not{color:#cd2b31}";
/// Of the longest bar.
const WIDTH: f64 = 320.0;

/// The page, in HTML.
pub fn of(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Bench</title>\
         <style>{STYLE}</style><h1>Bench</h1><p>{}</p>",
        escaped(report.machine.told().trim())
    );
    if !report.ratios.is_empty() {
        page += "<h2>Ratios</h2><ul>";
        for ratio in &report.ratios {
            let class = if ratio.is_met() { "met" } else { "not" };
            write!(page, "<li class=\"{class}\">{}</li>", escaped(&ratio.told())).expect("text");
        }
        page += "</ul>";
    }
    for missing in &report.missing {
        write!(page, "<p>{}", escaped(missing)).expect("text");
    }
    let mut parts: Vec<&str> = Vec::new();
    for figure in &report.figures {
        if !parts.contains(&figure.part.as_str()) {
            parts.push(&figure.part);
        }
    }
    for part in parts {
        let figures = report.figures.iter().filter(|figure| figure.part == part);
        page += &table(part, &figures.collect::<Vec<_>>());
    }
    page + "</html>\n"
}

fn table(part: &str, figures: &[&Figure]) -> String {
    let most = figures.iter().map(|one| one.median()).fold(f64::MIN_POSITIVE, f64::max);
    let mut text = format!("<h2>{}</h2><table>", escaped(part));
    for figure in figures {
        write!(
            text,
            "<tr><td>{}<td class=\"n\">{} {}<td class=\"n\">{}<td>{}",
            escaped(&figure.name),
            number(figure.median()),
            escaped(&figure.unit),
            figure.rate().map(|many| rate(many) + " a second").unwrap_or_default(),
            bar(figure, most)
        )
        .expect("text");
    }
    text + "</table>"
}

/// The median as a bar, and where the rounds lie as strokes.
fn bar(figure: &Figure, most: f64) -> String {
    let at = |value: f64| (WIDTH * (value / most).clamp(0.0, 1.1)).round();
    let mut svg = format!(
        "<svg width=\"{:.0}\" height=\"16\"><rect y=\"3\" height=\"10\" width=\"{}\" \
         fill=\"#8eb4ea\"/>",
        WIDTH * 1.1,
        at(figure.median())
    );
    for round in &figure.rounds {
        let x = at(*round);
        write!(svg, "<path d=\"M{x} 1v14\" stroke=\"#1f4d94\" stroke-opacity=\".5\"/>")
            .expect("text");
    }
    svg + "</svg>"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
