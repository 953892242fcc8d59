use super::*;
use crate::{
    ftp::{
        parse::{Endpoint, Named},
        policy::Refusal,
    },
    helper::Action,
};

const CLIENT: &str = "192.0.2.7";
const SERVER: &str = "198.51.100.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn endpoint(host: &str, port: u16) -> Endpoint {
    let host = (!host.is_empty()).then(|| ip(host));
    Endpoint { host, port: port.try_into().unwrap() }
}

fn port(host: &str, number: u16) -> Command {
    Command::Active(Announcement::Port, endpoint(host, number))
}

fn active(dport: u16) -> Hole {
    Hole::tcp(ip(SERVER), ip(CLIENT), dport)
}

fn passive(dport: u16) -> Hole {
    Hole::tcp(ip(CLIENT), ip(SERVER), dport)
}

fn said(dialogue: &mut Dialogue, command: Command) -> Vec<Action> {
    let mut actions = Actions::default();
    dialogue.command(command, &mut actions);
    actions.as_slice().to_vec()
}

fn answered_with(dialogue: &mut Dialogue, code: u16, named: Named) -> Vec<Action> {
    let mut actions = Actions::default();
    dialogue.reply(Reply { code: Code::new(code).unwrap(), named, place: None }, &mut actions);
    actions.as_slice().to_vec()
}

fn answered(dialogue: &mut Dialogue, code: u16) -> Vec<Action> {
    answered_with(dialogue, code, Named::Nothing)
}

fn dialogue(start_seen: bool) -> Dialogue {
    let beginning = if start_seen { Beginning::Seen } else { Beginning::Missed };
    Dialogue::new(ip(CLIENT), ip(SERVER), beginning, Arc::default())
}

fn logged_in() -> Dialogue {
    let mut dialogue = dialogue(true);
    answered(&mut dialogue, 220);
    said(&mut dialogue, Command::Login);
    answered(&mut dialogue, 230);
    dialogue
}

mod greeting {
    use super::*;

    #[test]
    fn a_client_that_speaks_first_ends_the_matter() {
        let mut dialogue = dialogue(true);
        let why = NotFtp::ClientSpokeFirst;
        assert_eq!(
            said(&mut dialogue, Command::Login),
            [Action::Note(Note::NotFtp { client: ip(CLIENT), why }.into())]
        );
        answered(&mut dialogue, 220);
        assert_eq!(said(&mut dialogue, port(CLIENT, 4000)), []);
        assert!(!dialogue.is_followed());
    }

    #[test]
    fn a_delay_announced_by_120_is_a_greeting_to_come() {
        let mut dialogue = dialogue(true);
        answered(&mut dialogue, 120);
        said(&mut dialogue, Command::Login);
        answered(&mut dialogue, 220);
        answered(&mut dialogue, 230);
        assert_eq!(said(&mut dialogue, port(CLIENT, 4000)), [Action::Open(active(4000))]);
    }

    #[test]
    fn a_server_that_greets_with_another_code_is_not_ftp() {
        let mut dialogue = dialogue(true);
        answered(&mut dialogue, 200);
        assert!(!dialogue.is_followed());
    }

    #[test]
    fn a_first_line_that_is_no_command_ends_the_matter_and_a_later_one_does_not() {
        let mut first = dialogue(true);
        answered(&mut first, 220);
        said(&mut first, Command::Unknown);
        assert!(!first.is_followed());
        let mut later = logged_in();
        said(&mut later, Command::Unknown);
        assert!(later.is_followed());
    }
}

mod before_login {
    use super::*;

    #[test]
    fn port_opens_when_the_server_accepts_it() {
        let mut dialogue = dialogue(true);
        answered(&mut dialogue, 220);
        assert_eq!(said(&mut dialogue, port(CLIENT, 4000)), []);
        assert_eq!(answered(&mut dialogue, 200), [Action::Open(active(4000))]);
    }

    #[test]
    fn port_refused_by_the_server_never_opens() {
        let mut dialogue = dialogue(true);
        answered(&mut dialogue, 220);
        said(&mut dialogue, port(CLIENT, 4000));
        assert_eq!(answered(&mut dialogue, 530), []);
        assert_eq!(answered(&mut dialogue, 200), []);
    }

    #[test]
    fn a_connection_joined_in_its_middle_proves_itself_by_an_answered_command() {
        let mut dialogue = dialogue(false);
        said(&mut dialogue, port(CLIENT, 4000));
        assert_eq!(answered(&mut dialogue, 200), [Action::Open(active(4000))]);
        assert_eq!(
            said(&mut dialogue, port(CLIENT, 4001)),
            [Action::Close(active(4000)), Action::Open(active(4001))]
        );
    }
}

mod logged_in {
    use super::*;

    #[test]
    fn port_opens_as_it_passes_and_a_failure_closes_it() {
        let mut dialogue = logged_in();
        assert_eq!(said(&mut dialogue, port(CLIENT, 4000)), [Action::Open(active(4000))]);
        assert_eq!(answered(&mut dialogue, 500), [Action::Close(active(4000))]);
        assert_eq!(dialogue.hole(), None);
    }

    #[test]
    fn a_failure_of_a_later_command_closes_nothing() {
        let mut dialogue = logged_in();
        said(&mut dialogue, port(CLIENT, 4000));
        said(&mut dialogue, Command::Other);
        answered(&mut dialogue, 200);
        assert_eq!(answered(&mut dialogue, 550), []);
        assert_eq!(dialogue.hole(), Some(active(4000)));
    }

    #[test]
    fn a_failure_of_a_superseded_port_leaves_its_successor() {
        let mut dialogue = logged_in();
        said(&mut dialogue, port(CLIENT, 4000));
        said(&mut dialogue, port(CLIENT, 4001));
        assert_eq!(answered(&mut dialogue, 500), []);
        assert_eq!(dialogue.hole(), Some(active(4001)));
    }

    #[test]
    fn a_227_opens_only_for_a_pasv() {
        let mut dialogue = logged_in();
        let named = Named::Endpoint(endpoint(SERVER, 5000));
        said(&mut dialogue, Command::Epsv);
        let what = Announcement::Passive;
        assert_eq!(
            answered_with(&mut dialogue, 227, named),
            [Action::Note(Note::Unasked { sender: ip(SERVER), what }.into())]
        );
        said(&mut dialogue, Command::Pasv);
        assert_eq!(answered_with(&mut dialogue, 227, named), [Action::Open(passive(5000))]);
    }

    #[test]
    fn a_preliminary_reply_answers_nothing() {
        let mut dialogue = logged_in();
        said(&mut dialogue, Command::Pasv);
        answered(&mut dialogue, 150);
        let named = Named::Endpoint(endpoint("", 5000));
        assert_eq!(answered_with(&mut dialogue, 227, named), [Action::Open(passive(5000))]);
    }

    #[test]
    fn the_next_pasv_closes_the_hole_before_its_reply() {
        let mut dialogue = logged_in();
        said(&mut dialogue, port(CLIENT, 4000));
        assert_eq!(said(&mut dialogue, Command::Pasv), [Action::Close(active(4000))]);
    }

    #[test]
    fn a_reply_that_was_lost_costs_no_later_transfer() {
        let mut dialogue = logged_in();
        said(&mut dialogue, Command::Other);
        dialogue.lost();
        said(&mut dialogue, Command::Other);
        said(&mut dialogue, Command::Pasv);
        let named = Named::Endpoint(endpoint("", 5000));
        assert_eq!(answered_with(&mut dialogue, 227, named), [Action::Open(passive(5000))]);
    }

    #[test]
    fn another_host_is_refused_and_the_note_says_what_to_do() {
        let mut dialogue = logged_in();
        said(&mut dialogue, Command::Pasv);
        let named = Named::Endpoint(endpoint("203.0.113.9", 5000));
        let actions = answered_with(&mut dialogue, 227, named);
        let [Action::Note(note)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(
            note.to_string(),
            "227 from 198.51.100.1 names another host 203.0.113.9: not opened; see loose"
        );
        let (sender, what) = (ip(SERVER), Announcement::Passive);
        let why = Refusal::OtherHost(ip("203.0.113.9"));
        assert_eq!(*note, Note::Refused { sender, what, why }.into());
    }
}

mod endings {
    use super::*;

    #[test]
    fn quit_closes_the_hole_at_its_reply() {
        let mut dialogue = logged_in();
        said(&mut dialogue, port(CLIENT, 4000));
        answered(&mut dialogue, 200);
        assert_eq!(said(&mut dialogue, Command::Quit), []);
        assert_eq!(answered(&mut dialogue, 221), [Action::Close(active(4000))]);
    }

    #[test]
    fn reinitialize_closes_the_hole_and_logs_out() {
        let mut dialogue = logged_in();
        said(&mut dialogue, port(CLIENT, 4000));
        answered(&mut dialogue, 200);
        said(&mut dialogue, Command::Reinitialize);
        assert_eq!(answered(&mut dialogue, 220), [Action::Close(active(4000))]);
        assert_eq!(said(&mut dialogue, port(CLIENT, 4000)), []);
    }

    #[test]
    fn the_end_of_the_connection_closes_a_restored_hole_too() {
        let mut dialogue = dialogue(false);
        dialogue.restore_hole(passive(5000));
        let mut actions = Actions::default();
        dialogue.ended(&mut actions);
        assert_eq!(actions.as_slice(), [Action::Close(passive(5000))]);
    }

    #[test]
    fn a_restored_hole_is_superseded() {
        let mut dialogue = dialogue(false);
        dialogue.restore_hole(passive(5000));
        assert_eq!(said(&mut dialogue, Command::Epsv), [Action::Close(passive(5000))]);
    }
}

mod encryption {
    use super::*;

    #[test]
    fn auth_accepted_ends_the_reading_and_closes_the_hole() {
        let mut dialogue = logged_in();
        said(&mut dialogue, port(CLIENT, 4000));
        said(&mut dialogue, Command::Auth { tls: true });
        answered(&mut dialogue, 200);
        assert_eq!(answered(&mut dialogue, 234), [Action::Close(active(4000)), Action::Encrypted]);
        assert_eq!(said(&mut dialogue, port(CLIENT, 4001)), []);
        assert!(dialogue.is_encrypted() && dialogue.is_sealed());
    }

    #[test]
    fn a_334_begins_tls_and_continues_other_mechanisms() {
        for (tls, encrypted) in [(true, true), (false, false)] {
            let mut dialogue = logged_in();
            said(&mut dialogue, Command::Auth { tls });
            answered(&mut dialogue, 334);
            assert_eq!(dialogue.is_encrypted(), encrypted);
        }
    }

    #[test]
    fn auth_refused_changes_nothing() {
        let mut dialogue = logged_in();
        said(&mut dialogue, Command::Auth { tls: true });
        answered(&mut dialogue, 502);
        assert_eq!(said(&mut dialogue, port(CLIENT, 4000)), [Action::Open(active(4000))]);
    }

    #[test]
    fn protected_replies_are_encryption() {
        let mut dialogue = logged_in();
        assert_eq!(answered(&mut dialogue, 632), [Action::Encrypted]);
    }
}
