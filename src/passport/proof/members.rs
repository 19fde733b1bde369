//! The JSON in a proof: an object of few members, none twice, not deep.
//!
//! The syntax is serde_json's. What JSON leaves open is decided here: how deep, how many, and that a name stands once, at
//! every level and also in what is not looked at, since readers disagree which of two they take (RFC 8259 §4).

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::refusal::{Part, ProofRefusal};
use super::{MAX_DEPTH, MAX_MEMBERS};

/// A value, as far as proofs need it.
enum Value {
    Text(String),
    Integer(i64),
    Object(List),
    /// Anything else. Only claims that we don't know are such.
    Other,
}

/// Names and values, in the order of the text.
type List = Vec<(String, Value)>;

/// The members of an object.
pub(super) struct Members {
    part: Part,
    list: List,
}

impl Members {
    /// Reads a part.
    pub(super) fn read(part: Part, json: &[u8]) -> Result<Self, ProofRefusal> {
        let bounds = Bounds { part, left: Cell::new(MAX_MEMBERS), fault: Cell::new(ProofRefusal::Json(part)) };
        let mut text = serde_json::Deserializer::from_slice(json);
        let value = Reader { bounds: &bounds, depth: 1 }.deserialize(&mut text);
        match value.and_then(|value| text.end().map(|()| value)) {
            Ok(Value::Object(list)) => Ok(Self { part, list }),
            Ok(_) => Err(ProofRefusal::Json(part)),
            Err(_) => Err(bounds.fault.get()),
        }
    }

    /// Refuses members that are not among `names`.
    pub(super) fn only(&self, names: &[&str]) -> Result<(), ProofRefusal> {
        let known = self.list.iter().all(|(name, _)| names.contains(&name.as_str()));
        if known { Ok(()) } else { Err(ProofRefusal::Unexpected(self.part)) }
    }

    /// Whether there is one of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.list.iter().any(|(found, _)| found == name)
    }

    fn get(&self, name: &'static str) -> Result<&Value, ProofRefusal> {
        let found = self.list.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value).ok_or(ProofRefusal::Missing(self.part, name))
    }

    /// The text of that name.
    pub(super) fn text(&self, name: &'static str) -> Result<&str, ProofRefusal> {
        match self.get(name)? {
            Value::Text(text) => Ok(text),
            _ => Err(ProofRefusal::WrongType(self.part, name)),
        }
    }

    /// The integer of that name. `1.0` and `1e0` are none: a second spelling is no use to anybody.
    pub(super) fn integer(&self, name: &'static str) -> Result<i64, ProofRefusal> {
        match self.get(name)? {
            Value::Integer(number) => Ok(*number),
            _ => Err(ProofRefusal::WrongType(self.part, name)),
        }
    }

    /// The object of that name, which is a part of its own.
    pub(super) fn into_object(self, name: &'static str, part: Part) -> Result<Self, ProofRefusal> {
        match self.list.into_iter().find(|(found, _)| found == name) {
            Some((_, Value::Object(list))) => Ok(Self { part, list }),
            Some(_) => Err(ProofRefusal::WrongType(self.part, name)),
            None => Err(ProofRefusal::Missing(self.part, name)),
        }
    }
}

/// What a part may still have, and what it is refused for: a syntax error, if nothing else is noticed.
struct Bounds {
    part: Part,
    left: Cell<usize>,
    fault: Cell<ProofRefusal>,
}

impl Bounds {
    /// Notes what is wrong. The text of the error is never shown.
    fn refuse<E: de::Error>(&self, fault: ProofRefusal) -> E {
        self.fault.set(fault);
        E::custom("refused")
    }

    /// Makes room for one member or element more.
    fn one_more<E: de::Error>(&self) -> Result<(), E> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| self.refuse(ProofRefusal::TooMany(self.part)))?;
        self.left.set(left);
        Ok(())
    }
}

/// Reads a value that may open nesting level `depth`.
#[derive(Clone, Copy)]
struct Reader<'b> {
    bounds: &'b Bounds,
    depth: usize,
}

impl Reader<'_> {
    /// The reader of what is inside an object or array.
    fn inside<E: de::Error>(self) -> Result<Self, E> {
        if self.depth > MAX_DEPTH {
            return Err(self.bounds.refuse(ProofRefusal::TooDeep(self.bounds.part)));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<Value, D::Error> {
        text.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        // Beyond i64 it is beyond every bound.
        Ok(Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        while elements.next_element_seed(inside)?.is_some() {
            self.bounds.one_more()?;
        }
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut list = List::new();
        while let Some(name) = members.next_key::<String>()? {
            if list.iter().any(|(known, _)| *known == name) {
                return Err(self.bounds.refuse(ProofRefusal::Duplicate(self.bounds.part)));
            }
            self.bounds.one_more()?;
            list.push((name, members.next_value_seed(inside)?));
        }
        Ok(Value::Object(list))
    }
}
