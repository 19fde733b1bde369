//! Expressions: what the data says of values that are not known before the daemon has answered.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::passport::{OwnedEnvelope, hex};

/// What names stand for.
pub(super) type Names = BTreeMap<String, Value>;

/// The most that `$repeat`, `$list` and a filled part may make, in items or bytes: two frames' worth.
const MAX_REPEAT: u64 = 2 << 20;

/// The value of an expression. An error is a mistake in the data.
pub(super) fn evaluate(value: &Value, names: &Names) -> Result<Value, String> {
    match value {
        Value::String(text) => match text.strip_prefix('$') {
            Some(path) => lookup(path, names),
            None => Ok(value.clone()),
        },
        Value::Array(items) => items.iter().map(|item| evaluate(item, names)).collect(),
        Value::Object(members) => match function(members) {
            Some((name, argument)) => call(name, argument, members, names),
            None => {
                let evaluated = members.iter().map(|(key, one)| Ok((key.clone(), evaluate(one, names)?)));
                evaluated.collect::<Result<Map<_, _>, String>>().map(Value::Object)
            }
        },
        plain => Ok(plain.clone()),
    }
}

/// The member whose name starts with `$`, if there is one.
pub(super) fn function(members: &Map<String, Value>) -> Option<(&str, &Value)> {
    members.iter().find_map(|(key, argument)| Some((key.strip_prefix('$')?, argument)))
}

/// What a dotted path of members and indices leads to.
pub(super) fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, part| match value {
        Value::Object(members) => members.get(part),
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

fn lookup(path: &str, names: &Names) -> Result<Value, String> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let value = names.get(name).ok_or_else(|| format!("nothing is bound to ${name}"))?;
    let found = rest.map_or(Some(value), |rest| at(value, rest));
    found.cloned().ok_or_else(|| format!("${path} leads nowhere in {value}"))
}

fn call(name: &str, argument: &Value, members: &Map<String, Value>, names: &Names) -> Result<Value, String> {
    let arguments = || -> Result<Vec<Value>, String> {
        match evaluate(argument, names)? {
            Value::Array(items) => Ok(items),
            other => Err(format!("${name} takes a list, not {other}")),
        }
    };
    match name {
        "plus" => {
            let terms = arguments()?;
            let sum = terms.iter().try_fold(0_i64, |sum, term| sum.checked_add(term.as_i64()?));
            sum.map(Value::from).ok_or_else(|| format!("$plus takes whole numbers, not {terms:?}"))
        }
        "join" => {
            let parts = arguments()?;
            let text: Option<String> = parts.iter().map(Value::as_str).collect();
            text.map(Value::from).ok_or_else(|| format!("$join takes texts, not {parts:?}"))
        }
        "repeat" => match arguments()?.as_slice() {
            [Value::String(text), count] => Ok(text.repeat(times(count, text.len())?).into()),
            other => Err(format!("$repeat takes a text and a number, not {other:?}")),
        },
        "list" => match arguments()?.as_slice() {
            [item, count] => Ok(vec![item.clone(); times(count, 1)?].into()),
            other => Err(format!("$list takes an item and a number, not {other:?}")),
        },
        "altered" => altered(&evaluate(argument, names)?, members, names),
        other => Err(format!("there is no ${other}")),
    }
}

fn times(count: &Value, each: usize) -> Result<usize, String> {
    let wanted = count.as_u64().and_then(|count| count.checked_mul(u64::try_from(each.max(1)).ok()?));
    match (wanted, count.as_u64()) {
        (Some(all), Some(count)) if all <= MAX_REPEAT => usize::try_from(count).map_err(|error| error.to_string()),
        _ => Err(format!("{count} times is no number, or makes more than {MAX_REPEAT}")),
    }
}

/// A passport with changes: the members `alg`, `kid`, `msg` and `sig` beside `$altered`.
fn altered(passport: &Value, changes: &Map<String, Value>, names: &Names) -> Result<Value, String> {
    let mut passport = envelope(passport)?;
    for (member, change) in changes.iter().filter(|(member, _)| !member.starts_with('$')) {
        match (member.as_str(), evaluate(change, names)?) {
            ("alg", Value::String(alg)) => passport.alg = alg,
            ("kid", Value::String(kid)) => passport.kid = kid,
            ("msg", change) => passport.msg = edited(passport.msg, &change)?,
            ("sig", change) => passport.sig = edited(passport.sig, &change)?,
            (_, change) => return Err(format!("a passport's {member} can't be altered to {change}")),
        }
    }
    serde_json::to_value(passport).map_err(|error| error.to_string())
}

/// The envelope (WIRE.md §11) in a value that may say more, as bound replies do.
pub(super) fn envelope(value: &Value) -> Result<OwnedEnvelope, String> {
    let member = |name: &str| (name.to_owned(), value.get(name).cloned().unwrap_or_default());
    let members: Map<_, _> = ["alg", "kid", "msg_b64", "sig_b64"].into_iter().map(member).collect();
    serde_json::from_value(Value::Object(members)).map_err(|error| format!("{value} is no passport: {error}"))
}

fn edited(mut bytes: Vec<u8>, change: &Value) -> Result<Vec<u8>, String> {
    let members = change.as_object().filter(|members| members.len() == 1).and_then(|members| members.iter().next());
    let wrong = || format!("there is no such change of {} bytes: {change}", bytes.len());
    let (name, argument) = members.ok_or_else(wrong)?;
    match (name.as_str(), argument) {
        ("replace", Value::Array(pair)) => {
            let text = String::from_utf8(bytes.clone()).map_err(|error| error.to_string())?;
            match pair.as_slice() {
                [Value::String(from), Value::String(to)] if text.contains(from.as_str()) => {
                    Ok(text.replacen(from.as_str(), to, 1).into_bytes())
                }
                _ => Err(format!("{} does not occur in {text}", json!(pair))),
            }
        }
        ("append", Value::String(text)) => {
            bytes.extend_from_slice(&hex::decode(text).ok_or_else(wrong)?);
            Ok(bytes)
        }
        ("flip", at) => {
            let at = at.as_u64().and_then(|at| usize::try_from(at).ok()).ok_or_else(wrong)?;
            let error = wrong();
            *bytes.get_mut(at).ok_or(error)? ^= 1;
            Ok(bytes)
        }
        ("take", count) => {
            let count = count.as_u64().and_then(|count| usize::try_from(count).ok()).ok_or_else(wrong)?;
            bytes.truncate(count);
            Ok(bytes)
        }
        ("fill", Value::Array(pair)) => match pair.as_slice() {
            [Value::String(text), count] => {
                let piece = hex::decode(text).ok_or_else(wrong)?;
                Ok(piece.repeat(times(count, piece.len())?))
            }
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let passport =
            json!({"alg": "Ed25519", "kid": "k", "msg_b64": "eyJhIjoxfQ", "sig_b64": "AAEC", "claims": {"a": 1}});
        [("p".to_owned(), passport), ("n".to_owned(), json!([3, {"x": "y"}]))].into()
    }

    fn value(expression: &Value) -> Result<Value, String> {
        evaluate(expression, &names())
    }

    #[test]
    fn names_lead_to_what_they_are_bound_to() {
        assert_eq!(value(&json!({"a": ["$p.kid", "$n.1.x", "plain", 1]})), Ok(json!({"a": ["k", "y", "plain", 1]})));
        assert_eq!(value(&json!("$p.claims")), Ok(json!({"a": 1})));
        for bad in ["$q", "$p.q", "$n.2", "$n.x"] {
            assert!(value(&json!(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn functions_compute() {
        assert_eq!(value(&json!({"$plus": ["$n.0", 4, -1]})), Ok(json!(6)));
        assert_eq!(value(&json!({"$join": ["a", "$p.kid"]})), Ok(json!("ak")));
        assert_eq!(value(&json!({"$repeat": ["ab", 2]})), Ok(json!("abab")));
        assert_eq!(value(&json!({"$list": [{"k": "$p.kid"}, 2]})), Ok(json!([{"k": "k"}, {"k": "k"}])));
        for bad in [
            json!({"$plus": ["a"]}),
            json!({"$plus": [i64::MAX, 1]}),
            json!({"$repeat": ["ab", u64::MAX]}),
            json!({"$list": [0, -1]}),
            json!({"$unknown": []}),
        ] {
            assert!(value(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passports_are_altered_and_nothing_else_of_them_stays() {
        let changed = |change: Value| {
            let mut expression = json!({"$altered": "$p"});
            expression.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            value(&expression).map(|value| envelope(&value).unwrap())
        };
        assert_eq!(changed(json!({"alg": "none"})).unwrap().alg, "none");
        assert_eq!(changed(json!({"msg": {"replace": ["1", "2"]}})).unwrap().msg, b"{\"a\":2}");
        assert_eq!(changed(json!({"msg": {"append": "0a"}})).unwrap().msg, b"{\"a\":1}\n");
        assert_eq!(changed(json!({"sig": {"flip": 2}})).unwrap().sig, [0, 1, 3]);
        assert_eq!(changed(json!({"sig": {"take": 1}})).unwrap().sig, [0]);
        assert_eq!(changed(json!({"sig": {"fill": ["00", 64]}})).unwrap().sig, [0; 64]);
        for bad in [json!({"msg": {"replace": ["z", ""]}}), json!({"sig": {"flip": 3}}), json!({"sig": "x"})] {
            assert!(changed(bad.clone()).is_err(), "{bad}");
        }
    }
}
