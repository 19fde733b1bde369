//! `pkcs11:` URIs (RFC 7512): which token the daemon means, and where its module and PIN are to be found.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// Longest URI that is looked at. The text fields of PKCS#11 hold 16 to 64 bytes each, so a real one is far shorter.
pub const MAX_URI_BYTES: usize = 4096;

/// Why a text is not a usable `pkcs11:` URI. No message repeats a value: a mistyped URI may hold a PIN.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UriError {
    /// Longer than [`MAX_URI_BYTES`].
    #[error("the URI is longer than {MAX_URI_BYTES} bytes")]
    TooLong,
    /// Another scheme, or none.
    #[error("a PKCS#11 URI starts with `pkcs11:` (RFC 7512 §2.3)")]
    Scheme,
    /// An attribute without `=`, or with a name outside `[A-Za-z0-9_-]+`.
    #[error("at byte {at}: an attribute is `name=value`, with a name of letters, digits, `-` and `_`")]
    Attribute {
        /// Offset of the attribute in the URI.
        at: usize,
    },
    /// A value with a character that must be percent-encoded, or a `%` without two hexadecimal digits.
    #[error("`{name}`: a character that must be percent-encoded, or a broken percent-encoding")]
    Encoding {
        /// The attribute.
        name: String,
    },
    /// The decoded bytes of a text attribute are not UTF-8.
    #[error("`{name}`: the decoded value is not UTF-8")]
    NotUtf8 {
        /// The attribute.
        name: String,
    },
    /// The same attribute twice.
    #[error("`{name}` appears twice")]
    Duplicate {
        /// The attribute.
        name: String,
    },
    /// A value outside what RFC 7512 §2.3 allows for the attribute.
    #[error("`{name}`: expected {expected}")]
    Value {
        /// The attribute.
        name: String,
        /// What the RFC allows.
        expected: &'static str,
    },
    /// `pin-value`: the configuration is readable by more people than may know the PIN.
    #[error(
        "`pin-value` is refused: the configuration file is no place for a PIN. Use `pin-source=file:/…` or hsm.pin_file"
    )]
    PinValue,
}

/// `type`: the class of the object that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectType {
    /// `public`: a public key.
    Public,
    /// `private`: a private key.
    Private,
    /// `cert`: a certificate.
    Cert,
    /// `secret-key`: a symmetric key.
    SecretKey,
    /// `data`: a data object.
    Data,
}

impl ObjectType {
    const ALL: [(&'static str, Self); 5] = [
        ("public", Self::Public),
        ("private", Self::Private),
        ("cert", Self::Cert),
        ("secret-key", Self::SecretKey),
        ("data", Self::Data),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// A parsed `pkcs11:` URI. Absent attributes are `None` and match anything (RFC 7512 §2.4).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pkcs11Uri {
    /// `token`: the label in `CK_TOKEN_INFO`, without its padding.
    pub token: Option<String>,
    /// `manufacturer` of the token.
    pub manufacturer: Option<String>,
    /// `serial` number of the token.
    pub serial: Option<String>,
    /// `model` of the token.
    pub model: Option<String>,
    /// `library-manufacturer`, from `CK_INFO`.
    pub library_manufacturer: Option<String>,
    /// `library-description`, from `CK_INFO`.
    pub library_description: Option<String>,
    /// `library-version`: major and minor; `3` means `3.0`.
    pub library_version: Option<(u8, u8)>,
    /// `slot-description`, from `CK_SLOT_INFO`.
    pub slot_description: Option<String>,
    /// `slot-manufacturer`, from `CK_SLOT_INFO`.
    pub slot_manufacturer: Option<String>,
    /// `slot-id`: the number of the slot. SoftHSM changes it whenever a token is created.
    pub slot_id: Option<u64>,
    /// `object`: `CKA_LABEL`.
    pub object: Option<String>,
    /// `type`: the object's class.
    pub object_type: Option<ObjectType>,
    /// `id`: the bytes of `CKA_ID`.
    pub id: Option<Vec<u8>>,
    /// `pin-source`: `file:/…`, a path, or `|command`, as written.
    pub pin_source: Option<String>,
    /// `module-name`: the library's name without directory and suffix.
    pub module_name: Option<String>,
    /// `module-path`: the library's file, or its directory.
    pub module_path: Option<String>,
    /// Names of path attributes that RFC 7512 does not define. With one of them the URI matches nothing (§2.4).
    pub unknown_path: Vec<String>,
    /// Names of query attributes that RFC 7512 does not define. They are ignored (§2.4).
    pub unknown_query: Vec<String>,
}

impl Pkcs11Uri {
    /// Whether the URI says which token. `manufacturer` and `model` narrow the choice; many tokens share both.
    pub fn names_a_token(&self) -> bool {
        self.token.is_some() || self.serial.is_some()
    }

    /// The first attribute that plays no part in choosing the token or in finding the library and the PIN. Whoever wrote
    /// it meant something by it, so it must not be passed over.
    pub fn unused(&self) -> Option<&'static str> {
        let given = [
            ("slot-id", self.slot_id.is_some()),
            ("slot-description", self.slot_description.is_some()),
            ("slot-manufacturer", self.slot_manufacturer.is_some()),
            ("library-manufacturer", self.library_manufacturer.is_some()),
            ("library-description", self.library_description.is_some()),
            ("library-version", self.library_version.is_some()),
            ("object", self.object.is_some()),
            ("type", self.object_type.is_some()),
            ("id", self.id.is_some()),
            ("module-name", self.module_name.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    /// The file that `pin-source` names: `file:/path`, `file:///path` or a bare absolute path.
    pub fn pin_file(&self) -> Option<PathBuf> {
        let source = self.pin_source.as_deref()?;
        let path = source.strip_prefix("file://").or_else(|| source.strip_prefix("file:")).unwrap_or(source);
        Path::new(path).is_absolute().then(|| PathBuf::from(path))
    }

    fn path_attribute(&mut self, name: &str, value: &str) -> Result<(), UriError> {
        match name {
            "token" => once(&mut self.token, name, text(name, value)?),
            "manufacturer" => once(&mut self.manufacturer, name, text(name, value)?),
            "serial" => once(&mut self.serial, name, text(name, value)?),
            "model" => once(&mut self.model, name, text(name, value)?),
            "library-manufacturer" => once(&mut self.library_manufacturer, name, text(name, value)?),
            "library-description" => once(&mut self.library_description, name, text(name, value)?),
            "library-version" => once(&mut self.library_version, name, version(name, &text(name, value)?)?),
            "slot-description" => once(&mut self.slot_description, name, text(name, value)?),
            "slot-manufacturer" => once(&mut self.slot_manufacturer, name, text(name, value)?),
            "slot-id" => once(&mut self.slot_id, name, number(name, &text(name, value)?)?),
            "object" => once(&mut self.object, name, text(name, value)?),
            "type" => once(&mut self.object_type, name, object_type(name, &text(name, value)?)?),
            "id" => once(&mut self.id, name, decode(name, value, Part::Path)?),
            _ if self.unknown_path.iter().any(|seen| seen == name) => {
                Err(UriError::Duplicate { name: name.to_owned() })
            }
            _ => {
                decode(name, value, Part::Path)?;
                self.unknown_path.push(name.to_owned());
                Ok(())
            }
        }
    }

    fn query_attribute(&mut self, name: &str, value: &str) -> Result<(), UriError> {
        match name {
            "pin-source" => once(&mut self.pin_source, name, query_text(name, value)?),
            "pin-value" => Err(UriError::PinValue),
            "module-name" => once(&mut self.module_name, name, query_text(name, value)?),
            "module-path" => once(&mut self.module_path, name, query_text(name, value)?),
            _ => {
                decode(name, value, Part::Query)?;
                self.unknown_query.push(name.to_owned());
                Ok(())
            }
        }
    }
}

impl FromStr for Pkcs11Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.len() > MAX_URI_BYTES {
            return Err(UriError::TooLong);
        }
        let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("pkcs11"))
        else {
            return Err(UriError::Scheme);
        };
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let mut uri = Self::default();
        let path_start = scheme.len().saturating_add(1);
        attributes(path, ';', path_start, |name, value| uri.path_attribute(name, value))?;
        let query_start = path_start.saturating_add(path.len()).saturating_add(1);
        attributes(query.unwrap_or(""), '&', query_start, |name, value| uri.query_attribute(name, value))?;
        Ok(uri)
    }
}

/// Calls `take` with each `name=value` of one component; an empty component has none.
fn attributes(
    part: &str,
    separator: char,
    start: usize,
    mut take: impl FnMut(&str, &str) -> Result<(), UriError>,
) -> Result<(), UriError> {
    if part.is_empty() {
        return Ok(());
    }
    let mut at = start;
    for attribute in part.split(separator) {
        let named =
            |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let Some((name, value)) = attribute.split_once('=').filter(|(name, _)| named(name)) else {
            return Err(UriError::Attribute { at });
        };
        take(name, value)?;
        at = at.saturating_add(attribute.len()).saturating_add(1);
    }
    Ok(())
}

fn once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), UriError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(UriError::Duplicate { name: name.to_owned() }),
    }
}

#[derive(Clone, Copy)]
enum Part {
    Path,
    Query,
}

/// `pk11-pchar` and `pk11-qchar` of RFC 7512 §2.3: what may stand unencoded.
fn plain(byte: u8, part: Part) -> bool {
    byte.is_ascii_alphanumeric()
        || b"-._~:[]@!$'()*+,=".contains(&byte)
        || match part {
            Part::Path => byte == b'&',
            Part::Query => b"/?|".contains(&byte),
        }
}

fn decode(name: &str, value: &str, part: Part) -> Result<Vec<u8>, UriError> {
    let broken = || UriError::Encoding { name: name.to_owned() };
    let mut bytes = value.bytes();
    let mut out = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = hex_digit(bytes.next()).ok_or_else(broken)?;
            let low = hex_digit(bytes.next()).ok_or_else(broken)?;
            out.push((high << 4) | low);
        } else if plain(byte, part) {
            out.push(byte);
        } else {
            return Err(broken());
        }
    }
    Ok(out)
}

fn hex_digit(byte: Option<u8>) -> Option<u8> {
    char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn utf8(name: &str, bytes: Vec<u8>) -> Result<String, UriError> {
    String::from_utf8(bytes).map_err(|_| UriError::NotUtf8 { name: name.to_owned() })
}

fn text(name: &str, value: &str) -> Result<String, UriError> {
    utf8(name, decode(name, value, Part::Path)?)
}

fn query_text(name: &str, value: &str) -> Result<String, UriError> {
    utf8(name, decode(name, value, Part::Query)?)
}

fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn number(name: &str, text: &str) -> Result<u64, UriError> {
    digits(text).ok_or_else(|| UriError::Value { name: name.to_owned(), expected: "a decimal number below 2^64" })
}

fn version(name: &str, text: &str) -> Result<(u8, u8), UriError> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    digits(major)
        .zip(digits(minor))
        .ok_or_else(|| UriError::Value { name: name.to_owned(), expected: "`major` or `major.minor`, each 0 to 255" })
}

fn object_type(name: &str, text: &str) -> Result<ObjectType, UriError> {
    let known = ObjectType::ALL.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind);
    known
        .ok_or_else(|| UriError::Value { name: name.to_owned(), expected: "public, private, cert, secret-key or data" })
}

/// Writes the URI back, attributes in the order of the RFC. It holds no secret: `pin-value` is never kept, and of
/// unknown attributes only the names are.
impl fmt::Display for Pkcs11Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = [
            ("token", &self.token),
            ("manufacturer", &self.manufacturer),
            ("serial", &self.serial),
            ("model", &self.model),
            ("library-manufacturer", &self.library_manufacturer),
            ("library-description", &self.library_description),
            ("slot-description", &self.slot_description),
            ("slot-manufacturer", &self.slot_manufacturer),
            ("object", &self.object),
        ];
        let mut path: Vec<String> = Vec::new();
        let present = texts.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value)));
        path.extend(present.map(|(name, value)| format!("{name}={}", encode(value.as_bytes(), Part::Path))));
        path.extend(self.library_version.map(|(major, minor)| format!("library-version={major}.{minor}")));
        path.extend(self.slot_id.map(|slot| format!("slot-id={slot}")));
        path.extend(self.object_type.map(|kind| format!("type={}", kind.name())));
        path.extend(self.id.as_ref().map(|id| format!("id={}", encode(id, Part::Path))));
        let queries =
            [("pin-source", &self.pin_source), ("module-name", &self.module_name), ("module-path", &self.module_path)];
        let present = queries.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value)));
        let query: Vec<_> =
            present.map(|(name, value)| format!("{name}={}", encode(value.as_bytes(), Part::Query))).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        write!(f, "pkcs11:{}{mark}{}", path.join(";"), query.join("&"))
    }
}

fn encode(bytes: &[u8], part: Part) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if plain(byte, part) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
#[path = "uri_tests.rs"]
mod tests;
