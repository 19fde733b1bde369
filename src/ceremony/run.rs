//! Carrying out a plan. Nothing is believed but this process's own files: who asks, how often they approved and what the daemon
//! thinks of it are theirs to say, and ours to check before the HSM is touched.

use std::path::Path;

use super::journal::{Journal, Run};
use super::keys::Bench;
use super::{Access, CeremonyError, CeremonyPlan, backup, lock, standing, with_token};
use crate::clock::Moment;
use crate::hsm::label::label;
use crate::passport::hex;
use crate::secret::Pin;
use crate::statement::approval::{Approval, Refusal, Rule, admit};
use crate::statement::plan::{Opened, Plan, Step};
use crate::statement::transcript::StepDone;
use crate::wire::ceremony::{Report, Request};

/// The plan under way, and where that is written down.
pub(super) struct Going<'a> {
    dir: &'a Path,
    journal: Journal,
    hash: String,
}

impl Going<'_> {
    pub(super) fn run(&mut self) -> Result<&mut Run, CeremonyError> {
        let found = self.journal.runs.iter_mut().find(|run| run.hash == self.hash);
        found.ok_or_else(|| CeremonyError::Request("the plan is not under way".to_owned()))
    }

    pub(super) fn write(&self) -> Result<(), CeremonyError> {
        self.journal.write(self.dir)
    }
}

/// The plan of a request.
pub(super) fn opened(request: &Request) -> Result<Opened, CeremonyError> {
    let text = request.document.as_deref();
    Ok(Plan::open(text.ok_or_else(|| CeremonyError::Request("the plan is missing".to_owned()))?)?)
}

/// Carries it out, or goes on with it.
pub(super) fn run(
    plan: &CeremonyPlan,
    request: &Request,
    pin: Option<&Pin>,
    uid: u32,
) -> Result<Report, CeremonyError> {
    let opened = opened(request)?;
    let approvals: Vec<_> = request.approvals.iter().map(|text| Approval::parse(text)).collect::<Result<_, _>>()?;
    check_names(&opened.plan)?;
    let dir = plan.module.state_dir.as_path();
    let _held = lock(dir)?;
    let (now, hash) = (Moment::now().unix(), hex::encode(&opened.hash));
    let mut going = Going { dir, journal: Journal::read(dir)?, hash };
    if going.journal.is_spent(&going.hash, &opened.plan.id) {
        return Err(CeremonyError::Spent);
    }
    let rule = standing::rule(dir)?;
    if going.journal.position(&going.hash).is_some() {
        goes_on(&opened, rule.as_ref(), now)?;
    } else {
        let issuer = plan.bounds.as_ref().map(|bounds| bounds.issuer.as_str());
        let counted = admit(&opened, issuer, rule.as_ref(), &approvals, uid, now)?;
        going.journal.begin(Run::new(&opened, rule, counted, uid, now), now)?;
    }
    if going.run()?.finished.is_some() {
        // Its answer was lost. Nothing is left to do with keys.
        return Ok(Report { steps: steps(going.run()?), ..Report::default() });
    }
    let copy = backup::take(&plan.module)?;
    let access = Access { writing: true, dry_run: false, final_try: request.final_try };
    let mut report = with_token(&plan.module, pin, &access, |bench| carry_out(bench, &mut going, &opened, plan))?;
    report.backup = copy.map(|path| path.display().to_string());
    report.steps = steps(going.run()?);
    Ok(report)
}

fn steps(run: &Run) -> Vec<StepDone> {
    run.steps.iter().filter_map(|step| step.done.clone()).collect()
}

/// A plan that was begun was admitted under the rule of that time. It goes on while it has not expired and nobody has fixed
/// another rule since, but for itself.
fn goes_on(opened: &Opened, rule: Option<&Rule>, now: i64) -> Result<(), Refusal> {
    if now > opened.plan.expires {
        return Err(Refusal::Expired);
    }
    let own = opened.plan.steps.iter().any(|step| matches!(step, Step::Approvers { rule: new } if Some(new) == rule));
    let same = rule.map(Rule::hash).transpose()? == opened.plan.rule;
    if same || own { Ok(()) } else { Err(Refusal::Rule) }
}

/// Names that can't be in a kid are found before anything is done.
fn check_names(plan: &Plan) -> Result<(), CeremonyError> {
    for step in &plan.steps {
        if let Step::Init { tenant, purpose } = step {
            label(crate::wire::link::KeyRole::Passport, tenant, purpose, 1)?;
        } else if let Step::Rotate { tenant, purpose } | Step::Adopt { tenant, purpose, .. } = step {
            label(super::role_of(purpose), tenant, purpose, 1)?;
        }
    }
    Ok(())
}

fn carry_out(
    bench: &mut Bench<'_>,
    going: &mut Going<'_>,
    opened: &Opened,
    plan: &CeremonyPlan,
) -> Result<(), CeremonyError> {
    let device = bench.device.clone();
    let audit_kid = bench.audit_key(opened.plan.steps.first());
    let run = going.run()?;
    // A token that was swapped for another between two steps is another ceremony's.
    if run.device.as_ref().is_some_and(|before| before.serial != device.serial) {
        return Err(CeremonyError::Request("this is another token than the plan was begun in".to_owned()));
    }
    run.device.get_or_insert(device);
    run.audit_kid = run.audit_kid.take().or(audit_kid);
    // The commit point: the plan is under way, and its approvals are used up.
    going.write()?;
    for (at, step) in opened.plan.steps.iter().enumerate() {
        if going.run()?.steps.get(at).is_some_and(|step| step.done.is_some()) {
            continue;
        }
        bench.step(going, at, step, opened, plan).map_err(|error| match error {
            CeremonyError::Request(why) => CeremonyError::Step { step: at + 1, why },
            other => other,
        })?;
    }
    going.run()?.finished = Some(Moment::now().unix());
    going.write()
}
