//! Proofs of possession by `passportctl`, against the daemon.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use ed25519_dalek::{Signer as _, SigningKey};
use passportd::passport::proof::{ProofClaims, Purpose, ath, with_signature};
use passportd::passport::{OwnedPassport, thumbprint};
use serde_json::Value;

use crate::support::options::POLICY;
use crate::support::{House, Options};

const URL: &str = "https://api.example/orders";

fn house() -> House {
    let vault = "\n[[template]]\nname = \"vault\"\ntenant = \"t1\"\npurpose = \"auth\"\nsubjects = [\"*\"]\naudiences = [\"demo\"]\n\
                 max_ttl_s = 3600\nproof = \"required\"\nlimit = 9\nforms = [\"envelope\", \"jws\"]\noffline_risk = true\n";
    let house = House::start(
        Options::default()
            .policy(&(POLICY.replace("templates = [\"demo\"]", "templates = [\"demo\", \"vault\"]") + vault)),
    );
    for (name, seed) in [("holder.pem", 1), ("thief.pem", 2)] {
        put(&house, name, &pem(seed));
    }
    house
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// As `openssl genpkey -algorithm ed25519` writes it.
fn pem(seed: u8) -> String {
    let mut der = vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    der.extend([seed; 32]);
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", Base64::encode_string(&der))
}

fn put(house: &House, name: &str, text: &str) -> String {
    let path = house.dir().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn tool(house: &House, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    // Files are named as they stand in the house.
    command.env_clear().args(arguments).current_dir(house.dir()).env("PASSPORTCTL_CONFIG", "passportd.toml");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(house: &House, arguments: &[&str]) -> (Option<i32>, String) {
    said(&tool(house, arguments).output().unwrap())
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// A passport of the holder's, in a file of this name.
fn issued(house: &House, file: &str, form: &str) -> OwnedPassport {
    let arguments = ["issue", "--template", "vault", "--sub", "alice", "--pop-key", "holder.pem", "--form", form];
    let output = tool(house, &arguments).output().unwrap();
    let (code, text) = said(&output);
    assert_eq!(code, Some(0), "{text}");
    fs::write(house.dir().join(file), &output.stdout).unwrap();
    let passport = match form {
        "jws" => OwnedPassport::Jws(text.trim().trim_matches('"').to_owned()),
        _ => passportd::passport::OwnedEnvelope::from_json(text.as_bytes()).unwrap().into(),
    };
    let claims: Value = serde_json::from_slice(&passport.payload()).unwrap();
    assert_eq!(claims["cnf"]["jkt"], thumbprint(&key(1).verifying_key().to_bytes()));
    passport
}

/// A proof by the holder for a passport, by what the test knows of the two.
fn proof(passport: &OwnedPassport, purpose: Purpose) -> String {
    let presented = match passport {
        OwnedPassport::Jws(text) => ath(text.as_bytes()),
        other @ OwnedPassport::Envelope(_) => ath(&other.payload()),
    };
    let iat = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let claims = ProofClaims { jti: "j-1".into(), iat, ath: presented, purpose };
    let input = claims.signing_input(&key(1).verifying_key().to_bytes()).unwrap();
    with_signature(&input, &key(1).sign(input.as_bytes()).to_bytes())
}

#[test]
fn the_holders_key_proves_itself_on_one_connection() {
    let house = house();
    for form in ["envelope", "jws"] {
        issued(&house, "p", form);
        let (code, text) = run(&house, &["verify", "--aud", "demo", "p"]);
        assert!(code == Some(3) && text.contains("pop_required"), "{text}");
        let (code, text) = run(&house, &["verify", "--aud", "demo", "--pop-key", "thief.pem", "p"]);
        assert!(code == Some(3) && text.contains("pop_invalid"), "{text}");
        // The audience need not be said where there is one.
        for left in [8, 7] {
            let (code, text) = run(&house, &["verify", "--pop-key", "holder.pem", "p"]);
            assert!(code == Some(0) && text.contains(&format!("uses left: {left}")), "{text}");
        }
        // A proof of ours is made anew for each connection, and the answer is the same.
        let key = if form == "jws" { "5a" } else { "a5" }.repeat(16);
        let retry = ["verify", "--aud", "demo", "--pop-key", "holder.pem", "--retry-key", &key, "p"];
        let (first, again) = (run(&house, &retry), run(&house, &retry));
        assert!(first.1.contains("uses left: 6") && !first.1.contains("once more"), "{first:?}");
        assert!(again.1.contains("uses left: 6") && again.1.contains("once more"), "{again:?}");
    }
    issued(&house, "p", "envelope");
    let loose = house.dir().join("holder.pem");
    fs::set_permissions(&loose, Permissions::from_mode(0o644)).unwrap();
    let (code, text) = run(&house, &["verify", "--aud", "demo", "--pop-key", "holder.pem", "p"]);
    assert!(code == Some(2) && text.contains("chmod 0600"), "{text}");
}

#[test]
fn a_challenge_takes_a_proof_from_elsewhere() {
    let house = house();
    let passport = issued(&house, "p.json", "envelope");
    let ask = |make: &dyn Fn(&str, &Value) -> String| {
        let mut child =
            tool(&house, &["challenge", "--output", "json", "p.json"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let asked: Value = serde_json::from_str(&line).unwrap();
        let proof = make(asked["nonce"].as_str().unwrap(), &asked);
        child.stdin.take().unwrap().write_all(format!("{proof}\nmore\n").as_bytes()).unwrap();
        line.clear();
        answers.read_line(&mut line).unwrap();
        (child.wait().unwrap().code(), line)
    };
    let good = |nonce: &str, asked: &Value| {
        let text = |name: &str| asked[name].as_str().unwrap().to_owned();
        assert_eq!(text("ath"), Base64UrlUnpadded::encode_string(&ath(&passport.payload())));
        assert_eq!(asked["expires_in_s"], 60);
        proof(&passport, Purpose::Operation { aud: text("aud"), op: text("op"), nonce: nonce.to_owned() })
    };
    let (code, answer) = ask(&good);
    assert!(code == Some(0) && answer.contains("8"), "{answer}");
    let elsewhere = |nonce: &str, _: &Value| {
        let purpose = Purpose::Operation { aud: "other".into(), op: "verify".into(), nonce: nonce.to_owned() };
        proof(&passport, purpose)
    };
    let (code, answer) = ask(&elsewhere);
    assert!(code == Some(3) && answer.contains("pop_invalid"), "{answer}");
    let stale = |_: &str, asked: &Value| good(&"0".repeat(32), asked);
    let (code, answer) = ask(&stale);
    assert!(code == Some(3) && answer.contains("pop_invalid"), "a nonce of another connection: {answer}");
    // What was refused took nothing.
    let (_, text) = run(&house, &["verify", "--pop-key", "holder.pem", "p.json"]);
    assert!(text.contains("uses left: 7"), "{text}");
}

#[test]
fn a_forwarded_proof_is_verified_with_its_request() {
    let house = house();
    let passport = issued(&house, "p.json", "envelope");
    let http =
        |nonce: Option<&str>| Purpose::Http { htm: "GET".into(), htu: URL.into(), nonce: nonce.map(str::to_owned) };
    put(&house, "proof.jwt", &(proof(&passport, http(Some("n-1"))) + "\n"));
    let verify =
        |more: &[&str]| run(&house, &[&["verify", "--aud", "demo", "--dpop", "proof.jwt"], more, &["p.json"]].concat());
    for (more, code, words) in [
        (&["--htm", "POST", "--htu", URL][..], 3, "pop_invalid"),
        (&["--htm", "GET", "--htu", "https://other.example/orders"], 3, "pop_invalid"),
        (&["--htm", "GET", "--htu", URL, "--dpop-nonce", "n-2"], 3, "pop_invalid"),
        (&["--htm", "GET"], 2, "--htu"),
        (&["--htm", "GET", "--htu", URL, "--dpop-nonce", "n-1"], 0, "uses left: 8"),
        (&["--htm", "GET", "--htu", URL, "--dpop-nonce", "n-1"], 3, "accepted before"),
    ] {
        let (ended, text) = verify(more);
        assert!(ended == Some(code) && text.contains(words), "{more:?}: {text}");
    }
    fs::write(house.dir().join("batch.json"), "[]").unwrap();
    let (code, text) = run(&house, &["verify", "--pop-key", "holder.pem", "batch.json"]);
    assert!(code == Some(2) && text.contains("one passport"), "{text}");
}
