//! The cases of every command.

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::offline::{blanks, configuration, write};
use crate::page::{Page, between, numbers};
use crate::{auditing, ceremonies, key_lives, offline, sealing};

/// As the fake daemon says it.
const CURSOR: &str =
    "07070707070707070707070707070707-0808080808080808080808080808080808080808080808080808080808080808-5";

/// What came after this one it no longer has.
const LATER: &str =
    "07070707070707070707070707070707-0808080808080808080808080808080808080808080808080808080808080808-6";

/// All commands, each against a daemon of its own, so that no page depends on another.
pub(crate) fn all() -> Vec<Page> {
    let mut pages = vec![ping(), keys(), issue(), verify(), challenge(), exchange(), introspect(), inspect(), attest()];
    pages.extend([smoke(), conformance(), bench(), completions()]);
    pages.extend(sealing::all());
    pages.extend(key_lives::all());
    pages.extend(offline::all());
    pages.extend(auditing::all());
    pages.extend(ceremonies::all());
    pages.extend(crate::planning::all());
    pages.extend([health(), status(), whoami()]);
    for (leaf, cases) in [
        ("version", &[&[][..]][..]),
        ("pause", &[&["--reason", "incident 42"]]),
        ("resume", &[&[]]),
        (
            "ticket-ttl",
            &[
                &["--seconds", "120", "--for", "1h", "--reason", "incident 42"],
                &["--end", "--reason", "incident 42"],
                &["--seconds", "301", "--for", "1h", "--reason", "incident 42"],
                &["--seconds", "120", "--for", "5h", "--reason", "incident 42"],
                &["--seconds", "120", "--reason", "incident 42"],
                &["--seconds", "120", "--for", "1h", "--end", "--reason", "incident 42"],
            ],
        ),
        ("drain", &[&[]]),
        ("undrain", &[&[]]),
        ("epoch bump", &[&["--tenant", "t1", "--yes"], &["--tenant", "t1", "--dry-run"], &["--tenant", "t1"]]),
        ("epoch list", &[&[]]),
        (
            "watch",
            &[
                &["--once"],
                &["--once", "--topics", "keys,drain", "--after", CURSOR],
                &["--once", "--after", LATER],
                &["--after", "5"],
            ],
        ),
        (
            "revoke",
            &[
                &["--tenant", "t1", "--jti", "01985b2c"],
                &["--tenant", "t1", "--sub", "alice", "--yes"],
                &["--tenant", "t1", "--sub", "alice", "--before", "1700000000", "--dry-run"],
                &["--tenant", "t1", "--sub", "alice"],
                &["--kid", "ed25519/t1/auth/v1", "--yes"],
                &["--kid", "ed25519/t1/auth/v1", "--dry-run"],
            ],
        ),
    ] {
        let fake = Fake::frozen();
        let mut page = Page::new(leaf);
        cases.iter().for_each(|arguments| page.both(&fake, arguments, ""));
        page.troubles(&fake, cases[0], "");
        pages.push(page.misused(&fake));
    }
    pages.push(reload());
    pages
}

/// There is something to take in, and then there is nothing.
fn reload() -> Page {
    let mut page = Page::new("reload");
    for format in ["table", "json"] {
        let fake = Fake::frozen();
        page.case(&fake, &["--output", format], "");
        page.case(&fake, &["--output", format], "");
    }
    let fake = Fake::frozen();
    page.troubles(&fake, &[], "");
    page.misused(&fake)
}

fn whoami() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("whoami");
    page.both(&fake, &[], "");
    page.both(&fake, &["--admin"], "");
    page.troubles(&fake, &[], "");
    fake.become_nameless();
    page.both(&fake, &[], "");
    page.misused(&fake)
}

fn ping() -> Page {
    let fake = Fake::frozen();
    let mut page =
        Page::new("ping").scrubbed(|text| between(&between(&text, "pong in ", " us", "N"), "\"us\":", "}", "N"));
    page.both(&fake, &[], "");
    page.troubles(&fake, &[], "");
    page.misused(&fake)
}

fn health() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("health");
    page.both(&fake, &[], "");
    fake.become_unready();
    page.both(&fake, &["--admin"], "");
    page.troubles(&fake, &[], "");
    page.misused(&fake)
}

fn status() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("status");
    page.both(&fake, &[], "");
    fake.become_unready();
    page.both(&fake, &[], "");
    page.troubles(&fake, &[], "");
    let fake = Fake::frozen();
    fake.run(&["pause", "--reason", "incident 42"]);
    page.both(&fake, &[], "");
    fake.run(&["drain"]);
    page.both(&fake, &[], "");
    page.misused(&fake)
}

fn keys() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("keys");
    page.case(&fake, &[], "");
    page.both(&fake, &[], "");
    let set = fake.run(&["keys"]).stdout;
    let etag: String = passportd::passport::etag(set.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    page.both(&fake, &["--etag", &etag], "");
    let file = fake.path("jwks.json");
    page.both(&fake, &["--publish", file.to_str().unwrap()], "");
    std::fs::remove_file(&file).unwrap();
    // As JSON it is new, too; and then it is as it was.
    page.case(&fake, &["--publish", file.to_str().unwrap(), "--output", "json"], "");
    page.both(&fake, &["--publish", file.to_str().unwrap()], "");
    page.case(&fake, &["--publish", fake.path("").to_str().unwrap()], "");
    page.case(&fake, &["--publish", fake.path("none/jwks.json").to_str().unwrap()], "");
    page.troubles(&fake, &[], "");
    page.case(&fake, &["--etag", "abc"], "");
    page.misused(&fake)
}

/// No daemon answers so.
const WRONG_CASE: &str = r#"{
  "about": "A case that does not hold.",
  "cases": [
    {
      "name": "ping-is-no-version",
      "shows": "nothing",
      "steps": [{"send": {"op": {"Ping": {}}}, "expect": {"ok": {"Version": {}}}}]
    }
  ]
}"#;

fn conformance() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("conformance");
    page.both(&fake, &["--only", "ping", "--only", "whoami", "--only", "no-such-case"], "");
    page.both(&fake, &["--only", "ping", "--only", "keys"], "");
    write(&fake, "cases/wrong.json", WRONG_CASE);
    page.both(&fake, &["--cases", fake.path("cases").to_str().unwrap()], "");
    page.troubles(&fake, &["--only", "ping"], "");
    page.case(&fake, &["--cases", fake.path("none").to_str().unwrap()], "");
    page.misused(&fake)
}

const ISSUE: [&str; 8] = ["--template", "demo", "--sub", "alice", "--scope", "read", "--ttl", "300"];
const WANTED: &str = r#"[{"template":"demo","sub":"a"},{"template":"nope","sub":"b"}]"#;

fn issue() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("issue");
    page.case(&fake, &ISSUE, "");
    page.both(&fake, &ISSUE, "");
    page.both(&fake, &["--batch", "-"], WANTED);
    page.case(&fake, &["--template", "nope", "--sub", "alice"], "");
    page.case(&fake, &["--batch", "-"], r#"[{"subject":"b"}]"#);
    page.case(&fake, &["--template", "demo", "--sub", "a", "--ctx", "[1]"], "");
    page.troubles(&fake, &ISSUE, "");
    page.case(&fake, &["--sub", "alice"], "");
    page.misused(&fake)
}

/// A passport and a batch that has one, a refused one, and a problem.
fn passports(fake: &Fake) -> (String, String) {
    let one = fake.run(&[&["issue"], &ISSUE[..]].concat()).stdout;
    let batch = fake.fed(&["issue", "--batch", "-"], WANTED).json();
    let mut items = batch["items"].as_array().unwrap().clone();
    let mut tampered: Value = serde_json::from_str(&one).unwrap();
    tampered["sig_b64"] = json!("A".repeat(86));
    items.push(json!({"passport": tampered}));
    (one, json!({"items": items}).to_string())
}

fn verify() -> Page {
    let fake = Fake::frozen();
    let (one, batch) = passports(&fake);
    let mut page = Page::new("verify");
    page.both(&fake, &["--aud", "demo", "--scope", "read"], &one);
    page.both(&fake, &["--aud", "other"], &one);
    page.both(&fake, &["--aud", "demo"], &batch);
    page.case(&fake, &[], "{");
    page.case(&fake, &["/no/such/file"], "");
    page.both(&fake, &["--aud", "demo", "--peer-uid", "1000"], &one);
    std::fs::write(fake.path("proof.jwt"), "e30.e30.AA\n").unwrap();
    let proof = fake.path("proof.jwt");
    let dpop = ["--aud", "demo", "--dpop", proof.to_str().unwrap(), "--htm", "GET"];
    page.case(&fake, &dpop, &one);
    page.case(&fake, &[&dpop[..], &["--htu", "https://api.example/orders"]].concat(), &one);
    page.case(&fake, &[&dpop[..], &["--htu", "https://api.example/orders"]].concat(), &batch);
    page.case(&fake, &["--aud", "demo", "--pop-key", proof.to_str().unwrap()], &one);
    page.troubles(&fake, &["--aud", "demo"], &one);
    page.misused(&fake)
}

fn challenge() -> Page {
    let fake = Fake::frozen();
    let (one, batch) = passports(&fake);
    let mut page = Page::new("challenge");
    let file = |name: &str, text: &str| {
        std::fs::write(fake.path(name), text).unwrap();
        fake.path(name).to_str().unwrap().to_owned()
    };
    let (one, batch) = (file("one.json", &one), file("batch.json", &batch));
    page.both(&fake, &["--aud", "demo", &one], "e30.e30.AA");
    page.both(&fake, &["--aud", "other", &one], "e30.e30.AA");
    page.both(&fake, &["--aud", "demo", &one], "");
    page.case(&fake, &["--aud", "demo", "-"], "");
    page.case(&fake, &["--aud", "demo", &batch], "");
    page.case(&fake, &[&one], "e30.e30.AA");
    page.troubles(&fake, &["--aud", "demo", &one], "e30.e30.AA");
    page.misused(&fake)
}

fn exchange() -> Page {
    let fake = Fake::frozen();
    let (one, batch) = passports(&fake);
    let mut page = Page::new("exchange").scrubbed(|text| between(&text, "with --retry-key ", " within", "KEY"));
    page.both(&fake, &[], &one);
    page.both(&fake, &["--aud", "demo", "--scope", "read", "--ttl", "10", "--form", "jws"], &one);
    page.both(&fake, &["--aud", "other"], &one);
    page.both(&fake, &["--retry-key", "4f1c90b6a6d24c0d9f1e55d0c1a7e2b3"], &one);
    page.case(&fake, &["--retry-key", "4f1c"], &one);
    page.case(&fake, &[], &batch);
    page.case(&fake, &[], "{}");
    page.troubles(&fake, &["--aud", "demo"], &one);
    page.misused(&fake)
}

fn introspect() -> Page {
    let fake = Fake::frozen();
    let (one, batch) = passports(&fake);
    let mut page = Page::new("introspect");
    page.both(&fake, &["--aud", "demo"], &one);
    page.both(&fake, &["--aud", "other"], &one);
    page.both(&fake, &["--aud", "demo"], &batch);
    page.case(&fake, &[], "");
    page.troubles(&fake, &["--aud", "demo"], &one);
    page.misused(&fake)
}

/// A JWS that no verifier takes, with words that would move a cursor.
const EVIL: &str = concat!(
    // {"alg":"none","jku":"https://evil.example","kid":"ed25519/t1/auth/v1"}
    "eyJhbGciOiJub25lIiwiamt1IjoiaHR0cHM6Ly9ldmlsLmV4YW1wbGUiLCJraWQiOiJlZDI1NTE5L3QxL2F1dGgvdjEifQ.",
    // {"exp":4102444800,"iat":1700000000,"sub":"root\u001b[2J","verified":true}
    "eyJleHAiOjQxMDI0NDQ4MDAsImlhdCI6MTcwMDAwMDAwMCwic3ViIjoicm9vdFx1MDAxYlsySiIsInZlcmlmaWVkIjp0cnVlfQ.",
);

fn inspect() -> Page {
    let fake = Fake::frozen();
    let (one, batch) = passports(&fake);
    // How long ago changes with every run; that it is said does not.
    let mut page = Page::new("inspect").scrubbed(|text| {
        let mut text = ["iat", "exp", "nbf"].into_iter().fold(text, |text, name| {
            let lines =
                text.lines().map(|line| match (line.starts_with(&format!("claims.{name}")), line.split_once("), ")) {
                    (true, Some((head, tail))) => {
                        let ago = if tail.starts_with("in ") { "in SPAN" } else { "SPAN ago" };
                        format!("{head}), {ago}")
                    }
                    _ => line.to_owned(),
                });
            lines.collect::<Vec<_>>().join("\n") + "\n"
        });
        text = between(&text, "it has expired, ", " ago", "SPAN");
        between(&text, "\"from_now_s\":", "}", "N")
    });
    page.both(&fake, &[], &one);
    page.both(&fake, &[], EVIL);
    page.case(&fake, &[], &batch);
    page.case(&fake, &[], "no passport");
    page.case(&fake, &["/no/such/file"], "");
    page.misused(&fake)
}

fn attest() -> Page {
    let fake = Fake::frozen();
    let ago = |text: String| {
        let text = between(&text, "(1700000000), ", " ago", "SPAN");
        between(&text, "/run/fake/p.toml gives ", " (", "HASH")
    };
    let mut page = Page::new("attest").scrubbed(ago);
    page.both(&fake, &[], "");
    page.troubles(&fake, &[], "");
    let statement = fake.run(&["attest"]).stdout;
    page.both(&fake, &["--verify", "-"], &statement);
    page.case(&fake, &["--verify", "-", "--allow-unsigned"], &statement);
    let jwks = write(&fake, "jwks.json", r#"{"keys":[]}"#);
    page.both(&fake, &["--verify", "-", "--jwks", &jwks, "--allow-unsigned"], &statement);
    let config = configuration(&fake);
    page.case(&fake, &["--verify", "-", "--config", &config, "--allow-unsigned"], &statement);
    page.troubles(&fake, &["--verify", "-"], &statement);
    page.case(&fake, &["--verify", "-"], "{}");
    page.case(&fake, &["--jwks", &jwks], "");
    page.misused(&fake)
}

fn smoke() -> Page {
    let fake = Fake::frozen();
    let metrics = fake.metrics.to_string();
    let mut page = Page::new("smoke").scrubbed(|text| {
        // The name takes 28 columns, the time what it needs.
        let lines = text.lines().map(|line| match (line.split_once(" ms  "), line.get(..28)) {
            (Some((_, seen)), Some(head)) => format!("{head}N ms  {seen}"),
            _ => line.to_owned(),
        });
        between(&(lines.collect::<Vec<_>>().join("\n") + "\n"), "\"us\":", "}", "N")
    });
    page.both(&fake, &["--metrics", &metrics], "");
    page.both(&fake, &["--metrics", &metrics, "--template", "nope"], "");
    page.troubles(&fake, &["--metrics", &metrics], "");
    fake.become_gullible();
    page.both(&fake, &["--metrics", &metrics], "");
    page.misused(&fake)
}

fn bench() -> Page {
    let fake = Fake::frozen();
    // The numbers and the bars differ; the names don't.
    let mut page = Page::new("bench").scrubbed(|text| {
        let lines = text.lines().filter(|line| !line.contains(" us |"));
        let ours = |line: &str| line.starts_with("$ ") || line.starts_with("2> ") || line.starts_with("[exit ");
        let lines = lines.map(|line| if ours(line) { line.to_owned() } else { blanks(&numbers(line)) });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    });
    for what in ["issue", "verify", "seal", "unseal", "echo", "mixed"] {
        page.both(&fake, &[what, "--seconds", "0.3"], "");
    }
    page.both(&fake, &["verify", "--compare", "--seconds", "1"], "");
    page.case(&fake, &["issue", "--batch", "65"], "");
    page.case(&fake, &["issue", "--compare"], "");
    page.troubles(&fake, &["verify", "--seconds", "0.1"], "");
    page.misused(&fake)
}

fn completions() -> Page {
    let fake = Fake::frozen();
    // What is in the scripts is tested where shells read them.
    let mut page = Page::new("completions").scrubbed(|text| {
        let mut lines: Vec<_> = text.lines().take(3).collect();
        lines.extend(text.lines().skip(3).filter(|line| line.starts_with("2> ") || line.starts_with("[exit")));
        lines.join("\n") + "\n\n"
    });
    for shell in ["bash", "zsh", "fish", "elvish", "powershell", "tcsh"] {
        page.case(&fake, &[shell], "");
    }
    page.misused(&fake)
}
