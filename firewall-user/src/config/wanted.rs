//! What `firewall run` is to do: the command line before the configuration file
//! before the defaults.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::File;
use crate::{
    cli::{
        FtpPorts, InterfaceName,
        args::{HelperFailure, HookChoice, LogLevel, Run},
    },
    ftp::{Network, PortRange},
    kernel::load::{SizesNamed, TableSizes},
    settings::{Chosen, Value, find},
};

/// Everything that can be asked for, with nothing left open.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub interfaces: Vec<InterfaceName>,
    pub rules: Option<PathBuf>,
    pub rules6: Option<PathBuf>,
    pub sets: Option<PathBuf>,
    pub hook: HookChoice,
    pub drop_non_ip: bool,
    pub unload_on_exit: bool,
    pub log_level: LogLevel,
    pub sizes: TableSizes,
    /// The sizes that somebody has named.
    pub named: SizesNamed,
    pub ftp_ports: FtpPorts,
    pub ftp_loose: Vec<Network>,
    pub ftp_refused_ports: Vec<PortRange>,
    pub tls_passive_range: Option<PortRange>,
    /// Control connections that are read at a time.
    pub max_connections: u32,
    /// Bytes of their buffers.
    pub max_buffers: u32,
    pub max_holes_per_host: u32,
    pub tftp_ports: FtpPorts,
    pub helper_failure: HelperFailure,
    /// The settings that somebody has named.
    pub settings: Chosen,
}

const MAX_CONNECTIONS: u32 = 65_536;
const MAX_BUFFERS: u32 = 32 << 20;
const MAX_HOLES_PER_HOST: u32 = 1_024;

impl Wanted {
    /// As a configuration file would say it, without the rules.
    pub fn to_file(&self) -> File {
        File {
            interfaces: Some(self.interfaces.clone()),
            rules: None,
            rules6: None,
            sets: None,
            hook: Some(self.hook),
            drop_non_ip: Some(self.drop_non_ip),
            unload_on_exit: Some(self.unload_on_exit),
            log_level: Some(self.log_level),
            max_flows: self.named.assured,
            max_embryonic: self.named.embryonic,
            max_expectations: self.named.expectations,
            max_fragments: self.named.fragments,
            ftp_ports: Some(self.ftp_ports.clone()),
            ftp_loose: Some(self.ftp_loose.clone()),
            ftp_refused_ports: Some(self.ftp_refused_ports.clone()),
            tls_passive_range: Some(self.tls_passive_range),
            max_connections: Some(self.max_connections),
            max_buffers: Some(self.max_buffers),
            max_holes_per_host: Some(self.max_holes_per_host),
            tftp_ports: Some(self.tftp_ports.clone()),
            helper_failure: Some(self.helper_failure),
            settings: self.settings.clone(),
        }
    }

    /// # Errors
    /// When neither names an interface.
    pub fn new(run: &Run, file: File) -> Result<Self> {
        let Run { helper, tracking, .. } = run.clone();
        let named = SizesNamed {
            assured: tracking.max_flows.or(file.max_flows),
            embryonic: tracking.max_embryonic.or(file.max_embryonic),
            expectations: tracking.max_expectations.or(file.max_expectations),
            fragments: tracking.max_fragments.or(file.max_fragments),
        };
        let mut settings = file.settings;
        if tracking.no_loose {
            settings.add(find("tcp_loose")?, Value::Switch(false));
        }
        Ok(Self {
            interfaces: interfaces(run, file.interfaces)?,
            rules: run.rules.clone().or(file.rules),
            rules6: run.rules6.clone().or(file.rules6),
            sets: run.sets.clone().or(file.sets),
            hook: run.hook.or(file.hook).unwrap_or(HookChoice::Auto),
            drop_non_ip: run.drop_non_ip || file.drop_non_ip.unwrap_or(false),
            unload_on_exit: run.unload_on_exit || file.unload_on_exit.unwrap_or(false),
            log_level: run.log_level.or(file.log_level).unwrap_or(LogLevel::Info),
            sizes: named.or_default(),
            named,
            ftp_ports: helper.ftp_ports.or(file.ftp_ports).unwrap_or_default(),
            ftp_loose: match helper.ftp_loose {
                loose if loose.is_empty() => file.ftp_loose.unwrap_or_default(),
                loose => loose,
            },
            ftp_refused_ports: file.ftp_refused_ports.unwrap_or_default(),
            tls_passive_range: file.tls_passive_range.flatten(),
            max_connections: file.max_connections.unwrap_or(MAX_CONNECTIONS),
            max_buffers: file.max_buffers.unwrap_or(MAX_BUFFERS),
            max_holes_per_host: file.max_holes_per_host.unwrap_or(MAX_HOLES_PER_HOST),
            tftp_ports: file.tftp_ports.unwrap_or_else(|| FtpPorts::new(Vec::new())),
            helper_failure: helper
                .helper_failure
                .or(file.helper_failure)
                .unwrap_or(HelperFailure::Open),
            settings,
        })
    }
}

fn interfaces(run: &Run, file: Option<Vec<InterfaceName>>) -> Result<Vec<InterfaceName>> {
    if !run.interfaces.is_empty() {
        return Ok(run.interfaces.clone());
    }
    match (file, &run.config) {
        (Some(names), _) if !names.is_empty() => Ok(names),
        (_, Some(path)) => bail!(
            "no interface is named: add `interfaces = [\"eth0\", \"eth1\"]` under [run] in {}, or \
             give -i for each",
            path.display()
        ),
        (_, None) => bail!("no interface is named: give -i for each"),
    }
}
