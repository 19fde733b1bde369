use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tracing::Level;
use tracing::subscriber::with_default;

use super::queue::{MAX_BYTES, MAX_ENTRIES};
use super::record::{MAX_FIELDS, MAX_LINE, Value};
use super::*;
use crate::log::journal::{self, decode};

/// A reader that takes an entry only when it is let.
#[derive(Debug)]
pub(super) struct Slow {
    may: Receiver<()>,
    out: Arc<Mutex<Vec<String>>>,
}

impl Slow {
    pub(super) fn ready(&self) -> bool {
        self.may.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty)
    }

    pub(super) fn take(&mut self, entry: &[u8]) -> bool {
        // Once nobody says when, it takes all.
        let _ = self.may.recv();
        self.out.lock().unwrap().push(String::from_utf8(entry.to_vec()).unwrap());
        true
    }
}

type Stopped = (&'static Queue, Sender<()>, Arc<Mutex<Vec<String>>>);

/// A queue without a writer, before a reader that is stopped until the sender is dropped.
fn without_writer() -> Stopped {
    let (let_go, may) = channel();
    let out = Arc::new(Mutex::new(Vec::new()));
    let slow = Slow { may, out: Arc::clone(&out) };
    let form = Form::Line { role: "front", ansi: false };
    (Box::leak(Box::new(Queue::new(form, Sink::Test(slow)))), let_go, out)
}

/// The same with a writer, which holds a first line.
fn stopped() -> Stopped {
    let (queue, let_go, out) = without_writer();
    thread::spawn(|| queue.drain());
    queue.say(record("first".to_owned()));
    while !queue.is_writing() {
        thread::yield_now();
    }
    (queue, let_go, out)
}

/// Each message is a kind of its own, so that none is a storm.
fn record(message: String) -> Record {
    let fields = vec![("reason", Value::Text(message.clone()))];
    Record { name: "event", level: Level::INFO, message, fields }
}

fn line(message: &str) -> String {
    format!("  INFO front: {message} reason={message:?}\n")
}

/// The lines without their times.
fn timeless(out: &Mutex<Vec<String>>) -> Vec<String> {
    out.lock().unwrap().iter().map(|line| line.split_at(27).1.to_owned()).collect()
}

#[test]
fn lines_come_out_in_order() {
    let (queue, let_go, out) = stopped();
    drop(let_go);
    (0..1000).for_each(|n| queue.say(record(n.to_string())));
    queue.flush(Duration::from_secs(10));
    let said: Vec<_> = (0..1000).map(|n| line(&n.to_string())).collect();
    assert_eq!(timeless(&out)[1..], said);
}

#[test]
fn nobody_waits_for_a_stopped_reader_and_the_gap_is_counted_where_it_is() {
    let (queue, let_go, out) = stopped();
    (0..MAX_ENTRIES + 7).for_each(|n| queue.say(record(n.to_string())));
    assert_eq!(queue.waiting(), (MAX_ENTRIES, 7));
    // One is read, so that there is room for one more.
    let_go.send(()).unwrap();
    while queue.waiting().0 == MAX_ENTRIES {
        thread::yield_now();
    }
    queue.say(record("after".to_owned()));
    drop(let_go);
    queue.flush(Duration::from_secs(10));
    let out = timeless(&out);
    let [last, gap, after] = &out[out.len() - 3..] else { panic!() };
    assert_eq!((last, after), (&line("4095"), &line("after")));
    assert_eq!(gap, "  WARN front: the reader of the log was too slow: lines were dropped here dropped=7\n");
    assert_eq!(out.len(), 1 + MAX_ENTRIES + 2);
}

#[test]
fn a_gap_that_nothing_follows_is_counted_too() {
    let (queue, let_go, out) = stopped();
    (0..MAX_ENTRIES + 2).for_each(|n| queue.say(record(n.to_string())));
    drop(let_go);
    queue.flush(Duration::from_secs(10));
    assert!(timeless(&out).iter().any(|line| line.ends_with("dropped=2\n")));
}

#[test]
fn long_lines_fill_the_queue_by_their_bytes() {
    let (queue, _let_go, _) = stopped();
    let long = "x".repeat(MAX_LINE);
    for n in 0..MAX_ENTRIES {
        let mut long = record(n.to_string());
        long.message = "x".repeat(MAX_LINE);
        queue.say(long);
    }
    let (waiting, dropped) = queue.waiting();
    assert_eq!(waiting, MAX_BYTES / long.len());
    assert_eq!(waiting + usize::try_from(dropped).unwrap(), MAX_ENTRIES);
}

#[test]
fn the_end_waits_for_a_stopped_reader_only_so_long() {
    let (queue, _let_go, _) = stopped();
    let begun = Instant::now();
    queue.flush(Duration::from_millis(50));
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert!(queue.is_writing());
}

#[test]
fn without_a_writer_a_stopped_reader_is_not_waited_for_either() {
    let (queue, let_go, out) = without_writer();
    (0..MAX_ENTRIES + 3).for_each(|n| queue.say(record(n.to_string())));
    queue.flush(Duration::ZERO);
    assert_eq!((queue.waiting(), out.lock().unwrap().len()), ((MAX_ENTRIES, 3), 0));
    drop(let_go);
    queue.flush(Duration::ZERO);
    assert_eq!(out.lock().unwrap().len(), MAX_ENTRIES + 1);
    queue.say(record("at once".to_owned()));
    assert_eq!(timeless(&out).last(), Some(&line("at once")));
}

/// The writer itself says what was held back when the second is over, without another event.
#[test]
fn a_storm_that_ends_is_summarised_all_the_same() {
    let (queue, let_go, out) = stopped();
    drop(let_go);
    (0..storm::BURST + 5).for_each(|_| queue.say(record("same".to_owned())));
    let end = Instant::now() + Duration::from_secs(20);
    let summary = loop {
        let found = timeless(&out).into_iter().find(|line| line.contains("more of the same"));
        if let Some(found) = found {
            break found;
        }
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(2));
    };
    assert!(summary.ends_with(" of=\"event\" count=5 reason=\"same\"\n"), "{summary}");
}

/// What `say` says, as it is written in `form`.
fn written(form: Form, say: impl FnOnce()) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let server = UnixDatagram::bind(&path).unwrap();
    let sink = Sink::Journal(journal::Sender::new(&path).unwrap());
    let queue: &'static Queue = Box::leak(Box::new(Queue::new(form, sink)));
    with_default(Recorder { level: LevelFilter::INFO, queue }, say);
    server.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 17];
    let len = server.recv(&mut buffer).unwrap();
    assert!(server.recv(&mut [0]).is_err(), "one event, one datagram");
    buffer.truncate(len);
    buffer
}

#[test]
fn an_event_becomes_fields() {
    let form = Form::Datagram { role: "front" };
    let bytes = written(form, || {
        tracing::debug!(name: "greeted", "below the level");
        tracing::error!(target: "hyper", "a library's");
        tracing::warn!(name: "service_crashed", service = "signer", pause_ms = 50_u128, at = ?Some("x\ny"), "it\nended");
    });
    let expected = [
        ("MESSAGE", "it\n    ended service=\"signer\" pause_ms=50 at=Some(\"x\\ny\")"),
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "passportd"),
        ("MESSAGE_ID", events::message_id("service_crashed").unwrap()),
        ("PASSPORT_EVENT", "service_crashed"),
        ("PASSPORT_ROLE", "front"),
        ("PASSPORT_SERVICE", "signer"),
        ("PASSPORT_PAUSE_MS", "50"),
        ("PASSPORT_AT", r#"Some("x\ny")"#),
    ];
    let fields: Vec<_> =
        decode(&bytes).into_iter().map(|(name, value)| (name, String::from_utf8(value).unwrap())).collect();
    let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(fields, expected);
}

#[test]
fn an_event_becomes_a_line() {
    let say = || tracing::info!(name: "ready", ready = 1, why = "a \"b\"\n", shown = %"c\x1b[0m", "serving");
    let line = String::from_utf8(written(Form::Line { role: "run", ansi: false }, say)).unwrap();
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok() && time.len() == 27, "{time}");
    assert_eq!(rest, " INFO run: serving ready=1 why=\"a \\\"b\\\"\\n\" shown=c\\u{1b}[0m\n");
    let coloured = String::from_utf8(written(Form::Line { role: "run", ansi: true }, say)).unwrap();
    assert!(coloured.contains(" \x1b[32m INFO\x1b[0m run: "), "{coloured}");
}

#[test]
fn long_values_are_cut_and_say_so() {
    let say = || tracing::info!(a = "é".repeat(1 << 20), b = %"x".repeat(2000), "{}", "m".repeat(9000));
    let line = String::from_utf8(written(Form::Line { role: "run", ansi: false }, say)).unwrap();
    assert!(line.len() <= MAX_LINE && line.ends_with(" [cut]\n"), "{line}");
    let bytes = written(Form::Datagram { role: "run" }, say);
    assert!(bytes.len() <= journal::MAX_DATAGRAM);
    for (name, value) in decode(&bytes) {
        let cut = value.ends_with(b" [cut]") && value.len() > 1000;
        assert_eq!(cut, ["MESSAGE", "PASSPORT_A", "PASSPORT_B"].contains(&&*name), "{name}");
        assert!(std::str::from_utf8(&value).is_ok() && value.len() <= MAX_LINE);
    }
    // Many long values: the datagram stays bounded, whatever an event carries.
    let x = "x".repeat(5000);
    let x = x.as_str();
    let many = || {
        tracing::info!(a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x, k = x, l = x, m = x, "x");
    };
    let bytes = written(Form::Datagram { role: "run" }, many);
    assert!(bytes.len() <= MAX_LINE * 5, "{}", bytes.len());
}

#[test]
fn fields_are_added_as_far_as_they_fit_and_the_next_is_left_out() {
    let form = Form::Datagram { role: "run" };
    // With the name of the field.
    for (length, there) in [(MAX_FIELDS - 1, true), (MAX_FIELDS, false)] {
        let fields = vec![("a", Value::Text("x".repeat(length))), ("b", Value::Text(String::new()))];
        let record = Record { name: "event", level: Level::INFO, message: "x".to_owned(), fields };
        let names: Vec<_> = decode(&form.encode(&record)).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.iter().any(|name| name == "PASSPORT_A"), there, "{length}: {names:?}");
        assert!(names.iter().all(|name| name != "PASSPORT_B"), "{length}: {names:?}");
    }
}

/// A child of the next test.
#[test]
#[ignore = "started by a_panic_says_where_and_not_what"]
fn panics_with_a_secret() {
    start("front");
    queue_from_now().unwrap();
    panic!("the PIN is {}", "canary-4711");
}

#[test]
fn a_panic_says_where_and_not_what() {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "boot::logging::tests::panics_with_a_secret"])
        .env(LEVEL, "info")
        .env(TO, "stderr")
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let line = said.lines().find(|line| line.contains("ERROR front:")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("reason=\"panic\" at=\"src/boot/logging/tests.rs:"), "{line}");
    assert!(line.contains("thread=\"boot::logging::tests::panics_with_a_secret\""), "{line}");
    assert!(!output.status.success() && !said.contains("canary"), "{said}");
}

#[test]
fn an_empty_no_color_turns_nothing_off() {
    for (value, off) in [(None, false), (Some(""), false), (Some("1"), true), (Some("0"), true)] {
        assert_eq!(unwelcome(value.map(OsStr::new)), off, "{value:?}");
    }
}
