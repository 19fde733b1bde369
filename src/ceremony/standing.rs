//! What the signer's own files say: who approves (`approvers.json`), which keys there are, what is under way.

use std::path::Path;

use super::journal::Journal;
use super::{CeremonyError, CeremonyPlan};
use crate::hsm::pin_note::make_own_dir;
use crate::hsm::pins::{self, Pins};
use crate::hsm::{HsmError, marks};
use crate::statement::approval::Rule;
use crate::statement::origin;
use crate::wire::ceremony::{PlanKind, Report, Standing, StandingKey};

/// Who approves. Only a ceremony writes it, in a directory where nobody but the signer's user can.
const FILE: &str = "approvers.json";
/// The largest that is read, in bytes: 32 approvers take 8 KiB.
const MAX_FILE: u64 = 64 << 10;

/// The rule; none if nobody was ever named.
pub(super) fn rule(state_dir: &Path) -> Result<Option<Rule>, CeremonyError> {
    let path = state_dir.join(FILE);
    let Some(text) = pins::read_own(&path, MAX_FILE)? else { return Ok(None) };
    // A rule that can't be read is no rule that can be left out.
    Ok(Some(Rule::parse(&text).map_err(|error| HsmError::Pins(path, error.to_string()))?))
}

/// Fixes it: durable when this returns.
pub(super) fn set_rule(state_dir: &Path, rule: &Rule) -> Result<(), CeremonyError> {
    let path = state_dir.join(FILE);
    let text = rule.text().map_err(|error| HsmError::Pins(path.clone(), error.to_string()))?;
    Ok(pins::replace(&path, format!("{text}\n").as_bytes())?)
}

/// One admin alone may do it, unless there is a rule.
pub(super) fn nobody_is_asked(state_dir: &Path, kind: PlanKind) -> Result<(), CeremonyError> {
    let plan = match kind {
        PlanKind::Init => "init",
        PlanKind::Generate => "rotate",
        PlanKind::Adopt => "adopt --out FILE",
        PlanKind::RetireSeal => "retire-seal",
        PlanKind::List
        | PlanKind::Doctor
        | PlanKind::RetryPin
        | PlanKind::Standing
        | PlanKind::Run
        | PlanKind::Seal => {
            return Ok(());
        }
    };
    match rule(state_dir)? {
        Some(rule) => Err(CeremonyError::NeedsApproval { rule: rule.to_string(), plan }),
        None => Ok(()),
    }
}

/// All of it, for whoever plans.
pub(super) fn report(plan: &CeremonyPlan) -> Result<Report, CeremonyError> {
    let dir = &plan.module.state_dir;
    let keys = Pins::read(dir)?.keys.into_iter().map(|key| StandingKey {
        out_of_service: key.out_of_service().map(str::to_owned),
        kid: key.kid,
        created: key.created,
        public: key.public,
    });
    let origin = plan.bounds.as_ref().map(|bounds| origin(&bounds.issuer));
    let signed = |origin: &String| marks::records(&make_own_dir(dir)?, origin);
    let standing = Standing {
        ledger: origin.as_ref().map(signed).transpose()?.flatten(),
        issuer: plan.bounds.as_ref().map(|bounds| bounds.issuer.clone()).unwrap_or_default(),
        rule: rule(dir)?,
        keys: keys.collect(),
        under_way: Journal::read(dir)?.runs.into_iter().map(|run| run.id).collect(),
    };
    Ok(Report { standing: Some(Box::new(standing)), ..Report::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::approval::Approver;

    #[test]
    fn with_approvers_one_admin_is_sent_to_the_plan_that_does_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let single = [PlanKind::Init, PlanKind::Generate, PlanKind::Adopt, PlanKind::RetireSeal];
        assert!(single.iter().all(|kind| nobody_is_asked(dir.path(), *kind).is_ok()));
        let ann = Approver { name: "Ann".to_owned(), public: None, uid: Some(7) };
        let wanted = Rule::new(1, vec![ann]).unwrap();
        set_rule(dir.path(), &wanted).unwrap();
        assert_eq!(rule(dir.path()).unwrap(), Some(wanted));
        for (kind, word) in single.iter().zip(["plan init", "plan rotate", "plan adopt --out", "plan retire-seal"]) {
            let refused = nobody_is_asked(dir.path(), *kind).unwrap_err().to_string();
            assert!(refused.contains(word) && refused.contains("Ann"), "{refused}");
        }
        assert!(nobody_is_asked(dir.path(), PlanKind::List).is_ok());
    }

    #[test]
    fn a_rule_that_is_spoilt_or_too_long_is_no_leave_to_go_on_alone() {
        let dir = tempfile::tempdir().unwrap();
        let ann = Approver { name: "Ann".to_owned(), public: None, uid: Some(7) };
        let text = Rule::new(1, vec![ann]).unwrap().text().unwrap();
        for bad in [text.replace("\"threshold\":1", "\"threshold\":0"), String::new(), " ".repeat((64 << 10) + 1)] {
            pins::replace(&dir.path().join(FILE), bad.as_bytes()).unwrap();
            assert!(matches!(nobody_is_asked(dir.path(), PlanKind::Init), Err(CeremonyError::Hsm(_))), "{bad}");
        }
        let padded = format!("{text}{}", " ".repeat((64 << 10) - text.len()));
        pins::replace(&dir.path().join(FILE), padded.as_bytes()).unwrap();
        assert!(rule(dir.path()).unwrap().is_some());
    }
}
