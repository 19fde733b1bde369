//! Who wants to be told what, and what the state has to tell.

use std::collections::BTreeSet;

use crate::state::{self, Entry, News};
use crate::wire::watch::{Topic, What};

/// Bytes of its text.
pub(super) const fn text_len(what: &What) -> usize {
    match what {
        What::Key { kid, state } => kid.len().saturating_add(state.len()),
        What::RevokedId { jti: text, .. } | What::RevokedSubject { sub: text, .. } | What::RevokedKey { kid: text } => {
            text.len()
        }
        What::Epoch { .. } | What::Policy { .. } | What::Draining { .. } => 0,
    }
}

/// The event of something that the state says is durable.
pub fn of_state(news: News) -> Option<(Option<String>, What)> {
    match news {
        News::Revoked(entry) => of_entry(&entry).map(|what| (Some(entry.tenant), what)),
        News::Compromised { tenant, kid } => Some((Some(tenant), What::RevokedKey { kid })),
        News::Epoch { tenant, epoch } => Some((tenant, What::Epoch { epoch })),
    }
}

/// What a row of the state revokes, if it does.
pub fn of_entry(entry: &Entry) -> Option<What> {
    let until = entry.until;
    match &entry.what {
        state::What::RevokedId { jti } => Some(What::RevokedId { jti: jti.clone(), until }),
        state::What::RevokedSubject { sub, before } => {
            Some(What::RevokedSubject { sub: sub.clone(), before: *before, until })
        }
        _ => None,
    }
}

/// The tenants whose events a watcher may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenants {
    /// Every one, also those that are made later.
    All,
    /// These.
    These(BTreeSet<String>),
}

impl Tenants {
    /// Whether this one is among them.
    pub fn has(&self, tenant: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(these) => these.contains(tenant),
        }
    }

    /// Stands for them.
    pub fn tag(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        self.hash(&mut hasher);
        hasher.finalize().into()
    }

    fn hash(&self, hasher: &mut blake3::Hasher) {
        match self {
            Self::All => {
                hasher.update(b"*");
            }
            Self::These(these) => {
                for name in these {
                    // Names have no zeros in them.
                    hasher.update(b"\0").update(name.as_bytes());
                }
            }
        }
    }
}

/// What a watcher wants and may see. What is everybody's is seen by all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wants {
    topics: BTreeSet<Topic>,
    tenants: Tenants,
    tag: [u8; 32],
}

impl Wants {
    /// About what, and of whom.
    pub fn new(topics: BTreeSet<Topic>, tenants: Tenants) -> Self {
        let mut hasher = blake3::Hasher::new();
        for topic in &topics {
            hasher.update(match topic {
                Topic::Keys => b"k",
                Topic::Revocations => b"r",
                Topic::Epochs => b"e",
                Topic::Policy => b"p",
                Topic::Drain => b"d",
            });
        }
        tenants.hash(&mut hasher);
        Self { topics, tenants, tag: hasher.finalize().into() }
    }

    pub(super) fn topic(&self, topic: Topic) -> bool {
        self.topics.contains(&topic)
    }

    pub(super) const fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    pub(super) fn tenant(&self, tenant: Option<&str>) -> bool {
        tenant.is_none_or(|tenant| self.tenants.has(tenant))
    }

    /// Stands for it in a cursor: who has it from wanting less has not heard all that it wants now.
    pub(super) const fn tag(&self) -> [u8; 32] {
        self.tag
    }
}
