//! Who has to approve a plan, and what an approval is. The ceremony process asks this, of its own file alone.

use std::collections::BTreeSet;
use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::plan::{MAX_LIFE_S, Opened, SKEW_S};
use crate::passport::hex;

/// The bytes before what an approver signs.
pub const APPROVAL_PREFIX: &[u8] = b"passportd/approval/v1\0";
/// The bytes before a rule where its hash is taken.
const RULE_PREFIX: &[u8] = b"passportd/rule/v1\0";
/// The most approvers of a rule, and the most approvals that are read.
pub const MAX_APPROVERS: usize = 32;
/// The longest approval, in bytes.
pub const MAX_APPROVAL: usize = 1024;
/// The longest name of an approver, in bytes.
pub const MAX_NAME: usize = 64;
const VERSION: u32 = 1;

/// So many of these have to approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    v: u32,
    /// How many.
    pub threshold: u32,
    /// Of whom.
    pub approvers: Vec<Approver>,
}

/// One person. However many ways they have to approve, they count once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approver {
    /// What they are called.
    pub name: String,
    /// Their public key, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<String>,
    /// Approval by uid, a convenience: whoever holds the ceremony as this user has approved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// Why a rule is none (HSM admin).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Nobody could ever, or anybody could.
    #[error(
        "the rule asks for {threshold} of {approvers} approvers; it must be one at least, all at most, of 32 at most"
    )]
    Threshold {
        /// As it is.
        threshold: u32,
        /// So many there are.
        approvers: usize,
    },
    /// A name is missing, odd or there twice.
    #[error("approver \"{0}\": names are of 1 to 64 printable characters, each once")]
    Name(String),
    /// A key is none, or there twice.
    #[error("approver {0}: each has an Ed25519 key (64 hex digits) or a uid of their own, or both")]
    Means(String),
    /// It is no JSON of that form.
    #[error("not a rule: {0}")]
    Form(String),
}

impl Rule {
    /// So many of these.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn new(threshold: u32, approvers: Vec<Approver>) -> Result<Self, RuleError> {
        let rule = Self { v: VERSION, threshold, approvers };
        rule.check().map(|()| rule)
    }

    /// Reads a rule.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let rule: Self = serde_json::from_str(text).map_err(|error| RuleError::Form(error.to_string()))?;
        rule.check().map(|()| rule)
    }

    /// Its text.
    ///
    /// # Errors
    /// [`RuleError::Form`].
    pub fn text(&self) -> Result<String, RuleError> {
        let bytes = serde_json_canonicalizer::to_vec(self).map_err(|error| RuleError::Form(error.to_string()))?;
        String::from_utf8(bytes).map_err(|error| RuleError::Form(error.to_string()))
    }

    /// What a plan names it by: 64 hex digits.
    ///
    /// # Errors
    /// [`RuleError::Form`].
    pub fn hash(&self) -> Result<String, RuleError> {
        let digest: [u8; 32] = Sha256::new().chain_update(RULE_PREFIX).chain_update(self.text()?).finalize().into();
        Ok(hex::encode(&digest))
    }

    /// Whether it can be one.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn check(&self) -> Result<(), RuleError> {
        let count = self.approvers.len();
        let (few, many) = (self.threshold == 0, usize::try_from(self.threshold).map_or(true, |n| n > count));
        if self.v != VERSION || few || many || count > MAX_APPROVERS {
            return Err(RuleError::Threshold { threshold: self.threshold, approvers: count });
        }
        let (mut names, mut keys, mut uids) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for approver in &self.approvers {
            let Approver { name, public, uid } = approver;
            let odd = name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control);
            if odd || !names.insert(name) {
                return Err(RuleError::Name(name.escape_default().take(MAX_NAME).collect()));
            }
            let key = public.as_deref().map(|public| approver_key(public).is_some() && keys.insert(public));
            let uid = uid.map(|uid| uids.insert(uid));
            if (key.is_none() && uid.is_none()) || key == Some(false) || uid == Some(false) {
                return Err(RuleError::Means(name.clone()));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.approvers.iter().map(|one| match (&one.public, one.uid) {
            (Some(_), None) => one.name.clone(),
            (Some(_), Some(uid)) => format!("{} (also by uid {uid} alone)", one.name),
            (None, uid) => format!("{} (by uid {} alone)", one.name, uid.unwrap_or_default()),
        });
        write!(f, "{} of {}", self.threshold, names.collect::<Vec<_>>().join(", "))
    }
}

/// A public key that only its holder can sign under: of small order it would fit anybody's.
fn approver_key(public: &str) -> Option<VerifyingKey> {
    let bytes = hex::decode_exactly::<32>(public).filter(|bytes| hex::encode(bytes) == public)?;
    VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak())
}

/// Somebody's word for one plan, as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    v: u32,
    /// The hash of the plan, in hex.
    pub plan: String,
    /// The public key, in hex.
    pub key: String,
    /// When it was given, in seconds since 1970.
    pub time: i64,
    /// The last second in which it counts.
    pub expires: i64,
    /// The signature, in hex.
    pub sig: String,
}

impl Approval {
    /// Gives it.
    pub fn sign(plan: &Opened, key: &SigningKey, now: i64) -> Self {
        let (time, expires) = (now, plan.plan.expires);
        let sig = key.sign(&message(&plan.hash, time, expires)).to_bytes();
        let (plan, key) = (hex::encode(&plan.hash), hex::encode(key.verifying_key().as_bytes()));
        Self { v: VERSION, plan, key, time, expires, sig: hex::encode(&sig) }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Refusal::Form`].
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > MAX_APPROVAL {
            return Err(Refusal::Form(format!("it is longer than {MAX_APPROVAL} bytes")));
        }
        let approval: Self = serde_json::from_str(text).map_err(|error| Refusal::Form(error.to_string()))?;
        if approval.v == VERSION { Ok(approval) } else { Err(Refusal::Form("its version is not 1".to_owned())) }
    }

    /// Whether the key that it names has signed it, for this plan.
    fn signed(&self, hash: &[u8; 32]) -> bool {
        let sig = hex::decode_exactly::<64>(&self.sig).map(|bytes| Signature::from_bytes(&bytes));
        let message = message(hash, self.time, self.expires);
        approver_key(&self.key).zip(sig).is_some_and(|(key, sig)| key.verify_strict(&message, &sig).is_ok())
    }
}

/// What is signed: the hash of the plan, when, and until when.
fn message(hash: &[u8; 32], time: i64, expires: i64) -> Vec<u8> {
    [APPROVAL_PREFIX, hash, &time.to_be_bytes(), &expires.to_be_bytes()].concat()
}

/// An approval that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// Whose, as the rule calls them.
    pub name: String,
    /// By their key; none if it is by their uid alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// By holding the ceremony as this user, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_uid_alone: Option<u32>,
}

/// Why a plan is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The approval is none.
    #[error("not an approval: {0}")]
    Form(String),
    /// For another instance.
    #[error("the plan is for the instance {0}")]
    Issuer(String),
    /// Its time is over.
    #[error("the plan has expired; make it anew")]
    Expired,
    /// Its time has not come, so a clock is wrong.
    #[error("the plan was made in the future; set the clocks right")]
    Early,
    /// The rule has changed since, or is not the one that the plan claims.
    #[error("the plan is to be approved under another rule than the signer has; make it anew")]
    Rule,
    /// More than can be.
    #[error("there are more than 32 approvals")]
    Many,
    /// Of another plan.
    #[error("an approval by {0} is for another plan")]
    OtherPlan(String),
    /// By nobody whom the rule names.
    #[error("an approval is by the key {0}, which is no approver's")]
    Unknown(String),
    /// Its time is over, or has not come, or is longer than a plan's can be.
    #[error("the approval by {0} has expired, or its times can't be right")]
    Stale(String),
    /// It was altered or forged.
    #[error("the approval by {0} is not signed by their key")]
    Forged(String),
    /// One is one.
    #[error("{0} has approved twice; one approver counts once")]
    Twice(String),
    /// Not enough of them.
    #[error("{given} of {wanted} approvals are there; the rule is {rule}")]
    Few {
        /// So many.
        given: usize,
        /// So many are asked for.
        wanted: u32,
        /// By whom.
        rule: String,
    },
    /// The rule can't be hashed.
    #[error(transparent)]
    Broken(#[from] RuleError),
}

/// Whether a plan may be carried out now, under the signer's own rule. Every approval that is shown has to be good: one that
/// is not is a mistake or an attempt, and either is for somebody to look at.
///
/// # Errors
/// [`Refusal`].
pub fn admit(
    plan: &Opened,
    issuer: Option<&str>,
    rule: Option<&Rule>,
    approvals: &[Approval],
    peer_uid: u32,
    now: i64,
) -> Result<Vec<Counted>, Refusal> {
    let own = rule.map(Rule::hash).transpose()?;
    if issuer.is_some_and(|issuer| issuer != plan.plan.issuer) {
        return Err(Refusal::Issuer(plan.plan.issuer.clone()));
    }
    if now > plan.plan.expires {
        return Err(Refusal::Expired);
    }
    if plan.plan.created > now.saturating_add(SKEW_S) {
        return Err(Refusal::Early);
    }
    if plan.plan.rule != own {
        return Err(Refusal::Rule);
    }
    count(plan, rule, approvals, Some(peer_uid), now)
}

/// Those that count, if they are enough.
///
/// # Errors
/// [`Refusal`].
pub fn count(
    plan: &Opened,
    rule: Option<&Rule>,
    approvals: &[Approval],
    peer_uid: Option<u32>,
    now: i64,
) -> Result<Vec<Counted>, Refusal> {
    if approvals.len() > MAX_APPROVERS {
        return Err(Refusal::Many);
    }
    let named = rule.map_or(&[][..], |rule| &rule.approvers);
    let mut counted: Vec<Counted> = Vec::new();
    for approval in approvals {
        let short: String = approval.key.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        let by = named.iter().find(|one| one.public.as_ref() == Some(&approval.key)).ok_or(Refusal::Unknown(short))?;
        if approval.plan != hex::encode(&plan.hash) {
            return Err(Refusal::OtherPlan(by.name.clone()));
        }
        let life = approval.expires.saturating_sub(approval.time);
        if now > approval.expires
            || approval.time > now.saturating_add(SKEW_S)
            || !(0..=MAX_LIFE_S + SKEW_S).contains(&life)
        {
            return Err(Refusal::Stale(by.name.clone()));
        }
        if !approval.signed(&plan.hash) {
            return Err(Refusal::Forged(by.name.clone()));
        }
        if counted.iter().any(|one| one.name == by.name) {
            return Err(Refusal::Twice(by.name.clone()));
        }
        counted.push(Counted { name: by.name.clone(), approval: Some(approval.clone()), by_uid_alone: None });
    }
    let held_by = named.iter().find(|one| one.uid.is_some() && one.uid == peer_uid);
    if let Some(by) = held_by.filter(|by| !counted.iter().any(|one| one.name == by.name)) {
        counted.push(Counted { name: by.name.clone(), approval: None, by_uid_alone: by.uid });
    }
    match rule {
        Some(rule) if !usize::try_from(rule.threshold).is_ok_and(|wanted| counted.len() >= wanted) => {
            Err(Refusal::Few { given: counted.len(), wanted: rule.threshold, rule: rule.to_string() })
        }
        _ => Ok(counted),
    }
}

#[cfg(test)]
#[path = "approval_tests.rs"]
mod tests;
