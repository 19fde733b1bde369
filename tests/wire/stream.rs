//! A stream is the same frames wherever it is cut.

use passportd::wire::frame::{Split, split};
use passportd::wire::{HEADER, MAX_FRAME, WireError};
use proptest::prelude::*;

use super::{rounds, samples};

/// Feeds `parts` one by one, as reads from a socket would, and takes every complete frame out.
fn bodies<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let (mut buffer, mut start, mut out) = (Vec::new(), 0, Vec::new());
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            match split(&buffer[start..]).unwrap() {
                Split::Frame { body, used } => {
                    assert_eq!(used, HEADER + body.len());
                    out.push(body.to_vec());
                    start += used;
                }
                Split::Partial { need } => {
                    assert!(need > buffer.len() - start, "{need} bytes are there");
                    break;
                }
            }
        }
    }
    assert_eq!(start, buffer.len(), "bytes are left");
    out
}

fn stream() -> (Vec<u8>, Vec<Vec<u8>>) {
    let samples = samples::all();
    let bytes = samples.iter().flat_map(|sample| sample.frame.clone()).collect();
    (bytes, samples.iter().map(|sample| sample.body().to_vec()).collect())
}

#[test]
fn a_pipelined_stream_cut_at_any_byte_is_the_same_frames() {
    let (bytes, expected) = stream();
    for cut in 0..=bytes.len() {
        let (before, after) = bytes.split_at(cut);
        assert_eq!(bodies([before, after]), expected, "cut at {cut}");
    }
    assert_eq!(bodies(bytes.chunks(1)), expected, "byte by byte");
}

#[test]
fn a_pipelined_stream_cut_at_random_is_the_same_frames() {
    let (bytes, expected) = stream();
    let config = ProptestConfig { cases: rounds() * 8, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(mut cuts in prop::collection::vec(0..bytes.len(), 0..64))| {
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let parts: Vec<&[u8]> = starts.zip(&cuts).map(|(from, to)| &bytes[from..*to]).collect();
        prop_assert_eq!(bodies(parts), expected.clone());
    });
}

#[test]
fn the_largest_frame_passes_and_one_byte_more_never_does() {
    let largest = u32::try_from(MAX_FRAME).unwrap();
    let mut frame = largest.to_be_bytes().to_vec();
    frame.resize(HEADER + MAX_FRAME, 1);
    assert_eq!(bodies([frame.as_slice()])[0].len(), MAX_FRAME);
    for announced in [largest + 1, 1 << 24, 1 << 31, u32::MAX] {
        assert_eq!(split(&announced.to_be_bytes()), Err(WireError::Oversize { announced }));
    }
    // No byte of the body is needed to know, and three bytes of the header are not enough.
    assert_eq!(split(&[0xff, 0xff, 0xff]), Ok(Split::Partial { need: HEADER }));
}

#[test]
fn an_empty_frame_is_a_frame() {
    assert_eq!(bodies([[0, 0, 0, 0, 0, 0, 0, 1, 9].as_slice()]), [vec![], vec![9]]);
}
