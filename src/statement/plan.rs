//! Plans: what a ceremony is to do, as one document that is approved and carried out byte for byte.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::approval::{Rule, RuleError};
use crate::passport::hex;

/// The bytes before a plan where its hash is taken.
pub const PLAN_PREFIX: &[u8] = b"passportd/plan/v1\0";
/// The bytes before what a new key signs to show that it is there.
pub const CHALLENGE_PREFIX: &[u8] = b"passportd/challenge/v1\0";
/// The longest plan, in bytes.
pub const MAX_PLAN: usize = 64 << 10;
/// The most steps of a plan.
pub const MAX_STEPS: usize = 64;
/// The most keys that one step takes over from a lost HSM.
pub const MAX_RESTORED: usize = 128;
/// The longest life of a plan, in seconds.
pub const MAX_LIFE_S: i64 = 30 * 86_400;
/// The life of a plan that says nothing of it, in seconds.
pub const DEFAULT_LIFE_S: i64 = 86_400;
/// How far the clocks of planner and signer may differ, in seconds.
pub const SKEW_S: i64 = 300;
/// The longest text in a plan: a kid is shorter, a name and an issuer ought to be.
const LONGEST_TEXT: usize = 512;
/// The one version there is.
const VERSION: u32 = 1;

/// What is to be done, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    v: u32,
    /// 32 random hex digits: a plan is carried out once.
    pub id: String,
    /// The issuer of the instance that it is for.
    pub issuer: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// The last second in which it may be carried out.
    pub expires: i64,
    /// Who made it, as their tool says: it counts for nothing.
    pub planner: Planner,
    /// The hash of the rule under which it is to be approved; none where nobody has to.
    pub rule: Option<String>,
    /// In this order.
    pub steps: Vec<Step>,
}

/// Who made a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planner {
    /// Their user id.
    pub uid: u32,
    /// Their user name.
    pub name: String,
    /// The host.
    pub host: String,
}

/// A key that was in an HSM that is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LostKey {
    /// Its kid.
    pub kid: String,
    /// Its public key, in hex; a seal key has none.
    pub public: Option<String>,
}

impl LostKey {
    fn is_odd(&self) -> bool {
        self.public.as_deref().is_some_and(|public| hex::decode_exactly::<32>(public).is_none())
    }
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Step {
    /// Makes what a tenant lacks of: a passport key, an audit key, a seal key.
    Init {
        /// The tenant.
        tenant: String,
        /// The purpose of its passports.
        purpose: String,
    },
    /// Makes the next version of a key.
    Rotate {
        /// The tenant.
        tenant: String,
        /// The purpose; `audit` and `seal` mean those keys.
        purpose: String,
    },
    /// Takes over a key that another program made.
    Adopt {
        /// The tenant.
        tenant: String,
        /// The purpose.
        purpose: String,
        /// `CKA_ID`, in hex.
        cka_id: String,
    },
    /// Takes a seal key out of service.
    RetireSeal {
        /// The key.
        kid: String,
    },
    /// Deletes a key from the HSM.
    Destroy {
        /// The key.
        kid: String,
        /// The last second in which something may still have to verify with it.
        verifies_until: i64,
        /// Copies of the store that hold it go, too.
        purge_backups: bool,
    },
    /// The key is somebody else's too: nothing is signed with it any more.
    Compromise {
        /// The key.
        kid: String,
    },
    /// Fixes who approves from now on.
    Approvers {
        /// The new rule.
        rule: Rule,
    },
    /// Remembers the keys of an HSM that is lost: they verify, sign nothing, and their versions are never given again.
    Restore {
        /// They.
        keys: Vec<LostKey>,
    },
    /// Gives the ledger up that the signer has signed last: the next checkpoint may be of one that was restored or begun anew.
    NewLedger {
        /// Of how many records the last checkpoint is.
        records: u64,
    },
}

impl Step {
    /// What it does, for whoever approves it or watches it.
    pub fn words(&self) -> String {
        match self {
            Self::Init { tenant, purpose } => {
                format!("make what tenant {tenant} lacks of: a passport key for {purpose}, an audit key, a seal key")
            }
            Self::Rotate { tenant, purpose } => format!("make the next {purpose} key of tenant {tenant}"),
            Self::Adopt { tenant, purpose, cka_id } => {
                format!("take over the key with CKA_ID {cka_id} as the next {purpose} key of tenant {tenant}")
            }
            Self::RetireSeal { kid } => format!("take {kid} out of service: what it sealed can no longer be opened"),
            Self::Destroy { kid, purge_backups, .. } => {
                let copies = if *purge_backups {
                    "and the copies of the store that hold it"
                } else {
                    "(copies of the store keep it)"
                };
                format!("DESTROY {kid} {copies}")
            }
            Self::Compromise { kid } => format!("take {kid} for compromised: it signs nothing any more, for ever"),
            Self::Approvers { rule } => format!("have plans approved by {rule} from now on"),
            Self::Restore { keys } => format!("remember {} public keys of an HSM that is lost", keys.len()),
            Self::NewLedger { records } => {
                format!(
                    "give up the ledger of {records} records: checkpoints go on with one that may have another history"
                )
            }
        }
    }

    /// What has to be typed before it, since it can't be undone.
    pub fn asks_for(&self) -> Option<String> {
        match self {
            Self::RetireSeal { kid } | Self::Destroy { kid, .. } | Self::Compromise { kid } => Some(kid.clone()),
            Self::NewLedger { records } => Some(records.to_string()),
            Self::Init { .. }
            | Self::Rotate { .. }
            | Self::Adopt { .. }
            | Self::Approvers { .. }
            | Self::Restore { .. } => None,
        }
    }

    fn texts(&self) -> Vec<&str> {
        match self {
            Self::Init { tenant, purpose } | Self::Rotate { tenant, purpose } => vec![tenant, purpose],
            Self::Adopt { tenant, purpose, cka_id } => vec![tenant, purpose, cka_id],
            Self::RetireSeal { kid } | Self::Destroy { kid, .. } | Self::Compromise { kid } => vec![kid],
            Self::Approvers { .. } | Self::NewLedger { .. } => Vec::new(),
            Self::Restore { keys } => keys.iter().map(|key| key.kid.as_str()).collect(),
        }
    }
}

/// Why a text is no plan. Its writer is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It is no JSON of that form.
    #[error("not a plan: {0}")]
    Form(String),
    /// Another text would mean the same, so its hash means nothing.
    #[error("not a plan: it is not in canonical form (RFC 8785), so it was changed after it was made")]
    NotCanonical,
    /// A rule in it is none.
    #[error("not a plan: {0}")]
    Rule(#[from] RuleError),
}

/// A plan, and the bytes that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What it says.
    pub plan: Plan,
    /// What was read: its canonical form.
    pub text: String,
    /// What is approved.
    pub hash: [u8; 32],
}

impl Plan {
    /// A plan of these steps.
    pub fn new(id: &[u8; 16], issuer: String, planner: Planner, rule: Option<String>, steps: Vec<Step>) -> Self {
        Self { v: VERSION, id: hex::encode(id), issuer, created: 0, expires: DEFAULT_LIFE_S, planner, rule, steps }
    }

    /// The same, made now and good for so many seconds.
    #[must_use]
    pub const fn made(mut self, now: i64, life_s: i64) -> Self {
        self.created = now;
        self.expires = now.saturating_add(life_s);
        self
    }

    /// Its text, and its hash.
    ///
    /// # Errors
    /// [`PlanError`]: it is one that nobody would carry out.
    pub fn close(self) -> Result<Opened, PlanError> {
        let text = canonical(&self)?;
        self.check()?;
        if text.len() > MAX_PLAN {
            return Err(PlanError::Form(format!("it is longer than {MAX_PLAN} bytes")));
        }
        let hash = hash(&text);
        Ok(Opened { plan: self, text, hash })
    }

    /// Reads a plan. White space around it is what an editor adds.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn open(text: &str) -> Result<Opened, PlanError> {
        let text = text.trim();
        if text.len() > MAX_PLAN {
            return Err(PlanError::Form(format!("it is longer than {MAX_PLAN} bytes")));
        }
        let plan: Self = serde_json::from_str(text).map_err(|error| PlanError::Form(error.to_string()))?;
        let opened = plan.close()?;
        if opened.text == text { Ok(opened) } else { Err(PlanError::NotCanonical) }
    }

    fn check(&self) -> Result<(), PlanError> {
        let wrong = |why: &str| Err(PlanError::Form(why.to_owned()));
        if self.v != VERSION {
            return wrong("its version is not 1");
        }
        if hex::decode_exactly::<16>(&self.id).is_none() {
            return wrong("its id is not 32 hex digits");
        }
        if self.rule.as_deref().is_some_and(|rule| hex::decode_exactly::<32>(rule).is_none()) {
            return wrong("the hash of its rule is not 64 hex digits");
        }
        if self.created < 0 || !(1..=MAX_LIFE_S).contains(&self.expires.saturating_sub(self.created)) {
            return wrong("it must be good for a second at least and for 30 days at most");
        }
        if self.steps.is_empty() || self.steps.len() > MAX_STEPS {
            return wrong("it must have 1 to 64 steps");
        }
        let texts = self.steps.iter().flat_map(Step::texts);
        let mut texts = texts.chain([self.issuer.as_str(), &self.planner.name, &self.planner.host]);
        if texts.any(|text| text.is_empty() || text.len() > LONGEST_TEXT || text.chars().any(char::is_control)) {
            return wrong("a text in it is empty, has control characters, or is longer than 512 bytes");
        }
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Step::Approvers { rule } => {
                    rule.check()?;
                    if at + 1 != self.steps.len() {
                        return wrong("who approves is fixed last: what follows would be under another rule");
                    }
                }
                Step::Restore { keys } if keys.is_empty() || keys.len() > MAX_RESTORED => {
                    return wrong("it must restore 1 to 128 keys in a step");
                }
                Step::Restore { keys } if keys.iter().any(LostKey::is_odd) => {
                    return wrong("a public key in it is not 64 hex digits");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plan {} (hash {})", self.plan.id, hex::encode(&self.hash))
    }
}

/// The canonical form (RFC 8785).
fn canonical(value: &impl Serialize) -> Result<String, PlanError> {
    let wrong = |error: String| PlanError::Form(error);
    let bytes = serde_json_canonicalizer::to_vec(value).map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))
}

/// SHA-256 of prefix and document.
pub fn hash(text: &str) -> [u8; 32] {
    Sha256::new().chain_update(PLAN_PREFIX).chain_update(text).finalize().into()
}

/// What a key that a plan made signs (DESIGN §3).
pub fn challenge(plan_hash: &[u8; 32], kid: &str) -> Vec<u8> {
    let digest: [u8; 32] = Sha256::new().chain_update(plan_hash).chain_update(kid).finalize().into();
    [CHALLENGE_PREFIX, &digest].concat()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
