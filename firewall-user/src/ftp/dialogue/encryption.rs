//! Encryption of the control connection: when it begins, what it admits, when it ends.
//!
//! RFC 4217: AUTH TLS and its 234 begin it; CCC, which is itself encrypted, ends it.
//! What shows the end is text behind the TLS records of both directions. The client's
//! comes first, since it has something to ask.

use super::{Dialogue, Phase, Proof};
use crate::helper::{Actions, Beginning, Passage};

impl Dialogue {
    /// Whether the flow is marked as encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.is_marked
    }

    /// Whether both directions are TLS records now.
    pub fn is_sealed(&self) -> bool {
        self.phase == Phase::Sealed
    }

    /// TLS begins behind what was read. `passage` when AUTH began it: then the
    /// connection has behaved like FTP up to here.
    pub(super) fn sealed_by_auth(&mut self, actions: &mut Actions) {
        self.seal(actions);
        if self.beginning == Beginning::Seen
            && let Some(ports) = self.policy.tls_passive_range
        {
            let name = self.names.server.filter(|name| *name != self.server);
            let passage = Passage {
                src: self.client,
                dst: name.unwrap_or(self.server),
                inside: name.map(|_| self.server),
                ports,
            };
            self.passage = Some(passage);
            actions.admit(passage);
        }
    }

    /// TLS from the first byte on.
    pub fn sealed_from_the_start(&mut self, actions: &mut Actions) {
        if self.beginning == Beginning::Seen {
            self.seal(actions);
        } else {
            // Where a record begins is not known.
            self.protected(actions);
        }
    }

    fn seal(&mut self, actions: &mut Actions) {
        self.retire(Phase::Sealed, actions);
        self.is_server_clear = false;
        self.mark(actions);
    }

    /// Encrypted by other means than TLS: nothing can be read any more.
    pub(super) fn protected(&mut self, actions: &mut Actions) {
        self.retire(Phase::Protected, actions);
        self.mark(actions);
    }

    fn mark(&mut self, actions: &mut Actions) {
        if !self.is_marked {
            self.is_marked = true;
            actions.encrypted();
        }
    }

    /// The client's TLS records have ended: what it asks in the clear counts when the
    /// server answers in the clear.
    pub fn client_is_clear(&mut self, actions: &mut Actions) {
        if self.phase != Phase::Sealed {
            return;
        }
        self.phase = Phase::Talking;
        // Who has logged in meanwhile is not known.
        (self.proof, self.proven) = (Proof::Answer, false);
        self.unmark(actions);
    }

    /// The server's TLS records have ended.
    pub fn server_is_clear(&mut self, actions: &mut Actions) {
        self.is_server_clear = true;
        self.unmark(actions);
    }

    fn unmark(&mut self, actions: &mut Actions) {
        if self.phase == Phase::Talking && self.is_server_clear && self.is_marked {
            self.is_marked = false;
            self.dismiss(actions);
            actions.decrypted();
        }
    }

    /// The passage of an encrypted connection ends.
    pub(super) fn dismiss(&mut self, actions: &mut Actions) {
        if let Some(passage) = self.passage.take() {
            actions.dismiss(passage);
        }
    }
}
