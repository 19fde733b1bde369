//! The task that keeps a verifier fed: it looks at all that is in force, hears what changes, and says when it last heard.
//!
//! What an answer says is at least as new as the question, so that is the time that counts: whatever was acknowledged before a
//! question that was answered has had its effect here. Where the answer is events there may be more of them, so it is as new as
//! the last one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::FeedError;
use super::fed::{Fed, House, Keys, Revoked};
use super::shared::Shared;
use crate::client::dial::pause;
use crate::client::{Client, ClientError, Keys as KeySet};
use crate::clock::Moment;
use crate::wire::{Cursor, Event, Topic, Watched, What};

/// What changes verdicts.
const TOPICS: [Topic; 3] = [Topic::Keys, Topic::Revocations, Topic::Epochs];
/// Before another look at more revocations than may be kept: each look is work for the daemon.
const AFTER_TOO_MANY: Duration = Duration::from_secs(30);
/// Pages of one look: of the smallest, more than the daemon has revocations. A daemon that never comes to an end is none.
const MAX_PAGES: usize = 1 << 16;

/// One connection's worth of watching; it lasts longer than the connection, which the client makes anew.
pub(super) struct Feeder {
    shared: Arc<Shared>,
    client: Client,
    /// From where to read on.
    cursor: Option<Cursor>,
}

impl Feeder {
    pub(super) fn new(shared: Arc<Shared>, client: Client) -> Self {
        Self { shared, client, cursor: None }
    }

    /// Until it is fed for the first time.
    pub(super) async fn begin(&mut self) -> Result<(), FeedError> {
        while !self.shared.is_fresh() {
            self.turn().await?;
        }
        Ok(())
    }

    /// For ever.
    pub(super) async fn feed(mut self) {
        let mut failures: u32 = 0;
        loop {
            let Err(error) = self.turn().await else {
                failures = 0;
                continue;
            };
            let too_many = matches!(error, FeedError::TooMany(_));
            if too_many {
                // What came may not have been kept, and the cursor is past none of it.
                self.cursor = None;
                self.shared.starve();
            }
            if matches!(error, FeedError::Client(ClientError::Timeout)) {
                // What it still does for that question it need not: the next one goes by another connection.
                self.client.forget().await;
            }
            self.shared.failed(error);
            tokio::time::sleep(if too_many { AFTER_TOO_MANY } else { pause(failures) }).await;
            failures = failures.saturating_add(1);
        }
    }

    /// One question, and what follows from its answer.
    async fn turn(&mut self) -> Result<(), FeedError> {
        let asked = Instant::now();
        // Somebody who is late does not wait.
        let wait = if self.shared.age() > 2 * self.shared.wait { Duration::ZERO } else { self.shared.wait };
        match self.client.watch(&TOPICS, self.cursor, wait).await? {
            Watched::Events { events, cursor } => {
                let last = events.last().map(|event| event.at_ms);
                self.hear(events).await?;
                self.cursor = Some(cursor);
                self.shared.heard(last.map_or(asked, |at_ms| as_new_as(at_ms, asked)));
            }
            Watched::Begin { cursor } | Watched::Lagged { cursor, .. } => {
                self.look().await?;
                self.cursor = Some(cursor);
                self.shared.heard(asked);
            }
        }
        Ok(())
    }

    /// Takes what has happened.
    async fn hear(&self, events: Vec<Event>) -> Result<(), FeedError> {
        if events.is_empty() {
            self.shared.tick(Moment::now());
            return Ok(());
        }
        let acknowledged: Vec<i64> =
            events.iter().filter(|event| takes_effect(&event.what)).map(|event| event.at_ms).collect();
        let keys = self.shared.apply(events)?;
        let now = now_ms();
        acknowledged.iter().for_each(|at| self.shared.propagation.took(now.saturating_sub(*at)));
        if keys { self.turn_keys().await } else { Ok(()) }
    }

    /// Asks for the keys, and goes by them.
    async fn turn_keys(&self) -> Result<(), FeedError> {
        if let Some(keys) = self.keys().await? {
            self.shared.turn_to(keys);
        }
        Ok(())
    }

    /// The keys, if they are others than those in use.
    async fn keys(&self) -> Result<Option<Arc<Keys>>, FeedError> {
        let (before, table_bytes) = (self.shared.keys(), self.shared.table_bytes);
        let etag = before.as_ref().map(|before| before.etag);
        let KeySet::Set(set) = self.client.keys(etag).await? else { return Ok(None) };
        // Milliseconds for each new key: not on a thread that others wait for.
        let prepared = tokio::task::spawn_blocking(move || Keys::read(&set, table_bytes, before.as_deref()));
        let keys = prepared.await.map_err(|error| FeedError::Keys(error.to_string()))??;
        Ok(Some(Arc::new(keys)))
    }

    /// Looks at all that is in force. What was in use stays so until that is done.
    async fn look(&self) -> Result<(), FeedError> {
        let welcome = self.client.welcome().await?;
        let max_msg_bytes = usize::try_from(welcome.limits.max_msg_bytes).unwrap_or(usize::MAX);
        let house = House { issuer: welcome.issuer, max_msg_bytes };
        let new = self.keys().await?;
        // Not modified: those in use.
        let keys = new.or_else(|| self.shared.keys()).ok_or(ClientError::WrongAnswer)?;
        let mut revoked = Revoked::default();
        let mut after: Option<Vec<u8>> = None;
        for _ in 0..MAX_PAGES {
            let mut page = self.client.revocations(after.as_deref()).await?;
            after = page.next.take();
            revoked.page(page, self.shared.most)?;
            if after.is_none() {
                self.shared.replace(Fed::new(house, keys, revoked));
                return Ok(());
            }
        }
        Err(FeedError::Client(ClientError::WrongAnswer))
    }
}

/// When an event of this time stamp was, as far as the clock can tell, and not after `asked`.
fn as_new_as(at_ms: i64, asked: Instant) -> Instant {
    let late = u64::try_from(now_ms().saturating_sub(at_ms)).unwrap_or(0);
    Instant::now().checked_sub(Duration::from_millis(late)).unwrap_or(asked).min(asked)
}

fn now_ms() -> i64 {
    Moment::now().micros() / 1000
}

/// Whether something is refused after it.
const fn takes_effect(what: &What) -> bool {
    matches!(what, What::RevokedId { .. } | What::RevokedSubject { .. } | What::RevokedKey { .. } | What::Epoch { .. })
}
