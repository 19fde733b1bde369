//! Whether what came is what was expected.

use serde_json::Value;

use super::values::{Names, at, evaluate, function};

/// The longest quotation of a value in a message, in characters.
const QUOTED: usize = 200;

/// Compares; the error names the first place where the two differ. `$reply` is what is compared.
pub(super) fn compare(expected: &Value, actual: &Value, names: &Names) -> Result<(), String> {
    let mut names = names.clone();
    names.insert("reply".to_owned(), actual.clone());
    Place { names: &names, path: String::new() }.compare(expected, actual)
}

/// A value, cut where it would fill a screen.
pub(super) fn quoted(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

struct Place<'n> {
    names: &'n Names,
    path: String,
}

impl Place<'_> {
    fn within(&self, part: impl std::fmt::Display) -> Self {
        let path = if self.path.is_empty() { part.to_string() } else { format!("{}.{part}", self.path) };
        Self { names: self.names, path }
    }

    fn differs(&self, expected: &str, actual: &Value) -> Result<(), String> {
        Err(self.says(expected, &quoted(actual)))
    }

    fn says(&self, expected: &str, came: &str) -> String {
        let place = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        format!("{place}expected {expected}, came {came}")
    }

    fn compare(&self, expected: &Value, actual: &Value) -> Result<(), String> {
        match (expected, actual) {
            (Value::Object(members), _) if function(members).is_some() => {
                let (name, argument) = function(members).ok_or("no function")?;
                match self.matcher(name, argument, actual) {
                    Some(verdict) => verdict,
                    None => self.equal(&evaluate(expected, self.names)?, actual),
                }
            }
            (Value::Object(members), Value::Object(_)) => members.iter().try_for_each(|(key, one)| {
                let there = self.within(key);
                // A path, so that one line may look deep into an answer.
                match at(actual, key) {
                    Some(value) => there.compare(one, value),
                    None if one.get("$absent").is_some() => Ok(()),
                    None => Err(there.says(&quoted(one), &format!("nothing there: {}", quoted(actual)))),
                }
            }),
            (Value::Array(wanted), Value::Array(there)) if wanted.len() == there.len() => {
                let mut pairs = wanted.iter().zip(there).enumerate();
                pairs.try_for_each(|(index, (wanted, there))| self.within(index).compare(wanted, there))
            }
            (Value::Array(wanted), Value::Array(there)) => {
                Err(self.says(&format!("{} items", wanted.len()), &format!("{} items", there.len())))
            }
            _ => self.equal(&evaluate(expected, self.names)?, actual),
        }
    }

    fn equal(&self, expected: &Value, actual: &Value) -> Result<(), String> {
        if expected == actual { Ok(()) } else { self.differs(&quoted(expected), actual) }
    }

    /// The matchers; `None` for what is an expression of values.
    fn matcher(&self, name: &str, argument: &Value, actual: &Value) -> Option<Result<(), String>> {
        Some(match (name, argument) {
            ("absent", _) => self.differs("nothing", actual),
            ("present", _) if actual.is_null() => self.differs("something", actual),
            ("present", _) => Ok(()),
            ("like", Value::String(pattern)) => match actual.as_str() {
                Some(text) if like(pattern, text) => Ok(()),
                _ => self.differs(&format!("a text like {pattern:?}"), actual),
            },
            ("length", length) => {
                let there = match actual {
                    Value::String(text) => Some(text.len()),
                    Value::Array(items) => Some(items.len()),
                    _ => None,
                };
                match there.map(Value::from) {
                    Some(there) => {
                        evaluate(length, self.names).and_then(|wanted| self.within("length").equal(&wanted, &there))
                    }
                    None => self.differs("a text or a list", actual),
                }
            }
            ("at_least" | "at_most", bound) => self.bounded(name, bound, actual),
            ("one_of", Value::Array(choices)) => {
                if choices.iter().any(|one| self.compare(one, actual).is_ok()) {
                    return Some(Ok(()));
                }
                self.differs(&format!("one of {}", quoted(argument)), actual)
            }
            ("all", Value::Array(matchers)) => matchers.iter().try_for_each(|one| self.compare(one, actual)),
            ("has", Value::Array(wanted)) => self.has(wanted, actual),
            ("each", wanted) => match actual {
                Value::Array(items) => {
                    items.iter().enumerate().try_for_each(|(index, item)| self.within(index).compare(wanted, item))
                }
                _ => self.differs("a list", actual),
            },
            ("json", wanted) => match actual.as_str().and_then(|text| serde_json::from_str(text).ok()) {
                Some(document) => self.compare(wanted, &document),
                None => self.differs("a JSON document", actual),
            },
            _ => return None,
        })
    }

    fn bounded(&self, name: &str, bound: &Value, actual: &Value) -> Result<(), String> {
        let bound = evaluate(bound, self.names)?;
        let (Some(limit), Some(value)) = (bound.as_i64(), actual.as_i64()) else {
            return self.differs(&format!("a whole number, {} {bound}", name.replace('_', " ")), actual);
        };
        let holds = if name == "at_least" { value >= limit } else { value <= limit };
        if holds { Ok(()) } else { self.differs(&format!("{} {bound}", name.replace('_', " ")), actual) }
    }

    fn has(&self, wanted: &[Value], actual: &Value) -> Result<(), String> {
        let Value::Array(items) = actual else { return self.differs("a list", actual) };
        let missing = wanted.iter().find(|one| items.iter().all(|item| self.compare(one, item).is_err()));
        missing.map_or(Ok(()), |missing| self.differs(&format!("an item {}", quoted(missing)), actual))
    }
}

/// Whether `text` is `pattern`, in which `*` stands for any run of characters.
fn like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names() -> Names {
        [("n".to_owned(), json!(7))].into()
    }

    fn compared(expected: &Value, actual: &Value) -> Result<(), String> {
        compare(expected, actual, &names())
    }

    #[test]
    fn members_that_are_not_named_are_not_looked_at_and_lists_are_whole() {
        assert_eq!(compared(&json!({"a": 1}), &json!({"a": 1, "b": 2})), Ok(()));
        assert_eq!(compared(&json!({"a.b.0": 1}), &json!({"a": {"b": [1]}})), Ok(()));
        assert_eq!(
            compared(&json!({"a": [1]}), &json!({"a": [1, 2]})).unwrap_err(),
            "a: expected 1 items, came 2 items"
        );
        assert_eq!(compared(&json!({"a": "$reply.b", "c": {"$absent": true}}), &json!({"a": 1, "b": 1})), Ok(()));
        assert!(compared(&json!({"a": {"$absent": true}}), &json!({"a": null})).is_err());
        assert_eq!(
            compared(&json!({"a": null}), &json!({"b": 1})).unwrap_err(),
            "a: expected null, came nothing there: {\"b\":1}"
        );
        assert_eq!(
            compared(&json!({"a": [1, {"b": "x"}]}), &json!({"a": [1, {"b": "y"}]})).unwrap_err(),
            "a.1.b: expected \"x\", came \"y\""
        );
        assert!(compared(&json!(1), &json!(true)).is_err() && compared(&json!(0), &json!(null)).is_err());
        assert_eq!(compared(&json!("$n"), &json!(7)), Ok(()));
        assert!(compared(&json!("$m"), &json!(7)).unwrap_err().contains("$m"));
    }

    #[test]
    fn every_matcher_takes_what_it_should_and_refuses_the_rest() {
        for (matcher, good, bad) in [
            (json!({"$present": true}), json!(0), json!(null)),
            (json!({"$like": "a*c"}), json!("abc"), json!("abd")),
            (json!({"$length": 2}), json!("ab"), json!([1])),
            (json!({"$at_least": "$n"}), json!(7), json!(6)),
            (json!({"$at_most": {"$plus": ["$n", 1]}}), json!(8), json!(9)),
            (json!({"$one_of": [1, {"$like": "x*"}]}), json!("xy"), json!(2)),
            (json!({"$all": [{"$at_least": 1}, {"$at_most": 2}]}), json!(2), json!(3)),
            (json!({"$has": [{"a": 1}]}), json!([0, {"a": 1}]), json!([{"a": 2}])),
            (json!({"$each": {"$at_least": 1}}), json!([1, 2]), json!([1, 0])),
            (json!({"$json": {"a": 1}}), json!("{\"a\":1}"), json!("{\"a\":2}")),
            (json!({"$plus": [1, 1]}), json!(2), json!(3)),
        ] {
            assert_eq!(compared(&matcher, &good), Ok(()), "{matcher}");
            assert!(compared(&matcher, &bad).is_err(), "{matcher}");
            assert!(compared(&matcher, &json!({})).is_err() || matcher == json!({"$present": true}), "{matcher}");
        }
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, same) in [
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("*", "", true),
            ("*", "ab", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(like(pattern, text), same, "{pattern} {text}");
        }
    }
}
