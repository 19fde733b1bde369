//! What a kill leaves of a plan, and that it goes on from there.

use super::planned::{carried_out, edit, file, kids, planned, request, rotate};
use super::*;
use serde_json::Value;

/// Each of the states that a kill can leave, made by hand: after the name of the key was written down, after the key was made,
/// after it was pinned.
#[test]
fn a_run_that_was_killed_goes_on_and_makes_no_second_key() {
    let Some(hsm) = initialised() else { return };
    let plan = planned(None, vec![rotate("auth"), rotate("seal")]);
    let expected = [V1, AUDIT, SEAL, V2, "hmac-sha256/t1/seal/v2"];
    carried_out(&hsm, &plan, &[]);
    assert_eq!(kids(&hsm), expected);
    let again = |what: &str| {
        let report = carried_out(&hsm, &plan, &[]);
        assert_eq!(report.steps.len(), 2, "{what}");
        assert_eq!(kids(&hsm), expected, "{what}");
        let pins = file(&hsm, "keys.json");
        assert_eq!(pins["keys"].as_array().unwrap().len(), 5, "{what}");
    };
    again("its answer was lost");
    let unfinish = |from: usize| {
        edit(&hsm, "ceremony-run.json", |journal| {
            journal["runs"][0]["finished"] = Value::Null;
            for step in journal["runs"][0]["steps"].as_array_mut().unwrap().iter_mut().skip(from) {
                step["done"] = Value::Null;
            }
        });
    };
    unfinish(2);
    again("all steps were done, and that not said");
    unfinish(0);
    again("the keys were pinned, and that not said");
    unfinish(0);
    edit(&hsm, "keys.json", |pins| pins["keys"].as_array_mut().unwrap().truncate(3));
    again("the keys were made and not pinned");
    unfinish(1);
    edit(&hsm, "keys.json", |pins| drop(pins["keys"].as_array_mut().unwrap().pop()));
    again("the first step was done, the second key made and not pinned");
    // Named, and never made; another ceremony took the version meanwhile.
    let next = planned(None, vec![rotate("auth")]);
    carried_out(&hsm, &next, &[]);
    edit(&hsm, "ceremony-run.json", |journal| {
        let run = journal["runs"].as_array_mut().unwrap().last_mut().unwrap();
        run["finished"] = Value::Null;
        run["steps"][0]["done"] = Value::Null;
        run["steps"][0]["intents"][0]["cka_id"] = "ff".repeat(16).into();
    });
    let made = carried_out(&hsm, &next, &[]).steps[0].keys[0].kid.clone();
    assert_eq!(made, "ed25519/t1/auth/v4", "v3 is another's, and a version is given once");
}

/// A real kill, whenever the journal has grown: whatever the module was doing then.
#[test]
fn kill_minus_nine_between_any_two_steps_leaves_what_can_go_on() {
    let Some(hsm) = initialised() else { return };
    let plan = planned(None, vec![rotate("auth"), rotate("audit"), rotate("auth")]);
    let journal = || std::fs::read(hsm.state_dir().join("ceremony-run.json")).unwrap_or_default();
    let mut kills = 0;
    let report = loop {
        let before = journal();
        let process = start(&hsm, "ceremony", &[]).ready();
        let stream = UnixStream::connect(&process.socket).unwrap();
        let asked = request(&plan, PlanKind::Run, &[]);
        let answer = std::thread::spawn(move || call(stream, &asked, PIN.as_bytes()));
        // One write of the journal further than the last time, then at once.
        while journal() == before && !answer.is_finished() {
            std::thread::yield_now();
        }
        let ended = answer.is_finished();
        if !ended && kills < 12 {
            process.signal("-KILL");
            kills += 1;
        }
        match answer.join().unwrap() {
            Ok(Response::Done(report)) => break report,
            Ok(Response::Failed { code, message }) => panic!("after {kills} kills: {code}: {message}"),
            Err(_) => {}
        }
    };
    let made: Vec<&str> = report.steps.iter().flat_map(|step| &step.keys).map(|key| key.kid.as_str()).collect();
    assert_eq!(made, [V2, "ed25519/t1/audit/v2", "ed25519/t1/auth/v3"], "after {kills} kills");
    assert!(kills > 2, "{kills}");
    assert_eq!(kids(&hsm).len(), 6, "no second key");
}
