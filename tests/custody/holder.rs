//! Another program that has the PIN, and so the use of the keys: this test binary, started again.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use passportd::passport::hex;

use super::support::softhsm::token::Token;
use super::support::softhsm::{self, LABEL, PIN};

/// A key that it makes.
const CANARY: &str = "canary";
/// Signatures of each kind that it makes.
const OFTEN: usize = 1_000;

/// The program at work.
pub(crate) struct Holder {
    child: Child,
    stdin: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    /// Starts it for one of the things that [`role`] does, with what that takes.
    pub(crate) fn start(hsm: &Token, act: &str, with: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "holder::role", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("HOLDER_ACT", act).env("HOLDER_WITH", with).envs(environment.iter().copied());
        let mut child = hsm.apply(command.stdin(Stdio::piped()).stdout(Stdio::piped())).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, stdin, said: BufReader::new(stdout).lines() }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// What it says next; it waits for [`Holder::go_on`] then.
    pub(crate) fn says(&mut self) -> String {
        self.said.find_map(|line| line.unwrap().strip_prefix('@').map(str::to_owned)).expect("it says something")
    }

    pub(crate) fn go_on(&mut self) {
        self.stdin.write_all(b"\n").unwrap();
    }

    pub(crate) fn end(mut self) {
        self.go_on();
        assert!(self.child.wait().unwrap().success());
    }
}

/// HMAC-SHA256 of `input` under the key with this `CKA_ID`.
pub(crate) fn hmac(hsm: &Token, cka_id: &str, input: &[u8]) -> [u8; 32] {
    let mut holder = Holder::start(hsm, "hmac", &format!("{cka_id} {}", hex::encode(input)), &[]);
    let made = hex::decode_exactly(&holder.says()).unwrap();
    holder.end();
    made
}

fn say(line: &str) {
    println!("\n@{line}");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
#[ignore = "started by other tests, in a process of its own"]
fn role() {
    let Ok(act) = std::env::var("HOLDER_ACT") else { return };
    let with = std::env::var("HOLDER_WITH").unwrap();
    let module = Pkcs11::new(softhsm::module().unwrap()).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let mut slots = module.get_slots_with_initialized_token().unwrap().into_iter();
    let slot = slots.find(|slot| module.get_token_info(*slot).unwrap().label() == LABEL).unwrap();
    let session = module.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
    match act.as_str() {
        "hmac" => {
            let (id, input) = with.split_once(' ').unwrap();
            let key = session.find_objects(&[Attribute::Id(hex::decode(id).unwrap())]).unwrap().remove(0);
            let made = session.sign(&Mechanism::Sha256Hmac, key, &hex::decode(input).unwrap()).unwrap();
            say(&hex::encode(&made));
        }
        "make" => {
            let value = hex::decode(&with).unwrap();
            make(&session, ObjectClass::SECRET_KEY, KeyType::GENERIC_SECRET, &value[..32]);
            make(&session, ObjectClass::PRIVATE_KEY, KeyType::EC_EDWARDS, &value[32..]);
            say("made");
        }
        "use" => {
            let key = |class| [Attribute::Label(CANARY.into()), Attribute::Class(class)];
            let find = |class| session.find_objects(&key(class)).unwrap().remove(0);
            let (secret, private) = (find(ObjectClass::SECRET_KEY), find(ObjectClass::PRIVATE_KEY));
            let eddsa = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
            for _ in 0..OFTEN {
                session.sign(&eddsa, private, b"x").unwrap();
                session.sign(&Mechanism::Sha256Hmac, secret, b"x").unwrap();
            }
            say("used");
        }
        "grant" => {
            // The rights of a key may be changed by who has the PIN, unless it is not modifiable (PKCS#11 2.40 §4.8).
            let key = [Attribute::Label(with.into()), Attribute::Class(ObjectClass::PRIVATE_KEY)];
            let key = session.find_objects(&key).unwrap().remove(0);
            session.update_attributes(key, &[Attribute::Decrypt(true)]).unwrap();
            say("granted");
        }
        other => panic!("{other}"),
    }
}

/// Gives a signing key the right to decrypt.
pub(crate) fn grant(hsm: &Token, label: &str) {
    let mut holder = Holder::start(hsm, "grant", label, &[]);
    assert_eq!(holder.says(), "granted");
    holder.end();
}

/// A key whose value is known.
fn make(session: &Session, class: ObjectClass, kind: KeyType, value: &[u8]) {
    let mut template = vec![Attribute::Class(class), Attribute::KeyType(kind), Attribute::Value(value.to_vec())];
    template.extend([Attribute::Token(true), Attribute::Private(true), Attribute::Sensitive(true)]);
    template.extend([Attribute::Extractable(false), Attribute::Sign(true), Attribute::Label(CANARY.into())]);
    if kind == KeyType::EC_EDWARDS {
        template.push(Attribute::EcParams(b"\x13\x0cedwards25519".to_vec()));
    }
    session.create_object(&template).unwrap();
}
