//! `passportctl revoke` and `epoch`.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use passportd::wire::{Code, Verdict};

use crate::support::passports::{claims, demo, for_demo};
use crate::support::{House, Options};

fn tool(house: &House, stdin: &[u8], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    command.args(arguments).arg("--socket").arg(house.socket()).arg("--admin-socket").arg(house.admin_socket());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that refuses its arguments reads nothing.
    if let Err(error) = child.stdin.take().unwrap().write_all(stdin) {
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe, "{error}");
    }
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn each_way_to_revoke_asks_first_says_what_it_did_and_does_it() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let passports: Vec<_> = ["a", "b", "c", "d", "e"].map(|sub| raw.issue(demo(sub)).unwrap()).into();
    let jti = |at: usize| claims(&passports[at])["jti"].as_str().unwrap().to_owned();
    let mut revoked = |at: usize| raw.verify(for_demo(), &passports[at]).unwrap() == Verdict::Refused(Code::Revoked);

    let (code, text) = said(&tool(&house, passports[0].to_json().as_bytes(), &["revoke", "--in", "-"]));
    assert!(code == Some(0) && text == "revoked\n" && revoked(0), "{text}");
    let (code, text) = said(&tool(&house, passports[0].to_json().as_bytes(), &["revoke", "--in", "-"]));
    assert!(code == Some(0) && text.contains("revoked before"), "{text}");

    let (code, text) = said(&tool(&house, b"", &["revoke", "--tenant", "t1", "--jti", &jti(1), "--reason", "lost"]));
    assert!(code == Some(0) && text.starts_with("revoked passport ") && revoked(1), "{text}");

    let of_c = ["revoke", "--tenant", "t1", "--sub", "c", "--reason", "incident"];
    let (code, text) = said(&tool(&house, b"c\n", &of_c));
    assert!(code == Some(2) && text.contains("give --yes"), "a pipe types nothing: {text}");
    let (code, text) = said(&tool(&house, b"", &[&of_c[..], &["--dry-run"]].concat()));
    assert!(code == Some(0) && text.contains("would revoke every passport of subject c") && !revoked(2), "{text}");
    let (code, text) = said(&tool(&house, b"", &[&of_c[..], &["--yes"]].concat()));
    assert!(code == Some(0) && text.contains("revoked every passport of subject c") && revoked(2), "{text}");

    let ids = format!("{}\n{} {}\n{}\n", jti(3), jti(1), i64::MAX, jti(0));
    let file = ["revoke", "--tenant", "t1", "--file", "-", "--yes", "--output", "json"];
    let (code, text) = said(&tool(&house, ids.as_bytes(), &file));
    assert_eq!((code, text.as_str()), (Some(0), "{\"asked\":3,\"revoked\":1}\n"));
    assert!(revoked(3) && !revoked(4));

    let bump = ["epoch", "bump", "--tenant", "t1", "--reason", "incident"];
    let (code, text) = said(&tool(&house, b"", &[&bump[..], &["--yes"]].concat()));
    assert!(code == Some(0) && text.contains("its epoch is 1") && revoked(4), "{text}");
    let (code, text) = said(&tool(&house, b"", &["epoch", "list", "--output", "json"]));
    assert_eq!((code, text.as_str()), (Some(0), "{\"t1\":1}\n"));
    let (code, text) = said(&tool(&house, b"", &["revoke", "--kid", "ed25519/t1/auth/v1", "--yes"]));
    assert!(
        code == Some(0)
            && text
                == "revoked everything that key ed25519/t1/auth/v1 signed; it signs no more; no key signs for t1/auth now, so nothing is issued there\n",
        "{text}"
    );
    for wrong in [
        &["revoke"][..],
        &["revoke", "--jti", "x"],
        &["revoke", "--tenant", "t1"],
        &["revoke", "--in", "-", "--jti", "x"],
    ] {
        assert_eq!(said(&tool(&house, b"", wrong)).0, Some(2), "{wrong:?}");
    }
}
