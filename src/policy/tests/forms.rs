//! In which forms passports are issued.

use super::*;
use crate::wire::PassportForm;

#[test]
fn a_form_is_given_where_the_template_has_it() {
    for (forms, envelope, jws) in [
        ("", true, false),
        ("forms = ['envelope']", true, false),
        ("forms = ['jws']", false, true),
        ("forms = ['jws', 'envelope']", true, true),
    ] {
        let text = format!(
            "[[peer]]\nname = 'r'\nuid = 1\nallow = ['issue']\ntemplates = ['demo']\n[[template]]\nname = 'demo'\n\
             tenant = 't'\npurpose = 'p'\nsubjects = ['*']\naudiences = ['a']\nmax_ttl_s = 60\n{forms}"
        );
        let policy = policy(&text);
        let given = |form| {
            let decision = policy.decide_issue(&uid(1), &IssueWish { form, ..decisions::wish() }, &decisions::BOUNDS);
            decision.into_result().map(drop).map_err(|denial| (denial.code, denial.rule))
        };
        for (form, expected) in [(PassportForm::Envelope, envelope), (PassportForm::Jws, jws)] {
            let given = given(form);
            assert_eq!(given.is_ok(), expected, "{forms} {form:?}");
            if let Err((code, rule)) = given {
                assert_eq!(code, DenyCode::ScopeDenied);
                assert!(rule.starts_with("`forms` of template \"demo\"") && rule.contains(form.name()), "{rule}");
            }
        }
    }
}
