//! What the service manager is told (sd_notify(3)): nothing where there is none.

use sd_notify::NotifyState;

/// Packets are judged.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("enforcing")]);
}

/// The daemon ends; what it loaded may go on.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// What `systemctl status` shows.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot tell the service manager: {error}");
    }
}
