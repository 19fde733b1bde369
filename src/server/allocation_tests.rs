//! What requests cost in allocations, from the socket to the engine and back (decision 0033).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use allocation_counter::measure;
use ed25519_dalek::{Signer as _, SigningKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::connection::{End, Patience, serve};
use crate::clock::Moment;
use crate::config::{Config, Sources};
use crate::lifecycle::tests::daemon_with;
use crate::lifecycle::{Daemon, Live};
use crate::passport::{Cap, Claims, Jwk, Kid};
use crate::policy::{Overflow, Peer, Policy, PolicyFile, SystemNames};
use crate::service::shares::{Bounds, OwnBounds, Shares};
use crate::service::{Gates, Service};
use crate::verify::{Keyring, Verifier, Way, Window};
use crate::wire::{
    Hello, Passport, Reply, Request, ServiceOk, ServiceOp, Verdict, WIRE_VERSION, Want, decode, encode_frame,
};

/// Requests that arrive together, and items of a batch.
const TOGETHER: usize = 64;

/// Rounds that are counted. The first ones give the memory that is used again; and where a busy machine has cut a round into
/// other piles than the one before, some of it grows. What every round costs is what the cheapest one does.
const ROUNDS: usize = 50;

const CONFIG: &str = "[passport]\nissuer = \"test\"\n[hsm]\nuri = \"pkcs11:token=main\"\nmodule = \"/usr/lib/libp11.so\"\n\
                      [limits]\nrps = 10000000\n";
const POLICY: &str =
    "[[peer]]\nname = \"tester\"\nuid = 7\nrps = 10000000\nallow = [\"verify\"]\nverify_as = [\"demo\"]\n";

fn daemon(way: Way, kid: &Kid, public: &[u8; 32]) -> Arc<Daemon> {
    let daemon = daemon_with(Verifier::unwatched(way));
    let loaded = Config::load(&Sources::new(None, [("PASSPORT_CONFIG".into(), CONFIG.into())])).unwrap();
    let file = PolicyFile { name: "test.toml".into(), bytes: POLICY.into() };
    let overflow = Overflow { uid: 65534, gid: 65534 };
    let policy = Policy::from_files("none".as_ref(), vec![file], &SystemNames, overflow).unwrap();
    daemon.live.store(Arc::new(Live { loaded, policy, generation: 2 }));
    let key = Jwk { current: Some(true), ..Jwk::new(kid.clone(), *public) };
    let keyring = Keyring::with_tables(&[key], Window::NARROWEST.table_bytes(), None);
    daemon.keyring.store(Arc::new(keyring.unwrap()));
    Arc::new(daemon)
}

/// Passports that are valid now, all different.
fn passports(signer: &SigningKey, kid: &Kid) -> Vec<(Vec<u8>, [u8; 64])> {
    let now = Moment::now().unix();
    let claims = |number: usize| Claims {
        iss: "test".to_owned(),
        sub: format!("service-{number:06}"),
        aud: vec!["demo".to_owned()],
        iat: now,
        exp: now + 3600,
        nbf: None,
        jti: format!("019b76da-a800-7000-8000-{number:012}"),
        scopes: vec!["read".to_owned(), "write".to_owned()],
        nonce: None,
        ctx: None,
        kid: kid.clone(),
        epoch: 0,
        cap: Cap { template: "demo".to_owned(), action: None, limit: None },
        cnf_jkt: None,
        cnf_uid: None,
        par: None,
    };
    let sign = |message: Vec<u8>| {
        let signature = signer.sign(&message).to_bytes();
        (message, signature)
    };
    (0..TOGETHER).map(|number| sign(claims(number).canonical(4096).unwrap())).collect()
}

async fn reply(far: &mut UnixStream) -> Vec<u8> {
    let mut body = vec![0; usize::try_from(far.read_u32().await.unwrap()).unwrap()];
    far.read_exact(&mut body).await.unwrap();
    body
}

/// The fewest allocations of a round of these frames, and the replies to it.
fn fewest(way: Way, frames: impl FnOnce(&str, &[(Vec<u8>, [u8; 64])]) -> Vec<Vec<u8>>) -> (u64, Vec<ServiceOk>) {
    let (signer, kid) = (SigningKey::from_bytes(&[7; 32]), Kid::new("t1", "auth", 1).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let inside = runtime.enter();
    let daemon = daemon(way, &kid, signer.verifying_key().as_bytes());
    let (mut far, mut serving) = connection(daemon);
    drop(inside);
    let frames = frames(&kid.to_string(), &passports(&signer, &kid));
    let bytes = frames.concat();
    let (mut replies, mut length) = (Vec::new(), 0);
    let greeted_and_answered = async {
        let mut hello = Vec::new();
        encode_frame(&Hello { wire: WIRE_VERSION, client: "test" }, &mut hello).unwrap();
        far.write_all(&hello).await.unwrap();
        drop(reply(&mut far).await);
        far.write_all(&bytes).await.unwrap();
        for _ in &frames {
            let body = reply(&mut far).await;
            length += 4 + body.len();
            replies.push(decode::<Reply>(&body).unwrap().result.unwrap());
        }
    };
    runtime.block_on(beside(&mut serving, greeted_and_answered));
    // Replies are as long in every round.
    let mut room = vec![0; length];
    let mut counted = u64::MAX;
    runtime.block_on(async {
        for _ in 0..ROUNDS {
            let answered = async {
                far.write_all(&bytes).await.unwrap();
                far.read_exact(&mut room).await.unwrap();
            };
            counted = counted.min(allocations(beside(&mut serving, answered)).await);
        }
    });
    (counted, replies)
}

type Serving = Pin<Box<dyn Future<Output = End>>>;

/// A connection of uid 7, and its task.
fn connection(daemon: Arc<Daemon>) -> (UnixStream, Serving) {
    let bounds = Bounds { connections: 8, connections_per_uid: 8, bytes: 1 << 20, bytes_per_uid: 1 << 20 };
    let place = Arc::new(Shares::new(1, Box::new(move || bounds)).admit(7, OwnBounds::default()).unwrap());
    let peer = Peer { uid: 7, gid: 7, pid: 1, groups: Vec::new(), listener: "main".to_owned(), cgroup: None };
    let speaker = Arc::new(Service::new(daemon, peer, Arc::clone(&place), Gates::default()));
    let minute = Duration::from_secs(60);
    let patience = Patience { read: minute, idle: minute, in_flight: 64 };
    let (far, near) = UnixStream::pair().unwrap();
    let serving = Box::pin(async move {
        let (_running, stop) = watch::channel(false);
        serve(near, speaker, place, patience, stop).await
    });
    (far, serving)
}

/// How often `work` allocates while it is polled.
async fn allocations(work: impl Future<Output = ()>) -> u64 {
    let (mut work, mut count) = (pin!(work), 0);
    poll_fn(|context| {
        let mut polled = Poll::Pending;
        count += measure(|| polled = work.as_mut().poll(context)).count_total;
        polled
    })
    .await;
    count
}

/// Serves until `work` is done.
async fn beside(serving: &mut Serving, work: impl Future<Output = ()>) {
    tokio::select! {
        end = serving => panic!("{end}"),
        () = work => {}
    }
}

fn frame(id: u64, op: ServiceOp<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(&Request { id, corr_id: [0; 16], op }, &mut frame).unwrap();
    frame
}

fn items<'a>(kid: &'a str, passports: &'a [(Vec<u8>, [u8; 64])]) -> impl Iterator<Item = Passport<'a>> {
    passports.iter().map(move |(msg, sig)| Passport::Envelope { alg: "Ed25519", kid, msg, sig })
}

/// What is wanted: with one list for it if there are scopes, and none if not.
fn want(scopes: &'static [&'static str]) -> Want<'static> {
    Want { aud: Some("demo"), scopes: scopes.to_vec(), ..Want::default() }
}

const SCOPES: [&[&str]; 2] = [&[], &["read"]];

/// The allocator counts, so that a count of none means something.
#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(10)))).count_total, 1);
    assert_eq!(measure(|| assert!(std::hint::black_box(1) > 0)).count_total, 0);
}

/// Nothing but the list of wanted scopes, where there is one, is allocated for a request.
#[test]
fn single_verifications_that_arrive_together_allocate_nothing_of_their_own() {
    for (way, scopes) in Way::ALL.into_iter().flat_map(|way| SCOPES.map(|scopes| (way, scopes))) {
        let (counted, replies) = fewest(way, |kid, passports| {
            let verify = |passport| ServiceOp::Verify { want: want(scopes), passport };
            (1..).zip(items(kid, passports)).map(|(id, passport)| frame(id, verify(passport))).collect()
        });
        assert_eq!(replies.len(), TOGETHER);
        assert!(
            replies.iter().all(|one| matches!(one, ServiceOk::Verdict(Verdict::Accepted(_)))),
            "{way}: {replies:?}"
        );
        assert_eq!(counted, u64::try_from(TOGETHER * scopes.len()).unwrap(), "{way}, {scopes:?}");
    }
}

/// The list of its items, and that of the wanted scopes, are all that is allocated for a batch.
#[test]
fn a_batch_allocates_the_list_of_its_items() {
    for (way, scopes) in Way::ALL.into_iter().flat_map(|way| SCOPES.map(|scopes| (way, scopes))) {
        let (counted, replies) = fewest(way, |kid, passports| {
            vec![frame(1, ServiceOp::VerifyBatch { want: want(scopes), items: items(kid, passports).collect() })]
        });
        let [ServiceOk::Verdicts(verdicts)] = &replies[..] else { panic!("{replies:?}") };
        assert_eq!(verdicts.len(), TOGETHER);
        assert!(verdicts.iter().all(|one| matches!(one, Verdict::Accepted(_))), "{way}: {verdicts:?}");
        assert_eq!(counted, 1 + u64::try_from(scopes.len()).unwrap(), "{way}, {scopes:?}");
    }
}
