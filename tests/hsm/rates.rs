//! What the way through queue, guard, verification and socket costs.

use super::*;

/// `cargo test --profile ci --test hsm rates:: -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: takes some seconds and wants an idle machine"]
fn rates() {
    let Some(hsm) = initialised() else { return };
    for sessions in ["1", "2"] {
        let mut raw = start(&hsm, "raw-rate", &[("HSM_SESSIONS", sessions)]);
        let raw: f64 = raw.heard().unwrap().strip_prefix("rate ").unwrap().parse().unwrap();
        let process = start(&hsm, "signer", &[("HSM_SESSIONS", sessions)]).ready();
        let (mut link, _) = Link::open(&process);
        let bytes = payload(V1, |_| {});
        let before = link.stats();
        let begun = Instant::now();
        let mut done: u32 = 0;
        for _ in 0..64 {
            link.send(LinkOp::Sign { payload: &bytes });
        }
        while begun.elapsed() < Duration::from_secs(2) {
            signature(link.reply().unwrap().result);
            done += 1;
            link.send(LinkOp::Sign { payload: &bytes });
        }
        let through = f64::from(done) / begun.elapsed().as_secs_f64();
        for _ in 0..64 {
            signature(link.reply().unwrap().result);
        }
        let after = link.stats();
        let each = (after.cpu_us - before.cpu_us) / (after.signatures - before.signatures);
        println!(
            "{sessions} sessions: raw C_Sign {raw:.0}/s, through the link {through:.0}/s ({:.2}), {each} us CPU each, {} KiB",
            through / raw,
            after.rss_kib
        );
        assert!(through > raw * 0.4);
    }
}
