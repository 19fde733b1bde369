//! Frames of wire version 1, byte for byte. A line never changes; new ones are appended.

use std::collections::BTreeMap;

use super::{bless, hex, path, samples};

const FILE: &str = "tests/golden/frames.txt";

#[test]
fn every_frame_is_as_it_was_recorded() {
    let text = std::fs::read_to_string(path(FILE)).unwrap_or_default();
    let recorded: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(": ")).collect();
    let mut added = String::new();
    for sample in samples::all() {
        let (title, frame) = (sample.title(), hex(&sample.frame));
        match recorded.get(title.as_str()) {
            Some(bytes) => assert_eq!(*bytes, frame, "{title}: these bytes are promised; change the wire version"),
            None => added.push_str(&format!("{title}: {frame}\n")),
        }
    }
    if bless() && !added.is_empty() {
        std::fs::write(path(FILE), text.clone() + &added).unwrap();
    } else {
        assert!(added.is_empty(), "not recorded in {FILE} (PASSPORTD_BLESS=1 appends):\n{added}");
    }
}

#[test]
fn every_recorded_frame_can_still_be_read() {
    let text = std::fs::read_to_string(path(FILE)).unwrap();
    assert!(text.lines().count() > 100);
    for line in text.lines() {
        let (title, frame) = line.split_once(": ").unwrap();
        let bytes: Vec<u8> =
            (0..frame.len()).step_by(2).map(|n| u8::from_str_radix(&frame[n..n + 2], 16).unwrap()).collect();
        let kind = title.split(' ').next().unwrap();
        assert_eq!(samples::recode(kind, &bytes[4..]).unwrap(), bytes, "{title}");
    }
}
