//! From claims and expectations to a verdict. Pure: the time is an argument, and so is all that is expected.

use super::{parent::MAX_TICKET_SKEW_S, scan::View};
use crate::clock::Moment;

/// Why a passport is not accepted. A refusal is a verdict about the passport, so its bearer is at fault; it never says
/// that something is wrong with the service. The codes are those of `docs/WIRE.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Not a payload in canonical form, or the signature is not 64 bytes long.
    #[error("the passport is malformed")]
    Malformed,
    /// An algorithm that is neither `EdDSA` nor `Ed25519`.
    #[error("the algorithm must be EdDSA or Ed25519")]
    BadAlg,
    /// The kid is not a kid, or the one beside the payload is not the one inside.
    #[error("the kid is malformed, or differs from the kid in the payload")]
    BadKid,
    /// No key of this issuer has that kid, or the passport is of another issuer.
    #[error("no key of this issuer has this kid")]
    UnknownKid,
    /// It is for others, or no audience was named where one is demanded.
    #[error("the passport is not for this audience")]
    BadAud,
    /// It has expired.
    #[error("the passport has expired")]
    Expired,
    /// It is not valid yet.
    #[error("the passport is not valid yet")]
    Nbf,
    /// The signature does not verify.
    #[error("the signature does not verify")]
    VerifyFailed,
    /// It was revoked.
    #[error("the passport was revoked")]
    Revoked,
    /// Its nonce was accepted before.
    #[error("the passport was accepted before")]
    Replayed,
    /// It was accepted as many times as it may be.
    #[error("the passport is used up")]
    LimitExceeded,
    /// It lacks a scope that is demanded.
    #[error("the passport lacks a scope")]
    ScopeDenied,
    /// Whoever presents it must be proven: that they hold its key, or who they are.
    #[error("whoever presents the passport must be proven: by their key, or by their uid")]
    PopRequired,
    /// The proof does not hold, or whoever presents it is not the user to whom it is bound.
    #[error("the proof of possession is not valid, or the passport is another user's")]
    PopInvalid,
    /// Only the daemon may accept it.
    #[error("only the daemon may accept this passport")]
    NeedsDaemon,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::BadAlg,
        Self::BadKid,
        Self::UnknownKid,
        Self::BadAud,
        Self::Expired,
        Self::Nbf,
        Self::VerifyFailed,
        Self::Revoked,
        Self::Replayed,
        Self::LimitExceeded,
        Self::ScopeDenied,
        Self::PopRequired,
        Self::PopInvalid,
        Self::NeedsDaemon,
    ];

    /// The code on the wire, in audit records and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadAlg => "bad_alg",
            Self::BadKid => "bad_kid",
            Self::UnknownKid => "unknown_kid",
            Self::BadAud => "bad_aud",
            Self::Expired => "expired",
            Self::Nbf => "nbf",
            Self::VerifyFailed => "verify_failed",
            Self::Revoked => "revoked",
            Self::Replayed => "replayed",
            Self::LimitExceeded => "limit_exceeded",
            Self::ScopeDenied => "scope_denied",
            Self::PopRequired => "pop_required",
            Self::PopInvalid => "pop_invalid",
            Self::NeedsDaemon => "needs_daemon",
        }
    }
}

/// What a verifier expects of a passport's claims.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    /// The issuer whose keys the verifier knows.
    pub issuer: &'a str,
    /// The time of the verdict.
    pub now: Moment,
    /// By how many seconds the issuer's clock may differ from the verifier's.
    pub skew_s: u32,
    /// The names that the verifier goes by; the passport must be for one of them.
    pub audiences: &'a [&'a str],
    /// Whether a passport must name its audience. Where not, one without audiences is for everybody.
    pub require_aud: bool,
    /// The scopes that the passport must have, all of them.
    pub scopes: &'a [&'a str],
}

/// Who presented a passport on this host, as the service that verifies it knows from the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presenter {
    /// It was not said.
    #[default]
    Unsaid,
    /// The process of this user.
    Uid(u32),
    /// A process of the overflow uid, which all strangers share; so it is the user of no passport.
    Nobody,
}

impl View<'_> {
    /// Whether it may be presented by this user: one that is bound to a user may not be by any other.
    ///
    /// # Errors
    /// [`Refusal::PopRequired`] if it was not said who it is, [`Refusal::PopInvalid`] if it is another.
    pub fn judge_presenter(&self, presenter: Presenter) -> Result<(), Refusal> {
        match (self.cnf_uid, presenter) {
            (None, _) => Ok(()),
            (Some(_), Presenter::Unsaid) => Err(Refusal::PopRequired),
            (Some(bound), Presenter::Uid(uid)) if bound == uid => Ok(()),
            (Some(_), Presenter::Uid(_) | Presenter::Nobody) => Err(Refusal::PopInvalid),
        }
    }

    /// Whether the claims are what the verifier expects. Says nothing about the signature, the key or revocation.
    ///
    /// A passport of another issuer is [`Refusal::UnknownKid`]: a kid names a key of one issuer.
    ///
    /// # Errors
    /// The first refusal in this order: issuer, expiry, start, audience, scopes.
    pub fn judge(&self, expect: &Expect<'_>) -> Result<(), Refusal> {
        if self.iss != *expect.issuer {
            return Err(Refusal::UnknownKid);
        }
        let skew = if self.par.is_some() { expect.skew_s.min(MAX_TICKET_SKEW_S) } else { expect.skew_s };
        self.judge_time(expect.now, i64::from(skew))?;
        self.judge_audience(expect)?;
        if expect.scopes.iter().all(|wanted| self.scopes.contains(wanted)) { Ok(()) } else { Err(Refusal::ScopeDenied) }
    }

    /// Whether `now` is inside `[max(iat, nbf) − skew, exp + skew)`. `exp` is exclusive (RFC 7519 §4.1.4), and the skew
    /// counts once at each end.
    fn judge_time(&self, now: Moment, skew: i64) -> Result<(), Refusal> {
        let start = self.nbf.map_or(self.iat, |nbf| nbf.max(self.iat));
        // A passport that was never valid does not become so by the skew.
        if self.exp <= start || now >= Moment::from_unix(self.exp).plus(skew) {
            return Err(Refusal::Expired);
        }
        if now < Moment::from_unix(start).plus(-skew) { Err(Refusal::Nbf) } else { Ok(()) }
    }

    /// Whether the passport is for the verifier. A verifier that goes by no name can't be meant by any audience
    /// (RFC 7519 §4.1.3).
    fn judge_audience(&self, expect: &Expect<'_>) -> Result<(), Refusal> {
        let for_everybody = self.aud.is_empty() && !expect.require_aud;
        if for_everybody || expect.audiences.iter().any(|name| self.aud.contains(name)) {
            Ok(())
        } else {
            Err(Refusal::BadAud)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{claims::tests as samples, scan::scan},
        *,
    };

    const NOW: i64 = 1_700_000_100;

    fn expect() -> Expect<'static> {
        Expect {
            issuer: "passportd.example",
            now: Moment::from_unix(NOW),
            skew_s: 0,
            audiences: &["demo"],
            require_aud: true,
            scopes: &[],
        }
    }

    fn judged(change: impl FnOnce(&mut super::super::Claims), expect: &Expect<'_>) -> Result<(), Refusal> {
        let mut claims = samples::plain();
        change(&mut claims);
        scan(&claims.canonical(4096).unwrap()).unwrap().judge(expect)
    }

    #[test]
    fn who_is_bound_is_presented_by_that_user_and_nobody_else() {
        let judged = |cnf_uid, presenter| {
            let claims = super::super::Claims { cnf_uid, ..samples::plain() };
            scan(&claims.canonical(4096).unwrap()).unwrap().judge_presenter(presenter)
        };
        for presenter in [Presenter::Unsaid, Presenter::Uid(0), Presenter::Uid(1000), Presenter::Nobody] {
            assert_eq!(judged(None, presenter), Ok(()), "{presenter:?}");
        }
        for bound in [0, 1000, 65_534] {
            assert_eq!(judged(Some(bound), Presenter::Uid(bound)), Ok(()));
            assert_eq!(judged(Some(bound), Presenter::Uid(bound + 1)), Err(Refusal::PopInvalid));
            assert_eq!(judged(Some(bound), Presenter::Unsaid), Err(Refusal::PopRequired));
            assert_eq!(judged(Some(bound), Presenter::Nobody), Err(Refusal::PopInvalid));
        }
    }

    #[test]
    fn expiry_is_exclusive_and_the_skew_counts_once() {
        let at = |now: Moment, skew_s| judged(|_| {}, &Expect { now, skew_s, ..expect() });
        let second = Moment::from_unix;
        let (iat, exp) = (1_700_000_000, 1_700_003_600);
        assert_eq!(at(second(exp - 1), 0), Ok(()));
        assert_eq!(at(second(exp), 0), Err(Refusal::Expired));
        assert_eq!(at(second(exp + 119), 120), Ok(()));
        assert_eq!(at(second(exp + 120), 120), Err(Refusal::Expired));
        assert_eq!(at(second(iat), 0), Ok(()));
        assert_eq!(at(second(iat - 1), 0), Err(Refusal::Nbf));
        assert_eq!(at(second(iat - 120), 120), Ok(()));
        assert_eq!(at(second(iat - 121), 120), Err(Refusal::Nbf));
    }

    /// A minute is the whole life of a ticket: two of skew would be three lives.
    #[test]
    fn the_skew_of_a_ticket_is_2_s_at_most() {
        let par = || samples::full().par;
        let at = |now, skew_s| {
            let expect = Expect { now: Moment::from_unix(now), skew_s, ..expect() };
            judged(|claims| claims.par = par(), &expect)
        };
        let (iat, exp) = (1_700_000_000, 1_700_003_600);
        for (skew, counts) in [(0, 0), (1, 1), (2, 2), (3, 2), (120, 2)] {
            assert_eq!(at(exp + counts - 1, skew), Ok(()), "{skew}");
            assert_eq!(at(exp + counts, skew), Err(Refusal::Expired), "{skew}");
            assert_eq!(at(iat - counts, skew), Ok(()), "{skew}");
            assert_eq!(at(iat - counts - 1, skew), Err(Refusal::Nbf), "{skew}");
        }
    }

    #[test]
    fn not_before_and_issued_at_both_count() {
        let nbf = |nbf| judged(|claims| claims.nbf = Some(nbf), &expect());
        assert_eq!(nbf(NOW), Ok(()));
        assert_eq!(nbf(NOW + 1), Err(Refusal::Nbf));
        let future = judged(|claims| (claims.iat, claims.nbf) = (NOW + 1, Some(NOW - 50)), &expect());
        assert_eq!(future, Err(Refusal::Nbf));
    }

    #[test]
    fn an_empty_lifetime_is_never_valid() {
        let text = String::from_utf8(samples::plain().canonical(4096).unwrap()).unwrap();
        let bytes = text.replace("1700003600", "1700000000");
        let view = scan(bytes.as_bytes()).unwrap();
        let expect = Expect { now: Moment::from_unix(1_700_000_000), skew_s: 120, ..expect() };
        assert_eq!(view.judge(&expect), Err(Refusal::Expired));
    }

    #[test]
    fn the_largest_times_do_not_wrap() {
        let far = |claims: &mut super::super::Claims| claims.exp = (1 << 53) - 1;
        assert_eq!(judged(far, &Expect { skew_s: u32::MAX, ..expect() }), Ok(()));
        assert_eq!(judged(far, &Expect { now: Moment::from_unix(0), skew_s: u32::MAX, ..expect() }), Ok(()));
    }

    #[test]
    fn audiences_by_table() {
        for (aud, names, required, verdict) in [
            (&["demo", "api"][..], &["api"][..], true, Ok(())),
            (&["demo"], &["api"], true, Err(Refusal::BadAud)),
            (&["demo"], &["api", "demo"], true, Ok(())),
            (&["demo"], &[], true, Err(Refusal::BadAud)),
            (&[], &["demo"], true, Err(Refusal::BadAud)),
            (&[], &[], true, Err(Refusal::BadAud)),
            (&["demo"], &["demo"], false, Ok(())),
            (&["demo"], &["api"], false, Err(Refusal::BadAud)),
            (&["demo"], &[], false, Err(Refusal::BadAud)),
            (&[], &["demo"], false, Ok(())),
            (&[], &[], false, Ok(())),
        ] {
            let expect = Expect { audiences: names, require_aud: required, ..expect() };
            let verdict_given = judged(|claims| claims.aud = aud.iter().map(ToString::to_string).collect(), &expect);
            assert_eq!(verdict_given, verdict, "{aud:?} {names:?} {required}");
        }
    }

    #[test]
    fn issuer_and_every_scope_must_match() {
        assert_eq!(judged(|_| {}, &Expect { issuer: "other", ..expect() }), Err(Refusal::UnknownKid));
        assert_eq!(judged(|_| {}, &Expect { scopes: &["write", "read"], ..expect() }), Ok(()));
        assert_eq!(judged(|_| {}, &Expect { scopes: &["read", "admin"], ..expect() }), Err(Refusal::ScopeDenied));
    }

    #[test]
    fn codes_are_distinct_and_snake_case() {
        let codes: std::collections::BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.code()).collect();
        assert_eq!(codes.len(), Refusal::ALL.len());
        assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    }
}
