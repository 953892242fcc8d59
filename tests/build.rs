//! Tells the bench where the programs are that it measures with; the build script of
//! firewall-user has built them.

fn main() {
    let peers = std::env::var("DEP_FIREWALL_PROGRAMS_PEERS").expect("firewall-user builds them");
    println!("cargo:rustc-env=FIREWALL_PEERS_OBJECT={peers}");
}
