//! To whom passports are bound, and rules to a unit.

use super::*;
use crate::passport::Presenter;

fn text(bind: &str) -> String {
    format!(
        "[[peer]]\nname = 'r'\nuid = 33\nallow = ['issue']\ntemplates = ['demo']\n[[template]]\nname = 'demo'\n\
         tenant = 't'\npurpose = 'p'\nsubjects = ['*']\naudiences = ['a']\nmax_ttl_s = 60\n{bind}"
    )
}

#[test]
fn who_asks_is_bound_or_whom_they_name_where_the_template_binds() {
    for (bind, wish, given) in [
        ("", None, Ok(None)),
        ("bind = 'none'", None, Ok(None)),
        ("bind = 'none'", Some(33), Err("is not \"peer\"")),
        ("", Some(33), Err("is not \"peer\"")),
        ("bind = 'peer'", None, Ok(Some(33))),
        ("bind = 'peer'", Some(7), Ok(Some(7))),
        ("bind = 'peer'", Some(0), Ok(Some(0))),
        ("bind = 'peer'", Some(OVERFLOW.uid), Err("all strangers share uid")),
    ] {
        let wish = IssueWish { uid: wish, ..decisions::wish() };
        let decision = policy(&text(bind)).decide_issue(&uid(33), &wish, &decisions::BOUNDS).into_result();
        match (decision, given) {
            (Ok(terms), Ok(uid)) => assert_eq!(terms.uid, uid, "{bind} {wish:?}"),
            (Err(denial), Err(words)) => {
                assert_eq!(denial.code, DenyCode::ScopeDenied);
                assert!(denial.rule.contains(words) && denial.rule.contains("\"demo\""), "{}", denial.rule);
            }
            (other, _) => panic!("{bind} {wish:?}: {other:?}"),
        }
    }
}

#[test]
fn the_overflow_uid_presents_nothing() {
    let rights = policy(&text("")).rights(&uid(33));
    let cases = [(None, Presenter::Unsaid), (Some(0), Presenter::Uid(0)), (Some(OVERFLOW.uid), Presenter::Nobody)];
    for (said, presenter) in cases {
        assert_eq!(rights.presenter(said), presenter);
    }
}

#[test]
fn a_control_group_is_one_condition_beside_the_user() {
    let policy = policy(
        "[[peer]]\nname = 'a'\nuid = 7\ncgroup = '/system.slice/system-web.slice/web@1.service'\nallow = ['keys']\n",
    );
    assert!(policy.asks_cgroups());
    let within = |id: u32, cgroup: &str| Peer { cgroup: Some(cgroup.to_owned()), ..uid(id) };
    let own = "/system.slice/system-web.slice/web@1.service";
    let may = |peer: &Peer| policy.decide(peer, Operation::Keys).into_result().is_ok();
    assert!(may(&within(7, own)));
    assert!(!may(&within(8, own)), "another user");
    assert!(!may(&uid(7)), "the kernel did not say");
    for other in ["/", "", "/system.slice/web@1.service", &format!("{own}/below"), &format!("{own} (deleted)")] {
        assert!(!may(&within(7, other)), "{other}");
    }
}
