//! What bounds one connection, against a speaker of the test's own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::service::Refused;
use crate::service::shares::{Bounds, OwnBounds, Shares};
use crate::service::stints::STINT;

/// A greeting or a request; nobody looks into it.
const FRAME: [u8; 5] = [0, 0, 0, 1, 7];

/// Answers each request with so many bytes, after so long.
struct Scripted {
    reply: usize,
    takes: Duration,
    /// How often somebody else has had a turn.
    others: Arc<AtomicUsize>,
    /// That number at each request.
    seen: Mutex<Vec<usize>>,
}

impl Scripted {
    fn new(reply: usize, takes: Duration) -> Arc<Self> {
        Arc::new(Self { reply, takes, others: Arc::default(), seen: Mutex::default() })
    }
}

impl Speaker for Scripted {
    fn greet(&self, _: &[u8], _: &mut Vec<u8>) -> Result<(), Refused> {
        Ok(())
    }

    async fn turn<'b>(&self, bodies: &mut (impl Iterator<Item = &'b [u8]> + Send), out: &mut Vec<u8>) -> Turned {
        bodies.next().unwrap();
        self.seen.lock().unwrap().push(self.others.load(Ordering::SeqCst));
        let begun = std::time::Instant::now();
        while begun.elapsed() < self.takes {
            std::hint::spin_loop();
        }
        out.resize(out.len() + self.reply, 0);
        Turned::Done
    }

    fn refuse(&self, _: u64, _: Problem, _: &mut Vec<u8>) {}

    fn refuse_greeting(&self, _: &mut Vec<u8>) {}
}

/// Serves what is sent until the connection ends; how it ended.
async fn served(speaker: &Arc<Scripted>, near: UnixStream) -> End {
    let bounds = Bounds { connections: 8, connections_per_uid: 8, bytes: 1 << 20, bytes_per_uid: 1 << 20 };
    let shares = Shares::new(1, Box::new(move || bounds));
    let place = Arc::new(shares.admit(1, OwnBounds::default()).unwrap());
    let patience = Patience { read: Duration::from_millis(100), idle: Duration::from_secs(20), in_flight: 4 };
    let (_running, stop) = watch::channel(false);
    serve(near, Arc::clone(speaker), place, patience, stop).await
}

#[tokio::test]
async fn so_much_output_waits_to_be_written_and_nothing_more_is_handled() {
    for (reply, handled) in [(OUTPUT_HIGH / 4, 4), (OUTPUT_HIGH / 4 - 1, 5)] {
        let speaker = Scripted::new(reply, Duration::ZERO);
        let (mut far, near) = UnixStream::pair().unwrap();
        // Full, so that the socket takes nothing of it.
        near.writable().await.unwrap();
        while near.try_write(&[0; 4096]).is_ok() {}
        far.write_all(&FRAME.repeat(20)).await.unwrap();
        assert!(matches!(served(&speaker, near).await, End::NotReading));
        assert_eq!(speaker.seen.lock().unwrap().len(), handled, "replies of {reply} bytes");
    }
}

#[tokio::test]
async fn others_have_their_turn_after_each_stint_and_not_within_one() {
    for (takes, each_time) in [(STINT, true), (Duration::ZERO, false)] {
        let speaker = Scripted::new(1, takes);
        let others = Arc::clone(&speaker.others);
        let other = tokio::spawn(async move {
            loop {
                others.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        let (mut far, near) = UnixStream::pair().unwrap();
        far.write_all(&FRAME.repeat(51)).await.unwrap();
        far.shutdown().await.unwrap();
        assert!(matches!(served(&speaker, near).await, End::Closed));
        other.abort();
        let seen = speaker.seen.lock().unwrap();
        assert_eq!(seen.len(), 50);
        assert_eq!(seen.windows(2).all(|pair| pair[0] < pair[1]), each_time, "{takes:?}: {seen:?}");
    }
}
