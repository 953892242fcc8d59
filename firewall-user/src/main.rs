//! The command `firewall`.

use std::process::ExitCode;

use firewall_user::{cli::Arguments, commands, compat};

#[cfg(target_env = "musl")]
mod allocator;
#[cfg(all(target_arch = "x86_64", any(target_env = "musl", test)))]
mod copying;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator::new();

fn main() -> ExitCode {
    if let Some(outcome) = compat::from_process() {
        return outcome;
    }
    match commands::execute(&Arguments::from_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("firewall: {error:#}");
            ExitCode::FAILURE
        }
    }
}
