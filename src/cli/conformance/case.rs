//! The form of the suite's data. `tests/conformance/README.md` says what each part means.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseFile {
    /// What the cases have in common, for readers.
    #[serde(rename = "about")]
    pub(super) _about: String,
    /// The cases, in the order in which they run.
    pub(super) cases: Vec<Case>,
}

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// Unique in the suite.
    pub(super) name: String,
    /// The section of `docs/WIRE.md` and what it says there.
    pub(super) shows: String,
    /// What the daemon and its policy must give; see the survey.
    #[serde(default)]
    pub(super) needs: Vec<String>,
    /// Whether others notice.
    #[serde(default)]
    pub(super) disruptive: bool,
    /// Exchanges, one after the other.
    pub(super) steps: Vec<Step>,
    /// Exchanges that follow whatever has happened, to leave the daemon as it was.
    #[serde(default)]
    pub(super) finally: Vec<Step>,
}

impl Case {
    /// Every step, in order.
    pub(super) fn all_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().chain(&self.finally)
    }
}

/// One exchange on one connection.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// `service`, `admin`, or the name of a further socket.
    #[serde(default = "service")]
    pub(super) on: String,
    /// Tells connections to the same socket apart.
    #[serde(default)]
    pub(super) connection: String,
    /// Whether a connection that is made for this step says Hello by itself.
    #[serde(default = "yes")]
    pub(super) greet: bool,
    /// Seconds to wait before anything is sent: an expression.
    #[serde(default)]
    pub(super) wait_s: Option<Value>,
    /// What is sent, in one write: expressions of [`Message`].
    #[serde(default, deserialize_with = "one_or_many")]
    pub(super) send: Vec<Value>,
    /// What must come: matchers.
    #[serde(default, deserialize_with = "one_or_many")]
    pub(super) expect: Vec<Value>,
    /// Names for parts of the first reply, by path.
    #[serde(default)]
    pub(super) bind: BTreeMap<String, String>,
}

impl Step {
    /// Which connection of the case it is on.
    pub(super) fn line(&self) -> (&str, &str) {
        (&self.on, &self.connection)
    }

    /// Whether it is one request that leaves ids and bytes to whoever sends it.
    pub(super) fn is_plain(&self) -> bool {
        let only_op = |message: &Value| message.as_object().is_some_and(|it| it.len() == 1 && it.contains_key("op"));
        let of_reply = |expected: &Value| expected.as_object().is_some_and(|it| !it.contains_key("id"));
        self.greet
            && self.send.len() == 1
            && self.expect.len() == 1
            && self.send.iter().all(only_op)
            && self.expect.iter().all(of_reply)
    }
}

/// One thing to send, when its expressions have been evaluated. Exactly one of the members but `id` and `corr_id` is there.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Message {
    /// An operation of the socket.
    pub(super) op: Option<Value>,
    /// Its id; else one that the connection has not used.
    pub(super) id: Option<u64>,
    /// Its correlation id in hex; else none.
    pub(super) corr_id: Option<String>,
    /// A greeting.
    pub(super) hello: Option<HelloSpec>,
    /// A body in hex; the header is made for it.
    pub(super) body: Option<Pieces>,
    /// Bytes in hex, header and all.
    pub(super) bytes: Option<Pieces>,
    /// `true`: nothing more is sent on this connection.
    pub(super) half_close: bool,
}

/// `Hello`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HelloSpec {
    pub(super) wire: u8,
    pub(super) client: String,
}

/// Bytes: hex, white space between digits allowed, or several of these one after the other.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Pieces {
    /// Hex.
    Hex(String),
    /// Several.
    List(Vec<Pieces>),
    /// Hex, so many times.
    Repeat {
        /// The hex.
        hex: String,
        /// How many times.
        times: usize,
    },
}

fn service() -> String {
    "service".to_owned()
}

fn yes() -> bool {
    true
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Value>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Array(many) => many,
        one => vec![one],
    })
}
