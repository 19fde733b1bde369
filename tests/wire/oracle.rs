//! wincode as the second opinion: the same bytes, both ways, and the same refusals.
//!
//! Every shape of the wire can be expressed in wincode 0.6 with varints; none had to be left out. wincode, too, takes
//! overlong varints, so it gets the same armour here: what it decodes counts only if it encodes to the same bytes.

use passportd::wire::{self, WIRE_VERSION, decode};
use proptest::prelude::*;
use wincode::config::{Configuration, DefaultConfig};

use super::{generate, mirror, rounds, samples};

/// Value as Debug text, and its bytes from wincode, if `body` is a message of `kind` for wincode.
fn by_wincode(kind: &str, body: &[u8]) -> Option<(String, Vec<u8>)> {
    let (version, message) = body.split_first()?;
    if *version != WIRE_VERSION {
        return None;
    }
    macro_rules! read {
        ($($name:ident)*) => {
            match kind {
                $(stringify!($name) => {
                    let config = DefaultConfig::default().with_varint_encoding();
                    let value: mirror::$name = wincode::config::deserialize_exact(message, config).ok()?;
                    let mut bytes = vec![WIRE_VERSION];
                    bytes.extend(wincode::config::serialize(&value, config).unwrap());
                    Some((format!("{value:?}"), bytes))
                })*
                other => panic!("no message is called {other}"),
            }
        };
    }
    read!(Hello Greeting Request Reply AdminRequest AdminReply LinkHello LinkAmnesia LinkGreeting LinkRequest LinkReply)
}

/// The same from the room itself.
fn by_passportd(kind: &str, body: &[u8]) -> Option<(String, Vec<u8>)> {
    let shown = match kind {
        "Hello" => format!("{:?}", decode::<wire::Hello<'_>>(body).ok()?),
        "Greeting" => format!("{:?}", decode::<wire::Greeting>(body).ok()?),
        "Request" => format!("{:?}", decode::<wire::Request<'_>>(body).ok()?),
        "Reply" => format!("{:?}", decode::<wire::Reply>(body).ok()?),
        "AdminRequest" => format!("{:?}", decode::<wire::AdminRequest<'_>>(body).ok()?),
        "AdminReply" => format!("{:?}", decode::<wire::AdminReply>(body).ok()?),
        "LinkHello" => format!("{:?}", decode::<wire::link::LinkHello<'_>>(body).ok()?),
        "LinkAmnesia" => format!("{:?}", decode::<wire::link::LinkAmnesia<'_>>(body).ok()?),
        "LinkGreeting" => format!("{:?}", decode::<wire::link::LinkGreeting>(body).ok()?),
        "LinkRequest" => format!("{:?}", decode::<wire::link::LinkRequest<'_>>(body).ok()?),
        "LinkReply" => format!("{:?}", decode::<wire::link::LinkReply>(body).ok()?),
        other => panic!("no message is called {other}"),
    };
    let frame = samples::recode(kind, body).unwrap();
    Some((shown, frame[wire::HEADER..].to_vec()))
}

/// What wincode makes of it with our armour on.
fn strictly_by_wincode(kind: &str, body: &[u8]) -> Option<(String, Vec<u8>)> {
    by_wincode(kind, body).filter(|(_, bytes)| bytes == body)
}

fn cases(n: u32) -> ProptestConfig {
    ProptestConfig { cases: n, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn both_codecs_agree_on_every_vector() {
    for sample in samples::all() {
        let (ours, theirs) = (by_passportd(sample.kind, sample.body()), by_wincode(sample.kind, sample.body()));
        assert_eq!(ours, theirs, "{}", sample.title());
        assert_eq!(theirs.unwrap().1, sample.body(), "{}", sample.title());
    }
}

#[test]
fn both_codecs_agree_on_arbitrary_messages() {
    proptest!(cases(rounds() * 100), |((kind, body) in generate::messages())| {
        let theirs = by_wincode(kind, &body);
        prop_assert_eq!(&by_passportd(kind, &body), &theirs);
        prop_assert_eq!(theirs.map(|(_, bytes)| bytes), Some(body));
    });
}

/// Bytes changed, cut out, put in or cut off: what one takes the other takes, as the same value.
#[test]
fn both_codecs_refuse_the_same_broken_messages() {
    let breaks = prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 1..4);
    proptest!(cases(rounds() * 200), |((kind, mut body) in generate::messages(), breaks in breaks)| {
        for (index, how, byte) in breaks {
            if body.is_empty() {
                continue;
            }
            let at = index.index(body.len());
            match how {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                2 => drop(body.drain(at..=at)),
                _ => body.truncate(at),
            }
        }
        prop_assert_eq!(by_passportd(kind, &body), strictly_by_wincode(kind, &body));
    });
}

/// The oracle is no copy of the armour: alone, wincode takes a second spelling of a number.
#[test]
fn wincode_alone_takes_overlong_numbers() {
    let (overlong, plain) = ([1, 251, 1, 0, 0], [1, 1, 0]);
    assert_eq!(by_wincode("LinkRequest", &plain), None);
    let body = |number: &[u8]| [&[1], number, &[2]].concat();
    let plainly = by_wincode("LinkRequest", &body(&plain[1..2])).unwrap();
    let overlongly = by_wincode("LinkRequest", &body(&overlong[1..4])).unwrap();
    assert_eq!(plainly, overlongly);
    assert_eq!(strictly_by_wincode("LinkRequest", &body(&overlong[1..4])), None);
}

/// `Configuration` is what carries the choice of varints; that they are not wincode's default is worth a line.
#[test]
fn varints_are_a_choice() {
    assert_eq!(wincode::config::serialize(&7_u64, Configuration::default()).unwrap().len(), 8);
    assert_eq!(wincode::config::serialize(&7_u64, Configuration::default().with_varint_encoding()).unwrap(), [7]);
}
