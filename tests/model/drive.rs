//! The steps of a plan, asked of a daemon by many at once; and what came of each.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use passportd::client::{AdminClient, Client, ClientError, Options};
use passportd::passport::OwnedPassport;
use passportd::wire::{AdminOk, AdminOp, Code};

use super::events::{Came, Change, Event, Span, Tick, What, harmless};
use super::plan::Step;
use crate::support::House;

/// Connections that ask, each with an administrator's beside it.
pub(crate) const CONNECTIONS: usize = 16;
/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all of them have in common.
pub(crate) struct Run {
    pub(crate) plan: Vec<Step>,
    pub(crate) house: RwLock<House>,
    next: AtomicUsize,
    tick: AtomicU64,
    /// By step: what was issued, or that nothing was.
    issued: Mutex<Vec<Option<Option<Arc<OwnedPassport>>>>>,
    pub(crate) events: Mutex<Vec<Event>>,
    /// The newest key; one rotation at a time.
    pub(super) rotation: tokio::sync::Mutex<()>,
    pub(super) newest: AtomicU32,
    failed: AtomicBool,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    Problem(Code),
    /// Whether it was done is not known; if it was, it was before the loss showed.
    Lost,
    /// It may still be done.
    Late,
}

impl Run {
    pub(crate) fn new(house: House, plan: Vec<Step>) -> Self {
        Self {
            issued: Mutex::new(vec![None; plan.len()]),
            plan,
            house: RwLock::new(house),
            next: AtomicUsize::new(0),
            tick: AtomicU64::new(0),
            events: Mutex::default(),
            rotation: tokio::sync::Mutex::default(),
            newest: AtomicU32::new(1),
            failed: AtomicBool::new(false),
        }
    }

    /// All steps, by sixteen at once; what happened, in the order in which it began.
    pub(crate) fn through(&self) -> Vec<Event> {
        std::thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| {
                    let _bell = Bell(&self.failed);
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        let hand = Hand::new(self).await;
                        while let Some(at) = self.take() {
                            hand.step(at, &self.plan[at]).await;
                        }
                    });
                });
            }
        });
        let mut events = std::mem::take(&mut *self.events.lock().unwrap());
        events.sort_by_key(|event| event.span.begun);
        events
    }

    fn take(&self) -> Option<usize> {
        assert!(!self.failed.load(Ordering::SeqCst), "another connection has failed");
        let at = self.next.fetch_add(1, Ordering::SeqCst);
        (at < self.plan.len()).then_some(at)
    }

    pub(super) fn tick(&self) -> (Tick, i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        (self.tick.fetch_add(1, Ordering::SeqCst) + 1, i64::try_from(now.as_millis()).unwrap())
    }

    pub(super) fn span_since(&self, (begun, from_ms): (Tick, i64)) -> Span {
        let (ended, to_ms) = self.tick();
        Span { begun, ended, from_ms, to_ms }
    }

    pub(super) fn note(&self, step: usize, span: Span, what: What) {
        self.events.lock().unwrap().push(Event { step, span, what });
    }

    pub(super) fn put(&self, step: usize, passport: Option<Arc<OwnedPassport>>) {
        self.issued.lock().unwrap()[step] = Some(passport);
    }

    /// What a step issued, once it is known; none if it issued nothing.
    pub(super) fn passport(&self, step: usize) -> Option<Arc<OwnedPassport>> {
        let begun = Instant::now();
        loop {
            if let Some(known) = &self.issued.lock().unwrap()[step] {
                return known.clone();
            }
            assert!(!self.failed.load(Ordering::SeqCst), "another connection has failed");
            assert!(begun.elapsed() < PATIENCE, "step {step} is not over");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Tells the others when one of them panics.
struct Bell<'a>(&'a AtomicBool);

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

/// One of the connections.
pub(crate) struct Hand<'a> {
    pub(super) run: &'a Run,
    pub(super) client: Client,
    pub(super) admin: AdminClient,
}

impl<'a> Hand<'a> {
    async fn new(run: &'a Run) -> Self {
        let (service, admin) = {
            let house = run.house.read().unwrap();
            (house.socket(), house.admin_socket())
        };
        let client = Client::connect(Options::service(service)).await.unwrap();
        let admin = AdminClient::connect(Options::service(admin)).await.unwrap();
        Self { run, client, admin }
    }

    /// Asks, again for as long as nobody is there to be asked.
    pub(super) async fn asked<T>(
        &self,
        mut ask: impl AsyncFnMut() -> Result<T, ClientError>,
    ) -> (Span, Result<T, Failure>) {
        let since = Instant::now();
        loop {
            let begun = self.run.tick();
            let came = ask().await;
            let mut span = self.run.span_since(begun);
            let failure = match came {
                Ok(answer) => return (span, Ok(answer)),
                Err(ClientError::Problem(problem)) => Failure::Problem(problem.code),
                Err(ClientError::Lost(_)) => Failure::Lost,
                Err(ClientError::Timeout) => {
                    span.ended = Tick::MAX;
                    Failure::Late
                }
                Err(ClientError::Connect { why, .. }) => {
                    assert!(since.elapsed() < PATIENCE, "nobody is there: {why}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                Err(other) => panic!("{other}"),
            };
            return (span, Err(failure));
        }
    }

    /// A change by an administrator, and its answer.
    pub(super) async fn changed(&self, step: usize, change: Change, op: AdminOp<'_>) -> Came {
        let (mut span, answer) = self.asked(async || self.admin.ask(op.clone()).await).await;
        let (mut change, mut came) = (change, Came::Maybe);
        match answer {
            Ok(AdminOk::Revoked { new }) => came = Came::Done { new: Some(new > 0) },
            Ok(AdminOk::EpochBumped { epoch }) => {
                (change, came) = (Change::Epoch(Some(epoch)), Came::Done { new: None });
            }
            Ok(AdminOk::Done | AdminOk::Activated { .. } | AdminOk::Staged { .. }) => came = Came::Done { new: None },
            Ok(other) => panic!("{other:?}"),
            Err(Failure::Problem(code)) if harmless(code) => came = Came::Nothing,
            // What could not be made durable in time may be so later.
            Err(Failure::Problem(_)) => span.ended = Tick::MAX,
            Err(Failure::Lost | Failure::Late) => {}
        }
        self.run.note(step, span, What::Change { change, came });
        came
    }
}
