//! The commands that have no reply yet, in their order.

use std::collections::VecDeque;

use crate::ftp::parse::Code;

/// How many commands are remembered by kind. Clients pipeline a handful.
pub(super) const MAX_QUESTIONS: usize = 64;

/// Which PORT or EPRT of the connection, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Serial(u32);

impl Serial {
    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// A command, as far as its reply means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Pasv,
    Epsv,
    EpsvAll,
    Active(Serial),
    /// `is_again`: over a hole that an earlier PORT had announced.
    Transfer {
        is_again: bool,
    },
    Auth {
        tls: bool,
    },
    Login,
    Reinitialize,
    Quit,
    Other,
}

impl Question {
    /// Whether a reply with this code can only answer this kind of command.
    fn owns(self, code: Code) -> bool {
        matches!((self, code), (Self::Pasv, Code::PASSIVE) | (Self::Epsv, Code::EXTENDED_PASSIVE))
    }
}

/// The queue of questions. When it is full, further ones are only counted
/// until all of it is answered, so that replies keep meeting their commands.
#[derive(Clone, Debug, Default)]
pub(super) struct Questions {
    queue: VecDeque<Question>,
    surplus: u32,
}

impl Questions {
    /// Returns whether the question is remembered by its kind.
    pub(super) fn ask(&mut self, question: Question) -> bool {
        let is_full = self.queue.len() >= MAX_QUESTIONS || self.surplus > 0;
        if is_full {
            self.surplus = self.surplus.saturating_add(1);
        } else {
            self.queue.push_back(question);
        }
        !is_full
    }

    /// Takes the question that a final reply answers: the oldest one.
    ///
    /// A 227 or 229 can answer nothing but PASV or EPSV. If an older question
    /// stands before that, its reply was missed, and it is dropped: so the
    /// queue finds back into step by itself.
    pub(super) fn answer(&mut self, code: Code) -> Option<Question> {
        if let Some(owner) = self.queue.iter().position(|question| question.owns(code)) {
            self.queue.drain(..owner);
        }
        let question = self.queue.pop_front();
        if self.queue.is_empty() {
            // A connection that waits for nothing holds no memory for it.
            self.queue = VecDeque::new();
        }
        if question.is_none() && self.surplus > 0 {
            self.surplus -= 1;
            return Some(Question::Other);
        }
        question
    }

    /// Whether a 227 or 229 would answer one.
    pub(super) fn await_code(&self, code: Code) -> bool {
        self.queue.iter().any(|question| question.owns(code))
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes held on the heap.
    pub(super) fn memory(&self) -> usize {
        self.queue.capacity() * size_of::<Question>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: u16 = 200;

    fn code(number: u16) -> Code {
        Code::new(number).unwrap()
    }

    #[test]
    fn replies_answer_in_order() {
        let mut questions = Questions::default();
        questions.ask(Question::Login);
        questions.ask(Question::Quit);
        assert_eq!(questions.answer(code(OK)), Some(Question::Login));
        assert_eq!(questions.answer(code(OK)), Some(Question::Quit));
        assert_eq!(questions.answer(code(OK)), None);
    }

    #[test]
    fn a_227_passes_over_questions_whose_reply_was_missed() {
        let mut questions = Questions::default();
        questions.ask(Question::Other);
        questions.ask(Question::Pasv);
        questions.ask(Question::Other);
        assert_eq!(questions.answer(Code::PASSIVE), Some(Question::Pasv));
        assert_eq!(questions.answer(code(OK)), Some(Question::Other));
    }

    #[test]
    fn questions_beyond_the_bound_are_counted_and_keep_the_order() {
        let mut questions = Questions::default();
        for _ in 0..MAX_QUESTIONS {
            assert!(questions.ask(Question::Other));
        }
        assert!(!questions.ask(Question::Pasv));
        for _ in 0..MAX_QUESTIONS {
            questions.answer(code(OK));
        }
        assert!(!questions.ask(Question::Pasv));
        assert_eq!(questions.answer(Code::PASSIVE), Some(Question::Other));
        assert_eq!(questions.answer(Code::PASSIVE), Some(Question::Other));
        assert!(questions.ask(Question::Pasv));
        assert!(questions.memory() <= 4096);
    }
}
