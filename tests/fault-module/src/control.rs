//! What a control file says. A line is a rule; `#` begins a remark.
//!
//! ```text
//! FUNCTION ACTION... [after=N] [for=N] [every=N] [thread=NAME] [label=LABEL] [late]
//! sessions=N
//! ```
//!
//! | action | what happens |
//! |---|---|
//! | `rv=0x30` | this value is returned, and nothing is called |
//! | `delay=100` | milliseconds that the call takes longer; over at once when the line goes |
//! | `hang` | the call does not come back before the line goes |
//! | `kill=SEGV` | the process dies of this signal; also `KILL`, `ABRT` |
//! | `leak=65536` | so many bytes are lost |
//! | `log` | `fault-module: FUNCTION PID THREAD` on standard error, before anything else |
//! | `flip=17` | this bit of the signature is the other one |
//! | `point=other` | `CKA_EC_POINT` is that of another key |
//! | `lie=0x162:01` | an attribute of this type ends with these bytes |
//! | `state=0` | a session's CK_SESSION_INFO says this state (0: read-only, nobody is logged in) |
//! | `flags=final_try` | more flags of CK_TOKEN_INFO: also `count_low`, `locked`, `own_pad`; several with commas |
//!
//! `after` calls of the function nothing happens, then it happens `for` so many calls (without it: to the end), of them
//! `every` so-many-th; calls of other threads than `thread` are not counted. `label` holds attributes' rules to objects of that `CKA_LABEL`. `late` means after the call was
//! made: what the module did is done, and the caller does not learn of it. `sessions` is how many may be open; the token's
//! information says so, too. Counting begins anew with each new file and in each process; a call that only asks how long
//! a signature will be is no call.

use crate::calls::FUNCTIONS;
use cryptoki_sys::{
    CK_ATTRIBUTE_TYPE, CK_FLAGS, CK_RV, CK_STATE, CKA_EC_POINT, CKF_PROTECTED_AUTHENTICATION_PATH,
    CKF_USER_PIN_COUNT_LOW, CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_LOCKED,
};
use std::time::Duration;

/// A public key that nobody in a test has (RFC 8032 §7.1, test 1).
const OTHER_POINT: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

/// A signal that ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// SIGSEGV, as a stray pointer.
    Segv,
    /// SIGKILL.
    Kill,
    /// SIGABRT.
    Abrt,
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Returns this value.
    Return(CK_RV),
    /// Takes so much longer.
    Delay(Duration),
    /// Does not return.
    Hang,
    /// Ends the process.
    Kill(Kill),
    /// Loses so many bytes.
    Leak(usize),
    /// Says so on standard error.
    Log,
    /// Turns this bit of a signature round.
    Flip(usize),
    /// Answers these last bytes for an attribute.
    Lie(CK_ATTRIBUTE_TYPE, Vec<u8>),
    /// Says that a session is in this state.
    State(CK_STATE),
    /// Adds flags to the token's.
    Flags(CK_FLAGS),
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Of which function.
    pub function: &'static str,
    /// What happens, in this order.
    pub actions: Vec<Action>,
    /// Calls before the first.
    pub after: u64,
    /// Calls from then on; none: no end.
    pub span: Option<u64>,
    /// Of these, each so-many-th.
    pub every: u64,
    /// Only by the thread of this name.
    pub thread: Option<String>,
    /// Only objects of this label.
    pub label: Option<String>,
    /// After the call was made.
    pub late: bool,
    /// Calls so far.
    seen: u64,
}

/// A control file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    rules: Vec<Rule>,
    /// How many sessions may be open.
    pub sessions: Option<u64>,
}

impl Rule {
    /// Whether it is this call's turn. Counts it.
    fn turn(&mut self) -> bool {
        let at = self.seen;
        self.seen += 1;
        let Some(within) = at.checked_sub(self.after) else { return false };
        self.span.is_none_or(|span| within < span) && (within + 1).is_multiple_of(self.every)
    }
}

impl Control {
    /// Reads a control file.
    ///
    /// # Errors
    /// What can't be understood, with its line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut control = Self::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            control.line(&words).map_err(|why| format!("line {}, \"{}\": {why}", at + 1, line.trim()))?;
        }
        Ok(control)
    }

    fn line(&mut self, words: &[&str]) -> Result<(), String> {
        let Some((first, rest)) = words.split_first() else { return Ok(()) };
        if let Some(sessions) = first.strip_prefix("sessions=") {
            self.sessions = Some(number(sessions)?);
            return if rest.is_empty() { Ok(()) } else { Err("more than sessions=".to_owned()) };
        }
        let function = FUNCTIONS.iter().find(|name| *name == first).ok_or("no function of PKCS#11 2.40")?;
        let (actions, late) = (Vec::new(), false);
        let (thread, label) = (None, None);
        let mut rule = Rule { function, actions, after: 0, span: None, every: 1, thread, label, late, seen: 0 };
        rest.iter().try_for_each(|word| rule.word(word))?;
        if rule.actions.is_empty() {
            return Err("nothing happens".to_owned());
        }
        self.rules.push(rule);
        Ok(())
    }

    /// What happens to this call of a function by a thread, rule by rule. Counts it.
    pub fn call(&mut self, function: &str, thread: &str) -> Vec<Rule> {
        self.rules
            .iter_mut()
            .filter(|rule| rule.function == function && rule.thread.as_ref().is_none_or(|name| name == thread))
            .filter_map(|r| r.turn().then(|| r.clone()))
            .collect()
    }

    /// Whether a function has this action, whosever turn it is.
    pub fn has(&self, function: &str, action: &Action) -> bool {
        self.rules.iter().any(|rule| rule.function == function && rule.actions.contains(action))
    }
}

impl Rule {
    fn word(&mut self, word: &str) -> Result<(), String> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "after" => self.after = number(value)?,
            "for" => self.span = Some(number(value)?),
            "every" => self.every = Some(number(value)?).filter(|every| *every > 0).ok_or("every=0")?,
            "thread" => self.thread = Some(value.to_owned()),
            "label" => self.label = Some(value.to_owned()),
            "late" => self.late = true,
            _ => self.actions.push(action(name, value)?),
        }
        Ok(())
    }
}

fn action(name: &str, value: &str) -> Result<Action, String> {
    Ok(match name {
        "rv" => Action::Return(number(value)?),
        "delay" => Action::Delay(Duration::from_millis(number(value)?)),
        "hang" => Action::Hang,
        "kill" => Action::Kill(match value {
            "SEGV" => Kill::Segv,
            "KILL" => Kill::Kill,
            "ABRT" => Kill::Abrt,
            _ => return Err(format!("no signal {value}")),
        }),
        "leak" => Action::Leak(size(value)?),
        "log" => Action::Log,
        "flip" => Action::Flip(size(value)?),
        "point" if value == "other" => Action::Lie(CKA_EC_POINT, bytes(OTHER_POINT)?),
        "lie" => {
            let (kind, value) = value.split_once(':').ok_or("lie=TYPE:HEX")?;
            Action::Lie(number(kind)?, bytes(value)?)
        }
        "state" => Action::State(number(value)?),
        "flags" => Action::Flags(value.split(',').map(flag).try_fold(0, |all, one| one.map(|one| all | one))?),
        _ => return Err(format!("no action {name}")),
    })
}

fn flag(name: &str) -> Result<CK_FLAGS, String> {
    match name {
        "count_low" => Ok(CKF_USER_PIN_COUNT_LOW),
        "final_try" => Ok(CKF_USER_PIN_FINAL_TRY),
        "locked" => Ok(CKF_USER_PIN_LOCKED),
        "own_pad" => Ok(CKF_PROTECTED_AUTHENTICATION_PATH),
        _ => Err(format!("no flag {name}")),
    }
}

/// Decimal, or hexadecimal after `0x`.
fn number(text: &str) -> Result<u64, String> {
    let read = text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    read.map_err(|_| format!("no number: {text:?}"))
}

fn size(text: &str) -> Result<usize, String> {
    usize::try_from(number(text)?).map_err(|_| format!("too large: {text}"))
}

fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    let bytes =
        (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()));
    bytes.collect::<Option<Vec<u8>>>().filter(|bytes| !bytes.is_empty()).ok_or_else(|| format!("no hex: {hex:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(control: &mut Control, function: &str, calls: usize) -> String {
        (0..calls).map(|_| if control.call(function, "main").is_empty() { '.' } else { 'x' }).collect()
    }

    #[test]
    fn a_rule_has_its_turns() {
        for (window, turns_of_ten) in [
            ("", "xxxxxxxxxx"),
            ("after=3", "...xxxxxxx"),
            ("for=2", "xx........"),
            ("after=3 for=2", "...xx....."),
            ("every=3", "..x..x..x."),
            ("after=1 for=7 every=2", "..x.x.x..."),
        ] {
            let mut control = Control::parse(&format!("C_Sign rv=0x30 {window}")).unwrap();
            assert_eq!(turns(&mut control, "C_Login", 3), "...", "another function's calls are not counted");
            assert_eq!(turns(&mut control, "C_Sign", 10), turns_of_ten, "{window}");
        }
    }

    #[test]
    fn a_line_says_what_it_says() {
        let text = "sessions=4 # a remark\n\nC_Sign log delay=20 flip=17\nC_GetTokenInfo flags=locked,count_low late\n\
                    C_GetAttributeValue point=other label=a/b lie=0x162:0102\nC_GetSessionInfo state=0 thread=other";
        let mut control = Control::parse(text).unwrap();
        assert_eq!(control.sessions, Some(4));
        let rule = control.call("C_Sign", "main").remove(0);
        assert_eq!(rule.actions, [Action::Log, Action::Delay(Duration::from_millis(20)), Action::Flip(17)]);
        let rule = control.call("C_GetTokenInfo", "main").remove(0);
        assert!(rule.late && rule.actions == [Action::Flags(CKF_USER_PIN_LOCKED | CKF_USER_PIN_COUNT_LOW)]);
        let rule = control.call("C_GetAttributeValue", "main").remove(0);
        assert_eq!(rule.label.as_deref(), Some("a/b"));
        let [Action::Lie(CKA_EC_POINT, point), Action::Lie(0x162, lie)] = rule.actions.as_slice() else { panic!() };
        assert_eq!((point.len(), lie.as_slice()), (32, [1, 2].as_slice()));
        assert!(control.call("C_GetSessionInfo", "main").is_empty(), "another thread's");
        assert_eq!(control.call("C_GetSessionInfo", "other").remove(0).actions, [Action::State(0)]);
        assert!(control.has("C_Sign", &Action::Log) && !control.has("C_Login", &Action::Log));
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_line() {
        for line in [
            "C_Sing rv=0x30",
            "C_Sign",
            "C_Sign after=1",
            "C_Sign rv=",
            "C_Sign rv=x",
            "C_Sign kill=HUP",
            "C_Sign every=0 log",
            "C_Sign hangs",
            "C_GetTokenInfo flags=low",
            "C_GetAttributeValue lie=0x162",
            "C_GetAttributeValue lie=0x162:0",
            "C_GetAttributeValue point=mine",
            "sessions=many",
            "sessions=1 log",
        ] {
            let refused = Control::parse(&format!("# first\n{line}")).unwrap_err();
            assert!(refused.starts_with("line 2, \""), "{refused}");
        }
    }
}
