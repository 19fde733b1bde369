//! Which records somebody wants to see.

use super::line::Record;

/// What a record must be. An empty list asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these events.
    pub events: Vec<String>,
    /// One of these outcomes.
    pub outcomes: Vec<String>,
    /// Of one of these users.
    pub uids: Vec<u32>,
    /// Of this subject.
    pub sub: Option<String>,
    /// Of this passport.
    pub jti: Option<String>,
    /// Of this key.
    pub kid: Option<String>,
    /// For one of these reasons.
    pub reasons: Vec<String>,
    /// Of this request.
    pub corr_id: Option<String>,
    /// From this number on …
    pub first: u64,
    /// … to this one.
    pub last: Option<u64>,
    /// From this time on: as in records, which sorts as text …
    pub since: Option<String>,
    /// … to before this one.
    pub until: Option<String>,
}

impl Filter {
    /// Whether a record is wanted.
    pub fn wants(&self, record: &Record<'_>) -> bool {
        let among = |list: &[String], text: &str| list.is_empty() || list.iter().any(|one| one == text);
        let is = |wanted: &Option<String>, text: Option<&str>| wanted.is_none() || wanted.as_deref() == text;
        record.seq >= self.first
            && self.last.is_none_or(|last| record.seq <= last)
            && among(&self.events, &record.event)
            && among(&self.outcomes, &record.outcome)
            && (self.uids.is_empty() || record.uid.is_some_and(|uid| self.uids.contains(&uid)))
            && is(&self.sub, record.sub.as_deref())
            && is(&self.jti, record.jti.as_deref())
            && is(&self.kid, record.kid.as_deref())
            && is(&self.corr_id, record.corr_id.as_deref())
            && (self.reasons.is_empty() || among(&self.reasons, record.reason.as_deref().unwrap_or_default()))
            && self.since.as_deref().is_none_or(|since| &*record.time >= since)
            && self.until.as_deref().is_none_or(|until| &*record.time < until)
    }

    /// Whether no later record can be wanted.
    pub fn is_past(&self, seq: u64) -> bool {
        self.last.is_some_and(|last| seq >= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_counts() {
        let hash = "0".repeat(64);
        let line = format!(
            r#"{{"corr_id":"c","event":"passport_issued","hash":"{hash}","jti":"j","kid":"k","outcome":"ok","prev":"{hash}","reason":"r","seq":7,"sub":"s","time":"2027-01-15T08:00:00.000000Z","uid":3}}"#
        );
        let record = Record::look(line.as_bytes()).unwrap();
        let text = |text: &str| Some(text.to_owned());
        let list = |text: &str| vec![text.to_owned()];
        let filters = |good: bool| {
            let pick = |right: &'static str| if good { right } else { "other" };
            let base = Filter::default;
            [
                Filter { events: list(pick("passport_issued")), ..base() },
                Filter { outcomes: list(pick("ok")), ..base() },
                Filter { uids: vec![if good { 3 } else { 4 }], ..base() },
                Filter { sub: text(pick("s")), ..base() },
                Filter { jti: text(pick("j")), ..base() },
                Filter { kid: text(pick("k")), ..base() },
                Filter { reasons: list(pick("r")), ..base() },
                Filter { corr_id: text(pick("c")), ..base() },
                Filter { first: if good { 7 } else { 8 }, ..base() },
                Filter { last: Some(if good { 7 } else { 6 }), ..base() },
                Filter {
                    since: text(if good { "2027-01-15T08:00:00.000000Z" } else { "2027-01-15T08:00:00.000001Z" }),
                    ..base()
                },
                Filter {
                    until: text(if good { "2027-01-15T08:00:00.000001Z" } else { "2027-01-15T08:00:00.000000Z" }),
                    ..base()
                },
            ]
        };
        assert!(Filter::default().wants(&record) && filters(true).iter().all(|filter| filter.wants(&record)));
        assert!(!filters(false).iter().any(|filter| filter.wants(&record)));
    }
}
