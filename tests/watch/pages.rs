//! All that is in force, page by page.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use passportd::wire::{AdminOp, Code, Problem, Revocation, RevocationPage, ServiceOk, ServiceOp, TenantEpoch, What};

use super::{admin, options, revoke_ids};
use crate::support::House;
use crate::support::house::FIRST_KEY;
use crate::support::raw::Raw;

fn page(raw: &mut Raw, after: Option<&[u8]>) -> Result<RevocationPage, Problem> {
    match raw.ask(ServiceOp::Revocations { after })? {
        ServiceOk::Revocations(page) => Ok(page),
        other => panic!("{other:?}"),
    }
}

/// Every page; how many there were.
fn pages(raw: &mut Raw) -> (Vec<RevocationPage>, BTreeSet<String>) {
    let (mut all, mut ids): (Vec<RevocationPage>, BTreeSet<String>) = (Vec::new(), BTreeSet::new());
    loop {
        let after = all.last().map(|page| page.next.clone().unwrap());
        let next = page(raw, after.as_deref()).unwrap();
        ids.extend(next.revoked.iter().map(|one| match &one.what {
            What::RevokedId { jti, .. } => jti.clone(),
            What::RevokedSubject { sub, .. } => sub.clone(),
            other => panic!("{other:?}"),
        }));
        let last = next.next.is_none();
        all.push(next);
        if last {
            return (all, ids);
        }
    }
}

/// Twenty thousand, while others come: all that were there are on the pages, before a restart and after it.
#[test]
fn all_that_is_revoked_is_on_the_pages_while_more_comes() {
    const COUNT: usize = 20_000;
    let mut house = House::start(options());
    let all: Vec<String> = (0..COUNT).map(|number| format!("01985b2c-0000-7000-8000-{number:012}")).collect();
    let mut admins = house.admin_raw();
    all.chunks(250).for_each(|part| revoke_ids(&mut admins, "t1", part));
    admin(&house, AdminOp::BumpEpoch { tenant: "t1", reason: "a test" });
    let what = vec![Revocation::Subject { sub: "alice", before: None }];
    admin(&house, AdminOp::Revoke { tenant: "t1", what, reason: "a test" });
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (house, end) = (&house, &end);
        scope.spawn(move || {
            let mut raw = house.admin_raw();
            for number in 0.. {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                revoke_ids(&mut raw, "t1", &[format!("meanwhile-{number}")]);
            }
        });
        let (read, ids) = pages(&mut house.raw());
        end.store(true, Ordering::SeqCst);
        assert!(read.len() >= 4, "{} pages", read.len());
        assert!(all.iter().all(|id| ids.contains(id)) && ids.contains("alice"));
        let first = &read[0];
        assert_eq!(first.tenants.as_deref(), Some(&["t1".to_owned()][..]));
        assert_eq!(first.epochs, [TenantEpoch { tenant: "t1".to_owned(), epoch: 1 }]);
        assert!(first.compromised.is_empty() && read[1..].iter().all(|page| page.epochs.is_empty()));
    });
    admin(&house, AdminOp::Compromise { kid: FIRST_KEY, reason: "a test" });
    assert!(house.stop().success());
    house.boot();
    let mut raw = house.raw();
    let (read, ids) = pages(&mut raw);
    assert!(all.iter().all(|id| ids.contains(id)) && ids.contains("alice") && ids.contains("meanwhile-0"));
    assert_eq!(read[0].compromised, [FIRST_KEY]);
}

#[test]
fn a_page_of_another_life_or_of_nobodys_is_none() {
    let mut house = House::start(options());
    let all: Vec<String> = (0..4_000).map(|number| format!("{number:0100}")).collect();
    let mut admins = house.admin_raw();
    all.chunks(250).for_each(|part| revoke_ids(&mut admins, "t1", part));
    let next = page(&mut house.raw(), None).unwrap().next.unwrap();
    // On another connection, twice: the same page.
    let (one, other) = (page(&mut house.raw(), Some(&next)).unwrap(), page(&mut house.raw(), Some(&next)).unwrap());
    assert!(!one.revoked.is_empty() && one.revoked == other.revoked);
    let mut bent = next.clone();
    bent[20] ^= 1;
    for bad in [&b""[..], b"no place", &bent, &vec![0; 100_000]] {
        assert_eq!(page(&mut house.raw(), Some(bad)).unwrap_err().code, Code::Malformed);
    }
    assert!(house.stop().success());
    house.boot();
    assert_eq!(page(&mut house.raw(), Some(&next)).unwrap_err().code, Code::Malformed);
}
