//! Peers, and the rules that match them.

use std::{fmt, sync::Arc};

use serde::Serialize;

use super::{decide::Share, names::Overflow, operation::Operation, template::Template};
use crate::wire::sealed::NamespacePattern;

/// Stands for every tenant in `watch_tenants`.
pub(super) const EVERY_TENANT: &str = "*";

/// The process at the other end of a socket, as the kernel described it at connect. Never what a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Its user (`SO_PEERCRED`).
    pub uid: u32,
    /// Its primary group (`SO_PEERCRED`).
    pub gid: u32,
    /// Its process (`SO_PEERCRED`). No rule looks at it: ids are used again.
    pub pid: i32,
    /// Its supplementary groups (`SO_PEERGROUPS`).
    pub groups: Vec<u32>,
    /// The name of the socket by which it came.
    pub listener: String,
    /// The control group that it was in, if the policy asks and the kernel says (`SO_PEERPIDFD`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}, gid {}, groups {:?}, listener {:?}", self.uid, self.gid, self.groups, self.listener)?;
        self.cgroup.as_ref().map_or(Ok(()), |cgroup| write!(f, ", cgroup {cgroup:?}"))
    }
}

/// One thing that a rule demands of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It is this user, given by name.
    User(Arc<str>, u32),
    /// It is this user.
    Uid(u32),
    /// This is its primary group, given by name.
    Group(String, u32),
    /// This is its primary group.
    Gid(u32),
    /// It is a member of any of these groups, by whatever way.
    Groups(Vec<(String, u32)>),
    /// It came by this socket.
    Listener(String),
    /// It was in this control group.
    Cgroup(String),
}

impl Condition {
    /// Whether the peer meets it. The overflow gid is no group to be a member of.
    fn holds(&self, peer: &Peer, overflow: Overflow) -> bool {
        match self {
            Self::User(_, uid) | Self::Uid(uid) => peer.uid == *uid,
            Self::Group(_, gid) | Self::Gid(gid) => peer.gid == *gid && *gid != overflow.gid,
            Self::Groups(groups) => {
                groups.iter().any(|(_, gid)| *gid != overflow.gid && (peer.gid == *gid || peer.groups.contains(gid)))
            }
            Self::Listener(listener) => peer.listener == *listener,
            // Where the kernel can't say, nobody is in it.
            Self::Cgroup(cgroup) => peer.cgroup.as_ref() == Some(cgroup),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name, uid) => write!(f, "user = {name:?} (uid {uid})"),
            Self::Uid(uid) => write!(f, "uid = {uid}"),
            Self::Group(name, gid) => write!(f, "group = {name:?} (gid {gid})"),
            Self::Gid(gid) => write!(f, "gid = {gid}"),
            Self::Groups(groups) => {
                f.write_str("groups = [")?;
                for (index, (name, gid)) in groups.iter().enumerate() {
                    write!(f, "{}{name:?} (gid {gid})", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Listener(listener) => write!(f, "listener = {listener:?}"),
            Self::Cgroup(cgroup) => write!(f, "cgroup = {cgroup:?}"),
        }
    }
}

/// A `[[peer]]`: whom it means and what it grants them.
#[derive(Debug)]
pub struct Rule {
    pub(super) name: Arc<str>,
    pub(super) file: Arc<str>,
    pub(super) line: usize,
    pub(super) conditions: Vec<Condition>,
    pub(super) allow: Vec<Operation>,
    pub(super) templates: Vec<Arc<Template>>,
    pub(super) verify_as: Vec<String>,
    pub(super) namespaces: Vec<NamespacePattern>,
    pub(super) watch_tenants: Vec<String>,
    pub(super) exchange_templates: Vec<Arc<Template>>,
    pub(super) share: Share,
}

impl Rule {
    /// Its name, unique in the policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that it stands in.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What it allows.
    pub fn allow(&self) -> &[Operation] {
        &self.allow
    }

    /// The templates that it lets issue from.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.templates.iter().map(Arc::as_ref)
    }

    /// The audiences that it lets verify as.
    pub fn verify_as(&self) -> &[String] {
        &self.verify_as
    }

    /// The namespaces that it lets seal and unseal in.
    pub fn namespaces(&self) -> &[NamespacePattern] {
        &self.namespaces
    }

    /// The tenants that it lets watch beside those of its templates; [`EVERY_TENANT`] stands for all.
    pub fn watch_tenants(&self) -> &[String] {
        &self.watch_tenants
    }

    /// The templates for whose passports it lets have tickets.
    pub fn exchange_templates(&self) -> impl Iterator<Item = &Template> {
        self.exchange_templates.iter().map(Arc::as_ref)
    }

    /// The listeners that it is for.
    pub fn listeners(&self) -> impl Iterator<Item = &str> {
        self.conditions.iter().filter_map(|condition| match condition {
            Condition::Listener(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether it looks at the peer's control group.
    pub fn is_by_cgroup(&self) -> bool {
        self.conditions.iter().any(|condition| matches!(condition, Condition::Cgroup(_)))
    }

    /// Each condition with whether it holds for the peer.
    pub(super) fn weigh<'a>(
        &'a self,
        peer: &'a Peer,
        overflow: Overflow,
    ) -> impl Iterator<Item = (&'a Condition, bool)> + 'a {
        // Strangers share the overflow uid, so nothing is true of it; not even a listener makes them known.
        let nobody = peer.uid == overflow.uid;
        self.conditions.iter().map(move |condition| (condition, !nobody && condition.holds(peer, overflow)))
    }

    /// Whether every condition holds for the peer. The loader refuses rules without conditions.
    pub(super) fn matches(&self, peer: &Peer, overflow: Overflow) -> bool {
        !self.conditions.is_empty() && self.weigh(peer, overflow).all(|(_, holds)| holds)
    }

    /// The name that a `user` condition gives to the peers that the rule matches.
    pub(super) fn user(&self) -> Option<&str> {
        self.conditions.iter().find_map(|condition| match condition {
            Condition::User(name, _) => Some(&**name),
            _ => None,
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {:?} ({}:{})", self.name, self.file, self.line)
    }
}
