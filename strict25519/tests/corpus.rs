//! The committed corpus of the fuzz target, input by input.
#![cfg(test)]

#[path = "../fuzz/src/ways.rs"]
#[expect(unreachable_pub, reason = "public in the package of the target, which has the same file")]
mod ways;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[test]
fn every_way_is_right_about_the_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/ways");
    let (mut inputs, mut verdicts) = (0, [0, 0]);
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let count = catch_unwind(|| {
            let mut count = [0, 0];
            ways::batch(&bytes, |_, expected, _| expected.iter().for_each(|good| count[usize::from(*good)] += 1));
            count
        });
        let count = count.unwrap_or_else(|_| panic!("ways fails on {}", path.display()));
        verdicts = [verdicts[0] + count[0], verdicts[1] + count[1]];
        inputs += 1;
    }
    assert!(
        inputs > 0 && verdicts.iter().all(|count| *count > 0),
        "{inputs} inputs, {verdicts:?} refused and accepted"
    );
}
