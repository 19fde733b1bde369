//! The messages as their source declares them: the tables of `docs/WIRE.md` come from here, and the places of every
//! number, tag and length in a body, which the armour's tests aim at.
//!
//! It reads the sources of `wire` line by line; they are rustfmt's, so that one declaration stands on one line.

use std::collections::BTreeMap;

/// A type, in the words of `docs/WIRE.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    U8,
    Bool,
    /// `u32`, `u64`, `i32`, `i64`: a varint of at most so many bytes after its marker.
    Number(&'static str, usize),
    Str,
    Bytes,
    Array(usize),
    Option(Box<Self>),
    List(Box<Self>),
    Result(Box<Self>, Box<Self>),
    Named(String),
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::U8 => f.write_str("u8"),
            Self::Bool => f.write_str("bool"),
            Self::Number(name, _) => f.write_str(name),
            Self::Str => f.write_str("str"),
            Self::Bytes => f.write_str("bytes"),
            Self::Array(n) => write!(f, "array[{n}]"),
            Self::Option(inner) => write!(f, "option<{inner}>"),
            Self::List(inner) => write!(f, "list<{inner}>"),
            Self::Result(ok, err) => write!(f, "result<{ok}, {err}>"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// Empty for the one field of a variant like `Issue(IssueSpec)`.
    pub(crate) name: String,
    pub(crate) of: Type,
    pub(crate) doc: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
    pub(crate) doc: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Struct(Vec<Field>),
    Enum(Vec<Variant>),
}

#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) shape: Shape,
}

/// Every message type of one source file, in its order.
pub(crate) fn file(source: &str) -> Vec<Declared> {
    let mut reader = Reader::default();
    source.lines().for_each(|line| reader.line(line.trim()));
    assert!(reader.open.is_none(), "a declaration without an end");
    reader.done
}

pub(crate) const HELLO: &str = include_str!("../../src/wire/hello.rs");
pub(crate) const PROBLEM: &str = include_str!("../../src/wire/problem.rs");
pub(crate) const SERVICE: &str = include_str!("../../src/wire/service.rs");
pub(crate) const VERDICT: &str = include_str!("../../src/wire/verdict.rs");
pub(crate) const EXCHANGE: &str = include_str!("../../src/wire/exchange.rs");
pub(crate) const WATCH: &str = include_str!("../../src/wire/watch.rs");
pub(crate) const ADMIN: &str = include_str!("../../src/wire/admin.rs");
pub(crate) const LINK: &str = include_str!("../../src/wire/link.rs");

/// Every message type by name.
pub(crate) fn all() -> BTreeMap<String, Declared> {
    let declared = [HELLO, PROBLEM, SERVICE, VERDICT, EXCHANGE, WATCH, ADMIN, LINK].into_iter().flat_map(file);
    declared.map(|one| (one.name.clone(), one)).collect()
}

#[derive(Default)]
struct Reader {
    doc: String,
    on_wire: bool,
    open: Option<Declared>,
    variant: Option<Variant>,
    done: Vec<Declared>,
}

impl Reader {
    fn line(&mut self, line: &str) {
        if let Some(text) = line.strip_prefix("///") {
            self.doc.push_str(text);
        } else if line.starts_with("#[derive(") {
            self.on_wire = line.contains("Encode");
        } else if self.open.is_some() {
            // Attributes of members say nothing of the wire.
            if !line.starts_with("#[") {
                self.member(line);
            }
        } else if let Some(rest) = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum ")) {
            let name = rest.split(['<', ' ']).next().unwrap().to_owned();
            let is_struct = line.starts_with("pub struct ");
            let shape = if is_struct { Shape::Struct(Vec::new()) } else { Shape::Enum(Vec::new()) };
            let doc = self.take_doc();
            self.open = self.on_wire.then_some(Declared { name, doc, shape });
            self.on_wire = false;
        } else if !line.starts_with("#[") {
            self.doc.clear();
        }
    }

    fn take_doc(&mut self) -> String {
        let doc = std::mem::take(&mut self.doc);
        doc.trim().replace("[`", "`").replace("`]", "`").replace("super::", "")
    }

    fn member(&mut self, line: &str) {
        let doc = self.take_doc();
        if line == "}" {
            return self.done.extend(self.open.take());
        }
        let open = self.open.as_mut().unwrap();
        match (&mut open.shape, &mut self.variant) {
            (Shape::Struct(fields), _) => fields.push(field(line.strip_prefix("pub ").unwrap(), doc)),
            (Shape::Enum(variants), Some(_)) if line == "}," => variants.extend(self.variant.take()),
            (Shape::Enum(_), Some(variant)) => variant.fields.push(field(line, doc)),
            (Shape::Enum(variants), None) => {
                if let Some(name) = line.strip_suffix(" {") {
                    self.variant = Some(Variant { name: name.to_owned(), fields: Vec::new(), doc });
                } else {
                    let line = line.strip_suffix(',').unwrap();
                    let (name, inner) = line.split_once('(').unwrap_or((line, ""));
                    let inner = inner.strip_suffix(')').map(|of| Field {
                        name: String::new(),
                        of: parse(of),
                        doc: String::new(),
                    });
                    variants.push(Variant { name: name.to_owned(), fields: inner.into_iter().collect(), doc });
                }
            }
        }
    }
}

fn field(line: &str, doc: String) -> Field {
    let (name, of) = line.strip_suffix(',').unwrap().split_once(": ").unwrap();
    Field { name: name.to_owned(), of: parse(of), doc }
}

fn parse(text: &str) -> Type {
    let text = text.replace("&'a ", "&").replace("<'a>", "");
    let inside = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>')).map(str::to_owned);
    match text.as_str() {
        "u8" => Type::U8,
        "bool" => Type::Bool,
        "u32" => Type::Number("u32", 4),
        "i32" => Type::Number("i32", 4),
        "u64" => Type::Number("u64", 8),
        "i64" => Type::Number("i64", 8),
        "String" | "&str" => Type::Str,
        "Vec<u8>" | "&[u8]" | "Plain" | "PlainBuf" => Type::Bytes,
        _ => {
            if let Some(of) = inside("Option<") {
                Type::Option(Box::new(parse(&of)))
            } else if let Some(of) = inside("Vec<") {
                Type::List(Box::new(parse(&of)))
            } else if let Some(of) = inside("Result<") {
                let (ok, err) = of.split_once(", ").unwrap();
                Type::Result(Box::new(parse(ok)), Box::new(parse(err)))
            } else if let Some(n) = text.strip_prefix("[u8; ") {
                Type::Array(n.strip_suffix(']').unwrap().parse().unwrap())
            } else {
                assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "unknown type {text}");
                Type::Named(text)
            }
        }
    }
}

/// What stands at a place of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A raw byte, or several.
    Raw,
    /// 0 or 1.
    Bool,
    /// 0 or 1 before an option's value.
    Presence,
    /// A varint of a type with so many bytes.
    Number(usize),
    /// The varint (u32) of an enum or a result, with so many known variants.
    Tag(u32),
    /// The varint (u64) before a list, text or bytes.
    Length,
}

/// One place of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) role: Role,
    pub(crate) at: usize,
    pub(crate) len: usize,
    pub(crate) value: u64,
    /// The type in whose name it stands.
    pub(crate) of: String,
    pub(crate) path: String,
}

/// Walks a well-formed body of message type `name`, in its own way, and names every place. It knows nothing of bincode.
pub(crate) fn places(name: &str, body: &[u8]) -> Vec<Place> {
    let mut walk = Walk { types: all(), body, at: 1, of: String::new(), places: Vec::new() };
    walk.value(&Type::Named(name.to_owned()), name);
    assert_eq!(walk.at, body.len(), "{name}: the walk ends at {} of {}", walk.at, body.len());
    walk.places
}

struct Walk<'a> {
    types: BTreeMap<String, Declared>,
    body: &'a [u8],
    at: usize,
    of: String,
    places: Vec<Place>,
}

impl Walk<'_> {
    fn push(&mut self, role: Role, len: usize, value: u64, path: &str) -> u64 {
        let of = self.of.clone();
        self.places.push(Place { role, at: self.at, len, value, of, path: path.to_owned() });
        self.at += len;
        value
    }

    fn raw(&mut self, role: Role, len: usize, path: &str) -> u64 {
        let value = u64::from(*self.body.get(self.at).unwrap_or(&0));
        self.push(role, len, value, path)
    }

    fn varint(&mut self, role: Role, path: &str) -> u64 {
        let extra = match self.body[self.at] {
            251 => 2,
            252 => 4,
            253 => 8,
            first => return self.push(role, 1, u64::from(first), path),
        };
        let mut bytes = [0; 8];
        bytes[..extra].copy_from_slice(&self.body[self.at + 1..=self.at + extra]);
        self.push(role, 1 + extra, u64::from_le_bytes(bytes), path)
    }

    fn length(&mut self, path: &str) -> usize {
        usize::try_from(self.varint(Role::Length, path)).unwrap()
    }

    fn value(&mut self, of: &Type, path: &str) {
        self.of = of.to_string();
        match of {
            Type::U8 => {
                self.raw(Role::Raw, 1, path);
            }
            Type::Bool => {
                self.raw(Role::Bool, 1, path);
            }
            Type::Number(_, width) => {
                self.varint(Role::Number(*width), path);
            }
            Type::Array(n) => {
                self.raw(Role::Raw, *n, path);
            }
            Type::Str | Type::Bytes => {
                let n = self.length(path);
                self.raw(Role::Raw, n, path);
            }
            Type::Option(inner) => {
                if self.raw(Role::Presence, 1, path) == 1 {
                    self.value(inner, path);
                }
            }
            Type::List(inner) => {
                for n in 0..self.length(path) {
                    self.value(inner, &format!("{path}[{n}]"));
                }
            }
            Type::Result(ok, err) => {
                let inner = if self.varint(Role::Tag(2), path) == 0 { ok } else { err };
                self.value(inner, path);
            }
            Type::Named(name) => self.named(name, path),
        }
    }

    fn named(&mut self, name: &str, path: &str) {
        let fields = match self.types[name].shape.clone() {
            Shape::Struct(fields) => fields,
            Shape::Enum(variants) => {
                let tag = self.varint(Role::Tag(u32::try_from(variants.len()).unwrap()), path);
                variants[usize::try_from(tag).unwrap()].fields.clone()
            }
        };
        for field in fields {
            self.value(&field.of, &format!("{path}.{}", field.name));
        }
    }
}

#[test]
fn the_sources_are_read_whole() {
    let all = all();
    let declared: usize = [HELLO, PROBLEM, SERVICE, VERDICT, EXCHANGE, WATCH, ADMIN, LINK]
        .iter()
        .map(|source| source.matches("Encode, ").count())
        .sum();
    // `Encode, Decode` and `Encode, BorrowDecode` in each derive; the imports name them in another order or once more.
    let imports: usize = [HELLO, PROBLEM, SERVICE, VERDICT, EXCHANGE, WATCH, ADMIN, LINK]
        .iter()
        .map(|source| source.matches("Encode};").count())
        .sum();
    assert_eq!(imports, 8);
    assert_eq!(declared, all.len());
    let Shape::Struct(fields) = &all["Request"].shape else { panic!("a struct") };
    let shown: Vec<_> = fields.iter().map(|field| format!("{}: {}", field.name, field.of)).collect();
    assert_eq!(shown, ["id: u64", "corr_id: array[16]", "op: ServiceOp"]);
}
