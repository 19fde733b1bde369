#![cfg(test)]
#[expect(dead_code, reason = "shared by several tests")]
mod support;
use support::{Hsm, House, Options};
use support::passports::demo;
#[test]
fn first() {
    let house = House::start(Options::default().module(Hsm::Kryoptic));
    for n in 0..100 { house.raw().issue(demo(&n.to_string())).unwrap(); }
    println!("{}", house.log());
    std::process::Command::new("ls").arg("-laR").arg(house.dir()).status().unwrap();
    println!("{}", std::fs::read_to_string(format!("/proc/{}/maps", house.pid("signer"))).unwrap().lines().filter(|l| l.contains("kryopt")).collect::<Vec<_>>().join("\n"));
}
