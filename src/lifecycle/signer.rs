//! Keeping an eye on the signer: after every new link, now and then, and when a request met a failure, each key that
//! signs passports must be there, be the one that is known, and give a real signature. Session info and random numbers prove
//! nothing: a dead HSM still answers those (DESIGN §8).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::keys::proves;
use super::{Author, Daemon};
use crate::audit::{Event, Outcome};
use crate::metrics::{Breaker, Dependency};
use crate::signer::{LinkStatus, SignerError};
use crate::state::{KeyRecord, KeyState, Role};
use crate::wire::link::{LinkHealth, LinkKey, LinkRefusal, LinkWelcome};

/// Between looks when nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The longest between looks while something is wrong.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The least pause before a look that a failed request asks for: requests fail by the thousand, and each look costs the
/// HSM a signature a key.
const DOUBT_PAUSE: Duration = Duration::from_millis(100);
/// How long a start may take before the lack of a signer is news: front and signer start at the same time, and the signer
/// logs in and reads its keys before it listens.
const START: Duration = Duration::from_secs(3);
/// The longest that a look waits for the signer's counts.
const HEALTH_WAIT: Duration = Duration::from_millis(500);

/// What the last look found.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// What the signer says of itself, while there is a link.
    pub(super) welcome: Option<LinkWelcome>,
    /// Why it can't be used; none when every key that signs passports gave a signature.
    pub(super) trouble: Option<String>,
    /// Whether that is a probe signature that does not verify.
    pub(super) bad_probe: bool,
    /// Whether some key signs passports at all.
    pub(super) any_key: bool,
}

impl Seen {
    pub(super) fn nothing() -> Self {
        let trouble = Some("the signer has not been reached yet".to_owned());
        Self { welcome: None, trouble, bad_probe: false, any_key: false }
    }
}

/// Looks until the daemon stops.
pub async fn watch_signer(daemon: Arc<Daemon>) {
    let mut status = daemon.signer.status();
    let mut stopping = daemon.stopping();
    let (mut boot, mut told, begun) = (None, Told::Nothing, Instant::now());
    let (mut before, mut counted, mut left, mut announced, mut whole_at) = (None, None, 0, false, None);
    let mut woken = false;
    while !*stopping.borrow_and_update() {
        // What woke this up is no longer a change that has not been seen.
        let anew = woken || status.has_changed().unwrap_or(true);
        let link = status.borrow_and_update().clone();
        if let Some(seen) = refused_now(&daemon) {
            // A look may take as long as the HSM lets us wait, and requests are refused already.
            let news = told.news(seen.trouble.as_deref(), false, true);
            before.clone_from(&seen.trouble);
            settle(&daemon, seen, news).await;
        }
        // Keys that sign well are looked at now and then; those that do not, or a new link, at once.
        let whole = anew || whole_at.is_none_or(|at: Instant| at.elapsed() >= LOOK_EVERY);
        if whole {
            whole_at = Some(Instant::now());
        }
        let seen = look(&daemon, link, whole).await;
        count(&daemon, &mut counted).await;
        let recycled = daemon.metrics.signer_recycled.get();
        announced |= std::mem::replace(&mut left, recycled) != recycled;
        if let Some(id) = seen.welcome.as_ref().map(|welcome| welcome.boot_id)
            && boot.replace(id).is_some_and(|before| before != id)
            && !std::mem::take(&mut announced)
        {
            daemon.metrics.signer_restarts.inc();
        }
        let wait = wait(&daemon, &seen);
        let again = seen.trouble == before;
        let news = told.news(seen.trouble.as_deref(), again, seen.welcome.is_some() || begun.elapsed() >= START);
        before.clone_from(&seen.trouble);
        settle(&daemon, seen, news).await;
        woken = tokio::select! {
            _ = status.changed() => true,
            () = tokio::time::sleep(wait) => false,
            () = daemon.doubts.noticed() => false,
            _ = stopping.changed() => false,
        };
    }
}

/// Requests that met a failure ask for a look.
#[derive(Default)]
pub(super) struct Doubts(Notify);

impl Doubts {
    /// Something failed.
    pub(super) fn raise(&self) {
        self.0.notify_one();
    }

    /// Completes for a doubt, and not before [`DOUBT_PAUSE`] is over: the doubts that come in it are one, kept for its end.
    async fn noticed(&self) {
        tokio::time::sleep(DOUBT_PAUSE).await;
        self.0.notified().await;
    }
}

/// What there is to know at once when a breaker has opened since the last look.
fn refused_now(daemon: &Daemon) -> Option<Seen> {
    let last = daemon.hsm.load();
    let failure = daemon.signer.breakers().why().filter(|_| last.trouble.is_none())?;
    Some(Seen { trouble: Some(failure.error().to_string()), ..Seen::clone(&last) })
}

/// How long until the next look: while something is wrong, until a breaker's probe is due.
fn wait(daemon: &Daemon, seen: &Seen) -> Duration {
    let breakers = daemon.signer.breakers();
    if seen.trouble.is_none() && breakers.why().is_none() {
        return LOOK_EVERY;
    }
    let due = breakers.next_probe().map_or(LOOK_AGAIN, |at| at.saturating_duration_since(std::time::Instant::now()));
    due.clamp(DOUBT_PAUSE, LOOK_AGAIN)
}

/// Counts what the signer has counted, and how the breakers stand.
async fn count(daemon: &Daemon, before: &mut Option<LinkHealth>) {
    let metrics = &daemon.metrics;
    let (open, half_open) = daemon.signer.breakers().standing();
    for (state, count) in [(Breaker::Open, open), (Breaker::HalfOpen, half_open)] {
        metrics.breakers.at(state).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    if let Ok(Ok(health)) = tokio::time::timeout(HEALTH_WAIT, daemon.signer.health()).await {
        metrics.signer_says(&health, before.as_ref());
        *before = Some(health);
    } else {
        metrics.signer_is_silent();
    }
}

async fn look(daemon: &Daemon, link: LinkStatus, whole: bool) -> Seen {
    let welcome = match link {
        LinkStatus::Down(why) => {
            return Seen { welcome: None, trouble: Some(why), bad_probe: false, any_key: any_key(daemon) };
        }
        // A call waits for the next one.
        LinkStatus::Away(welcome) | LinkStatus::Up(welcome) => Some(welcome),
    };
    let (trouble, bad_probe) = match examine(daemon, whole).await {
        Ok(()) => (None, false),
        Err(Trouble::Unknown) => {
            let before = daemon.hsm.load();
            (before.trouble.clone(), before.bad_probe)
        }
        Err(Trouble::Known(why)) => (Some(why), false),
        Err(Trouble::BadProbe(why)) => (Some(why), true),
    };
    Seen { welcome, trouble, bad_probe, any_key: any_key(daemon) }
}

fn any_key(daemon: &Daemon) -> bool {
    daemon.store.keys().iter().any(|key| key.state == KeyState::Active && key.role == Role::Passport)
}

/// Why a key could not be seen to work.
enum Trouble {
    /// Load: requests took every place in front of the HSM. What was known before stands.
    Unknown,
    /// For the operator.
    Known(String),
    /// The same, of a probe signature that does not verify.
    BadProbe(String),
}

impl From<SignerError> for Trouble {
    fn from(error: SignerError) -> Self {
        if error == SignerError::Busy { Self::Unknown } else { Self::Known(error.to_string()) }
    }
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Known(why)
    }
}

/// Every key that signs passports: there, known, and able. All of them are looked at, since each has a breaker that a probe
/// may close; the first trouble is told. Unless it is to be a `whole` look, only those sign of which the last that is known is
/// a failure: one key's trouble must not have all others sign four times a second.
async fn examine(daemon: &Daemon, whole: bool) -> Result<(), Trouble> {
    let there = daemon.signer.keys().await?;
    daemon.follow(&there).await.map_err(|error| Trouble::Known(error.to_string()))?;
    let table = daemon.store.keys();
    let signs: Vec<_> =
        table.iter().filter(|key| key.state == KeyState::Active && key.role == Role::Passport).collect();
    daemon.signer.breakers().keep(|kid| signs.iter().any(|key| key.kid == kid));
    let (mut probes, mut trouble) = (Vec::with_capacity(signs.len()), Ok(()));
    for key in signs {
        let kid = &key.kid;
        match known(key, &there) {
            Ok(_) if !whole && !daemon.signer.breakers().suspects(kid) => {}
            Ok(public) => probes.push((kid, public, daemon.signer.start_probe(kid).await)),
            Err(why) => {
                daemon.signer.probed(kid, Err(SignerError::Unavailable));
                trouble = trouble.and(Err(why.into()));
            }
        }
    }
    for (kid, public, probe) in probes {
        let given = match probe {
            Ok(probing) => probing.probe().await,
            Err(error) => Err(error),
        };
        let given = given.and_then(|probe| {
            let bad = SignerError::Refused(LinkRefusal::BadSignature);
            if proves(&probe, &public) { Ok(()) } else { Err(bad) }
        });
        daemon.signer.probed(kid, given);
        trouble = trouble.and(given.map_err(|error| match error {
            SignerError::Refused(LinkRefusal::BadSignature) => {
                Trouble::BadProbe(format!("the probe signature of {kid} does not verify"))
            }
            error => error.into(),
        }));
    }
    trouble
}

/// The public key of one that signs passports, if it is in the HSM as it is on record.
fn known(key: &KeyRecord, there: &[LinkKey]) -> Result<[u8; 32], String> {
    let kid = &key.kid;
    let found = there.iter().find(|found| found.kid == *kid).ok_or_else(|| {
        format!("{kid} is not in the HSM; is hsm.uri the token that it was made in? see passportctl hsm list")
    })?;
    if !found.usable {
        return Err(format!("{kid} can't be used: {}; see passportctl hsm list", found.problem));
    }
    if Some(found.public) != key.public {
        return Err(format!(
            "{kid} in the HSM is another key than the one on record; was the HSM's store replaced? see passportctl hsm list"
        ));
    }
    Ok(found.public)
}

/// What log and ledger were told last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing yet: it has just started.
    Nothing,
    Up,
    Down(String),
}

/// What they are to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// It signs, for the first time.
    Up,
    /// It signs again.
    Recovered,
    /// It does not sign.
    Lost,
    /// It still does not, and the reason is another one.
    OtherReason,
}

impl Told {
    /// What is new about a look. `again`: the look before it found the same; a reason that comes and goes is not told each
    /// time. `settled`: the start is over, or the signer has been reached, so that there is something to say of it.
    fn news(&mut self, trouble: Option<&str>, again: bool, settled: bool) -> Option<News> {
        let news = match (&*self, trouble) {
            (Self::Up, None) => None,
            (Self::Nothing, None) => Some(News::Up),
            (Self::Down(_), None) => Some(News::Recovered),
            (Self::Up, Some(_)) => Some(News::Lost),
            (Self::Nothing, Some(_)) => (again && settled).then_some(News::Lost),
            (Self::Down(before), Some(why)) => (again && before != why).then_some(News::OtherReason),
        };
        if news.is_some() {
            *self = trouble.map_or(Self::Up, |why| Self::Down(why.to_owned()));
        }
        news
    }
}

/// Makes what was seen known: to requests and metrics; to the log and, when it was lost or came back, the ledger.
async fn settle(daemon: &Daemon, seen: Seen, news: Option<News>) {
    daemon.metrics.dependency_up.at(Dependency::Kms).set(i64::from(seen.trouble.is_none()));
    let why = seen.trouble.clone().unwrap_or_default();
    let events = events(news, &seen);
    daemon.hsm.store(Arc::new(seen));
    daemon.tell_manager();
    match news {
        Some(News::Up | News::Recovered) => info!(name: "hsm_up", "the HSM signs"),
        Some(News::Lost | News::OtherReason) => warn!(name: "hsm_down", reason = %why, "the HSM does not sign"),
        None => {}
    }
    if events.is_empty() {
        return;
    }
    let entries = events.iter().map(|(event, outcome)| Author::NOBODY.entry(*event, *outcome).detail(&why));
    if let Err(error) = daemon.audit.record_many(entries.collect()).await {
        warn!(name: "hsm_change_not_recorded", %error, "the signer's change is not on record");
    }
}

/// What the ledger is told of it.
fn events(news: Option<News>, seen: &Seen) -> Vec<(Event, Outcome)> {
    let mut events = Vec::new();
    match news {
        // Without a key nothing has been proven.
        Some(News::Up) if seen.any_key => events.push((Event::SelfTestPassed, Outcome::Ok)),
        Some(News::Recovered) => events.push((Event::SignerRecovered, Outcome::Ok)),
        Some(News::Lost) => events.push((Event::SignerLost, Outcome::Failed)),
        Some(News::Up | News::OtherReason) | None => {}
    }
    if news.is_some() && seen.bad_probe {
        events.push((Event::SelfTestFailed, Outcome::Failed));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks within `time` while a doubt is raised every millisecond.
    async fn looks(doubts: &Doubts, time: Duration) -> u32 {
        let raise = async {
            loop {
                doubts.raise();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let mut looks = 0;
        let look = async {
            loop {
                doubts.noticed().await;
                looks += 1;
            }
        };
        let both = async { tokio::join!(raise, look) };
        drop(tokio::time::timeout(time, both).await);
        looks
    }

    #[test]
    fn what_is_told_is_told_once_and_nothing_recovers_that_was_not_lost() {
        let mut told = Told::Nothing;
        let looks = [
            // It starts: not reached yet, then there.
            (Some("none yet"), false, false, None),
            (Some("none yet"), true, false, None),
            (None, false, true, Some(News::Up)),
            (None, true, true, None),
            // It is lost, the reason becomes clear, and changes back and forth.
            (Some("closed"), false, true, Some(News::Lost)),
            (Some("refused"), false, true, None),
            (Some("refused"), true, true, Some(News::OtherReason)),
            (Some("refused"), true, true, None),
            (Some("closed"), false, true, None),
            (Some("refused"), false, true, None),
            (None, false, true, Some(News::Recovered)),
            (Some("closed"), false, true, Some(News::Lost)),
        ];
        for (at, (trouble, again, settled, news)) in looks.into_iter().enumerate() {
            assert_eq!(told.news(trouble, again, settled), news, "look {at}");
        }
        // One that never was there is lost, too, once it is clear that this is no start.
        let mut told = Told::Nothing;
        assert_eq!(told.news(Some("wrong token"), false, true), None);
        assert_eq!(told.news(Some("wrong token"), true, true), Some(News::Lost));
        assert_eq!(told.news(None, false, true), Some(News::Recovered));
    }

    #[tokio::test(start_paused = true)]
    async fn doubts_by_the_thousand_are_a_look_for_each_pause() {
        let looks = looks(&Doubts::default(), DOUBT_PAUSE * 50 + DOUBT_PAUSE / 2).await;
        assert!((45..=50).contains(&looks), "{looks}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubt_during_the_pause_is_kept_for_its_end_and_there_is_no_look_without_one() {
        let doubts = Doubts::default();
        doubts.raise();
        doubts.raise();
        let begun = Instant::now();
        doubts.noticed().await;
        assert!(begun.elapsed() >= DOUBT_PAUSE);
        assert!(tokio::time::timeout(LOOK_EVERY, doubts.noticed()).await.is_err(), "two doubts were one");
    }
}
