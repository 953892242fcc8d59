//! What helpers could not do, or had to have repeated: where announcements over a translated
//! control connection are told by other addresses.

use super::diagnosis::Diagnosis;
use crate::listing::helper_event::{Early, HelperChange, HelperEvent, Untold};

/// What is likely to be wrong; `None` of an event that is no trouble.
pub fn of(event: &HelperEvent) -> Option<Diagnosis> {
    match &event.change {
        HelperChange::Untold(why, text) => Some(untold(event, *why, text)),
        HelperChange::Early(why) => Some(early(event, *why)),
        _ => None,
    }
}

/// An announcement that opens nothing: its transfer fails.
fn untold(event: &HelperEvent, why: Untold, text: &str) -> Diagnosis {
    let advice = match why {
        Untold::NoPort => {
            "see firewall expect list for who has the ports; let clients transfer passively, or give \
             table nat more addresses (--to-source A-B)"
        }
        Untold::InPart => {
            "repeat the transfer; if it fails again, let the client transfer the other way (passive \
             instead of active, or active instead of passive), which is announced by the other side"
        }
        Untold::NoRoom => {
            "end control connections that nobody needs (firewall conntrack delete), or give the \
             tables more space"
        }
    };
    Diagnosis {
        name: "helper-untold",
        message: format!(
            "what the control connection {} announced could not be told to the other side by the \
             address that it knows, so that its transfer fails: {text}",
            control(event)
        ),
        advice: advice.to_owned(),
    }
}

/// A segment that has to be said again: its transfer is late.
fn early(event: &HelperEvent, why: Early) -> Diagnosis {
    let (because, advice) = match why {
        Early::Overtook => (
            "came before what they follow, which was lost in front of this host or is behind them",
            "nothing, where there are few; where they go on, look for loss and for a second way \
             between the sender and this host: ip -s link, ethtool -S, and the routers between",
        ),
        Early::Ahead => (
            "came while as much as can be remembered of what was told had not arrived",
            "nothing, where there are few; where they go on, look for loss between this host and \
             the receiver: ip -s link, ethtool -S, and the routers between",
        ),
    };
    Diagnosis {
        name: "helper-early",
        message: format!(
            "segments of control connections whose announcements are told by other addresses \
             {because}; they wait until their sender repeats them: the last was of {}",
            control(event)
        ),
        advice: advice.to_owned(),
    }
}

/// `192.0.2.7:39000 -> 198.51.100.9:21`
fn control(event: &HelperEvent) -> String {
    format!("{} -> {}", event.client, event.server)
}

#[cfg(test)]
mod tests {
    use firewall_common::flow::helper;

    use super::*;

    fn told(change: HelperChange) -> Option<Diagnosis> {
        of(&HelperEvent {
            at: 0,
            helper: helper::FTP,
            client: "192.0.2.7:39000".parse().unwrap(),
            server: "198.51.100.9:21".parse().unwrap(),
            change,
        })
    }

    #[test]
    fn each_reason_that_nothing_was_told_has_a_remedy_of_its_own() {
        let mut remedies = Vec::new();
        for why in [Untold::NoPort, Untold::InPart, Untold::NoRoom] {
            let found = told(HelperChange::Untold(why, "no port is free".into())).unwrap();
            assert_eq!(found.name, "helper-untold");
            assert!(found.message.contains("192.0.2.7:39000 -> 198.51.100.9:21"), "{found:?}");
            assert!(found.message.ends_with(": no port is free"), "{found:?}");
            remedies.push(found.advice);
        }
        remedies.sort();
        remedies.dedup();
        assert_eq!(remedies.len(), 3);
    }

    #[test]
    fn what_has_to_be_repeated_says_on_which_side_to_look() {
        let overtook = told(HelperChange::Early(Early::Overtook)).unwrap();
        assert!(overtook.advice.contains("between the sender and this host"), "{overtook:?}");
        let ahead = told(HelperChange::Early(Early::Ahead)).unwrap();
        assert!(ahead.advice.contains("between this host and the receiver"), "{ahead:?}");
        assert_eq!([overtook.name, ahead.name], ["helper-early"; 2]);
    }

    #[test]
    fn what_is_no_trouble_is_not_told() {
        assert_eq!(told(HelperChange::Encrypted), None);
        assert_eq!(told(HelperChange::Note("refused".into())), None);
    }
}
