//! Bytes that nobody should send, at every place where a message could go wrong.

use passportd::wire::{HEADER, WireError, encode_frame, peek_id};
use proptest::prelude::*;

use super::samples::{self, KINDS, recode};
use super::schema::{Place, Role, places};
use super::{generate, rounds};

/// `body` with other bytes at `place`.
fn with(body: &[u8], place: &Place, bytes: &[u8]) -> Vec<u8> {
    [&body[..place.at], bytes, &body[place.at + place.len..]].concat()
}

fn refusal(kind: &str, body: &[u8]) -> WireError {
    recode(kind, body).map(|frame| super::hex(&frame)).expect_err("it must be refused")
}

/// Every place of every sample.
fn everywhere(mut at: impl FnMut(&str, &[u8], &Place)) -> usize {
    let mut count = 0;
    for sample in samples::all() {
        for place in places(sample.kind, sample.body()) {
            at(sample.kind, sample.body(), &place);
            count += 1;
        }
    }
    count
}

/// The spellings of `value` that are longer than need be.
fn overlong(value: u64) -> Vec<Vec<u8>> {
    let bytes = value.to_le_bytes();
    let spelling = |marker: u8, width: usize| [&[marker], &bytes[..width]].concat();
    let mut spellings = vec![spelling(251, 2), spelling(252, 4), spelling(253, 8)];
    spellings.push([&[254_u8][..], &bytes, &[0; 8]].concat());
    spellings.retain(|spelling| {
        let shortest = match value {
            0..=250 => 1,
            251..=0xffff => 3,
            0x1_0000..=0xffff_ffff => 5,
            _ => 9,
        };
        spelling.len() > shortest
    });
    spellings
}

#[test]
fn an_overlong_number_is_refused_at_every_place() {
    let mut tried = 0;
    everywhere(|kind, body, place| {
        if !matches!(place.role, Role::Number(_) | Role::Tag(_) | Role::Length) {
            return;
        }
        for spelling in overlong(place.value) {
            let error = refusal(kind, &with(body, place, &spelling));
            assert!(matches!(error, WireError::NotCanonical | WireError::Malformed), "{} {error}", place.path);
            tried += 1;
        }
    });
    assert!(tried > 2_000, "{tried}");
}

#[test]
fn a_number_of_a_reserved_marker_or_too_wide_a_type_is_refused_at_every_place() {
    everywhere(|kind, body, place| {
        let (Role::Number(width), tag) = (match place.role {
            Role::Tag(_) => (Role::Number(4), true),
            Role::Length => (Role::Number(8), false),
            other => (other, false),
        }) else {
            return;
        };
        assert_eq!(refusal(kind, &with(body, place, &[255])), WireError::Malformed, "{}", place.path);
        let wide: &[u8] = if width == 4 { &[253, 0, 0, 0, 0, 1, 0, 0, 0] } else { &[254; 17] };
        assert_eq!(refusal(kind, &with(body, place, wide)), WireError::Malformed, "{} {tag}", place.path);
    });
}

#[test]
fn an_unknown_variant_is_refused_at_every_place() {
    let mut tried = 0;
    everywhere(|kind, body, place| {
        let bad: Vec<Vec<u8>> = match place.role {
            Role::Tag(known) => [known, 250, 251, 65_536, u32::MAX]
                .map(|tag| {
                    let mut bytes = Vec::new();
                    generate::varint(u64::from(tag), &mut bytes);
                    bytes
                })
                .to_vec(),
            Role::Bool | Role::Presence => [2, 3, 128, 250, 251, 255].map(|byte| vec![byte]).to_vec(),
            Role::Raw | Role::Number(_) | Role::Length => return,
        };
        for bytes in bad {
            assert_eq!(refusal(kind, &with(body, place, &bytes)), WireError::Malformed, "{} {bytes:?}", place.path);
            tried += 1;
        }
    });
    assert!(tried > 1_000, "{tried}");
}

#[test]
fn a_length_bomb_is_refused_at_every_place() {
    let mut tried = 0;
    everywhere(|kind, body, place| {
        if place.role != Role::Length {
            return;
        }
        for bomb in [1 << 16, 1 << 20, 1 << 21, 1 << 32, 1 << 59, 1 << 60, 1 << 61, i64::MAX.unsigned_abs(), u64::MAX] {
            let mut bytes = Vec::new();
            generate::varint(bomb, &mut bytes);
            let bad = with(body, place, &bytes);
            let (error, peak) = super::memory::peak(|| refusal(kind, &bad));
            assert_eq!(error, WireError::Malformed, "{} {bomb}", place.path);
            assert!(peak <= passportd::wire::MAX_WEIGHT, "{} {bomb} takes {peak} bytes", place.path);
            tried += 1;
        }
    });
    assert!(tried > 500, "{tried}");
}

#[test]
fn every_cut_and_every_extra_byte_is_refused() {
    for sample in samples::all() {
        for n in 0..sample.body().len() {
            let error = refusal(sample.kind, &sample.body()[..n]);
            let expected = if n == 0 { WireError::Empty } else { WireError::Malformed };
            assert_eq!(error, expected, "{} cut at {n}", sample.title());
        }
        for extra in [0, 1, 250, 255] {
            let longer = [sample.body(), &[extra]].concat();
            assert_eq!(refusal(sample.kind, &longer), WireError::NotCanonical, "{} and {extra}", sample.title());
        }
    }
}

#[test]
fn every_other_version_is_refused_by_name() {
    for sample in samples::all() {
        for version in (0..=u8::MAX).filter(|version| *version != 1) {
            let mut body = sample.body().to_vec();
            body[0] = version;
            assert_eq!(refusal(sample.kind, &body), WireError::Version(version), "{}", sample.title());
        }
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_at_every_place() {
    let schema = super::schema::all();
    assert!(schema.contains_key("Hello"));
    let mut tried = 0;
    everywhere(|kind, body, place| {
        if place.role == Role::Raw && place.of == "str" && place.len > 0 {
            for byte in [0x80, 0xc0, 0xff] {
                let mut bad = body.to_vec();
                bad[place.at] = byte;
                assert_eq!(refusal(kind, &bad), WireError::Malformed, "{}", place.path);
                tried += 1;
            }
        }
    });
    assert!(tried > 100, "{tried}");
}

#[test]
fn no_message_is_taken_for_one_of_another_socket_and_changed_by_it() {
    // The same bytes may be a message of two kinds; what is read must then still be every byte of it.
    for sample in samples::all() {
        for kind in KINDS {
            if let Ok(frame) = recode(kind, sample.body()) {
                assert_eq!(frame, sample.frame, "{} read as {kind}", sample.title());
            }
        }
    }
}

#[test]
fn random_bytes_never_panic_and_never_take_much() {
    let config = ProptestConfig { cases: rounds() * 500, failure_persistence: None, ..ProptestConfig::default() };
    // A third small numbers, a third markers, a third anything. One strategy a byte is 40 times slower.
    let byte = |pair: &[u8]| match pair[0] % 3 {
        0 => pair[1] % 12,
        1 => 245 + pair[1] % 11,
        _ => pair[1],
    };
    let bytes = prop::collection::vec(any::<u8>(), 0..600)
        .prop_map(move |raw| raw.chunks_exact(2).map(byte).collect::<Vec<u8>>());
    proptest!(config, |(mut body in bytes, kind in prop::sample::select(&KINDS[..]), version in any::<bool>())| {
        if let (true, Some(first)) = (version, body.first_mut()) {
            *first = 1;
        }
        let (read, peak) = super::memory::peak(|| recode(kind, &body));
        if let Ok(frame) = read {
            prop_assert_eq!(&frame[HEADER..], &body[..]);
        }
        prop_assert!(peak <= passportd::wire::MAX_WEIGHT, "{} bytes", peak);
        peek_id(&body);
    });
}

#[test]
fn the_id_of_a_broken_request_is_read_if_it_is_there() {
    for sample in samples::all().into_iter().filter(|sample| matches!(sample.kind, "Request" | "AdminRequest")) {
        let places = places(sample.kind, sample.body());
        let id = &places[0];
        for n in 0..=sample.body().len() {
            let expected = if n < id.at + id.len { 0 } else { id.value };
            assert_eq!(peek_id(&sample.body()[..n]), expected, "{} cut at {n}", sample.title());
        }
    }
    assert_eq!(peek_id(&[2, 7]), 0, "another version");
    assert_eq!(peek_id(&[1, 255]), 0, "no number");
}

/// What fits a frame can be read: the limit on decoding is no second, hidden limit on messages.
#[test]
fn the_fullest_frames_can_be_read() {
    use passportd::wire::{IssueSpec, KeySet, MAX_FRAME, Passport, Reply, Request, ServiceOk, ServiceOp, Want, decode};
    fn fits(op: ServiceOp<'_>) -> usize {
        let (request, mut frame) = (Request { id: u64::MAX, corr_id: [0; 16], op }, Vec::new());
        encode_frame(&request, &mut frame).unwrap();
        assert!(decode::<Request<'_>>(&frame[HEADER..]).unwrap() == request, "{} bytes", frame.len());
        frame.len()
    }
    let fill = vec![b'a'; MAX_FRAME];
    let verify = |n: usize| {
        let passport = Passport::Envelope { alg: "Ed25519", kid: "k", msg: &fill[..n], sig: &[0; 64] };
        ServiceOp::Verify { want: Want::default(), passport }
    };
    let around = fits(verify(MAX_FRAME / 2)) - HEADER - MAX_FRAME / 2;
    assert_eq!(fits(verify(MAX_FRAME - around)), HEADER + MAX_FRAME);

    // 8192 is the most that `limits.max_batch` can be set to.
    let spec = IssueSpec { template: "demo", sub: "someone", ..IssueSpec::default() };
    fits(ServiceOp::IssueBatch(vec![spec; 8192]));
    let many = IssueSpec {
        template: "demo",
        sub: "a",
        aud: vec!["audience"; 16],
        scopes: vec!["a:scope:of:20:bytes:"; 64],
        ..IssueSpec::default()
    };
    fits(ServiceOp::IssueBatch(vec![many; 512]));
    let small = Passport::Envelope { alg: "Ed25519", kid: "ed25519/t1/auth/v1", msg: &fill[..24], sig: &[0; 64] };
    fits(ServiceOp::VerifyBatch { want: Want::default(), items: vec![small; 8192] });

    let reply = Reply {
        id: 1,
        result: Ok(ServiceOk::Keys(KeySet { etag: [0; 32], max_age_s: 1, jwks: vec![b'a'; MAX_FRAME - 42] })),
    };
    let mut frame = Vec::new();
    encode_frame(&reply, &mut frame).unwrap();
    assert_eq!(frame.len(), HEADER + MAX_FRAME);
    assert!(decode::<Reply>(&frame[HEADER..]).unwrap() == reply);
}
