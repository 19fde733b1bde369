//! How one value is read and shown. Each setting names its codec in `sections.rs`; the codec knows the range.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use toml::de::DeValue;

use super::uri::Pkcs11Uri;

/// Longest text value. File names and labels are far shorter; it keeps a broken file out of the logs.
const MAX_TEXT_BYTES: usize = 4096;
/// `sun_path` of `sockaddr_un` holds 108 bytes with its final NUL (unix(7)); a socket is first bound with our pid, at most
/// 2^22, behind its name.
const MAX_SOCKET_PATH_BYTES: usize = 107 - ".4194304".len();

/// A value as it stands in the TOML text or in an environment variable.
#[derive(Clone, Copy)]
pub(super) enum Raw<'a> {
    Env(&'a str),
    Toml(&'a DeValue<'a>),
}

/// What is wrong with a value. The span points into the TOML text when only a part of the value is meant.
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) span: Option<Range<usize>>,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: None }
    }
}

/// Reads a `T`, shows it as TOML, and says in words what it accepts.
pub(super) trait Codec<T> {
    fn read(&self, raw: Raw<'_>) -> Result<T, Wrong>;
    fn show(&self, value: &T) -> String;
    fn accepts(&self) -> String;
}

impl<'a> Raw<'a> {
    fn kind(self) -> &'static str {
        match self {
            Self::Env(_) => "text",
            Self::Toml(value) => value.type_str(),
        }
    }

    /// The text of a string value.
    pub(super) fn text(self, wanted: &str) -> Result<&'a str, Wrong> {
        let text = match self {
            Self::Env(text) => text,
            Self::Toml(DeValue::String(text)) => text.as_ref(),
            Self::Toml(_) => return Err(Wrong::new(format!("expected {wanted}, found {}", self.kind()))),
        };
        match text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
            true => Err(Wrong::new(format!(
                "expected {wanted} of at most {MAX_TEXT_BYTES} bytes without control characters"
            ))),
            false => Ok(text),
        }
    }

    fn integer(self) -> Option<u64> {
        match self {
            Self::Env(text) => text.parse().ok(),
            Self::Toml(DeValue::Integer(n)) => u64::from_str_radix(n.as_str(), n.radix()).ok(),
            Self::Toml(_) => None,
        }
    }
}

/// A whole number from `.0` to `.1`, both included.
pub(super) struct Int(pub(super) u64, pub(super) u64);

impl<T: TryFrom<u64> + ToString> Codec<T> for Int {
    fn read(&self, raw: Raw<'_>) -> Result<T, Wrong> {
        let number = raw.integer().filter(|n| (self.0..=self.1).contains(n)).and_then(|n| T::try_from(n).ok());
        number.ok_or_else(|| Wrong::new(format!("expected {}", int_range(self))))
    }
    fn show(&self, value: &T) -> String {
        value.to_string()
    }
    fn accepts(&self) -> String {
        int_range(self)
    }
}

fn int_range(Int(min, max): &Int) -> String {
    format!("a whole number from {min} to {max}")
}

/// `true` or `false`.
pub(super) struct Flag;

impl Codec<bool> for Flag {
    fn read(&self, raw: Raw<'_>) -> Result<bool, Wrong> {
        match raw {
            Raw::Toml(DeValue::Boolean(value)) => Ok(*value),
            Raw::Env("true") => Ok(true),
            Raw::Env("false") => Ok(false),
            Raw::Env(_) | Raw::Toml(_) => Err(Wrong::new("expected true or false")),
        }
    }
    fn show(&self, value: &bool) -> String {
        value.to_string()
    }
    fn accepts(&self) -> String {
        "true or false".to_owned()
    }
}

/// Text of 1 to `.0` bytes without control characters.
pub(super) struct Text(pub(super) usize);

impl Codec<String> for Text {
    fn read(&self, raw: Raw<'_>) -> Result<String, Wrong> {
        let wanted = Codec::<String>::accepts(self);
        let text = raw.text("text")?;
        match text.is_empty() || text.len() > self.0 {
            true => Err(Wrong::new(format!("expected {wanted}"))),
            false => Ok(text.to_owned()),
        }
    }
    fn show(&self, value: &String) -> String {
        quote(value)
    }
    fn accepts(&self) -> String {
        format!("text of 1 to {} bytes without control characters", self.0)
    }
}

/// The name of an environment variable.
pub(super) struct EnvName;

impl Codec<String> for EnvName {
    fn read(&self, raw: Raw<'_>) -> Result<String, Wrong> {
        let name = raw.text("the name of an environment variable")?;
        let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        // Ours is not the module's, and what steers the loader would run another's code in the signer.
        let foreign = !name.starts_with("PASSPORTD") && !name.starts_with("LD_");
        match (1..=64).contains(&name.len()) && name.bytes().all(fits) && foreign {
            true => Ok(name.to_owned()),
            false => Err(Wrong::new(format!("expected {}", self.accepts()))),
        }
    }
    fn show(&self, value: &String) -> String {
        quote(value)
    }
    fn accepts(&self) -> String {
        "1 to 64 of A-Z, 0-9 and `_`, not starting with LD_ or PASSPORTD".to_owned()
    }
}

/// A user or group name, or a number.
pub(super) struct Account;

impl Codec<String> for Account {
    fn read(&self, raw: Raw<'_>) -> Result<String, Wrong> {
        let name = raw.text("a user or group name")?;
        // What useradd(8) accepts, and wider: domain accounts carry dots and capitals.
        let good = (1..=64).contains(&name.len())
            && !name.starts_with('-')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if good { Ok(name.to_owned()) } else { Err(Wrong::new(format!("expected {}", Codec::<String>::accepts(self)))) }
    }
    fn show(&self, value: &String) -> String {
        quote(value)
    }
    fn accepts(&self) -> String {
        "a user or group name: 1 to 64 letters, digits, `_`, `.` or `-`".to_owned()
    }
}

/// An absolute path without `..`.
pub(super) struct AbsPath;
/// An [`AbsPath`] that fits the address of a Unix socket.
pub(super) struct SocketPath;

impl Codec<PathBuf> for AbsPath {
    fn read(&self, raw: Raw<'_>) -> Result<PathBuf, Wrong> {
        let path = Path::new(raw.text("a path")?);
        let climbs = path.components().any(|part| matches!(part, Component::ParentDir));
        match path.is_absolute() && !climbs {
            true => Ok(path.to_path_buf()),
            false => Err(Wrong::new("expected an absolute path without `..`")),
        }
    }
    fn show(&self, value: &PathBuf) -> String {
        quote(&value.to_string_lossy())
    }
    fn accepts(&self) -> String {
        "an absolute path".to_owned()
    }
}

impl Codec<PathBuf> for SocketPath {
    fn read(&self, raw: Raw<'_>) -> Result<PathBuf, Wrong> {
        let path = AbsPath.read(raw)?;
        match path.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
            true => Err(Wrong::new(format!("the path of a Unix socket has at most {MAX_SOCKET_PATH_BYTES} bytes"))),
            false => Ok(path),
        }
    }
    fn show(&self, value: &PathBuf) -> String {
        AbsPath.show(value)
    }
    fn accepts(&self) -> String {
        format!("an absolute path of at most {MAX_SOCKET_PATH_BYTES} bytes")
    }
}

/// A value that may be left out.
pub(super) struct Maybe<C>(pub(super) C);

impl<T, C: Codec<T>> Codec<Option<T>> for Maybe<C> {
    fn read(&self, raw: Raw<'_>) -> Result<Option<T>, Wrong> {
        self.0.read(raw).map(Some)
    }
    fn show(&self, value: &Option<T>) -> String {
        value.as_ref().map_or_else(|| "(not set)".to_owned(), |value| self.0.show(value))
    }
    fn accepts(&self) -> String {
        self.0.accepts()
    }
}

/// File permission bits in octal.
pub(super) struct Mode;

impl Codec<u32> for Mode {
    fn read(&self, raw: Raw<'_>) -> Result<u32, Wrong> {
        let bits = match raw {
            Raw::Toml(DeValue::Integer(n)) if n.radix() == 8 => u32::from_str_radix(n.as_str(), 8).ok(),
            Raw::Env(text) => octal(text),
            Raw::Toml(DeValue::String(text)) => octal(text),
            // Decimal 660 would be read as 01224: nobody means that.
            Raw::Toml(_) => None,
        };
        bits.filter(|bits| *bits <= 0o777).ok_or_else(|| Wrong::new(format!("expected {}", self.accepts())))
    }
    fn show(&self, value: &u32) -> String {
        format!("\"{value:04o}\"")
    }
    fn accepts(&self) -> String {
        "permission bits in octal as text, such as \"0660\"".to_owned()
    }
}

fn octal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| (b'0'..=b'7').contains(&b)) && (3..=4).contains(&text.len());
    digits.then(|| u32::from_str_radix(text, 8).ok()).flatten()
}

/// An address and port, or `"off"`.
pub(super) struct AddrOrOff;

impl Codec<Option<SocketAddr>> for AddrOrOff {
    fn read(&self, raw: Raw<'_>) -> Result<Option<SocketAddr>, Wrong> {
        match raw.text("an address")? {
            "off" => Ok(None),
            text => text.parse().map(Some).map_err(|_| Wrong::new(format!("expected {}", self.accepts()))),
        }
    }
    fn show(&self, value: &Option<SocketAddr>) -> String {
        value.map_or_else(|| quote("off"), |addr| quote(&addr.to_string()))
    }
    fn accepts(&self) -> String {
        "a numeric address and port such as \"127.0.0.1:9909\", or \"off\"".to_owned()
    }
}

/// One of a few words. `later` are known words of the design that this release does not have yet.
pub(super) struct Choice<T: 'static> {
    pub(super) words: &'static [(&'static str, T)],
    pub(super) later: &'static [&'static str],
}

impl<T: Copy + PartialEq + Debug> Codec<T> for Choice<T> {
    fn read(&self, raw: Raw<'_>) -> Result<T, Wrong> {
        let wanted = self.accepts();
        let text = raw.text(&wanted)?;
        if self.later.contains(&text) {
            return Err(Wrong::new(format!("\"{text}\" is not yet available in this release; expected {wanted}")));
        }
        let found = self.words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| Wrong::new(format!("expected {wanted}")))
    }
    fn show(&self, value: &T) -> String {
        quote(self.words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word))
    }
    fn accepts(&self) -> String {
        let words: Vec<_> = self.words.iter().map(|(word, _)| quote(word)).collect();
        words.join(" or ")
    }
}

/// An RFC 7512 URI that can mean a token.
pub(super) struct TokenUri;

impl Codec<Pkcs11Uri> for TokenUri {
    fn read(&self, raw: Raw<'_>) -> Result<Pkcs11Uri, Wrong> {
        let uri: Pkcs11Uri =
            raw.text("a pkcs11: URI")?.parse().map_err(|e: super::uri::UriError| Wrong::new(e.to_string()))?;
        if let Some(name) = uri.unknown_path.first() {
            return Err(Wrong::new(format!(
                "`{name}` is not an attribute of RFC 7512; such a URI matches no token (§2.4)"
            )));
        }
        if let Some(name) = uri.unused() {
            return Err(Wrong::new(format!(
                "`{name}` is not used: a token is chosen by `token` and `serial` (slots are renumbered when tokens are made), \
                 its keys by their ids, and the library by `module-path` or hsm.module"
            )));
        }
        if !uri.names_a_token() {
            return Err(Wrong::new("the URI must say which token: `token=` or `serial=`"));
        }
        if uri.pin_source.is_some() && uri.pin_file().is_none() {
            return Err(Wrong::new("`pin-source` must be a file, as in `pin-source=file:/run/pin`; no command is run"));
        }
        if uri.module_path.as_deref().is_some_and(|path| !Path::new(path).is_absolute()) {
            return Err(Wrong::new("`module-path` must be absolute"));
        }
        Ok(uri)
    }
    fn show(&self, value: &Pkcs11Uri) -> String {
        quote(&value.to_string())
    }
    fn accepts(&self) -> String {
        "a pkcs11: URI (RFC 7512) with `token` or `serial`".to_owned()
    }
}

/// A TOML basic string. Values hold no control characters, so only these two need a backslash.
pub(super) fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
