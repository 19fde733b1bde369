//! Each note, each PIN, each word of the token.

use super::*;
use std::os::unix::fs::MetadataExt;

const WELL: PinFlags = PinFlags { locked: false, final_try: false, count_low: false };
const LOW: PinFlags = PinFlags { count_low: true, ..WELL };
const FINAL: PinFlags = PinFlags { final_try: true, ..LOW };
const LOCKED: PinFlags = PinFlags { locked: true, ..WELL };

struct Desk {
    dir: tempfile::TempDir,
}

fn token(serial: &str) -> Token {
    let slot = cryptoki::slot::Slot::try_from(1_u64).unwrap();
    Token {
        slot,
        label: "passports".to_owned(),
        serial: serial.to_owned(),
        max_sessions: None,
        own_pad: false,
        make: Default::default(),
    }
}

fn pin(text: &str) -> Pin {
    Pin::take(&mut text.as_bytes().to_vec()).unwrap()
}

fn incorrect() -> Result<(), HsmError> {
    Err(HsmError::PinIncorrect { token: "passports".to_owned(), left: "few are left" })
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn before(&self, text: &str, flags: PinFlags) -> Result<(), HsmError> {
        before(self.dir.path(), &token("s1"), &pin(text), flags)
    }

    fn after(&self, text: &str, outcome: &Result<(), HsmError>) {
        after(self.dir.path(), &token("s1"), &pin(text), outcome).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(OWN_DIR).join(FILE)
    }

    /// A login that was refused.
    fn refused(&self, text: &str) {
        self.before(text, WELL).unwrap();
        self.after(text, &incorrect());
    }
}

fn remembered(outcome: &Result<(), HsmError>) -> bool {
    matches!(outcome, Err(HsmError::PinRemembered { .. }))
}

#[test]
fn a_refused_pin_is_not_tried_again_and_another_is() {
    let desk = Desk::new();
    desk.refused("0000");
    for _ in 0..3 {
        let again = desk.before("0000", WELL);
        assert!(remembered(&again), "{again:?}");
        let error = again.unwrap_err();
        assert!(error.refused_pin() && error.detail().contains("few are left"), "{error}");
    }
    assert!(desk.before("1234", WELL).is_ok());
    desk.after("1234", &Ok(()));
    assert!(!desk.path().exists());
    assert!(desk.before("0000", WELL).is_ok(), "nothing is known of it any more");
}

#[test]
fn whatever_is_said_to_a_pin_it_is_tried_once() {
    for outcome in [
        incorrect(),
        Err(HsmError::PinLocked("passports".to_owned())),
        Err(HsmError::PinUnfit("passports".to_owned(), "CKR_PIN_EXPIRED".to_owned())),
    ] {
        let desk = Desk::new();
        desk.before("0000", WELL).unwrap();
        desk.after("0000", &outcome);
        assert!(remembered(&desk.before("0000", WELL)), "{outcome:?}");
    }
    for outcome in
        [Err(HsmError::Lost("the device is gone".to_owned())), Err(HsmError::PinUnset("passports".to_owned()))]
    {
        let desk = Desk::new();
        desk.before("0000", WELL).unwrap();
        desk.after("0000", &outcome);
        assert!(desk.before("0000", WELL).is_ok(), "that says nothing of the PIN: {outcome:?}");
    }
}

#[test]
fn killed_before_the_outcome_is_known_it_is_tried_again_unless_the_token_has_counted() {
    let desk = Desk::new();
    assert!(desk.before("1234", LOW).is_ok(), "somebody else's mistake");
    assert!(desk.before("1234", WELL).is_ok(), "killed before C_Login, or after one that went well");
    assert!(remembered(&desk.before("1234", LOW)));
    // Killed while the note of a refused one was being replaced.
    let desk = Desk::new();
    desk.refused("0000");
    std::fs::write(desk.path().with_extension("json.new"), b"half").unwrap();
    assert!(remembered(&desk.before("0000", WELL)));
    assert!(desk.before("1234", WELL).is_ok());
    std::fs::write(desk.path(), b"").unwrap();
    assert!(remembered(&desk.before("1234", LOW)));
    desk.before("1234", WELL).unwrap();
}

#[test]
fn the_operators_word_holds_for_one_login() {
    let desk = Desk::new();
    desk.refused("0000");
    allow(desk.dir.path(), false).unwrap();
    assert!(desk.before("0000", WELL).is_ok());
    desk.after("0000", &incorrect());
    assert!(remembered(&desk.before("0000", WELL)));
    // Killed in between, the word is used up.
    allow(desk.dir.path(), true).unwrap();
    assert!(desk.before("0000", FINAL).is_ok());
    assert!(matches!(desk.before("0000", FINAL), Err(HsmError::PinFinalTry(_))));
}

#[test]
fn the_last_attempt_is_the_operators_and_a_locked_pin_is_nobodys() {
    let desk = Desk::new();
    assert!(matches!(desk.before("1234", FINAL), Err(HsmError::PinFinalTry(_))));
    assert!(!desk.path().exists(), "nothing was tried");
    // Said when there were more attempts, which another program has used up since.
    allow(desk.dir.path(), false).unwrap();
    assert!(matches!(desk.before("1234", FINAL), Err(HsmError::PinFinalTry(_))));
    allow(desk.dir.path(), true).unwrap();
    assert!(matches!(desk.before("1234", LOCKED), Err(HsmError::PinLocked(_))));
    assert!(desk.before("1234", FINAL).is_ok(), "the word is not used up by what was not tried");
}

#[test]
fn another_token_has_refused_nothing() {
    let desk = Desk::new();
    desk.refused("0000");
    assert!(before(desk.dir.path(), &token("s2"), &pin("0000"), WELL).is_ok());
}

#[test]
fn the_note_is_private_and_says_little() {
    let desk = Desk::new();
    desk.refused("0000-secret");
    let text = std::fs::read_to_string(desk.path()).unwrap();
    let note: Note = serde_json::from_str(&text).unwrap();
    assert_eq!((note.tag.len(), note.salt.len()), (4, 32));
    assert!(!text.contains("secret"));
    assert_eq!(std::fs::metadata(desk.path()).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(desk.dir.path().join(OWN_DIR)).unwrap().mode() & 0o777, 0o700);
    desk.before("1234", WELL).unwrap();
    let text = std::fs::read_to_string(desk.path()).unwrap();
    assert!(!text.contains("salt") && !text.contains("tag"), "of one that may be right it says nothing: {text}");
}

#[test]
fn a_note_that_cant_be_read_or_written_allows_nothing() {
    for bad in ["{}", r#"{"layout":2,"state":"trying"}"#, r#"{"layout":1,"state":"fine"}"#] {
        let desk = Desk::new();
        make_own_dir(desk.dir.path()).unwrap();
        std::fs::write(desk.path(), bad).unwrap();
        let outcome = desk.before("1234", WELL);
        assert!(matches!(outcome, Err(HsmError::PinNote(..))), "{bad}: {outcome:?}");
    }
    let desk = Desk::new();
    std::fs::write(desk.dir.path().join(OWN_DIR), b"no directory").unwrap();
    assert!(matches!(desk.before("1234", WELL), Err(HsmError::File { .. })));
}

#[test]
fn a_missing_right_waits_for_the_operator_and_a_passing_error_does_not() {
    let path = Path::new("/var/lib/p/signer/pin.json");
    let of = |kind: ErrorKind| failed("read", path, kind.into());
    let (denied, passing) = (of(ErrorKind::PermissionDenied), of(ErrorKind::Interrupted));
    assert!(denied.needs_operator() && !passing.needs_operator());
    let uid = nix::unistd::geteuid();
    let command = format!(
        "; run: mkdir -p /var/lib/p/signer && chown -R {uid} /var/lib/p/signer && chmod -R u=rwX,go= /var/lib/p/signer"
    );
    assert!(denied.to_string().ends_with(&command), "{denied}");
}
