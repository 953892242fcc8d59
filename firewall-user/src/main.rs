//! The command `firewall`.

use std::process::ExitCode;

use firewall_user::{cli::Arguments, commands};

fn main() -> ExitCode {
    match commands::execute(&Arguments::from_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("firewall: {error:#}");
            ExitCode::FAILURE
        }
    }
}
