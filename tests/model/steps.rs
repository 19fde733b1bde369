//! How each step is asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use passportd::client::{IssueRequest, Want};
use passportd::passport::OwnedPassport;
use passportd::state::look;
use passportd::wire::ceremony::PlanKind;
use passportd::wire::{
    AdminOp, Exchanged, Passport, PassportForm, Revocation, ServiceOk, ServiceOp, TicketSpec, Verdict,
};
use serde_json::Value;

use super::drive::{Failure, Hand};
use super::events::{Came, Change, Got, How, Look, Pass, Said, Span, Tick, What, harmless};
use super::plan::{Step, Takes, Wish};
use crate::support::eventually;
use crate::support::raw::Raw;

/// Often enough for a front that has just been started, or a key that has just been lost.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn subject(sub: u32) -> String {
    format!("subject-{sub}")
}

fn kid(version: u32) -> String {
    format!("ed25519/t1/auth/v{version}")
}

fn want(scopes: &[&str]) -> Want {
    Want {
        aud: Some("demo".to_owned()),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        peer_uid: None,
    }
}

/// The retry key of a step.
fn key(step: usize) -> [u8; 16] {
    (u128::try_from(step).unwrap() + (0x6b65_7921 << 64)).to_be_bytes()
}

impl Hand<'_> {
    pub(super) async fn step(&self, at: usize, step: &Step) {
        let reason = "the model";
        match step {
            Step::Issue(wish) => self.issue(at, *wish).await,
            Step::Verify { of } => drop(self.take(at, *of, None).await),
            Step::Introspect { of } => self.peek(at, *of).await,
            Step::Forge { of } => self.bent(at, *of).await,
            Step::Elsewhere { of } => self.elsewhere(at, *of).await,
            Step::Batch { of } => self.batch(at, of).await,
            Step::Exchange { of } => self.exchange(at, *of).await,
            Step::With { of } => self.with(at, *of, at).await,
            Step::Again { step } => {
                let Step::With { of } = self.run.plan[*step] else { panic!("step {step} has no key") };
                self.with(at, of, *step).await;
            }
            Step::Cross { step, of } => self.with(at, *of, *step).await,
            Step::Revoke { of, by_admin: true } => self.revoke_id(at, *of).await,
            Step::Revoke { of, by_admin: false } => self.revoke(at, *of).await,
            Step::RevokeSubject { sub } => {
                let name = subject(*sub);
                let what = vec![Revocation::Subject { sub: &name, before: None }];
                self.changed(at, Change::Subject(*sub), AdminOp::Revoke { tenant: "t1", what, reason }).await;
            }
            Step::BumpEpoch => {
                self.changed(at, Change::Epoch(None), AdminOp::BumpEpoch { tenant: "t1", reason }).await;
            }
            Step::Rotate => self.rotate(at).await,
            Step::Compromise { back } => {
                let version = self.run.newest.load(Ordering::SeqCst).saturating_sub(*back).max(1);
                let kid = kid(version);
                self.changed(at, Change::Compromise(version), AdminOp::Compromise { kid: &kid, reason }).await;
            }
            Step::Pause => drop(self.changed(at, Change::Pause, AdminOp::PauseIssue { reason }).await),
            Step::Resume => {
                // One that stays paused would have nothing left to look at.
                for _ in 0..TRIES {
                    if let Came::Done { .. } = self.changed(at, Change::Resume, AdminOp::ResumeIssue).await {
                        break;
                    }
                }
            }
            Step::Kill => self.kill(at),
        }
    }

    async fn issue(&self, at: usize, wish: Wish) {
        let (template, limit, nonce) = match wish.takes {
            Takes::Nothing => ("demo", None, None),
            Takes::Uses(limit) => ("few", Some(limit), None),
            Takes::Nonce(nonce) => ("once", None, Some(format!("nonce-{nonce}"))),
        };
        let request = IssueRequest {
            template: template.to_owned(),
            sub: subject(wish.sub),
            ttl_s: wish.short.then_some(2),
            limit,
            nonce,
            form: if wish.jws { PassportForm::Jws } else { PassportForm::Envelope },
            ..IssueRequest::default()
        };
        for tried in 1..=TRIES {
            let (span, answer) = self.asked(async || self.client.issue(&request).await).await;
            match answer {
                Ok(passport) => {
                    let pass = pass(&passport, wish);
                    self.run.note(at, span, What::Issue(Got::Passport(pass)));
                    return self.run.put(at, Some(Arc::new(passport)));
                }
                Err(Failure::Problem(code)) => {
                    self.run.note(at, span, What::Issue(Got::Problem(code)));
                    if !code.retryable() || tried == TRIES {
                        break;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(Failure::Lost | Failure::Late) => {
                    self.run.note(at, span, What::Issue(Got::Lost));
                    break;
                }
            }
        }
        self.run.put(at, None);
    }

    fn looked(&self, at: usize, passport: usize, how: How, key: Option<usize>, (span, said): (Span, Said)) {
        self.run.note(at, span, What::Look(Look { passport, how, key, said }));
    }

    async fn take(&self, at: usize, of: usize, retry: Option<usize>) -> Option<Said> {
        let passport = self.run.passport(of)?;
        let (span, answer) = match retry {
            None => self.asked(async || self.client.verify(&*passport, &want(&[])).await).await,
            Some(step) => {
                self.asked(async || self.client.verify_with(&*passport, &want(&[]), Some(key(step)), None).await).await
            }
        };
        let said = answer.map_or_else(failed, |verdict| said(&verdict));
        self.looked(at, of, How::Take, retry, (span, said));
        Some(said)
    }

    /// As a client does that may have lost the answer: the same once more.
    async fn with(&self, at: usize, of: usize, key: usize) {
        for _ in 0..3 {
            match self.take(at, of, Some(key)).await {
                Some(Said::Lost) => {}
                Some(Said::Problem(code)) if !harmless(code) => {}
                _ => return,
            }
        }
    }

    /// As a client does that may have lost the answer: the same once more, under its key.
    async fn exchange(&self, at: usize, of: usize) {
        let mut got = None;
        if let Some(passport) = self.run.passport(of) {
            for _ in 0..3 {
                let spec = TicketSpec { aud: "demo", ..TicketSpec::default() };
                let ask = async || {
                    let passport = Passport::from(&*passport);
                    let (spec, retry, proof) = (spec.clone(), Some(key(at)), None);
                    self.client.ask([0; 16], ServiceOp::Exchange { passport, spec, retry, proof }).await
                };
                let (span, answer) = self.asked(ask).await;
                let (said, made) = match answer {
                    Ok(ServiceOk::Exchanged(Exchanged::Ticket(it))) => {
                        let said = match (it.left, it.repeated) {
                            (left, true) => Said::Again { left },
                            (left, false) => Said::Taken { left },
                        };
                        (said, Some(OwnedPassport::from(it.ticket)))
                    }
                    Ok(ServiceOk::Exchanged(Exchanged::Refused(code))) => (Said::Refused(code), None),
                    Ok(other) => panic!("{other:?}"),
                    Err(failure) => (failed(failure), None),
                };
                let free = !takes(&passport) && matches!(said, Said::Taken { .. });
                let said = if free { Said::Free } else { said };
                self.looked(at, of, How::Exchange, Some(at), (span, said));
                if let Some(made) = made {
                    self.run.note(at, span, What::Issue(Got::Passport(ticket(&made, of))));
                    got = Some(Arc::new(made));
                }
                match said {
                    Said::Lost => {}
                    Said::Problem(code) if !How::Exchange.took_nothing(code) => {}
                    _ => break,
                }
            }
        }
        self.run.put(at, got);
    }

    async fn peek(&self, at: usize, of: usize) {
        let Some(passport) = self.run.passport(of) else { return };
        let (span, answer) = self.asked(async || self.client.introspect(&*passport, &want(&[])).await).await;
        let said = answer.map_or_else(failed, |it| match it.reason {
            None if it.active => Said::Free,
            Some(code) if !it.active => Said::Refused(code),
            _ => panic!("{it:?}"),
        });
        self.looked(at, of, How::Peek, None, (span, said));
    }

    async fn bent(&self, at: usize, of: usize) {
        let Some(passport) = self.run.passport(of) else { return };
        let bent = bent(&passport);
        let (span, answer) = self.asked(async || self.client.verify(&bent, &want(&[])).await).await;
        let said = answer.map_or_else(failed, |verdict| said(&verdict));
        self.looked(at, of, How::Forged, None, (span, said));
    }

    async fn elsewhere(&self, at: usize, of: usize) {
        let Some(passport) = self.run.passport(of) else { return };
        let (span, answer) = self.asked(async || self.client.verify(&*passport, &want(&["write"])).await).await;
        let said = answer.map_or_else(failed, |verdict| said(&verdict));
        self.looked(at, of, How::Elsewhere, None, (span, said));
    }

    async fn batch(&self, at: usize, of: &[usize]) {
        let there: Vec<_> = of.iter().filter_map(|of| Some((*of, self.run.passport(*of)?))).collect();
        let passports: Vec<OwnedPassport> = there.iter().map(|(_, one)| (**one).clone()).collect();
        let (span, answer) = self.asked(async || self.client.verify_batch(&passports, &want(&[])).await).await;
        let all = match answer {
            Ok(verdicts) => verdicts.iter().map(said).collect(),
            Err(failure) => vec![failed(failure); there.len()],
        };
        assert_eq!(all.len(), there.len());
        for ((of, _), said) in there.iter().zip(all) {
            self.looked(at, *of, How::Take, None, (span, said));
        }
    }

    async fn revoke(&self, at: usize, of: usize) {
        let Some(passport) = self.run.passport(of) else { return };
        let (mut span, answer) = self.asked(async || self.client.revoke(&*passport).await).await;
        let came = match answer {
            Ok(new) => Came::Done { new: Some(new) },
            Err(Failure::Problem(code)) if harmless(code) => Came::Nothing,
            Err(Failure::Problem(_)) => {
                span.ended = Tick::MAX;
                Came::Maybe
            }
            Err(Failure::Lost | Failure::Late) => Came::Maybe,
        };
        self.run.note(at, span, What::Change { change: Change::Passport(of), came });
    }

    async fn revoke_id(&self, at: usize, of: usize) {
        let Some(passport) = self.run.passport(of) else { return };
        let claims = claims(&passport);
        let what = vec![Revocation::Id { jti: claims["jti"].as_str().unwrap(), exp: claims["exp"].as_i64() }];
        self.changed(at, Change::Passport(of), AdminOp::Revoke { tenant: "t1", what, reason: "the model" }).await;
    }

    /// Makes the next key, and has it sign.
    async fn rotate(&self, at: usize) {
        let _one_at_a_time = self.run.rotation.lock().await;
        let report = self.run.house.read().unwrap().ceremony(PlanKind::Generate, "t1", "auth");
        let made: Vec<_> = report.keys.iter().filter(|key| key.made_now).map(|key| key.kid.clone()).collect();
        let version = self.run.newest.load(Ordering::SeqCst) + 1;
        assert_eq!(made, [kid(version)]);
        for op in [AdminOp::Stage { kid: &made[0] }, AdminOp::Activate { kid: &made[0] }] {
            let begun = self.run.tick();
            let since = std::time::Instant::now();
            while let Err(failure) = self.asked(async || self.admin.ask(op.clone()).await).await.1 {
                assert!(since.elapsed() < PATIENCE, "{op:?}: {failure:?}");
                let again = match failure {
                    Failure::Problem(code) => code.retryable(),
                    Failure::Lost | Failure::Late => true,
                };
                assert!(again, "{op:?}: {failure:?}");
                tokio::time::sleep(PAUSE).await;
            }
            if matches!(op, AdminOp::Activate { .. }) {
                let span = self.run.span_since(begun);
                let came = Came::Done { new: None };
                self.run.note(at, span, What::Change { change: Change::Activate(version), came });
            }
        }
        self.run.newest.store(version, Ordering::SeqCst);
    }

    fn kill(&self, at: usize) {
        let mut house = self.run.house.write().unwrap();
        let begun = self.run.tick();
        house.kill("front");
        let generation = look(&house.dir().join("front/state.redb")).unwrap().generation;
        house.start_role("front");
        let socket = house.socket();
        eventually("somebody is there again", PATIENCE, || Raw::connect(&socket).ok()?.greet().ok());
        self.run.note(at, self.run.span_since(begun), What::Kill { generation });
    }
}

fn failed(failure: Failure) -> Said {
    match failure {
        Failure::Problem(code) => Said::Problem(code),
        Failure::Lost | Failure::Late => Said::Lost,
    }
}

fn said(verdict: &Verdict) -> Said {
    match verdict {
        Verdict::Accepted(_) => Said::Free,
        Verdict::Consumed(it) if it.repeated => Said::Again { left: it.left },
        Verdict::Consumed(it) => Said::Taken { left: it.left },
        Verdict::Refused(code) => Said::Refused(*code),
        Verdict::Unproven { why } => panic!("{why}"),
    }
}

/// Whether accepting it takes something.
fn takes(passport: &OwnedPassport) -> bool {
    let claims = claims(passport);
    claims["cap"].get("limit").is_some() || claims.get("nonce").is_some()
}

fn claims(passport: &OwnedPassport) -> Value {
    serde_json::from_slice(&passport.payload()).unwrap()
}

/// What a passport says, which must be what was wished for.
fn pass(passport: &OwnedPassport, wish: Wish) -> Pass {
    let claims = claims(passport);
    let text = |name: &str| claims[name].as_str().unwrap().to_owned();
    assert_eq!(matches!(passport, OwnedPassport::Jws(_)), wish.jws);
    assert_eq!(text("sub"), subject(wish.sub));
    let (limit, nonce) = match wish.takes {
        Takes::Nothing => (None, None),
        Takes::Uses(limit) => (Some(u64::from(limit)), None),
        Takes::Nonce(nonce) => (None, Some(nonce)),
    };
    assert_eq!(
        (claims["cap"]["limit"].as_u64(), claims["nonce"].as_str()),
        (limit, nonce.map(|it| format!("nonce-{it}")).as_deref())
    );
    let version = text("kid").rsplit_once("/v").unwrap().1.parse().unwrap();
    let (epoch, exp) = (claims["epoch"].as_u64().unwrap(), claims["exp"].as_i64().unwrap());
    Pass { jti: text("jti"), sub: wish.sub, kid: version, epoch, exp, limit, nonce, parent: None }
}

/// What a ticket says, which was made from the passport of a step.
fn ticket(passport: &OwnedPassport, of: usize) -> Pass {
    let claims = claims(passport);
    let text = |name: &str| claims[name].as_str().unwrap().to_owned();
    let number = |text: &str| text.rsplit_once(['v', '-']).unwrap().1.parse().unwrap();
    assert_eq!(claims.get("nonce"), None);
    Pass {
        jti: text("jti"),
        sub: number(&text("sub")),
        kid: number(&text("kid")),
        epoch: claims["epoch"].as_u64().unwrap(),
        exp: claims["exp"].as_i64().unwrap(),
        limit: claims["cap"]["limit"].as_u64(),
        nonce: None,
        parent: Some(of),
    }
}

/// The same with another signature.
fn bent(passport: &OwnedPassport) -> OwnedPassport {
    let mut bent = passport.clone();
    match &mut bent {
        OwnedPassport::Envelope(envelope) => envelope.sig[7] ^= 0x10,
        OwnedPassport::Jws(text) => {
            let at = text.len() - 40;
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            text.replace_range(at..=at, other);
        }
    }
    bent
}
