//! `[[server.listener]]`: a socket of its own for one service, by which policy knows it.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::codec::{Account, Codec, Maybe, Mode, Raw, SocketPath, Wrong};
use crate::policy::suggest;

/// Most sockets beside the services' and the administrators'.
const MAX_LISTENERS: usize = 32;
/// Names that the daemon uses itself, in policy and as `FileDescriptorName`.
const RESERVED: [&str; 6] = ["main", "service", "services", "admin", "metrics", "ceremony"];
const KEYS: [&str; 5] = ["name", "socket", "user", "mode", "group"];

/// A named socket. Policy rules match the name; owner and mode decide who can connect at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// `[a-z0-9-]{1,32}`, unique; also the `FileDescriptorName=` of its systemd socket unit.
    pub name: String,
    /// Where it is bound.
    pub socket: PathBuf,
    /// User that owns the socket; none: whoever binds it.
    pub user: Option<String>,
    /// Permission bits. Default 0660.
    pub mode: u32,
    /// Group that owns the socket.
    pub group: Option<String>,
}

pub(super) struct Listeners;

impl Codec<Vec<Listener>> for Listeners {
    fn read(&self, raw: Raw<'_>) -> Result<Vec<Listener>, Wrong> {
        let Raw::Toml(DeValue::Array(items)) = raw else {
            return Err(Wrong::new("expected [[server.listener]] tables; they cannot come from the environment"));
        };
        let mut listeners: Vec<Listener> = Vec::new();
        for item in items.iter() {
            let at = |wrong: Wrong| Wrong { span: wrong.span.or_else(|| Some(item.span())), ..wrong };
            let listener = one(item.get_ref()).map_err(at)?;
            if listeners.iter().any(|other| other.name == listener.name || other.socket == listener.socket) {
                return Err(at(Wrong::new("two listeners have the same name or socket")));
            }
            listeners.push(listener);
        }
        if listeners.len() > MAX_LISTENERS {
            return Err(Wrong::new(format!("at most {MAX_LISTENERS} listeners")));
        }
        Ok(listeners)
    }

    fn show(&self, value: &Vec<Listener>) -> String {
        let names: Vec<_> = value.iter().map(|l| format!("{} = {}", l.name, l.socket.display())).collect();
        format!("[{}]", names.join(", "))
    }

    fn accepts(&self) -> String {
        format!("up to {MAX_LISTENERS} tables")
    }
}

fn one(value: &DeValue<'_>) -> Result<Listener, Wrong> {
    let DeValue::Table(table) = value else { return Err(Wrong::new("expected a table")) };
    for key in table.keys() {
        if !KEYS.contains(&key.get_ref().as_ref()) {
            let hint = suggest::hint(key.get_ref(), KEYS.iter().copied());
            let message = format!("unknown key `{}` of a listener{hint}", key.get_ref().escape_debug());
            return Err(Wrong { message, span: Some(key.span()) });
        }
    }
    Ok(Listener {
        name: field(table, "name", &Name)?.ok_or_else(|| Wrong::new("a listener needs a name"))?,
        socket: field(table, "socket", &SocketPath)?.ok_or_else(|| Wrong::new("a listener needs a socket"))?,
        user: field(table, "user", &Maybe(Account))?.flatten(),
        mode: field(table, "mode", &Mode)?.unwrap_or(0o660),
        group: field(table, "group", &Maybe(Account))?.flatten(),
    })
}

fn field<T>(table: &DeTable<'_>, key: &str, codec: &impl Codec<T>) -> Result<Option<T>, Wrong> {
    let Some(value) = table.get(key) else { return Ok(None) };
    let at = |wrong: Wrong| Wrong { span: Some(Spanned::span(value)), ..wrong };
    codec.read(Raw::Toml(value.get_ref())).map(Some).map_err(at)
}

/// The name of a listener.
struct Name;

impl Codec<String> for Name {
    fn read(&self, raw: Raw<'_>) -> Result<String, Wrong> {
        let name = raw.text("a name")?;
        let good = (1..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        match good && !RESERVED.contains(&name) {
            true => Ok(name.to_owned()),
            false => Err(Wrong::new(format!("expected {}", self.accepts()))),
        }
    }
    fn show(&self, value: &String) -> String {
        value.clone()
    }
    fn accepts(&self) -> String {
        format!("1 to 32 of a-z, 0-9 and `-`, and none of {}", RESERVED.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    #[test]
    fn so_many_listeners_and_no_more() {
        let read = |count: usize| {
            let one = |n: usize| format!("[[listener]]\nname = \"web-{n}\"\nsocket = \"/run/web-{n}.sock\"\n");
            let text: String = (0..count).map(one).collect();
            let table = DeTable::parse(&text).unwrap();
            let found = Listeners.read(Raw::Toml(table.get_ref().get("listener").unwrap().get_ref()));
            found.map(|found| found.len()).map_err(|wrong| wrong.message)
        };
        assert_eq!(read(MAX_LISTENERS), Ok(MAX_LISTENERS));
        assert_eq!(read(MAX_LISTENERS + 1), Err("at most 32 listeners".to_owned()));
    }
}
