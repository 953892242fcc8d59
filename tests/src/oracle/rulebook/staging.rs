//! A file's text as it is played: on the bench's interfaces, and without time.
//!
//! Both sides are given the same text. A file that does not say who plays its interfaces
//! is played as it is, eth0 outside and eth1 inside; in others, an interface that nobody
//! plays is no interface, and its rules match nothing. What counts in time is made so rare, or its
//! window so long, that the moment at which a packet comes makes no difference.

/// Towards the outside and the inside.
pub const INTERFACES: [&str; 2] = ["eth0", "eth1"];

/// A window that no play outlasts, in seconds.
const LONG: &str = "36000";

pub fn staged(text: &str, outside: &[String], inside: &[String]) -> String {
    if outside.is_empty() && inside.is_empty() {
        let [outside, inside] = INTERFACES.map(|name| [name.to_owned()]);
        return staged(text, &outside, &inside);
    }
    let lines = text.lines().map(|line| staged_line(line, outside, inside) + "\n");
    lines.collect()
}

fn staged_line(line: &str, outside: &[String], inside: &[String]) -> String {
    if !line.starts_with('-') {
        return line.into();
    }
    let words: Vec<&str> = line.split(' ').collect();
    let mut staged = Vec::with_capacity(words.len());
    let mut option = "";
    for word in &words {
        staged.push(match option {
            "-i" | "-o" | "--in-interface" | "--out-interface" => part(word, outside, inside),
            "--limit" | "--hashlimit" | "--hashlimit-upto" | "--hashlimit-above" => {
                slow(word, burst(&words))
            }
            "--seconds" => LONG.into(),
            "--probability" => certain(word).into(),
            _ => (*word).into(),
        });
        option = word;
    }
    staged.join(" ")
}

/// The interface that plays this one.
fn part(name: &str, outside: &[String], inside: &[String]) -> String {
    let plays = |names: &[String]| names.iter().any(|it| it == name);
    if plays(outside) {
        INTERFACES[0].into()
    } else if plays(inside) {
        INTERFACES[1].into()
    } else if INTERFACES.contains(&name) {
        format!("not-{name}")
    } else {
        name.into()
    }
}

/// The burst of the rule with these words, or what iptables takes without one.
fn burst(words: &[&str]) -> u64 {
    let place = words.iter().position(|word| word.ends_with("limit-burst"));
    let burst = place.and_then(|place| words.get(place + 1)?.parse().ok());
    burst.unwrap_or(5)
}

/// As few in an hour as the kernel allows for the burst: all of it in a day.
fn slow(rate: &str, burst: u64) -> String {
    let is_bytes = rate.contains("b/");
    if is_bytes { rate.into() } else { format!("{}/hour", burst / 20 + 1) }
}

fn certain(probability: &str) -> &'static str {
    let is_likely = probability.parse().is_ok_and(|probability: f64| probability >= 0.5);
    if is_likely { "1.00000000000" } else { "0.00000000000" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> String {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        staged_line(line, &names(&["ppp+", "eth1"]), &names(&["br-lan"]))
    }

    #[test]
    fn interfaces_play_the_parts_that_the_file_gives_them() {
        assert_eq!(one("-A FORWARD -i br-lan ! -o ppp+"), "-A FORWARD -i eth1 ! -o eth0");
        assert_eq!(one("-A INPUT -i eth1 -j DROP"), "-A INPUT -i eth0 -j DROP");
        assert_eq!(one("-A INPUT -i eth0 -j DROP"), "-A INPUT -i not-eth0 -j DROP");
        assert_eq!(one("-A INPUT -i lo -j ACCEPT"), "-A INPUT -i lo -j ACCEPT");
    }

    #[test]
    fn no_time_passes_for_rates_windows_and_chances() {
        assert_eq!(one("-A a -m limit --limit 3/min"), "-A a -m limit --limit 1/hour");
        assert_eq!(
            one("-A a -m limit --limit 25/sec --limit-burst 50"),
            "-A a -m limit --limit 3/hour --limit-burst 50"
        );
        assert_eq!(one("-A a -m recent --seconds 30"), "-A a -m recent --seconds 36000");
        assert_eq!(one("-A a --probability 0.25"), "-A a --probability 0.00000000000");
    }

    #[test]
    fn text_that_is_no_rule_stays() {
        assert_eq!(one("# -A INPUT -i eth1"), "# -A INPUT -i eth1");
        assert_eq!(one("-A a --comment \"x  y\""), "-A a --comment \"x  y\"");
    }
}
