//! A transcript as one page that needs nothing beside it: no script, no font, no picture.

use super::super::html::{Page, escaped};
use super::super::text::time;
use crate::statement::Signed;
use crate::statement::transcript::{Attributes, Finding, KeyFacts, Transcript};

/// The page. What others wrote is escaped.
pub(super) fn html(read: &Transcript, signed: &Signed, findings: &[Finding]) -> String {
    let plan = &read.plan;
    let mut page = Page::new(&format!("Ceremony {}", plan.id));
    page.raw("<h1>Transcript of a key ceremony</h1>");
    page.rows(&[
        ("Instance", plan.issuer.clone()),
        ("Plan", plan.id.clone()),
        ("Hash of the plan", read.plan_hash.clone()),
        (
            "Planned by",
            format!(
                "{} (uid {}) on {}, at {}",
                plan.planner.name,
                plan.planner.uid,
                plan.planner.host,
                time(plan.created)
            ),
        ),
        ("Good until", time(plan.expires)),
        ("Held by", format!("uid {}", read.operator_uid)),
        ("From, to", format!("{} to {}", time(read.begun), time(read.finished))),
        ("Signed by", format!("{}, public key {}", read.signer.kid, read.signer.public)),
        ("Signature", signed.sig.clone()),
    ]);
    page.heading("Checked");
    page.raw("<table>");
    for Finding { ok, what, detail } in findings {
        let mark = if *ok { "<td class=good>good" } else { "<td class=bad>WRONG" };
        page.raw(&format!("<tr><th>{}{mark}<td>{}", escaped(what), escaped(detail)));
    }
    page.raw(
        "</table><p>This page is a reading of the transcript; the transcript and its signature are what counts: \
              <code>passportctl ceremony verify</code>.",
    );
    page.heading("Approved by");
    if read.approvals.is_empty() {
        page.raw("<p>Nobody had to.");
    }
    let rows: Vec<(&str, String)> = read
        .approvals
        .iter()
        .map(|one| match (&one.approval, one.by_uid_alone) {
            (Some(approval), _) => (one.name.as_str(), format!("key {}, at {}", approval.key, time(approval.time))),
            (None, uid) => (
                one.name.as_str(),
                format!("by uid {} ALONE: no signature, the word of the host's kernel", uid.unwrap_or_default()),
            ),
        })
        .collect();
    page.rows(&rows);
    if let Some(rule) = &read.rule {
        page.raw(&format!("<p>The rule: {}.", escaped(&rule.to_string())));
    }
    page.heading("The HSM");
    let device = &read.device;
    page.rows(&[
        ("Module", device.module.clone()),
        ("Token", device.label.clone()),
        ("Serial number", device.serial.clone()),
        ("Maker, model", format!("{}, {}", device.manufacturer, device.model)),
        ("Firmware, hardware", format!("{}, {}", device.firmware, device.hardware)),
    ]);
    for (at, (step, done)) in plan.steps.iter().zip(&read.steps).enumerate() {
        page.heading(&format!("Step {}: {}", at + 1, step.words()));
        page.raw(&format!("<p>Done at {}.", escaped(&time(done.done))));
        for note in &done.notes {
            page.raw(&format!("<p>{}", escaped(note)));
        }
        done.keys.iter().for_each(|key| page.key(key));
    }
    page.daemon(read);
    page.end()
}

impl Page {
    fn key(&mut self, key: &KeyFacts) {
        let Attributes {
            private,
            sensitive,
            extractable,
            sign,
            local,
            always_sensitive,
            never_extractable,
            mechanisms_bound,
        } = key.attributes;
        let all = [
            ("CKA_LOCAL", local),
            ("CKA_ALWAYS_SENSITIVE", always_sensitive),
            ("CKA_NEVER_EXTRACTABLE", never_extractable),
            ("CKA_SENSITIVE", sensitive),
            ("CKA_EXTRACTABLE", extractable),
            ("CKA_PRIVATE", private),
            ("CKA_SIGN", sign),
            ("CKA_ALLOWED_MECHANISMS is that one", Some(mechanisms_bound)),
        ];
        let mut said = String::new();
        for (name, value) in all {
            let value = value.map_or("the HSM does not say", |value| if value { "yes" } else { "no" });
            said.push_str(&format!("{name}: {value}; "));
        }
        self.rows(&[
            ("Key", key.kid.clone()),
            ("CKA_ID", key.cka_id.clone()),
            ("Public key", key.public.clone().unwrap_or_else(|| "none: it seals".to_owned())),
            ("Mechanism", key.mechanism.clone()),
            ("Attributes", said.trim_end_matches("; ").to_owned()),
            ("Signature over the challenge", key.challenge.clone().unwrap_or_else(|| "none: it seals".to_owned())),
        ]);
    }

    fn daemon(&mut self, read: &Transcript) {
        self.heading("What the tool had the daemon do");
        let Some(daemon) = &read.daemon else {
            self.raw("<p>Nothing, or nothing that was told.");
            return;
        };
        self.raw("<p>The ceremony process did not see this; it signed that it was told so. The audit log says whether it is so.");
        let seq = |seq: Option<u64>| seq.map_or_else(|| "unknown".to_owned(), |seq| seq.to_string());
        let mut rows = vec![("Audit log before", seq(daemon.audit_before))];
        rows.extend(
            daemon.did.iter().map(|one| (one.op.as_str(), format!("{}, on record by {}", one.kid, seq(one.audit_seq)))),
        );
        rows.push(("Audit log after", seq(daemon.audit_after)));
        self.rows(&rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passport::hex;
    use crate::statement::plan::{Plan, Planner, Step};
    use crate::statement::transcript::StepDone;

    #[test]
    fn what_others_wrote_is_text_and_nothing_is_fetched() {
        let evil = "<script>alert(1)</script>\u{202e}&\"'";
        let planner = Planner { uid: 0, name: evil.to_owned(), host: "h".to_owned() };
        let step = Step::Rotate { tenant: evil.to_owned(), purpose: "auth".to_owned() };
        let plan = Plan::new(&[1; 16], evil.to_owned(), planner, None, vec![step]).made(1, 2);
        let mut read = Transcript::of(plan, &[2; 32]);
        read.device.label = evil.to_owned();
        read.steps = vec![StepDone { done: 1, keys: vec![], notes: vec![evil.to_owned()] }];
        let findings = [Finding { ok: false, what: "plan".to_owned(), detail: evil.to_owned() }];
        let page = html(&read, &Signed::new("k", &[0; 64]), &findings);
        assert_eq!(page.matches("alert(1)").count(), 6);
        assert!(!page.contains("<script") && !page.contains('\u{202e}') && page.contains("&lt;script&gt;"));
        assert!(page.contains("class=bad>WRONG") && page.contains(&hex::encode(&[0; 8])));
        for outside in ["http:", "https:", "src=", "href=", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
