//! Transcripts: what a ceremony did, as the ceremony process saw it, signed by an audit key. Anybody can check one, with
//! nothing but its text and a public key.

use serde::{Deserialize, Serialize};

use super::approval::{Counted, Rule, count};
use super::document::{Signed, TRANSCRIPT_PREFIX};
use super::note::VerifierKey;
use super::plan::{Plan, Step, challenge};
use crate::passport::hex;

/// The longest transcript, in bytes.
pub const MAX_TRANSCRIPT: usize = 512 << 10;
const VERSION: u32 = 1;

/// What a ceremony did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    v: u32,
    /// The plan, whole.
    pub plan: Plan,
    /// Its hash, which approvals and challenges are over.
    pub plan_hash: String,
    /// The rule that it was approved under, as the signer had it; none where nobody had to.
    pub rule: Option<Rule>,
    /// Who approved it.
    pub approvals: Vec<Counted>,
    /// The user who held it, as the kernel says.
    pub operator_uid: u32,
    /// When the first step began, in seconds since 1970, by the ceremony's clock.
    pub begun: i64,
    /// When the last one was done.
    pub finished: i64,
    /// The HSM.
    pub device: Device,
    /// What became of each step, in the order of the plan.
    pub steps: Vec<StepDone>,
    /// What the tool says that the daemon did then. The ceremony process has not seen it: it signs that it was told so.
    pub daemon: Option<Daemon>,
    /// The audit key that signs this.
    pub signer: SignerKey,
}

/// The HSM, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The module: its description and version.
    pub module: String,
    /// The token's label.
    pub label: String,
    /// Its serial number.
    pub serial: String,
    /// Who makes it.
    pub manufacturer: String,
    /// The model.
    pub model: String,
    /// The version of its firmware.
    pub firmware: String,
    /// The version of its hardware.
    pub hardware: String,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepDone {
    /// When it was done.
    pub done: i64,
    /// The keys that it made or took over.
    pub keys: Vec<KeyFacts>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// A key, as it was read from the HSM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFacts {
    /// Its kid.
    pub kid: String,
    /// `CKA_ID`, in hex.
    pub cka_id: String,
    /// Its public key, in hex; a seal key has none.
    pub public: Option<String>,
    /// What it signs by.
    pub mechanism: String,
    /// What the HSM says of it.
    pub attributes: Attributes,
    /// Its signature over the challenge of this plan, in hex; a seal key has nothing that others could check.
    pub challenge: Option<String>,
}

/// What an HSM says of a key. What it does not say is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// `CKA_PRIVATE`.
    pub private: Option<bool>,
    /// `CKA_SENSITIVE`.
    pub sensitive: Option<bool>,
    /// `CKA_EXTRACTABLE`.
    pub extractable: Option<bool>,
    /// `CKA_SIGN`.
    pub sign: Option<bool>,
    /// `CKA_LOCAL`: made in the HSM.
    pub local: Option<bool>,
    /// `CKA_ALWAYS_SENSITIVE`.
    pub always_sensitive: Option<bool>,
    /// `CKA_NEVER_EXTRACTABLE`.
    pub never_extractable: Option<bool>,
    /// `CKA_ALLOWED_MECHANISMS` is its one mechanism.
    pub mechanisms_bound: bool,
}

impl Attributes {
    /// What is wrong with them.
    pub fn problems(&self) -> Vec<&'static str> {
        let all = [
            (self.private != Some(true), "CKA_PRIVATE is not set"),
            (self.sensitive != Some(true), "CKA_SENSITIVE is not set"),
            (self.extractable != Some(false), "CKA_EXTRACTABLE is not off"),
            (self.sign != Some(true), "CKA_SIGN is not set"),
            (self.local == Some(false), "CKA_LOCAL is off"),
            (self.always_sensitive == Some(false), "CKA_ALWAYS_SENSITIVE is off"),
            (self.never_extractable == Some(false), "CKA_NEVER_EXTRACTABLE is off"),
        ];
        all.into_iter().filter(|(wrong, _)| *wrong).map(|(_, why)| why).collect()
    }
}

/// What the tool did at the daemon, after the ceremony.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Daemon {
    /// The sequence number of the daemon's audit log before.
    pub audit_before: Option<u64>,
    /// And after.
    pub audit_after: Option<u64>,
    /// What it did, in order.
    pub did: Vec<DaemonStep>,
}

/// The most of these in one transcript.
pub const MAX_DAEMON_STEPS: usize = 512;

/// One thing that the daemon was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DaemonStep {
    /// `stage`, `activate`, `compromise`.
    pub op: String,
    /// Which key.
    pub kid: String,
    /// Its record in the audit log has at most this sequence number, and a higher one than the step before.
    pub audit_seq: Option<u64>,
}

/// An audit key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerKey {
    /// Its kid.
    pub kid: String,
    /// Its public key, in hex.
    pub public: String,
}

/// Everything that a transcript says but for its version.
impl Transcript {
    /// An empty one for this plan.
    pub fn of(plan: Plan, plan_hash: &[u8; 32]) -> Self {
        Self {
            v: VERSION,
            plan,
            plan_hash: hex::encode(plan_hash),
            rule: None,
            approvals: Vec::new(),
            operator_uid: 0,
            begun: 0,
            finished: 0,
            device: Device::default(),
            steps: Vec::new(),
            daemon: None,
            signer: SignerKey::default(),
        }
    }

    /// Its canonical text (RFC 8785), which is signed.
    ///
    /// # Errors
    /// What the serializer says.
    pub fn text(&self) -> Result<String, String> {
        let bytes = serde_json_canonicalizer::to_vec(self).map_err(|error| error.to_string())?;
        if bytes.len() > MAX_TRANSCRIPT {
            return Err(format!("the transcript is longer than {MAX_TRANSCRIPT} bytes"));
        }
        String::from_utf8(bytes).map_err(|error| error.to_string())
    }

    /// Reads one.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TRANSCRIPT {
            return Err(format!("it is longer than {MAX_TRANSCRIPT} bytes"));
        }
        let read: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if read.v != VERSION {
            return Err("its version is not 1".to_owned());
        }
        if read.text()? != text {
            return Err("it is not in canonical form (RFC 8785)".to_owned());
        }
        Ok(read)
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub detail: String,
}

impl Finding {
    fn new(ok: bool, what: &str, detail: impl Into<String>) -> Self {
        Self { ok, what: what.to_owned(), detail: detail.into() }
    }
}

/// Checks a transcript with nothing but itself, its signature, and public keys that the auditor has from elsewhere. Without
/// those, the key that it names itself is taken, which proves that it is whole, and not who signed it.
pub fn examine(text: &str, signed: &Signed, keys: Option<&[VerifierKey]>) -> (Option<Transcript>, Vec<Finding>) {
    let read = match Transcript::parse(text) {
        Ok(read) => read,
        Err(why) => return (None, vec![Finding::new(false, "form", why)]),
    };
    let mut findings = vec![signature(&read, text, signed, keys)];
    let plan = match read.plan.clone().close() {
        Ok(plan) => plan,
        Err(why) => {
            findings.push(Finding::new(false, "plan", why.to_string()));
            return (Some(read), findings);
        }
    };
    let same = hex::encode(&plan.hash) == read.plan_hash;
    findings.push(Finding::new(
        same,
        "plan",
        if same { read.plan_hash.clone() } else { "its hash is another".to_owned() },
    ));
    findings.push(approved(&read, &plan));
    let in_time = (read.begun >= plan.plan.created.saturating_sub(super::plan::SKEW_S))
        && read.begun <= read.finished
        && read.begun <= plan.plan.expires;
    findings.push(Finding::new(
        in_time,
        "time",
        if in_time { "while the plan held" } else { "not while the plan held" },
    ));
    let whole = read.steps.len() == plan.plan.steps.len();
    findings.push(Finding::new(whole, "steps", format!("{} of {} done", read.steps.len(), plan.plan.steps.len())));
    for (step, done) in plan.plan.steps.iter().zip(&read.steps) {
        findings.extend(done.keys.iter().map(|key| key_finding(step, key, &plan.hash)));
    }
    (Some(read), findings)
}

fn signature(read: &Transcript, text: &str, signed: &Signed, keys: Option<&[VerifierKey]>) -> Finding {
    let own =
        hex::decode_exactly(&read.signer.public).map(|public| VerifierKey { name: read.signer.kid.clone(), public });
    if signed.kid != read.signer.kid {
        return Finding::new(false, "signature", "it is by another key than the transcript names");
    }
    let (given, whose) = match keys {
        Some(keys) => (keys.to_vec(), "by a key that you gave"),
        None => (own.iter().cloned().collect(), "by the key that it names itself: compare that, or give --keys"),
    };
    match signed.verify(TRANSCRIPT_PREFIX, text.as_bytes(), &given) {
        Some(true) => Finding::new(true, "signature", format!("{}, {whose}", signed.kid)),
        Some(false) => Finding::new(false, "signature", format!("it does not fit {}", signed.kid)),
        None => Finding::new(false, "signature", format!("the key {} is not among those given", signed.kid)),
    }
}

fn approved(read: &Transcript, plan: &super::plan::Opened) -> Finding {
    let hash = read.rule.as_ref().map(Rule::hash).transpose();
    if hash.as_ref().ok() != Some(&read.plan.rule) || read.rule.as_ref().is_some_and(|rule| rule.check().is_err()) {
        return Finding::new(false, "approvals", "the rule is not the one that the plan names");
    }
    let shown: Vec<_> = read.approvals.iter().filter_map(|one| one.approval.clone()).collect();
    match count(plan, read.rule.as_ref(), &shown, Some(read.operator_uid), read.begun) {
        Err(why) => Finding::new(false, "approvals", why.to_string()),
        Ok(counted) if counted != read.approvals => Finding::new(false, "approvals", "they are not those that count"),
        Ok(counted) if counted.is_empty() => {
            Finding::new(true, "approvals", "none was asked for: a single admin's ceremony")
        }
        Ok(counted) => {
            let names: Vec<String> = counted
                .iter()
                .map(|one| match one.by_uid_alone {
                    Some(uid) => format!("{} (by uid {uid} ALONE)", one.name),
                    None => one.name.clone(),
                })
                .collect();
            let wanted = read.rule.as_ref().map_or(0, |rule| rule.threshold);
            Finding::new(true, "approvals", format!("{} of {wanted} wanted: {}", names.len(), names.join(", ")))
        }
    }
}

fn key_finding(step: &Step, key: &KeyFacts, hash: &[u8; 32]) -> Finding {
    let what = key.kid.as_str();
    let problems = key.attributes.problems();
    if !problems.is_empty() {
        return Finding::new(false, what, problems.join("; "));
    }
    let own = |tenant: &str, purposes: &[&str]| {
        let named = |purpose: &&str| key.kid.contains(&format!("/{tenant}/{purpose}/v"));
        purposes.iter().any(named)
    };
    let meant = match step {
        Step::Init { tenant, purpose } => own(tenant, &[purpose, "audit", "seal"]),
        Step::Rotate { tenant, purpose } | Step::Adopt { tenant, purpose, .. } => own(tenant, &[purpose]),
        _ => false,
    };
    if !meant {
        return Finding::new(false, what, "its step makes no such key");
    }
    let Some(public) = &key.public else {
        let fine = key.challenge.is_none() && key.kid.starts_with("hmac-sha256/");
        return Finding::new(
            fine,
            what,
            "a seal key; attributes as they should be, and nothing that others could check",
        );
    };
    let public = hex::decode_exactly(public).map(|public| VerifierKey { name: key.kid.clone(), public });
    let sig = key.challenge.as_deref().and_then(hex::decode_exactly::<64>);
    let fits = public.zip(sig).is_some_and(|(public, sig)| public.verifies(&challenge(hash, &key.kid), &sig));
    let said =
        if fits { "signed this plan's challenge; attributes as they should be" } else { "its challenge is not signed" };
    Finding::new(fits, what, said)
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
mod tests;
