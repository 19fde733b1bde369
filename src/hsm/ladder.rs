//! The way back from a failure of the HSM: which rung is next. Pure: time is given.
//!
//! | rung | what it does |
//! |---|---|
//! | session | the session is closed, the request tried again on a new one |
//! | login | everybody leaves the module; log in again, find the keys again |
//! | module | everybody leaves the module; finalise, initialise, log in, read the keys |
//! | process | the signer ends, and is started again |
//!
//! A session costs one worker some calls; login and module stop all of them for some milliseconds. So a failure that one
//! key may have caused by itself may not bring them about as often as it likes: no tenant may stop another (law L6).

use cryptoki::error::RvError;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// After a login that did not help, another within this time would not either.
pub const LOGIN_PAUSE: Duration = Duration::from_secs(1);
/// Requests given up one after the other before the module is started afresh.
pub const GIVEN_UP: u32 = 3;
/// The module is started afresh this long after the last time; doubled up to [`MODULE_PAUSE_MAX`] from time to time.
pub const MODULE_PAUSE: Duration = Duration::from_millis(100);
/// And no longer than this, so that the end of a failure is noticed soon.
pub const MODULE_PAUSE_MAX: Duration = Duration::from_millis(400);
/// One key may have the module started afresh this often.
pub const OBJECT_PAUSE: Duration = Duration::from_secs(1);
/// Without a failure for so long, the pause begins anew.
const CALM: Duration = Duration::from_secs(10);
/// A module that was started afresh again and again for so long wants another process.
pub const DOWN_LIMIT: Duration = Duration::from_secs(60);

/// A rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Another session.
    Session,
    /// Another login.
    Login,
    /// The module is started afresh.
    Module,
    /// The process is.
    Process,
}

impl Rung {
    /// From the lowest to the highest: the order of all counts.
    pub const ALL: [Self; 4] = [Self::Session, Self::Login, Self::Module, Self::Process];

    /// Its name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Login => "login",
            Self::Module => "module",
            Self::Process => "process",
        }
    }
}

/// What a failed call says of where the trouble is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// In this session alone.
    Session,
    /// Nobody is logged in any more.
    Login,
    /// The key is no longer where it was. A SoftHSM whose store vanished says so for ever.
    Object,
    /// In the module as a whole.
    Module,
    /// There are no more sessions.
    Capacity,
    /// In the device, or not said.
    Device,
    /// In the message.
    Message,
}

impl Fault {
    /// Its name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Login => "login",
            Self::Object => "object",
            Self::Module => "module",
            Self::Capacity => "capacity",
            Self::Device => "device",
            Self::Message => "message",
        }
    }

    /// What a return value says. Vendors' own and unknown ones are the device's.
    pub const fn of(rv: &RvError) -> Self {
        match rv {
            RvError::SessionHandleInvalid
            | RvError::SessionClosed
            | RvError::OperationActive
            | RvError::OperationNotInitialized => Self::Session,
            RvError::UserNotLoggedIn => Self::Login,
            RvError::ObjectHandleInvalid | RvError::KeyHandleInvalid => Self::Object,
            RvError::CryptokiNotInitialized | RvError::SlotIdInvalid => Self::Module,
            RvError::SessionCount => Self::Capacity,
            RvError::DataLenRange => Self::Message,
            _ => Self::Device,
        }
    }
}

/// What has been tried, and when.
#[derive(Debug, Default)]
pub struct Ladder {
    counts: [u64; 4],
    last: Option<Rung>,
    /// Requests given up since the last signature.
    given_up: u32,
    login: Option<Instant>,
    module: Option<Instant>,
    pause: Duration,
    /// Which keys had the module started afresh within the last [`OBJECT_PAUSE`].
    objects: HashMap<String, Instant>,
    /// Since when nothing helps.
    down: Option<Instant>,
}

impl Ladder {
    /// After an attempt with the key `kid` failed, on a session that was `fresh` or had worked before: the rung that is
    /// next for the request, or none if nothing would help it now.
    pub fn failed(&mut self, fault: Fault, fresh: bool, kid: &str, now: Instant) -> Option<Rung> {
        let rung = match (fault, fresh) {
            (Fault::Message, _) => return None,
            (Fault::Session | Fault::Object, false) | (Fault::Device | Fault::Capacity, _) => Rung::Session,
            (Fault::Object, true) => return self.missed(kid, now),
            (Fault::Login, _) => match self.login {
                // It began before the login that has been made since.
                Some(last) if !fresh && now.duration_since(last) < LOGIN_PAUSE => Rung::Session,
                // The login helped others: it may be this key alone that wants more.
                Some(last) if now.duration_since(last) < LOGIN_PAUSE => return self.missed(kid, now),
                _ => Rung::Login,
            },
            (Fault::Session, true) | (Fault::Module, _) => Rung::Module,
        };
        if rung == Rung::Session {
            self.count(Rung::Session);
        }
        Some(rung)
    }

    fn missed(&mut self, kid: &str, now: Instant) -> Option<Rung> {
        self.objects.retain(|_, last| now.duration_since(*last) < OBJECT_PAUSE);
        if self.objects.contains_key(kid) || now < self.module_due(now) {
            return None;
        }
        self.objects.insert(kid.to_owned(), now);
        Some(Rung::Module)
    }

    /// After a request was given up: the rung that is due for all.
    pub fn gave_up(&mut self, now: Instant) -> Option<Rung> {
        self.given_up = self.given_up.saturating_add(1);
        (self.given_up >= GIVEN_UP && now >= self.module_due(now)).then_some(Rung::Module)
    }

    /// A signature was made.
    pub const fn succeeded(&mut self) {
        self.given_up = 0;
    }

    /// A rung was tried; `well` if a signature could be made afterwards.
    pub fn tried(&mut self, rung: Rung, well: bool, now: Instant) {
        self.count(rung);
        match rung {
            Rung::Login => self.login = Some(now),
            Rung::Module => {
                let calm = self.module.is_none_or(|last| now.duration_since(last) >= CALM);
                self.pause = if calm { MODULE_PAUSE } else { (self.pause * 2).min(MODULE_PAUSE_MAX) };
                self.module = Some(now);
            }
            Rung::Session | Rung::Process => {}
        }
        if well {
            self.down = None;
            self.given_up = 0;
        } else if rung == Rung::Module {
            self.down.get_or_insert(now);
        }
    }

    /// When the module may be started afresh again: `now` at the earliest.
    pub fn module_due(&self, now: Instant) -> Instant {
        self.module.map_or(now, |last| (last + self.pause).max(now))
    }

    /// Whether starting the module afresh has not helped for too long.
    pub fn hopeless(&self, now: Instant) -> bool {
        self.down.is_some_and(|since| now.duration_since(since) >= DOWN_LIMIT)
    }

    /// How often each rung was tried, in the order of [`Rung::ALL`].
    pub const fn counts(&self) -> [u64; 4] {
        self.counts
    }

    /// The rung that was tried last.
    pub const fn last(&self) -> Option<Rung> {
        self.last
    }

    fn count(&mut self, rung: Rung) {
        self.last = Some(rung);
        let [session, login, module, process] = &mut self.counts;
        let count = match rung {
            Rung::Session => session,
            Rung::Login => login,
            Rung::Module => module,
            Rung::Process => process,
        };
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KID: &str = "ed25519/t1/auth/v1";

    #[test]
    fn what_return_values_say() {
        for (rv, fault) in [
            (RvError::SessionHandleInvalid, Fault::Session),
            (RvError::SessionClosed, Fault::Session),
            (RvError::OperationActive, Fault::Session),
            (RvError::OperationNotInitialized, Fault::Session),
            (RvError::UserNotLoggedIn, Fault::Login),
            (RvError::ObjectHandleInvalid, Fault::Object),
            (RvError::KeyHandleInvalid, Fault::Object),
            (RvError::CryptokiNotInitialized, Fault::Module),
            (RvError::SlotIdInvalid, Fault::Module),
            (RvError::SessionCount, Fault::Capacity),
            (RvError::DeviceError, Fault::Device),
            (RvError::DeviceRemoved, Fault::Device),
            (RvError::DeviceMemory, Fault::Device),
            (RvError::HostMemory, Fault::Device),
            (RvError::TokenNotPresent, Fault::Device),
            (RvError::GeneralError, Fault::Device),
            (RvError::FunctionFailed, Fault::Device),
            (RvError::VendorDefined(0x8000_0001), Fault::Device),
            (RvError::UnknownErrorCode(0x7777), Fault::Device),
            (RvError::DataLenRange, Fault::Message),
        ] {
            assert_eq!(Fault::of(&rv), fault, "{rv:?}");
        }
    }

    #[test]
    fn each_fault_has_its_first_rung() {
        for (fault, worked, fresh) in [
            (Fault::Session, Some(Rung::Session), Some(Rung::Module)),
            (Fault::Login, Some(Rung::Login), Some(Rung::Login)),
            (Fault::Object, Some(Rung::Session), Some(Rung::Module)),
            (Fault::Module, Some(Rung::Module), Some(Rung::Module)),
            (Fault::Capacity, Some(Rung::Session), Some(Rung::Session)),
            (Fault::Device, Some(Rung::Session), Some(Rung::Session)),
            (Fault::Message, None, None),
        ] {
            let now = Instant::now();
            assert_eq!(Ladder::default().failed(fault, false, KID, now), worked, "{fault:?}");
            assert_eq!(Ladder::default().failed(fault, true, KID, now), fresh, "{fault:?} on a fresh session");
        }
    }

    #[test]
    fn a_login_that_did_not_help_is_not_made_again_at_once() {
        let (mut ladder, now) = (Ladder::default(), Instant::now());
        ladder.tried(Rung::Login, true, now);
        let soon = now + LOGIN_PAUSE / 2;
        assert_eq!(ladder.failed(Fault::Login, false, KID, soon), Some(Rung::Session), "it began before the login");
        assert_eq!(ladder.failed(Fault::Login, true, KID, soon), Some(Rung::Module));
        assert_eq!(ladder.failed(Fault::Login, true, KID, now + LOGIN_PAUSE), Some(Rung::Login));
    }

    #[test]
    fn requests_given_up_one_after_the_other_want_the_module_afresh() {
        let (mut ladder, now) = (Ladder::default(), Instant::now());
        for _ in 1..GIVEN_UP {
            assert_eq!(ladder.gave_up(now), None);
        }
        ladder.succeeded();
        for _ in 1..GIVEN_UP {
            assert_eq!(ladder.gave_up(now), None, "they are no longer one after the other");
        }
        assert_eq!(ladder.gave_up(now), Some(Rung::Module));
        ladder.tried(Rung::Module, true, now);
        for _ in 0..GIVEN_UP {
            assert_eq!(ladder.gave_up(now), None, "too soon after the last time");
        }
        assert_eq!(ladder.gave_up(now + MODULE_PAUSE), Some(Rung::Module));
    }

    #[test]
    fn a_key_that_stays_away_stops_the_others_once_a_second() {
        let (mut ladder, mut now) = (Ladder::default(), Instant::now());
        let begun = now;
        let mut stops = 0;
        while now < begun + OBJECT_PAUSE * 10 {
            if ladder.failed(Fault::Object, true, KID, now) == Some(Rung::Module) {
                ladder.tried(Rung::Module, true, now);
                stops += 1;
            }
            now += Duration::from_millis(10);
        }
        assert_eq!(stops, 10);
        // Another key has its own turn, though no sooner after the last than anybody.
        assert_eq!(ladder.failed(Fault::Object, true, "ed25519/t2/auth/v1", now), Some(Rung::Module));
        assert_eq!(ladder.objects.len(), 1, "what is older than a second is forgotten");
    }

    #[test]
    fn the_pause_doubles_to_its_bound_and_calm_forgets_it() {
        let (mut ladder, mut now) = (Ladder::default(), Instant::now());
        let mut pause = MODULE_PAUSE;
        assert_eq!(ladder.module_due(now), now);
        for _ in 0..6 {
            ladder.tried(Rung::Module, false, now);
            assert_eq!(ladder.module_due(now), now + pause);
            now += pause;
            assert_eq!(ladder.module_due(now), now);
            pause = (pause * 2).min(MODULE_PAUSE_MAX);
        }
        assert_eq!(pause, MODULE_PAUSE_MAX);
        now += CALM;
        ladder.tried(Rung::Module, true, now);
        assert_eq!(ladder.module_due(now), now + MODULE_PAUSE);
    }

    #[test]
    fn only_a_minute_without_any_success_wants_another_process() {
        let (mut ladder, now) = (Ladder::default(), Instant::now());
        assert!(!ladder.hopeless(now));
        ladder.tried(Rung::Module, false, now);
        ladder.tried(Rung::Module, false, now + DOWN_LIMIT / 2);
        assert!(!ladder.hopeless(now + DOWN_LIMIT - Duration::from_millis(1)));
        assert!(ladder.hopeless(now + DOWN_LIMIT));
        ladder.tried(Rung::Module, true, now + DOWN_LIMIT);
        assert!(!ladder.hopeless(now + DOWN_LIMIT * 2));
        // A failed login leads to the module, and is no sign by itself.
        ladder.tried(Rung::Login, false, now + DOWN_LIMIT);
        assert!(!ladder.hopeless(now + DOWN_LIMIT * 3));
    }

    #[test]
    fn every_rung_is_counted_in_its_place() {
        let (mut ladder, now) = (Ladder::default(), Instant::now());
        ladder.failed(Fault::Device, true, KID, now);
        ladder.failed(Fault::Session, false, KID, now);
        for (n, rung) in Rung::ALL.into_iter().enumerate() {
            (0..=n).for_each(|_| ladder.tried(rung, true, now));
        }
        assert_eq!(ladder.counts(), [3, 2, 3, 4]);
        assert_eq!(Rung::ALL.map(Rung::name), ["session", "login", "module", "process"]);
    }
}
