//! What is kept, for how long, and who waits.

use super::super::PAGE;
use super::*;
use crate::hsm::server::outbox::Outbox;
use crate::secret::LockedBuf;
use std::os::unix::net::UnixStream;

const KID: &str = "hmac-sha256/t1/seal/v1";

struct Bench {
    keys: Keys,
    ring: Arc<Ring>,
    outbox: Outbox,
    begun: Instant,
    _peer: UnixStream,
}

fn bench() -> Bench {
    let (ours, _peer) = UnixStream::pair().unwrap();
    let outbox = Outbox::start(ours).unwrap();
    let ring: Arc<Ring> = Arc::default();
    let keys = Keys { ring: Some(Arc::clone(&ring)), ..Keys::default() };
    Bench { keys, ring, outbox, begun: Instant::now(), _peer }
}

impl Bench {
    fn take(&mut self, namespace: &str, bytes: usize, at_s: u64) -> Result<Taken, LinkRefusal> {
        let outbox = self.outbox.clone();
        let park = || {
            let bytes = LockedBuf::holding(&vec![7; bytes]).unwrap();
            Ok(Parked { id: 1, name: "n".to_owned(), unseals: false, bytes, outbox })
        };
        self.keys.take(&self.ring, KID, namespace, self.begun + Duration::from_secs(at_s), park)
    }

    fn settle(&mut self, namespace: &str, key: Option<u8>, at_s: u64) -> usize {
        let key = key.map(|n| [n; KEY]);
        self.keys.settle(KID, namespace, key.as_ref(), self.begun + Duration::from_secs(at_s)).len()
    }

    /// The key that is kept, if there is one; else whoever asks waits.
    fn kept(&mut self, namespace: &str, at_s: u64) -> Option<u8> {
        match self.take(namespace, 0, at_s).unwrap() {
            Taken::Key(key) => Some(key[KEY - 1]),
            Taken::First | Taken::Parked => {
                self.settle(namespace, None, at_s);
                None
            }
        }
    }
}

#[test]
fn the_first_asks_the_hsm_and_the_others_wait_with_it() {
    let mut bench = bench();
    assert!(matches!(bench.take("t1/a", 10, 0), Ok(Taken::First)));
    assert!(matches!(bench.take("t1/a", 10, 0), Ok(Taken::Parked)));
    assert!(matches!(bench.take("t1/b", 10, 0), Ok(Taken::First)));
    assert_eq!(bench.settle("t1/a", Some(5), 0), 2);
    assert_eq!((bench.kept("t1/a", 0), bench.keys.parked), (Some(5), PAGE));
    assert_eq!((bench.settle("t1/b", None, 0), bench.kept("t1/b", 0), bench.keys.parked), (1, None, 0));
}

#[test]
fn a_page_of_keys_is_kept_and_with_one_more_the_oldest_goes() {
    let mut bench = bench();
    for n in 0..=MAX_DERIVED {
        bench.settle(&format!("t1/n{n}"), Some(u8::try_from(n).unwrap()), u64::try_from(n).unwrap() / 10);
        if n == MAX_DERIVED - 1 {
            // It is used again, so another is the oldest.
            assert_eq!(bench.kept("t1/n0", 20), Some(0));
        }
    }
    assert_eq!(bench.keys.kept.len(), MAX_DERIVED);
    let gone = (0..=MAX_DERIVED).filter(|n| bench.kept(&format!("t1/n{n}"), 20).is_none()).count();
    assert_eq!((gone, bench.kept("t1/n0", 20), bench.kept("t1/n128", 20)), (1, Some(0), Some(128)));
}

#[test]
fn a_key_that_nobody_asks_for_is_zeroised() {
    let mut bench = bench();
    bench.settle("t1/a", Some(5), 0);
    bench.settle("t1/b", Some(6), 59);
    bench.keys.tidy(bench.begun + KEPT - Duration::from_secs(1));
    assert_eq!(bench.keys.kept.len(), 2);
    bench.keys.tidy(bench.begun + KEPT);
    assert_eq!((bench.kept("t1/b", 60), bench.keys.kept.len()), (Some(6), 1));
    let page = bench.keys.page.as_ref().unwrap().expose();
    assert!(!page.contains(&5) && page.contains(&6));
}

#[test]
fn other_keys_in_the_hsm_are_derived_from_anew() {
    let mut bench = bench();
    bench.settle("t1/a", Some(5), 0);
    assert_eq!(bench.kept("t1/a", 0), Some(5));
    bench.ring = Arc::default();
    assert_eq!(bench.kept("t1/a", 0), None);
    assert!(!bench.keys.page.as_ref().unwrap().expose().contains(&5));
}

#[test]
fn one_key_has_half_of_the_room_and_all_have_no_more() {
    let mut bench = bench();
    let each = 64 * 1024;
    let fill = |bench: &mut Bench, namespace: &str| {
        let admitted = (0..).take_while(|_| bench.take(namespace, each, 0).is_ok()).count();
        assert!(matches!(bench.take(namespace, each, 0), Err(LinkRefusal::Busy)));
        admitted
    };
    assert_eq!(fill(&mut bench, "t1/a") * each, MAX_PARKED / 2);
    assert!(matches!(bench.take("t1/a", 0, 0), Err(LinkRefusal::Busy)), "a page is a page");
    assert_eq!(fill(&mut bench, "t1/b") * each, MAX_PARKED / 2);
    assert!(matches!(bench.take("t1/c", 0, 0), Err(LinkRefusal::Busy)));
    assert_eq!(bench.settle("t1/a", None, 0) * each, MAX_PARKED / 2);
    assert!(bench.take("t1/c", each, 0).is_ok());
}
