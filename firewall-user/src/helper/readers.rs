//! Which helper reads what.

use std::{net::SocketAddr, sync::Arc};

use firewall_common::flow::{Tuple, helper};

use super::{Beginning, Names, Reader};
use crate::{
    ftp::{self, Conversation},
    tftp::Exchange,
};

/// What the helpers are told by the configuration.
#[derive(Clone, Debug, Default)]
pub struct Readers {
    pub ftp: Arc<ftp::Policy>,
}

impl Readers {
    /// The reader of a control connection, in its original direction, whose hosts have these
    /// names; `None` for a helper that does not exist.
    pub fn begin(
        &self,
        helper: u8,
        flow: &Tuple,
        names: Names,
        how: Beginning,
    ) -> Option<Box<dyn Reader>> {
        let (client, server) = (flow.src.to_ip(), flow.dst.to_ip());
        Some(match helper {
            helper::FTP => {
                let policy = Arc::clone(&self.ftp);
                Box::new(Conversation::new(client, server, how, policy).known_as(names))
            }
            helper::TFTP => Box::new(Exchange::new(SocketAddr::new(client, flow.sport), server)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_helper_that_rules_can_name_reads() {
        for number in helper::ALL {
            let tuple = Tuple::default();
            assert!(
                Readers::default()
                    .begin(number, &tuple, Names::default(), Beginning::Seen)
                    .is_some()
            );
        }
        assert!(
            Readers::default()
                .begin(helper::NONE, &Tuple::default(), Names::default(), Beginning::Seen)
                .is_none()
        );
    }
}
