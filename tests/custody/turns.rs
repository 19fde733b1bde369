//! Who waits for a slow HSM, beside whom.

use std::time::{Duration, Instant};

use passportd::wire::{ServiceOk, ServiceOp};

use super::support::passports::demo;
use super::support::{House, Options, root_or_skip};

/// A uid with a rule of its own, and no name.
const OTHER: u32 = 41_077;
/// What a signature takes, and the items of a batch.
const TAKES: Duration = Duration::from_millis(100);
const ITEMS: usize = 64;

#[test]
fn a_batch_of_one_uid_is_no_queue_before_another() {
    if !root_or_skip("a slow HSM") {
        return;
    }
    let rule = format!("[[peer]]\nname = \"other\"\nuid = {OTHER}\nallow = [\"issue\"]\ntemplates = [\"demo\"]\n");
    let policy = format!("{rule}{}", super::support::options::POLICY);
    let options = Options::default().fault().policy(&policy).set("hsm.sessions", 1).set("hsm.op_timeout_ms", 20_000);
    let house = House::start(options);
    house.fault(&format!("C_Sign delay={}", TAKES.as_millis()));
    // So that it is known to be slow.
    let mut raw = house.raw();
    (0..20).for_each(|_| drop(raw.issue(demo("slow")).unwrap()));
    let mut batch = house.raw();
    let begun = Instant::now();
    batch.request(ServiceOp::IssueBatch((0..ITEMS).map(|_| demo("of a batch")).collect()));
    std::thread::sleep(TAKES * 3);
    let mut other = house.raw_as(OTHER, OTHER, &[]);
    let asked = Instant::now();
    other.issue(demo("alone")).unwrap();
    let alone = asked.elapsed();
    let Ok(ServiceOk::IssuedBatch(results)) = batch.reply().result else { panic!("a batch") };
    let whole = begun.elapsed();
    assert!(results.len() == ITEMS && results.iter().all(Result::is_ok), "{results:?}");
    // Two are inside a signer of one session, one is next in the batch's lane; in one queue it would be all of the batch.
    assert!(alone < whole / 4, "{alone:?} of {whole:?}");
}
