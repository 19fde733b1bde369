//! Passports as compact JWS, through pipes.

use serde_json::json;

use crate::fake::{Fake, KID};

#[test]
fn a_compact_jws_goes_where_an_envelope_goes() {
    let fake = Fake::start();
    let issue = ["issue", "--template", "demo", "--sub", "alice", "--form", "jws"];
    let issued = fake.fed(&issue, "");
    assert_eq!(issued.code, Some(0), "{}", issued.stderr);
    // Without a terminal it is the text and a line's end, and nothing else.
    let text = issued.stdout.strip_suffix('\n').unwrap();
    assert!(text.starts_with("eyJ") && text.matches('.').count() == 2, "{text}");
    let verified = fake.fed(&["verify", "--aud", "demo", "--output", "json"], &issued.stdout);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    let said = verified.json();
    assert_eq!((&said["claims"]["sub"], &said["kid"]), (&json!("alice"), &json!(KID)));
    assert_eq!(fake.fed(&["introspect", "--aud", "demo"], &issued.stdout).code, Some(0));
    let refused = fake.fed(&["verify", "--aud", "demo"], &text.replace("eyJ", "eyJA"));
    assert_eq!(refused.code, Some(3), "{}{}", refused.stdout, refused.stderr);
    // A batch of both forms, by a file, and back.
    let wanted = r#"[{"template":"demo","sub":"a","form":"jws"},{"template":"demo","sub":"b"}]"#;
    let batch = fake.fed(&["issue", "--batch", "-", "--output", "json"], wanted);
    let items = batch.json();
    assert!(items["items"][0]["passport"].is_string() && items["items"][1]["passport"].is_object(), "{items}");
    let verified = fake.fed(&["verify", "--aud", "demo", "--output", "json"], &batch.stdout);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    let wrong = fake.fed(&["issue", "--template", "demo", "--sub", "alice", "--form", "jwt"], "");
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("envelope, jws"), "{}", wrong.stderr);
}
