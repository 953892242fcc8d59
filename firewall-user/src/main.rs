use firewall_user::kernel::{load::*, pins::*};
fn main() -> anyhow::Result<()> {
    let pins = Pins::new(std::env::args().nth(1).unwrap());
    pins.create()?;
    Programs::load(&pins, TableSizes::default())?;
    Ok(())
}
