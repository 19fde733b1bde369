//! The decisions: what a peer may do, and to the operator, which rule is missing.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::Serialize;

use super::{
    issue::{Bounds, IssueWish, Terms},
    names::Overflow,
    operation::Operation,
    peer::{EVERY_TENANT, Peer, Rule},
    template::Template,
};
use crate::passport::Presenter;
use crate::wire::sealed::Namespace;

/// How much of a client's text goes into a message for the operator, in characters.
const QUOTED: usize = 64;

/// The outcome of a question to the policy. Ignoring one is an error at compile time.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<T> {
    /// It is allowed, on these terms.
    Allow(T),
    /// It is not.
    Deny(Denial),
}

impl<T> Decision<T> {
    /// The terms, or the denial.
    ///
    /// # Errors
    /// The denial.
    pub fn into_result(self) -> Result<T, Denial> {
        match self {
            Self::Allow(terms) => Ok(terms),
            Self::Deny(denial) => Err(denial),
        }
    }
}

impl<T> From<Result<T, Denial>> for Decision<T> {
    fn from(result: Result<T, Denial>) -> Self {
        match result {
            Ok(terms) => Self::Allow(terms),
            Err(denial) => Self::Deny(denial),
        }
    }
}

/// Why something is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What the client is told.
    pub code: DenyCode,
    /// What the operator is told: which rule is missing, and in which file. Not for clients: it describes the policy.
    pub rule: String,
}

/// The kinds of denial. The codes are those of `docs/WIRE.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenyCode {
    /// No rule matches the peer.
    NoPeerPolicy,
    /// No rule that matches the peer grants the operation, the template, or the namespace.
    OpDenied,
    /// The template allows the peer less than it asks for.
    ScopeDenied,
    /// An audience that the template or the rules don't allow, or none where one is demanded.
    BadAud,
    /// The wish contradicts itself.
    Malformed,
    /// The wish lacks what the template demands.
    Lacking,
}

impl DenyCode {
    /// The code on the wire, in audit records and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoPeerPolicy => "no_peer_policy",
            Self::OpDenied => "op_denied",
            Self::ScopeDenied | Self::Lacking => "scope_denied",
            Self::BadAud => "bad_aud",
            Self::Malformed => "malformed",
        }
    }

    /// The text that goes with the code. Static: it says nothing of the policy or of other peers.
    pub const fn client_text(self) -> &'static str {
        match self {
            Self::NoPeerPolicy => "no policy names this peer; ask the operator",
            Self::OpDenied => "the policy does not grant this operation, template or namespace to this peer",
            Self::ScopeDenied => "the template does not allow this subject, scope, action, limit, nonce, key or uid",
            Self::BadAud => "this audience is not allowed, or an audience must be named",
            Self::Lacking => "the template demands a nonce, or the thumbprint of a key, that the request does not name",
            Self::Malformed => "the lifetime must be at least 1 s and end after the start of validity",
        }
    }
}

/// That an operation is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The operation.
    pub operation: Operation,
    /// The name of the rule that allows it; `None` for what everybody may do.
    pub rule: Option<Arc<str>>,
}

/// A peer's numbers. `None` where no rule names one and the configuration's limit holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Items a second: a batch counts as its items, any other request as one.
    pub rps: Option<u32>,
    /// Issues a second, a batch counting as its items.
    pub issue_rps: Option<u32>,
    /// Tickets a minute.
    pub exchange_rpm: Option<u32>,
    /// Open connections.
    pub max_connections: Option<u32>,
    /// Bytes of requests and replies in flight.
    pub max_bytes: Option<u64>,
}

impl Share {
    /// The larger of each number; a number beats none (`Option`'s order).
    fn or_larger(self, other: Self) -> Self {
        Self {
            rps: self.rps.max(other.rps),
            issue_rps: self.issue_rps.max(other.issue_rps),
            exchange_rpm: self.exchange_rpm.max(other.exchange_rpm),
            max_connections: self.max_connections.max(other.max_connections),
            max_bytes: self.max_bytes.max(other.max_bytes),
        }
    }
}

/// The rules and templates of a directory, checked and resolved.
#[derive(Debug)]
pub struct Policy {
    pub(super) dir: Arc<str>,
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) templates: Vec<Arc<Template>>,
    pub(super) hash: [u8; 32],
    pub(super) overflow: Overflow,
}

impl Policy {
    /// The BLAKE3 hash over names and bytes of the files, which tells policies apart in `Status` and metrics.
    pub const fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Every rule.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(Arc::as_ref)
    }

    /// Every template.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.templates.iter().map(Arc::as_ref)
    }

    /// Whether a rule looks at control groups.
    pub fn asks_cgroups(&self) -> bool {
        self.rules().any(Rule::is_by_cgroup)
    }

    /// What the peer may do: the rules that match it. Identity is frozen at connect, so a connection needs this once
    /// for each policy that comes into force.
    pub fn rights(&self, peer: &Peer) -> Rights {
        let rules: Vec<_> = self.rules.iter().filter(|rule| rule.matches(peer, self.overflow)).cloned().collect();
        let share = rules.iter().fold(Share::default(), |share, rule| share.or_larger(rule.share));
        Rights { dir: Arc::clone(&self.dir), peer: peer.clone(), rules, share, overflow: self.overflow }
    }

    /// Whether the peer may do `operation`.
    pub fn decide(&self, peer: &Peer, operation: Operation) -> Decision<Grant> {
        self.rights(peer).decide(operation)
    }

    /// Whether the peer may have the passport that it wishes for, and on what terms.
    pub fn decide_issue(&self, peer: &Peer, wish: &IssueWish<'_>, bounds: &Bounds<'_>) -> Decision<Terms> {
        self.rights(peer).decide_issue(wish, bounds)
    }

    /// As whom the peer may verify: see [`Rights::decide_verify`].
    pub fn decide_verify(&self, peer: &Peer, aud: Option<&str>, require_aud: bool) -> Decision<Option<String>> {
        let rights = self.rights(peer);
        rights.decide_verify(aud, require_aud).into_result().map(|aud| aud.map(str::to_owned)).into()
    }
}

/// What one peer may do under one policy.
#[derive(Clone, Debug)]
pub struct Rights {
    dir: Arc<str>,
    peer: Peer,
    rules: Vec<Arc<Rule>>,
    share: Share,
    overflow: Overflow,
}

impl Rights {
    /// The peer's user.
    pub(super) const fn uid(&self) -> u32 {
        self.peer.uid
    }

    /// Who presented a passport to the peer, by what it says.
    pub const fn presenter(&self, uid: Option<u32>) -> Presenter {
        match uid {
            None => Presenter::Unsaid,
            Some(uid) if uid == self.overflow.uid => Presenter::Nobody,
            Some(uid) => Presenter::Uid(uid),
        }
    }

    /// The peer's numbers.
    pub const fn share(&self) -> Share {
        self.share
    }

    /// The rules that match the peer, in the order of the policy.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(Arc::as_ref)
    }

    /// The operations that the peer may do, in the order of [`Operation::ALL`].
    pub fn operations(&self) -> impl Iterator<Item = Operation> {
        Operation::ALL.into_iter().filter(|operation| self.grant(*operation).is_some())
    }

    /// The templates that the peer may issue from, each once, sorted by name.
    pub fn templates(&self) -> Vec<&Template> {
        let mut templates: Vec<_> = self.rules().flat_map(Rule::templates).collect();
        templates.sort_unstable_by_key(|template| template.name());
        templates.dedup_by_key(|template| template.name());
        templates
    }

    /// The audiences that the peer may verify as, each once, sorted.
    pub fn verify_as(&self) -> Vec<&str> {
        let mut audiences: Vec<_> = self.rules().flat_map(Rule::verify_as).map(String::as_str).collect();
        audiences.sort_unstable();
        audiences.dedup();
        audiences
    }

    /// Whether the peer may do `operation`. Everybody is told who they are to us; whoever a rule names may ping and ask
    /// for the version; all else must be granted.
    pub fn decide(&self, operation: Operation) -> Decision<Grant> {
        self.allowed(operation).into()
    }

    /// As whom the peer may verify. If it names no audience, the only one that it may verify as; none if audiences are
    /// not demanded and there is not exactly one.
    pub fn decide_verify(&self, aud: Option<&str>, require_aud: bool) -> Decision<Option<&str>> {
        self.allowed(Operation::Verify).and_then(|_| self.audience(aud, require_aud)).into()
    }

    /// As whom the peer may look at a passport: as [`Rights::decide_verify`], for `introspect`.
    pub fn decide_introspect(&self, aud: Option<&str>, require_aud: bool) -> Decision<Option<&str>> {
        self.allowed(Operation::Introspect).and_then(|_| self.audience(aud, require_aud)).into()
    }

    /// Whether the peer may do `operation`, which is to seal or unseal, in this namespace.
    pub fn decide_seal(&self, operation: Operation, namespace: Namespace<'_>) -> Decision<Grant> {
        let covered = self.rules().flat_map(Rule::namespaces).any(|pattern| pattern.covers(namespace));
        let denied = || {
            let what = format_args!("lets it seal and unseal in {:?}", namespace.as_str());
            self.deny(DenyCode::OpDenied, what, "seal_namespaces")
        };
        self.allowed(operation).and_then(|grant| covered.then_some(grant).ok_or_else(denied)).into()
    }

    /// Whether the peer may revoke a passport of this tenant that was issued from this template: whoever may issue from it may.
    pub fn decide_revoke(&self, tenant: &str, template: &str) -> Decision<Grant> {
        let granted = |grant| self.template(template).map(|of| (of.tenant() == tenant).then_some(grant));
        let denied = || {
            let what = format_args!("lets it issue, and so revoke, for tenant {tenant:?}");
            self.deny(DenyCode::OpDenied, what, "templates")
        };
        self.allowed(Operation::Revoke).and_then(granted).and_then(|grant| grant.ok_or_else(denied)).into()
    }

    /// The tenants that the peer may watch: those that it may issue for, and those that its rules name. `None` is every one.
    pub fn decide_watch(&self) -> Decision<Option<BTreeSet<String>>> {
        let tenants = |_| {
            let named = || self.rules().flat_map(Rule::watch_tenants);
            let of_templates = self.rules().flat_map(Rule::templates).map(Template::tenant);
            let every = named().any(|tenant| tenant == EVERY_TENANT);
            (!every).then(|| named().map(String::as_str).chain(of_templates).map(str::to_owned).collect())
        };
        self.allowed(Operation::Watch).map(tenants).into()
    }

    /// Whether the peer may do `operation`, as a result.
    pub(super) fn allowed(&self, operation: Operation) -> Result<Grant, Denial> {
        self.grant(operation).ok_or_else(|| self.deny_operation(operation))
    }

    /// What allows `operation`.
    fn grant(&self, operation: Operation) -> Option<Grant> {
        let rule = match operation {
            Operation::WhoAmI => return Some(Grant { operation, rule: None }),
            Operation::Ping | Operation::Version => self.rules.first(),
            _ => self.rules.iter().find(|rule| rule.allow.contains(&operation)),
        };
        rule.map(|rule| Grant { operation, rule: Some(Arc::clone(&rule.name)) })
    }

    /// The template of that name, if a rule grants it. A template that exists and is not granted gives the same answer
    /// as one that does not exist.
    pub(super) fn template(&self, name: &str) -> Result<&Template, Denial> {
        let granted = self.rules.iter().flat_map(|rule| &rule.templates).find(|template| template.name == name);
        granted.map(Arc::as_ref).ok_or_else(|| {
            self.deny(DenyCode::OpDenied, format_args!("grants the template {}", quoted(name)), "templates")
        })
    }

    /// The tenant of a template, if a rule grants that.
    pub fn tenant_of(&self, template: &str) -> Option<&str> {
        self.template(template).ok().map(Template::tenant)
    }

    /// The user names that rules know the peer by.
    pub(super) fn users(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| rule.user())
    }

    /// The audience to verify as. Asked for each item of a batch, so that what is granted costs no allocation.
    fn audience(&self, aud: Option<&str>, require_aud: bool) -> Result<Option<&str>, Denial> {
        if let Some(aud) = aud {
            let granted = self.rules().flat_map(Rule::verify_as).find(|granted| *granted == aud);
            return granted.map(|granted| Some(granted.as_str())).ok_or_else(|| {
                self.deny(DenyCode::BadAud, format_args!("lets it verify as {}", quoted(aud)), "verify_as")
            });
        }
        match self.verify_as().as_slice() {
            [only] => Ok(Some(only)),
            _ if !require_aud => Ok(None),
            [] => Err(self.deny(DenyCode::BadAud, format_args!("names an audience to verify as"), "verify_as")),
            several => Err(Denial {
                code: DenyCode::BadAud,
                rule: format!("{} may verify as any of {several:?} and must say which", self.peer),
            }),
        }
    }

    /// The denial of an operation.
    fn deny_operation(&self, operation: Operation) -> Denial {
        self.deny(DenyCode::OpDenied, format_args!("allows `{operation}`"), "allow")
    }

    /// A denial because no matching rule does `what`, which belongs into the key `key` of a rule.
    pub(super) fn deny(&self, code: DenyCode, what: fmt::Arguments<'_>, key: &str) -> Denial {
        let (dir, peer) = (&self.dir, &self.peer);
        match self.rules.first() {
            None => Denial {
                code: DenyCode::NoPeerPolicy,
                rule: format!("no [[peer]] in {dir} matches {peer}; add a rule for it to a file there, then reload"),
            },
            Some(rule) => Denial {
                code,
                rule: format!(
                    "no [[peer]] in {dir} that matches {peer} {what}; add it to `{key}` of {rule}, then reload"
                ),
            },
        }
    }
}

/// A client's text for an operator's eyes: bounded, and with control characters escaped.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
