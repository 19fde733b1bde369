//! The cases of `hsm …`, each against a ceremony that answers once.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::fake::{Fake, ceremony};
use crate::offline::write;
use crate::page::{Page, between};

pub(crate) fn all() -> Vec<Page> {
    let keys = [hsm_keys("hsm init", &[]), rotate()];
    keys.into_iter().chain([adopt(), hsm_retire(), hsm_list(), retry_pin(), hsm_doctor()]).collect()
}

pub(crate) fn pin(fake: &Fake) -> String {
    let path = write(fake, "pin", "1234");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
    path
}

/// Runs cases, each against a ceremony that answers so.
pub(crate) fn with_ceremony(fake: &Fake, answer: &Value, mut case: impl FnMut(&[&str])) {
    for format in ["table", "json"] {
        let held = ceremony(&fake.path("c.sock"), answer.to_string());
        case(&["--output", format]);
        held.join().unwrap();
        std::fs::remove_file(fake.path("c.sock")).unwrap();
    }
}

fn held(kid: &str, usable: bool) -> Value {
    let problem = if usable { "" } else { "its public key is not a point of the curve" };
    json!({"kid": kid, "role": "passport", "public": "11".repeat(32), "cka_id": "0a0b", "made_now": true,
           "usable": usable, "problem": problem, "mechanisms_bound": true})
}

fn report(keys: &[Value]) -> Value {
    json!({"done": {
        "keys": keys, "orphans": ["a public key of CKA_ID 77"], "findings": [], "backup": "/var/backups/store.1",
        "module": "/usr/lib/softhsm/libsofthsm2.so", "token": "passportd", "warnings": ["the store is on tmpfs"],
    }})
}

/// A seal key's older version is of use in another way than a passport key's.
fn rotate() -> Page {
    let mut page = hsm_keys("hsm rotate", &["--activate"]);
    let fake = Fake::frozen();
    let pin = pin(&fake);
    let next = json!({"kid": "hmac-sha256/t1/seal/v2", "role": "seal", "public": null, "cka_id": "0c", "made_now": true,
                      "usable": true, "problem": "", "mechanisms_bound": true});
    let arguments = ["--tenant", "t1", "--purpose", "seal", "--pin-file", pin.as_str()];
    for more in [&["--activate"][..], &[]] {
        with_ceremony(&fake, &report(std::slice::from_ref(&next)), |format| {
            page.case(&fake, &[&arguments[..], more, format].concat(), "");
        });
    }
    page
}

fn hsm_keys(leaf: &'static str, more: &[&str]) -> Page {
    let fake = Fake::frozen();
    let pin = pin(&fake);
    let mut page = Page::new(leaf).scrubbed(|text| between(&text, "readable by uid ", "\n", "UID"));
    let arguments = [&["--tenant", "t1", "--purpose", "auth", "--pin-file", pin.as_str()], more].concat();
    with_ceremony(&fake, &report(&[held("ed25519/t1/auth/v2", true)]), |format| {
        page.case(&fake, &[&arguments[..], format].concat(), "");
    });
    let failed = json!({"failed": {"code": "pin", "message": "the HSM refused the PIN; nothing was changed"}});
    with_ceremony(&fake, &failed, |format| {
        page.case(&fake, &[&arguments[..], format].concat(), "");
    });
    page.case(&fake, &arguments, "");
    fake.close(true);
    with_ceremony(&fake, &report(&[held("ed25519/t1/auth/v2", true)]), |format| {
        page.case(&fake, &[&arguments[..], format].concat(), "");
    });
    page.case(&fake, &["--tenant", "t1", "--purpose", "auth", "--pin-file", "/no/such/pin"], "");
    page.misused(&fake)
}

/// What those show that only look when the ceremony failed.
fn failed(fake: &Fake, pin: &str, page: &mut Page) {
    let failed = json!({"failed": {"code": "pin", "message": "the HSM refused the PIN; nothing was changed"}});
    with_ceremony(fake, &failed, |format| {
        page.case(fake, &[&["--pin-file", pin], format].concat(), "");
    });
}

fn adopt() -> Page {
    let fake = Fake::frozen();
    let pin = pin(&fake);
    let mut page = Page::new("ceremony plan adopt");
    let arguments = ["--tenant", "t1", "--purpose", "auth", "--cka-id", "0a0b", "--pin-file", pin.as_str()];
    for more in [&["--dry-run"][..], &[]] {
        with_ceremony(&fake, &report(&[held("ed25519/t1/auth/v2", true)]), |format| {
            page.case(&fake, &[&arguments[..], more, format].concat(), "");
        });
    }
    let why = "the key with CKA_ID 0a0b is not adopted: CKA_EXTRACTABLE is set; nothing was changed";
    with_ceremony(&fake, &json!({"failed": {"code": "unfit", "message": why}}), |format| {
        page.case(&fake, &[&arguments[..], format].concat(), "");
    });
    page.misused(&fake)
}

fn hsm_list() -> Page {
    let fake = Fake::frozen();
    let pin = pin(&fake);
    let mut page = Page::new("hsm list");
    let keys = [held("ed25519/t1/auth/v1", true), held("ed25519/t1/auth/v2", false)];
    with_ceremony(&fake, &report(&keys), |format| {
        page.case(&fake, &[&["--pin-file", pin.as_str()], format].concat(), "");
    });
    failed(&fake, &pin, &mut page);
    // No socket.
    page.both(&fake, &["--pin-file", &pin], "");
    page.misused(&fake)
}

fn hsm_retire() -> Page {
    let fake = Fake::frozen();
    let pin = pin(&fake);
    let mut page = Page::new("hsm retire");
    let arguments = ["--kid", "hmac-sha256/t1/seal/v1", "--pin-file", pin.as_str()];
    let retired = json!({"kid": "hmac-sha256/t1/seal/v1", "role": "seal", "public": null, "cka_id": "0c", "made_now": false,
                         "usable": false, "problem": "it is retired", "mechanisms_bound": true});
    for more in [&["--dry-run"][..], &[]] {
        with_ceremony(&fake, &report(std::slice::from_ref(&retired)), |format| {
            page.case(&fake, &[&arguments[..], more, format].concat(), "");
        });
    }
    let why = "hmac-sha256/t1/seal/v1 can't be retired: tenant t1 has no newer seal key that can be used";
    with_ceremony(&fake, &json!({"failed": {"code": "request", "message": why}}), |format| {
        page.case(&fake, &[&arguments[..], format].concat(), "");
    });
    page.misused(&fake)
}

fn retry_pin() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("hsm retry-pin");
    with_ceremony(&fake, &json!({"done": {}}), |format| {
        page.case(&fake, format, "");
    });
    let why = "one more wrong PIN locks the token";
    with_ceremony(&fake, &json!({"failed": {"code": "pin", "message": why}}), |format| {
        page.case(&fake, &[&["--final-try"], format].concat(), "");
    });
    page.misused(&fake)
}

fn hsm_doctor() -> Page {
    let fake = Fake::frozen();
    let pin = pin(&fake);
    let mut page = Page::new("hsm doctor");
    let finding = |name: &str, ok: bool, detail: &str, remedy: &str| json!({"name": name, "ok": ok, "detail": detail, "remedy": remedy});
    for findings in [
        vec![finding("module", true, "/usr/lib/x.so", ""), finding("token", false, "no token \"dev\"", "mend hsm.uri")],
        vec![finding("module", true, "/usr/lib/x.so", "")],
    ] {
        with_ceremony(&fake, &json!({"done": {"findings": findings}}), |format| {
            page.case(&fake, &[&["--pin-file", pin.as_str()], format].concat(), "");
        });
    }
    failed(&fake, &pin, &mut page);
    // Without a socket it would start a ceremony of its own, which is no fake.
    page.both(&fake, &["--pin-file", "/no/such/pin"], "");
    page.misused(&fake)
}
