//! Running a case: connections are made as its steps need them, and what comes is held against what it expects.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::case::{Case, Message, Step};
use super::line::{Door, Frames, Library};
use super::matching::{compare, quoted};
use super::survey::Survey;
use super::values::{Names, at, evaluate};
use crate::cli::args::Via;
use crate::clock::Moment;

/// How often a daemon that is busy, or a rate that is used up, is tried again (WIRE.md §10).
const TRIES: u32 = 20;
/// The pause before that where the daemon names none.
const PAUSE: Duration = Duration::from_millis(100);

/// How a case came out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As it says.
    Ok,
    /// Not so: what was expected, and what came.
    Fail(String),
    /// Not run, and why.
    Skipped(String),
    /// A signal came. What the case had changed is undone, unless this says otherwise.
    Interrupted(String),
}

/// The signals that end the suite: whatever they meet, a daemon must not be left paused.
pub(super) struct Interruption {
    signals: [Signal; 3],
}

impl Interruption {
    /// From now on.
    pub(super) fn watched() -> std::io::Result<Self> {
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self { signals: [interrupt?, terminate?, hangup?] })
    }

    async fn comes(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// What all cases have in common.
pub(super) struct Runner {
    /// The sockets, by name.
    pub(super) doors: BTreeMap<String, Door>,
    pub(super) survey: Survey,
    pub(super) disruptive: bool,
    pub(super) via: Via,
    pub(super) patience: Duration,
    pub(super) max_wait: Duration,
}

enum Line {
    Frames(Frames),
    Library(Library),
}

/// A case under way.
struct Course<'r> {
    runner: &'r Runner,
    case: &'r Case,
    names: Names,
    lines: BTreeMap<(String, String), Line>,
}

impl Runner {
    /// Runs one case, which begins at `now`, unless something that it needs is not there.
    pub(super) async fn run(&self, case: &Case, now: Moment, interruption: &mut Interruption) -> Outcome {
        match self.hindrance(case) {
            Ok(None) => {}
            Ok(Some(why)) => return Outcome::Skipped(why),
            Err(mistake) => return Outcome::Fail(format!("the case is wrong: {mistake}")),
        }
        let mut names = self.survey.names.clone();
        names.insert("now".to_owned(), now.unix().into());
        let mut course = Course { runner: self, case, names, lines: BTreeMap::new() };
        let result = tokio::select! {
            biased;
            () = interruption.comes() => None,
            result = course.run() => Some(result),
        };
        // On connections of their own: a failed step may have left replies behind on the others.
        course.lines.clear();
        let mended = course.steps(&case.finally, "finally").await;
        match (result, mended) {
            (Some(Ok(())), Ok(())) => Outcome::Ok,
            (Some(Err(why)), _) | (Some(Ok(())), Err(why)) => Outcome::Fail(why),
            (None, Ok(())) => Outcome::Interrupted("interrupted".to_owned()),
            (None, Err(why)) => Outcome::Interrupted(format!("interrupted, and what it changed may be left so: {why}")),
        }
    }

    /// Why the case can't run here. An error is a mistake in the data.
    fn hindrance(&self, case: &Case) -> Result<Option<String>, String> {
        if case.disruptive && !self.disruptive {
            return Ok(Some("it disturbs others; run it with --disruptive".to_owned()));
        }
        for need in &case.needs {
            if let Some(why) = self.survey.lacks(need)? {
                return Ok(Some(why));
            }
        }
        for step in case.all_steps() {
            match step.on.as_str() {
                "admin" if self.survey.lacks("admin")?.is_some() => return self.survey.lacks("admin"),
                door if !self.doors.contains_key(door) => {
                    return Ok(Some(format!("there is no such socket; give --door {door}=PATH")));
                }
                _ => {}
            }
        }
        let mut all = 0;
        for wait in case.all_steps().filter_map(|step| step.wait_s.as_ref()) {
            all += seconds(wait, &self.survey.names)?;
        }
        let long = Duration::from_secs(all) > self.max_wait;
        Ok(long.then(|| format!("it waits {all} s; give --max-wait {all}, or the daemon's --clock-skew")))
    }
}

fn seconds(wait: &Value, names: &Names) -> Result<u64, String> {
    let value = evaluate(wait, names)?;
    value.as_u64().ok_or_else(|| format!("wait_s is a number of seconds, not {value}"))
}

impl Course<'_> {
    async fn run(&mut self) -> Result<(), String> {
        self.steps(&self.case.steps, "step").await?;
        self.settle().await
    }

    async fn steps(&mut self, steps: &[Step], kind: &str) -> Result<(), String> {
        for (index, step) in steps.iter().enumerate() {
            self.step(step).await.map_err(|why| format!("{kind} {}: {why}", index + 1))?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        if let Some(wait) = &step.wait_s {
            tokio::time::sleep(Duration::from_secs(seconds(wait, &self.names)?)).await;
        }
        let messages = step.send.iter().map(|one| message(one, &self.names)).collect::<Result<Vec<_>, _>>()?;
        let mut tries = TRIES;
        let replies = loop {
            let (ids, events) = match self.line(step).await? {
                Line::Frames(frames) => frames.exchange(&messages, step.expect.len()).await?,
                Line::Library(library) => {
                    let op = messages.first().and_then(|message| message.op.as_ref()).ok_or("no operation")?;
                    (vec![None], vec![library.ask(op).await?])
                }
            };
            match held_against(&step.expect, &ids, &events, &self.names) {
                Ok(replies) => break replies,
                Err(why) => {
                    let pause = pause(&events).filter(|_| step.is_plain() && tries > 0).ok_or(why)?;
                    tries -= 1;
                    tokio::time::sleep(pause).await;
                }
            }
        };
        for (name, path) in &step.bind {
            let part = replies.first().and_then(|reply| at(reply, path));
            let part = part.ok_or_else(|| format!("{path} is not in {}", Value::from(replies.clone())))?;
            self.names.insert(name.clone(), part.clone());
        }
        Ok(())
    }

    /// The step's connection; made, and greeted, if it is the first on it.
    async fn line(&mut self, step: &Step) -> Result<&mut Line, String> {
        let (on, connection) = step.line();
        let key = (on.to_owned(), connection.to_owned());
        if !self.lines.contains_key(&key) {
            let door = self.runner.doors.get(on).ok_or("no such socket")?;
            let line = self.open(door, step).await?;
            self.lines.insert(key.clone(), line);
        }
        self.lines.get_mut(&key).ok_or_else(|| "no connection".to_owned())
    }

    async fn open(&self, door: &Door, step: &Step) -> Result<Line, String> {
        let patience = self.runner.patience;
        let plain = self.case.all_steps().filter(|other| other.line() == step.line()).all(Step::is_plain);
        let mut tries = TRIES;
        loop {
            let refusal = if plain && self.runner.via == Via::Client {
                match Library::connect(door, patience).await {
                    Ok(library) => return Ok(Line::Library(library)),
                    Err(error) if error.code() == Some(crate::wire::Code::Busy) => error.to_string(),
                    Err(error) => return Err(error.to_string()),
                }
            } else {
                let mut frames = Frames::connect(door, patience).await?;
                if !step.greet {
                    return Ok(Line::Frames(frames));
                }
                let greeting = frames.greet().await?;
                if greeting.get("welcome").is_some() {
                    return Ok(Line::Frames(frames));
                }
                if at(&greeting, "refused.code") != Some(&"busy".into()) {
                    return Err(format!("the greeting is {greeting}"));
                }
                greeting.to_string()
            };
            if tries == 0 {
                return Err(format!("no place, {TRIES} times: {refusal}"));
            }
            tries -= 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn settle(&mut self) -> Result<(), String> {
        for ((on, _), line) in std::mem::take(&mut self.lines) {
            if let Line::Frames(frames) = line {
                frames.settle().await.map_err(|why| format!("at the end, on {on}: {why}"))?;
            }
        }
        Ok(())
    }
}

fn message(value: &Value, names: &Names) -> Result<Message, String> {
    let value = evaluate(value, names)?;
    serde_json::from_value(value.clone()).map_err(|error| format!("{} is no message: {error}", quoted(&value)))
}

/// When to try again, if the one reply says that this is all that is wrong.
fn pause(events: &[Value]) -> Option<Duration> {
    let problem = events.first()?.get("problem")?;
    let passing = ["busy", "rate_limited"].contains(&problem.get("code")?.as_str()?);
    let wait = problem.get("retry_after_ms").and_then(Value::as_u64);
    passing.then(|| wait.map_or(PAUSE, Duration::from_millis))
}

/// The replies in the order of what was expected. The reply to an operation is known by its id; all else comes in order.
fn held_against(
    expected: &[Value],
    ids: &[Option<u64>],
    events: &[Value],
    names: &Names,
) -> Result<Vec<Value>, String> {
    let came = || quoted(&Value::from(events.to_vec()));
    if events.len() != expected.len() {
        return Err(format!("expected {} replies, came {}", expected.len(), came()));
    }
    let mut left: Vec<&Value> = events.iter().collect();
    let mut replies = Vec::with_capacity(events.len());
    for (index, one) in expected.iter().enumerate() {
        let asked = || ids.get(index).copied().flatten().map(Value::from).filter(|_| one.is_object());
        let found = match one.get("id").cloned().or_else(asked) {
            Some(id) => left
                .iter()
                .position(|event| event.get("id") == Some(&id))
                .ok_or_else(|| format!("no reply with id {id}; came {}", came()))?,
            None => 0,
        };
        let reply = left.remove(found);
        compare(one, reply, names)
            .map_err(|why| if events.len() > 1 { format!("reply {}: {why}", index + 1) } else { why })?;
        replies.push(reply.clone());
    }
    Ok(replies)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn held(expected: &Value, ids: &[Option<u64>], events: &Value) -> Result<Vec<Value>, String> {
        held_against(expected.as_array().unwrap(), ids, events.as_array().unwrap(), &Names::new())
    }

    #[test]
    fn replies_are_known_by_their_ids_in_any_order() {
        let (one, two) = (json!({"id": 1, "ok": "a"}), json!({"id": 2, "ok": "b"}));
        let expected = json!([{"ok": "a"}, {"ok": "b"}]);
        let ids = [Some(1), Some(2)];
        assert_eq!(held(&expected, &ids, &json!([two, one])), Ok(vec![one.clone(), two.clone()]));
        assert!(held(&expected, &ids, &json!([one, one])).unwrap_err().contains("no reply with id 2"));
        assert!(held(&expected, &ids, &json!([one])).unwrap_err().contains("expected 2 replies"));
        let wrong = held(&json!([{"ok": "b"}, {"ok": "b"}]), &ids, &json!([two, one])).unwrap_err();
        assert_eq!(wrong, "reply 1: ok: expected \"b\", came \"a\"");
    }

    #[test]
    fn what_has_no_id_comes_in_order_and_the_end_is_the_last() {
        let events = json!([{"welcome": {}}, {"id": 9, "ok": 1}, "closed"]);
        let ids = [None, Some(9), None];
        assert!(held(&json!([{"welcome": {}}, {"ok": 1}, "closed"]), &ids, &events).is_ok());
        assert!(held(&json!([{"welcome": {}}, {"ok": 1}, {"ok": 2}]), &ids, &events).is_err());
    }

    #[test]
    fn only_a_passing_want_of_room_is_tried_again() {
        let problem = |code: &str| json!({"id": 1, "problem": {"code": code, "retry_after_ms": 7}});
        assert_eq!(pause(&[problem("busy")]), Some(Duration::from_millis(7)));
        assert_eq!(pause(&[problem("rate_limited")]), Some(Duration::from_millis(7)));
        assert_eq!(pause(&[problem("paused")]), None);
        assert_eq!(pause(&[json!({"ok": {}})]), None);
    }
}
