//! What changed for those who judge passports elsewhere: told once it is durable, in the order of the commits, and before
//! whoever asked for it hears of it. What failed and is found to be durable all the same is told then.

use std::sync::{PoisonError, RwLockReadGuard};

use redb::Database;

use super::entry::{Entry, What};
use super::kept::Kept;
use super::store::{Shared, Store};

/// Something that refuses more than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A passport or a subject is revoked.
    Revoked(Entry),
    /// A key is compromised.
    Compromised {
        /// The key's tenant.
        tenant: String,
        /// Its id.
        kid: String,
    },
    /// An epoch has begun.
    Epoch {
        /// Of this tenant; none: every tenant is in this one at least.
        tenant: Option<String>,
        /// Its number.
        epoch: u64,
    },
}

impl News {
    /// Whether it is so by these tables.
    pub(super) fn holds(&self, kept: &Kept) -> bool {
        match self {
            Self::Revoked(Entry { until, tenant, what, .. }) => match what {
                What::RevokedId { jti } => kept.id_revoked_until(tenant, jti, *until),
                What::RevokedSubject { sub, before } => {
                    kept.subject_revoked(tenant, sub).is_some_and(|known| known >= *before)
                }
                _ => false,
            },
            Self::Compromised { kid, .. } => kept.is_compromised(kid),
            Self::Epoch { tenant, epoch } => {
                tenant.as_ref().map_or(kept.floor(), |tenant| kept.epoch(tenant)) >= *epoch
            }
        }
    }
}

/// Who is told. It runs on the thread that writes, so it waits for nothing.
pub type Ear = Box<dyn Fn(Vec<News>) + Send + Sync>;

impl Shared {
    pub(super) fn db(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.db.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for those who read a page.
    pub(super) fn set_db(&self, db: Option<Database>) {
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = db;
    }

    pub(super) fn is_open(&self) -> bool {
        self.db().is_some()
    }

    pub(super) fn tell(&self, news: Vec<News>) {
        if let Some(ear) = self.ear.get().filter(|_| !news.is_empty()) {
            ear(news);
        }
    }
}

impl Store {
    /// Has `ear` told what is durable from now on. There is one: a second is passed over.
    pub fn listen(&self, ear: Ear) {
        drop(self.shared.ear.set(ear));
    }
}
