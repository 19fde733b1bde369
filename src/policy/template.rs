//! Templates: the upper bound of what goes into a passport.

use std::sync::Arc;

use crate::wire::PassportForm;

/// The variable that stands for the peer's user name in a subject pattern.
const USER: &str = "{user}";

/// A `[[template]]`.
#[derive(Debug, PartialEq, Eq)]
pub struct Template {
    pub(super) name: String,
    pub(super) file: Arc<str>,
    pub(super) tenant: String,
    pub(super) purpose: String,
    pub(super) subjects: Vec<Pattern>,
    pub(super) audiences: Vec<String>,
    pub(super) scopes: Vec<String>,
    pub(super) default_scopes: Vec<String>,
    pub(super) actions: Vec<String>,
    pub(super) max_ttl_s: u64,
    pub(super) default_ttl_s: Option<u64>,
    /// In which forms; at least one.
    pub(super) forms: Vec<PassportForm>,
    /// How often a passport may be accepted at most; none: it has no limit.
    pub(super) limit: Option<u32>,
    pub(super) nonce: Need,
    pub(super) proof: Need,
    pub(super) bind: Bind,
    /// Whoever verifies without the daemon may accept what only it can count.
    pub(super) offline_risk: bool,
}

/// To whom passports of a template are bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Bind {
    /// To nobody.
    #[default]
    None,
    /// To the user who alone may present them.
    Peer,
}

impl Bind {
    /// That of this name.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "peer" => Some(Self::Peer),
            _ => None,
        }
    }
}

/// Whether passports of a template have something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Need {
    /// None of them has.
    #[default]
    None,
    /// Whoever asks for one decides.
    Optional,
    /// All of them have.
    Required,
}

impl Need {
    /// That of this name.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "optional" => Some(Self::Optional),
            "required" => Some(Self::Required),
            _ => None,
        }
    }
}

impl Template {
    /// Its name, unique in the policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tenant whose key signs.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The purpose of the key that signs.
    pub fn purpose(&self) -> &str {
        &self.purpose
    }

    /// The audiences that it allows.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The lifetime of a passport for which none was asked, if the template has one; in seconds.
    pub const fn default_ttl_s(&self) -> Option<u64> {
        self.default_ttl_s
    }

    /// The longest lifetime, in seconds.
    pub const fn max_ttl_s(&self) -> u64 {
        self.max_ttl_s
    }
}

/// A subject pattern: literal text that may hold `{user}` once, and may end in `*`, which stands for anything.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    before: String,
    /// What follows `{user}`, if that stands in the pattern.
    after: Option<String>,
    star: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (body, star) = text.strip_suffix('*').map_or((text, false), |body| (body, true));
        let (before, after) = body.split_once(USER).map_or((body, None), |(before, after)| (before, Some(after)));
        if star && after == Some("") {
            return Err(
                "`{user}*` would let \"al\" speak for \"alice\"; put a separator before the `*`, as in `{user}/*`",
            );
        }
        if [before, after.unwrap_or_default()].iter().any(|text| text.contains(['*', '{', '}'])) {
            return Err("a subject pattern may have one `*`, at its end, and one `{user}`");
        }
        if text.is_empty() {
            return Err("a subject pattern must not be empty");
        }
        Ok(Self { before: before.to_owned(), after: after.map(str::to_owned), star })
    }

    /// Whether `subject` fits, for a peer of that user name.
    pub(super) fn matches(&self, subject: &str, user: Option<&str>) -> bool {
        let rest = subject.strip_prefix(self.before.as_str());
        let rest = match &self.after {
            None => rest,
            Some(after) => {
                rest.and_then(|rest| rest.strip_prefix(user?)).and_then(|rest| rest.strip_prefix(after.as_str()))
            }
        };
        rest.is_some_and(|rest| self.star || rest.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_by_table() {
        for (pattern, subject, user, fits) in [
            ("alice", "alice", None, true),
            ("alice", "alice2", None, false),
            ("alice", "alic", None, false),
            ("*", "anything/at all", None, true),
            ("svc/*", "svc/a", None, true),
            ("svc/*", "svc/", None, true),
            ("svc/*", "svc", None, false),
            ("{user}", "alice", Some("alice"), true),
            ("{user}", "alice", Some("al"), false),
            ("{user}", "alice", None, false),
            ("{user}", "{user}", None, false),
            ("u/{user}/*", "u/alice/x", Some("alice"), true),
            ("u/{user}/*", "u/alicex", Some("alice"), false),
            ("u/{user}/*", "u/bob/x", Some("alice"), false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(subject, user), fits, "{pattern} {subject} {user:?}");
        }
    }

    #[test]
    fn patterns_that_mean_something_else_are_refused() {
        for bad in ["", "a*b", "**", "{usr}", "{user}{user}", "{user}*", "x{user}*", "a}"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }
}
