//! What watchers are told, and when: what the state says as soon as it is durable, everything else where it takes effect.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Daemon;
use crate::clock::Moment;
use crate::metrics::Metrics;
use crate::state::{KeyTable, Store};
use crate::watch::{Stream, What, of_state};

/// The states in which watchers know the keys to be. As many as the key table has.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<HashMap<String, &'static str>>);

impl Shown {
    pub(super) fn new(table: &KeyTable, at: i64) -> Self {
        Self(Mutex::new(table.iter().map(|key| (key.kid.clone(), key.standing(at))).collect()))
    }

    /// The keys of `table` that are in another state than was known, with their tenants. It is known from now on.
    fn changed(&self, table: &KeyTable, at: i64) -> Vec<(Option<String>, What)> {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = table.iter().filter(|key| shown.get(&key.kid) != Some(&key.standing(at)));
        let changed: Vec<_> = changed.map(|key| (key.tenant.clone(), key.kid.clone(), key.standing(at))).collect();
        shown.extend(changed.iter().map(|(_, kid, state)| (kid.clone(), *state)));
        let event =
            |(tenant, kid, state): (String, String, &str)| (Some(tenant), What::Key { kid, state: state.to_owned() });
        changed.into_iter().map(event).collect()
    }
}

/// Has watchers told what the state makes durable, by the thread that does it.
pub(super) fn follow(store: &Store, events: &Arc<Stream>, metrics: &Arc<Metrics>) {
    let (events, metrics) = (Arc::clone(events), Arc::clone(metrics));
    store.listen(Box::new(move |news| tell(&events, &metrics, news.into_iter().filter_map(of_state))));
}

fn tell(events: &Stream, metrics: &Metrics, what: impl IntoIterator<Item = (Option<String>, What)>) {
    // Watchers compare it with their own clock: it is the clock as it stands.
    metrics.events_dropped.inc_by(events.publish(Moment::now().micros().div_euclid(1000), what));
}

impl Daemon {
    /// What is everybody's has happened.
    pub(super) fn tell_watchers(&self, what: What) {
        tell(&self.events, &self.metrics, [(None, what)]);
    }

    /// Keys verify, or don't, as this table says: whoever asks for them is given them so.
    pub(super) fn tell_keys(&self, table: &KeyTable) {
        let changed = self.shown.changed(table, self.ending.judged());
        if !changed.is_empty() {
            tell(&self.events, &self.metrics, changed);
        }
    }
}
