//! Secrets after they were used: where they may lie, and where not. A PIN, a plaintext and the key that sealed it are looked
//! for in the memory of both processes, and in all that leaves them.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use passportd::hsm::sealer::{SealPlace, Sealer as _};
use passportd::passport::hex;
use passportd::seal::XChaCha;
use passportd::wire::sealed::{MAX_PLAIN, Namespace, SealKid, Sealed};
use passportd::wire::{AdminOp, AdminRequest, Code, Plain, ServiceOk, ServiceOp, encode_frame};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::holder::{self, Holder};
use super::memory::{Found, Needle, search};
use super::support::passports::demo;
use super::support::softhsm::PIN;
use super::support::{House, Hsm, Options, Roles, eventually, process, root_or_skip, skipped};

const SEAL: &str = "hmac-sha256/t1/seal/v1";
const NAMESPACE: &str = "t1/billing";
const NAME: &str = "database";
/// What the house's configuration says.
const ISSUER: &str = "passportd.test";
/// Has glibc write over whatever is freed: what goes to a thread's own cache it does not.
const WIPED: &str = "glibc.malloc.perturb=85:glibc.malloc.tcache_count=0";
/// How long a reply may have arrived before its last trace is gone.
const SOON: Duration = Duration::from_secs(5);

fn place() -> SealPlace<'static> {
    let (namespace, kid) = (Namespace::parse(NAMESPACE).unwrap(), SealKid::parse(SEAL).unwrap());
    SealPlace { issuer: ISSUER, namespace, name: NAME, kid }
}

/// What the HSM derives for [`place`].
fn derived(house: &House) -> [u8; 32] {
    let keys: serde_json::Value =
        serde_json::from_slice(&fs::read(house.dir().join("state/keys.json")).unwrap()).unwrap();
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == SEAL).unwrap();
    holder::hmac(house.hsm(), key["cka_id"].as_str().unwrap(), &XChaCha.derivation(&place()))
}

/// The canaries of a house.
struct Canaries {
    pin: Needle,
    plain: Vec<Needle>,
    key: Vec<Needle>,
}

impl Canaries {
    fn all(&self) -> Vec<Needle> {
        [std::slice::from_ref(&self.pin), &self.plain, &self.key].concat()
    }
}

/// Halves, too: memory that was freed may have been written on at its start.
fn halves(name: &'static str, bytes: &[u8]) -> Vec<Needle> {
    bytes.chunks(bytes.len().div_ceil(2)).map(|half| Needle::new(name, half)).collect()
}

/// Seals and opens a secret in each way that there is, and asks for everything else that is answered: small, as large as may
/// be, in one piece and in two, and refused. The canaries, and what was answered but for the secret itself.
fn use_secrets(house: &House) -> (Canaries, Vec<u8>) {
    let mut random = [0; 24];
    getrandom::fill(&mut random).unwrap();
    let secret = hex::encode(&random).into_bytes();
    let large: Vec<u8> = secret.iter().copied().cycle().take(MAX_PLAIN).collect();
    let mut answers = Vec::new();
    let mut sealed = Vec::new();
    for plain in [&secret, &large] {
        let seal = ServiceOp::Seal { namespace: NAMESPACE, name: NAME, plain: Plain(plain) };
        let ServiceOk::Sealed { blob } = house.ask(seal.clone()).unwrap() else { panic!() };
        in_two_pieces(house, &seal);
        let ServiceOk::Unsealed { plain: opened } =
            house.ask(ServiceOp::Unseal { namespace: NAMESPACE, name: NAME, blob: &blob }).unwrap()
        else {
            panic!()
        };
        assert_eq!(&*opened.0, plain);
        // Refused by the policy, by the bounds, and as too large; and given up by who asked.
        let other = |namespace| ServiceOp::Seal { namespace, name: NAME, plain: Plain(plain) };
        for namespace in ["t2/billing", "no namespace"] {
            answers.extend(format!("{:?}", house.ask(other(namespace)).unwrap_err()).into_bytes());
        }
        house.raw().request(seal);
        // Nobody reads the secret, and then nobody could: more than the socket takes.
        let unseal = || ServiceOp::Unseal { namespace: NAMESPACE, name: NAME, blob: &blob };
        house.raw().request(unseal());
        let mut deaf = house.raw();
        for _ in 0..8 {
            deaf.request(unseal());
        }
        house.ask(ServiceOp::Ping).unwrap();
        sealed.push(blob);
    }
    let larger = [&large[..], b"+"].concat();
    let seal = ServiceOp::Seal { namespace: NAMESPACE, name: NAME, plain: Plain(&larger) };
    answers.extend(format!("{:?}", house.ask(seal).unwrap_err()).into_bytes());
    answers.extend(sealed.concat());
    house.raw().issue(demo("alice")).unwrap();
    for op in [ServiceOp::Version, ServiceOp::WhoAmI, ServiceOp::Health, ServiceOp::Keys { if_etag: None }] {
        let mut raw = house.raw();
        raw.request(op);
        answers.extend(raw.body().unwrap().unwrap());
    }
    for op in [AdminOp::WhoAmI, AdminOp::Status, AdminOp::Health, AdminOp::Attest, AdminOp::ReloadReport] {
        let (mut raw, mut frame) = (house.admin_raw(), Vec::new());
        encode_frame(&AdminRequest { id: 1, corr_id: [0; 16], op }, &mut frame).unwrap();
        raw.send(&frame).unwrap();
        answers.extend(raw.body().unwrap().unwrap());
    }

    let derived = derived(house);
    let key = XChaCha.key(&derived);
    let opened = XChaCha.open(&key, &place(), &Sealed::parse(&sealed[0]).unwrap());
    assert_eq!(opened.as_deref(), Ok(&secret), "it is that key");
    let canaries = Canaries {
        pin: Needle::new("PIN", PIN.as_bytes()),
        plain: halves("plaintext", &secret),
        key: [halves("derived", &derived), halves("seal key", &*key)].concat(),
    };
    (canaries, answers)
}

/// A request that arrives in two reads.
fn in_two_pieces(house: &House, op: &ServiceOp<'_>) {
    let mut raw = house.raw();
    let frame = super::support::raw::request(7, op.clone());
    let (head, tail) = frame.split_at(frame.len() / 2);
    raw.send(head).unwrap();
    // The first half has been read when another connection has been answered: there are few threads, and it came first.
    for _ in 0..4 {
        house.ask(ServiceOp::Ping).unwrap();
    }
    raw.send(tail).unwrap();
    assert!(matches!(raw.reply().result, Ok(ServiceOk::Sealed { .. })));
}

/// Waits until of the needles nothing is found in a role but what may be there. On a busy machine one search may last longer
/// than [`SOON`], and see what is in use just then; what is left is seen by all of them.
fn gone(house: &House, role: &str, needles: &[Needle], may: impl Fn(&Found) -> bool) {
    const SEARCHES: usize = 5;
    let begun = Instant::now();
    for searches in 1.. {
        let left: Vec<_> = search(house.pid(role), needles).into_iter().filter(|found| !may(found)).collect();
        if left.is_empty() {
            return;
        }
        assert!(searches < SEARCHES || begun.elapsed() < SOON, "left in the {role}: {left:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn nothing_secret_is_left_where_it_was_used() {
    if !root_or_skip("looking into the memory of the roles") {
        return;
    }
    let house =
        House::start(Options::default().module(Hsm::SoftHsm).roles(Roles::Apart).set("hsm.op_timeout_ms", 1_000));
    let (canaries, answers) = use_secrets(&house);
    let of = |role: &str, needles: &[Needle]| search(house.pid(role), needles);

    // The search finds what is there.
    for role in ["front", "signer"] {
        let issuer = of(role, &[Needle::new("issuer", ISSUER.as_bytes())]);
        assert!(issuer.iter().any(|found| found.mapping == "[heap]" || found.mapping.is_empty()), "{role}");
    }
    let kept = of("signer", &canaries.key);
    assert_eq!(
        kept.iter().filter(|found| found.guarded).count(),
        2,
        "the seal key is kept for the next request: {kept:?}"
    );

    // The thread that reads is there still; it takes its stack along when its link ends.
    gone(&house, "signer", &canaries.key, |found| found.needle == "seal key" && found.guarded);

    // While a request is under way its secret is there.
    house.freeze("signer");
    let secret = canaries.plain.iter().map(|half| half.bytes.as_slice()).collect::<Vec<_>>().concat();
    let mut raw = house.raw();
    raw.request(ServiceOp::Seal { namespace: NAMESPACE, name: NAME, plain: Plain(&secret) });
    eventually("the front has the secret", SOON, || (!of("front", &canaries.plain).is_empty()).then_some(()));
    // Given up, and then done all the same, for nobody.
    assert_eq!(raw.reply().result.unwrap_err().code, Code::HsmTimeout);
    gone(&house, "front", &canaries.all(), |_| false);
    house.signal("signer", Signal::SIGCONT);
    house.wait_ready();

    gone(&house, "front", &canaries.all(), |_| false);
    gone(&house, "signer", &canaries.plain, |_| false);
    gone(&house, "signer", &canaries.key, |found| found.needle == "seal key" && found.guarded);
    let pin = of("signer", std::slice::from_ref(&canaries.pin));
    println!("PIN: {pin:?}");
    assert!(!pin.is_empty() && pin.iter().all(|found| found.guarded), "kept for the next login: {pin:?}");

    // Other keys, and so other derived ones.
    drop(house.stage("ed25519/t1/auth/v9"));
    house.ask(ServiceOp::Seal { namespace: "t1/mail", name: NAME, plain: Plain(b"other") }).unwrap();
    gone(&house, "signer", &canaries.key, |_| false);

    elsewhere(&house, &canaries, &answers);
}

/// What leaves the processes.
fn elsewhere(house: &House, canaries: &Canaries, answers: &[u8]) {
    let all = canaries.all();
    let clean = |what: &str, bytes: &[u8]| {
        for needle in &all {
            assert!(!needle.lies_in(bytes), "{} in {what}", needle.name);
            let text = hex::encode(&needle.bytes);
            assert!(!Needle::new("", text.as_bytes()).lies_in(bytes), "{} in {what}, as hex", needle.name);
        }
    };
    for role in ["front", "signer"] {
        for name in ["environ", "cmdline"] {
            let bytes = fs::read(format!("/proc/{}/{name}", house.pid(role))).unwrap();
            assert!(name == "environ" || Needle::new("role", role.as_bytes()).lies_in(&bytes));
            clean(&format!("{name} of the {role}"), &bytes);
        }
    }
    assert!(Needle::new("kid", SEAL.as_bytes()).lies_in(answers));
    clean("the answers", answers);
    let metrics = house.get("/metrics").1;
    assert!(metrics.contains("op=\"seal\""));
    clean("the metrics", metrics.as_bytes());
    for page in ["/readyz", "/livez", "/healthz"] {
        clean(page, house.get(page).1.as_bytes());
    }
    let mut files = 0;
    let mut ledger = false;
    each_file(house.dir(), &mut |path| {
        let bytes = fs::read(path).unwrap();
        files += 1;
        ledger |= path.starts_with(house.ledger()) && Needle::new("name", b"t1/billing/database").lies_in(&bytes);
        if path == house.hsm().pin_file() {
            assert!(canaries.pin.lies_in(&bytes));
        } else {
            clean(&path.display().to_string(), &bytes);
        }
    });
    assert!(ledger && files > 10, "{files} files");
}

fn each_file(dir: &Path, look: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => each_file(&entry.path(), look),
            kind if kind.is_file() => look(&entry.path()),
            _ => {}
        }
    }
}

/// What SoftHSM leaves on its own heap, as docs/HSM.md says. Its keys have values here that are known.
#[test]
fn what_softhsm_leaves_on_its_heap() {
    let house = House::start(Options::default().module(Hsm::SoftHsm).without_keys().roles(Roles::Apart));
    let mut value = [0; 64];
    getrandom::fill(&mut value).unwrap();
    let mut maker = Holder::start(house.hsm(), "make", &hex::encode(&value), &[]);
    assert_eq!(maker.says(), "made");
    maker.end();
    let (secret, private) = value.split_at(32);
    let whole = [Needle::new("secret key", secret), Needle::new("private key", private)];
    let parts = [halves("of the secret key", secret), halves("of the private key", private)].concat();
    let pin = [Needle::new("PIN", PIN.as_bytes())];
    let program = std::env::current_exe().unwrap().display().to_string();
    for (tunables, wiped) in [("", false), (WIPED, true)] {
        let mut user = Holder::start(house.hsm(), "use", "", &[("GLIBC_TUNABLES", tunables)]);
        assert_eq!(user.says(), "used");
        let pins = search(user.pid(), &pin);
        assert!(
            !pins.is_empty() && pins.iter().all(|found| found.mapping == program),
            "the test's own alone: {pins:?}"
        );
        let left = search(user.pid(), &parts);
        println!("GLIBC_TUNABLES={tunables}: {left:?}");
        assert!(search(user.pid(), &whole).is_empty(), "no key as a whole");
        assert!(!wiped || left.is_empty(), "{left:?}");
        user.end();
    }
}

/// Lets a process write a core of any size, whatever limit it has given itself. Whether that was possible.
fn allow_cores(pid: i32) -> bool {
    let any = Rlimit { current: None, maximum: None };
    prlimit(Pid::from_raw(pid), Resource::Core, any).is_ok()
}

#[test]
fn no_core_of_either_is_written() {
    if !root_or_skip("raising the limit of cores") {
        return;
    }
    let mut house = House::start(Options::default().module(Hsm::SoftHsm).roles(Roles::Apart));
    let (canaries, _) = use_secrets(&house);
    // Somebody else's core is written here.
    let dir = tempfile::tempdir().unwrap();
    let mut other = Command::new("sleep").arg("60").current_dir(&dir).stdin(Stdio::null()).spawn().unwrap();
    let pid = i32::try_from(other.id()).unwrap();
    let may = allow_cores(pid);
    process::signal(pid, Signal::SIGSEGV);
    if !may || !other.wait().unwrap().core_dumped() {
        skipped("no process writes a core on this host, so that none of ours proves nothing");
    }
    for role in ["signer", "front"] {
        if !allow_cores(house.pid(role)) {
            skipped("that not being dumpable alone stops a core: raising a limit takes CAP_SYS_RESOURCE");
        }
        let pid = house.pid(role);
        // The handler of the first, which looks for a stack that has overflowed, restores the default and returns.
        eventually("it ends", SOON, || {
            process::signal(pid, Signal::SIGSEGV);
            process::gone(pid).then_some(())
        });
        let status = house.ended(pid);
        assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::SIGSEGV as i32), false), "{role}: {status}");
    }
    each_file(house.dir(), &mut |path| {
        let bytes = fs::read(path).unwrap();
        let secret = canaries.all().iter().any(|needle| needle.lies_in(&bytes));
        assert!(!secret || path == house.hsm().pin_file(), "{}", path.display());
    });
}
