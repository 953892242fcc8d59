use proptest::prelude::*;

use super::*;

/// What a stream tells, in words that a test can compare.
fn read(stream: &mut Stream, seq: u32, payload: &[u8]) -> Vec<String> {
    let mut told = Vec::new();
    stream.segment(Seq(seq), payload, &mut |read| told.push(words(read)));
    told
}

/// What it tells when the receiver has the bytes before `ack`.
fn acknowledge(stream: &mut Stream, ack: u32) -> Vec<String> {
    let mut told = Vec::new();
    stream.acknowledged(Seq(ack), &mut |read| told.push(words(read)));
    told
}

fn words(read: Read<'_>) -> String {
    match read {
        Read::Line(line) => {
            let tail = if line.whole { "" } else { "~" };
            format!("{tail}{}", String::from_utf8_lossy(line.text))
        }
        Read::TooLong(_) => "<too long>".to_owned(),
        Read::Lost(loss) => format!("<{loss:?}>"),
        Read::Clear => "<clear>".to_owned(),
    }
}

mod in_order {
    use super::*;

    #[test]
    fn a_whole_line_is_a_slice_of_its_segment() {
        let segment = b"PASV\r\n";
        let mut stream = Stream::new(true);
        stream.segment(Seq(1), segment, &mut |read| {
            let Read::Line(line) = read else { panic!("{read:?}") };
            assert_eq!(line.text.as_ptr(), segment.as_ptr());
        });
        assert_eq!(stream.memory(), 0);
    }

    #[test]
    fn what_comes_before_the_first_segment_is_waited_for() {
        let mut stream = Stream::new(true);
        assert!(acknowledge(&mut stream, 1).is_empty());
        assert!(read(&mut stream, 4, b"V\r\nNOOP\r\n").is_empty());
        assert_eq!(read(&mut stream, 1, b"PAS"), ["PASV", "NOOP"]);
        // Nobody knows where a stream begins that was joined in its middle.
        let mut joined = Stream::new(false);
        assert!(acknowledge(&mut joined, 1).is_empty());
        assert_eq!(read(&mut joined, 4, b"V\r\nNOOP\r\n"), ["~V", "NOOP"]);
    }

    #[test]
    fn a_line_that_has_begun_is_told_with_its_place() {
        for whole in [true, false] {
            let mut stream = Stream::new(whole);
            read(&mut stream, 7, b"PORT 1,2");
            let begun = stream.begun().unwrap();
            assert_eq!((begun.text, begun.at, begun.whole), (&b"PORT 1,2"[..], Seq(7), whole));
            read(&mut stream, 15, b"\r\n");
            assert_eq!(stream.begun(), None);
        }
    }

    #[test]
    fn letters_typed_singly_make_one_line() {
        let mut stream = Stream::new(true);
        let mut told = Vec::new();
        for (at, letter) in b"PASV\r\n".iter().enumerate() {
            told.extend(read(&mut stream, at as u32, &[*letter]));
        }
        assert_eq!(told, ["PASV"]);
    }

    #[test]
    fn several_lines_in_one_segment_are_read_one_by_one() {
        let mut stream = Stream::new(true);
        assert_eq!(read(&mut stream, 9, b"TYPE I\r\nPASV\nQU"), ["TYPE I", "PASV"]);
        assert_eq!(read(&mut stream, 24, b"IT\r\0\n"), ["QUIT"]);
    }

    #[test]
    fn a_stream_joined_in_its_middle_marks_only_its_first_line() {
        let mut stream = Stream::new(false);
        assert_eq!(read(&mut stream, 0, b"SV\r\nNOOP\r\n"), ["~SV", "NOOP"]);
    }

    #[test]
    fn an_overlong_line_is_told_once_and_skipped_to_its_end() {
        let mut stream = Stream::new(true);
        assert_eq!(read(&mut stream, 0, &[b'x'; 2000]), [""; 0]);
        assert_eq!(read(&mut stream, 2000, &[b'x'; 2000]), ["<too long>"]);
        assert_eq!(stream.memory(), 0);
        assert_eq!(read(&mut stream, 4000, &[b'x'; 2000]), [""; 0]);
        assert_eq!(read(&mut stream, 6000, b"PASV\r\nNOOP\r\n"), ["NOOP"]);
    }

    #[test]
    fn numbers_wrap_around_within_a_line() {
        let mut stream = Stream::new(true);
        assert_eq!(read(&mut stream, u32::MAX - 1, b"PAS"), [""; 0]);
        assert_eq!(read(&mut stream, 1, b"V\r\n"), ["PASV"]);
    }
}

mod repeated {
    use super::*;

    #[test]
    fn a_retransmission_is_read_once() {
        let mut stream = Stream::new(true);
        assert_eq!(read(&mut stream, 100, b"PASV\r\n"), ["PASV"]);
        assert_eq!(read(&mut stream, 100, b"PASV\r\n"), [""; 0]);
    }

    #[test]
    fn a_retransmission_with_other_content_is_not_read() {
        let mut stream = Stream::new(true);
        read(&mut stream, 100, b"NOOP\r\n");
        assert_eq!(read(&mut stream, 100, b"PASV\r\n"), [""; 0]);
    }

    #[test]
    fn a_retransmission_that_goes_on_is_read_from_where_the_first_ended() {
        let mut stream = Stream::new(true);
        read(&mut stream, 100, b"NO");
        assert_eq!(read(&mut stream, 100, b"NOOP\r\nPASV\r\n"), ["NOOP", "PASV"]);
    }

    #[test]
    fn a_keep_alive_is_not_read() {
        let mut stream = Stream::new(true);
        read(&mut stream, 100, b"NOOP\r\nPA");
        assert_eq!(read(&mut stream, 107, b"\0"), [""; 0]);
        assert_eq!(read(&mut stream, 108, b"SV\r\n"), ["PASV"]);
    }
}

mod out_of_order {
    use super::*;

    #[test]
    fn a_segment_ahead_waits_for_the_gap_to_be_filled() {
        let mut stream = Stream::new(true);
        stream.starts_at(Seq(0));
        assert_eq!(read(&mut stream, 6, b"NOOP\r\n"), [""; 0]);
        assert_eq!(read(&mut stream, 3, b"V\r\n"), [""; 0]);
        assert_eq!(read(&mut stream, 0, b"PAS"), ["PASV", "NOOP"]);
        assert_eq!(stream.memory() / 1024, 0);
    }

    #[test]
    fn agreeing_overlaps_are_kept_once() {
        let mut stream = Stream::new(true);
        stream.starts_at(Seq(0));
        read(&mut stream, 2, b"SV\r\n");
        read(&mut stream, 8, b"OP\r\n");
        assert_eq!(read(&mut stream, 1, b"ASV\r\nNOO"), [""; 0]);
        assert_eq!(read(&mut stream, 0, b"PAS"), ["PASV", "NOOP"]);
    }

    #[test]
    fn waiting_copies_that_differ_are_both_not_read() {
        let mut stream = Stream::new(true);
        stream.starts_at(Seq(0));
        read(&mut stream, 6, b"NOOP\r\nQUIT\r\n");
        assert_eq!(read(&mut stream, 6, b"PASV\r\n"), ["<Conflict>"]);
        assert_eq!(read(&mut stream, 0, b"TYPE\r\n"), [""; 0]);
        assert_eq!(read(&mut stream, 18, b"tail\r\nNOOP\r\n"), ["NOOP"]);
    }

    #[test]
    fn an_in_order_segment_that_contradicts_a_waiting_one_is_not_read() {
        let mut stream = Stream::new(true);
        stream.starts_at(Seq(0));
        read(&mut stream, 3, b"V\r\n");
        assert_eq!(read(&mut stream, 0, b"NOOP\r\n"), ["<Conflict>"]);
    }

    #[test]
    fn a_gap_that_outlives_the_bounds_is_given_up() {
        let mut stream = Stream::new(true);
        stream.starts_at(Seq(0));
        let segment: Vec<u8> = b"NOOP\r\n".repeat(100);
        let mut told = Vec::new();
        for number in 0..40 {
            told.extend(read(&mut stream, 1 + number * 600, &segment));
        }
        assert_eq!(told[0], "<Gap>");
        assert!(told[1..].iter().all(|line| line == "NOOP"));
        assert_eq!(told.len(), 40 * 100);
    }

    #[test]
    fn one_byte_segments_with_holes_between_them_are_bounded() {
        let mut stream = Stream::new(true);
        stream.starts_at(Seq(0));
        for number in 0..10_000 {
            read(&mut stream, 1 + number * 2, b"x");
            assert!(stream.memory() < 4096);
        }
    }
}

proptest! {
    #[test]
    fn any_segments_at_any_place_keep_to_the_bounds(
        segments in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..3000)), 0..60)
    ) {
        let mut stream = Stream::new(false);
        for (seq, payload) in segments {
            read(&mut stream, seq, &payload);
            prop_assert!(stream.memory() <= 2 * MAX_LINE + MAX_AHEAD_BYTES + 4096);
        }
    }
}

mod acknowledged {
    use super::*;

    #[test]
    fn what_was_read_is_no_gap() {
        let mut stream = Stream::new(true);
        read(&mut stream, 1, b"NOOP\r\n");
        assert!(acknowledge(&mut stream, 7).is_empty());
        assert!(acknowledge(&mut stream, 3).is_empty());
        assert_eq!(read(&mut stream, 7, b"PASV\r\n"), ["PASV"]);
    }

    #[test]
    fn bytes_that_passed_unread_are_not_waited_for() {
        let mut stream = Stream::new(true);
        read(&mut stream, 1, b"NOOP\r\n");
        assert_eq!(acknowledge(&mut stream, 15), ["<Gap>"]);
        assert_eq!(read(&mut stream, 15, b"PASV\r\n"), ["~PASV"]);
        assert_eq!(read(&mut stream, 21, b"NOOP\r\n"), ["NOOP"]);
    }

    #[test]
    fn what_has_waited_behind_the_gap_is_read() {
        let mut stream = Stream::new(true);
        read(&mut stream, 1, b"NOOP\r\n");
        assert!(read(&mut stream, 15, b"PASV\r\n").is_empty());
        assert_eq!(acknowledge(&mut stream, 15), ["<Gap>", "~PASV"]);
    }

    #[test]
    fn an_acknowledgement_of_what_nobody_can_have_sent_is_ignored() {
        let mut stream = Stream::new(true);
        read(&mut stream, 1, b"NOOP\r\n");
        assert!(acknowledge(&mut stream, 7 + (1 << 30) + 1).is_empty());
        assert_eq!(read(&mut stream, 7, b"PASV\r\n"), ["PASV"]);
    }
}
