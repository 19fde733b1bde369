//! How much faster than one `verify_strict` after the other each way is: messages of 300 bytes, one core unless said.
//!
//! Every figure is taken in turns with the reference, a default build of `ed25519-dalek` in a process of its own
//! (`STRICT25519_REFERENCE`, built by `scripts/bench`), so that a ratio is of one machine in one state. Values are medians
//! of the rounds. The bars go into the file of `PASSPORTD_BENCH_JSON`.
#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, reason = "a program of the bench's")]

use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use strict25519::{Item, PreparedKey, Way, Window, verify_many_by};

/// Rounds of each comparison.
const ROUNDS: usize = 9;
/// Signatures of one figure, and of one of the reference.
const SIGNATURES: usize = 4096;
const REFERENCE: u32 = 256;
/// Length of a figure of threads: far longer than the kernel takes to give each a processor of its own.
const TOGETHER: Duration = Duration::from_millis(500);

/// The program of the bench `reference`.
struct Reference {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Reference {
    fn start() -> Option<Self> {
        let path = std::env::var_os("STRICT25519_REFERENCE")?;
        let mut child = Command::new(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (questions, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Some(Self { child, questions, answers: BufReader::new(answers) })
    }

    /// Nanoseconds of one `verify_strict`.
    fn ask(&mut self) -> f64 {
        writeln!(self.questions, "{REFERENCE}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Signed messages under some keys, which take turns.
struct Signed {
    keys: Vec<PreparedKey>,
    signed: Vec<(Vec<u8>, [u8; 64])>,
}

impl Signed {
    fn new(keys: usize, window: Window) -> Self {
        let signer =
            |at: usize| SigningKey::from_bytes(&std::array::from_fn(|i| if i < 8 { at.to_le_bytes()[i] } else { 1 }));
        let signers: Vec<_> = (0..keys).map(signer).collect();
        let prepare =
            |signer: &SigningKey| PreparedKey::new(signer.verifying_key().as_bytes()).unwrap().with_table(window);
        let signed = (0..256_usize)
            .map(|at| {
                let mut message = vec![7; 300];
                message[..8].copy_from_slice(&at.to_le_bytes());
                let signature = signers[at % keys].sign(&message).to_bytes();
                (message, signature)
            })
            .collect();
        Self { keys: signers.iter().map(prepare).collect(), signed }
    }

    /// Nanoseconds of one verdict in batches of `size`.
    fn time(&self, way: Way, size: usize) -> f64 {
        let items: Vec<_> = (0..256)
            .map(|at| Item {
                key: &self.keys[at % self.keys.len()],
                message: &self.signed[at].0,
                signature: &self.signed[at].1,
            })
            .collect();
        let (mut verdicts, batches) = (Vec::new(), SIGNATURES / size);
        let begun = Instant::now();
        for batch in 0..batches {
            let from = batch * size % (257 - size);
            verify_many_by(way, black_box(&items[from..from + size]), &mut verdicts);
            assert!(verdicts.iter().all(|good| *good));
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(u32::try_from(batches * size).unwrap())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Row {
    name: String,
    way: Way,
    keys: usize,
    size: usize,
    /// At least so many times the reference, if an issue asks for it.
    bar: Option<f64>,
}

fn rows() -> Vec<Row> {
    let row = |name: &str, way, keys, size, bar| Row { name: format!("{way}_{name}"), way, keys, size, bar };
    vec![
        row("1", Way::Ifma, 1, 1, Some(4.5)),
        row("2", Way::Ifma, 1, 2, None),
        row("4", Way::Ifma, 1, 4, None),
        row("8", Way::Ifma, 1, 8, Some(14.0)),
        row("64", Way::Ifma, 1, 64, Some(22.0)),
        row("256", Way::Ifma, 1, 256, Some(22.0)),
        row("4_keys_64", Way::Ifma, 4, 64, Some(13.0)),
        row("100_keys_256", Way::Ifma, 100, 256, Some(8.0)),
        row("1", Way::Portable, 1, 1, Some(2.5)),
        row("8", Way::Portable, 1, 8, Some(3.5)),
        row("64", Way::Portable, 1, 64, Some(3.5)),
        row("256", Way::Portable, 1, 256, Some(3.5)),
        row("1", Way::Dalek, 1, 1, None),
    ]
}

/// How many verdicts more two threads give than one, each with batches of 64.
fn two_threads(way: Way, signed: &Signed) -> f64 {
    let ratios = (0..ROUNDS).map(|_| {
        let alone = verdicts_a_second(way, signed, 1);
        verdicts_a_second(way, signed, 2) / alone
    });
    median(ratios.collect())
}

/// Of so many threads together. They are warm when they begin, and all of them work until the end.
fn verdicts_a_second(way: Way, signed: &Signed, threads: usize) -> f64 {
    let warm = Barrier::new(threads);
    let work = || {
        signed.time(way, 64);
        warm.wait();
        let (begun, mut verdicts) = (Instant::now(), 0_u32);
        while begun.elapsed() < TOGETHER {
            signed.time(way, 64);
            verdicts += u32::try_from(SIGNATURES).unwrap();
        }
        f64::from(verdicts) / begun.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

fn bar(name: &str, value: f64, least: f64) -> Value {
    json!({"name": format!("engine_{name}"), "value": value, "unit": "ratio", "bar": format!(">= {least}"), "pass": value >= least})
}

fn main() -> std::process::ExitCode {
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return std::process::ExitCode::SUCCESS;
    }
    let Some(mut reference) = Reference::start() else {
        println!("STRICT25519_REFERENCE is not set: there is nothing to compare with; `make bench` sets it");
        return std::process::ExitCode::FAILURE;
    };
    let (mut bars, mut signed) = (Vec::new(), Vec::<(usize, Signed)>::new());
    println!("{:18} {:>10} {:>10} {:>7}  bar", "way_batch", "us/verdict", "reference", "ratio");
    for Row { name, way, keys, size, bar: least } in rows().into_iter().filter(|row| row.way.is_available()) {
        if signed.last().is_none_or(|(of, _)| *of != keys) {
            signed.push((keys, Signed::new(keys, Window::for_budget(keys, 16 << 20).unwrap())));
        }
        let (_, some) = signed.last().unwrap();
        let rounds: Vec<_> = (0..ROUNDS).map(|_| (reference.ask(), some.time(way, size))).collect();
        let ratio = median(rounds.iter().map(|(reference, ours)| reference / ours).collect());
        let (reference, ours) = rounds.into_iter().unzip();
        let least_text = least.map(|least| format!(">= {least} {}", if ratio >= least { "ok" } else { "MISSED" }));
        println!(
            "{name:18} {:10.3} {:10.3} {ratio:7.2}  {}",
            median(ours) / 1e3,
            median(reference) / 1e3,
            least_text.unwrap_or_default()
        );
        bars.extend(least.map(|least| bar(&name, ratio, least)));
    }
    let ratio = two_threads(Way::fastest(), &Signed::new(1, Window::WIDEST));
    println!("{:18} {ratio:29.2}  >= 1.7", "two threads");
    bars.push(bar("two_threads", ratio, 1.7));
    write(&bars);
    if bars.iter().all(|bar| bar["pass"] == true) {
        std::process::ExitCode::SUCCESS
    } else {
        std::process::ExitCode::FAILURE
    }
}

/// Adds the bars to those that other benches have written.
fn write(bars: &[Value]) {
    let Some(path) = std::env::var_os("PASSPORTD_BENCH_JSON") else { return };
    let mut all: Vec<Value> =
        std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    all.retain(|old| bars.iter().all(|new| old["name"] != new["name"]));
    all.extend(bars.iter().cloned());
    std::fs::write(path, serde_json::to_vec_pretty(&all).unwrap()).unwrap();
}
