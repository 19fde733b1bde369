//! Watch and Revocations in JSON. The names are those of `docs/WIRE.md`.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::passport::hex;
use crate::wire::{Cursor, Event, RevocationPage, Standing, Topic, Watched, What};

/// A topic by its name.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct TopicName(pub(super) Topic);

impl TryFrom<String> for TopicName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Topic::by_name(&name).map(Self).ok_or_else(|| format!("{name:?} is no topic"))
    }
}

/// A cursor, as a reply has it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub(super) struct Place(pub(super) Cursor);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    life: String,
    wants: String,
    seq: u64,
}

impl TryFrom<Written> for Place {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let cursor = || {
            let (life, wants) = (hex::decode_exactly(&written.life)?, hex::decode_exactly(&written.wants)?);
            Some(Cursor { life, wants, seq: written.seq })
        };
        cursor().map(Self).ok_or_else(|| "a cursor has 32 and 64 hexadecimal digits".to_owned())
    }
}

fn cursor(cursor: &Cursor) -> Value {
    json!({"life": hex::encode(&cursor.life), "wants": hex::encode(&cursor.wants), "seq": cursor.seq})
}

pub(super) fn told(told: &Watched) -> Value {
    match told {
        Watched::Events { events, cursor: next } => {
            json!({"Events": {"events": events.iter().map(event).collect::<Vec<_>>(), "cursor": cursor(next)}})
        }
        Watched::Lagged { missed, cursor: next } => json!({"Lagged": {"missed": missed, "cursor": cursor(next)}}),
        Watched::Begin { cursor: next } => json!({"Begin": {"cursor": cursor(next)}}),
    }
}

fn event(event: &Event) -> Value {
    json!({"seq": event.seq, "at_ms": event.at_ms, "tenant": event.tenant, "what": what(&event.what)})
}

fn what(what: &What) -> Value {
    match what {
        What::Key { kid, state } => json!({"Key": {"kid": kid, "state": state}}),
        What::RevokedId { jti, until } => json!({"RevokedId": {"jti": jti, "until": until}}),
        What::RevokedSubject { sub, before, until } => {
            json!({"RevokedSubject": {"sub": sub, "before": before, "until": until}})
        }
        What::RevokedKey { kid } => json!({"RevokedKey": {"kid": kid}}),
        What::Epoch { epoch } => json!({"Epoch": {"epoch": epoch}}),
        What::Policy { hash } => json!({"Policy": {"hash": hex::encode(hash)}}),
        What::Draining { on } => json!({"Draining": {"on": on}}),
    }
}

pub(super) fn page(page: &RevocationPage) -> Value {
    let standing = |Standing { tenant, what: one }: &Standing| json!({"tenant": tenant, "what": what(one)});
    let epochs: Vec<_> = page.epochs.iter().map(|it| json!({"tenant": it.tenant, "epoch": it.epoch})).collect();
    json!({
        "tenants": page.tenants, "revoked": page.revoked.iter().map(standing).collect::<Vec<_>>(), "epochs": epochs,
        "floor": page.floor, "compromised": page.compromised,
        "next_b64": page.next.as_deref().map(Base64UrlUnpadded::encode_string),
    })
}
