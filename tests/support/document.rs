// Documents of which a part is written from the code.

use std::fs;
use std::path::Path;

/// Asserts that what stands in `document` between the markers of `name` is `fresh`. With `PASSPORTD_BLESS` set it is
/// made so.
pub(crate) fn assert_written(document: &str, name: &str, fresh: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- {name}: written by the tests (PASSPORTD_BLESS=1) -->\n");
    let end = format!("<!-- end of {name} -->");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{document} has no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{document} has no {end}"));
    let blessed = format!("{before}{begin}{fresh}{end}{after}");
    if std::env::var_os("PASSPORTD_BLESS").is_some() {
        fs::write(&path, &blessed).unwrap();
    } else {
        assert!(text == blessed, "{document}: {name} is not the code's; run this test with PASSPORTD_BLESS=1");
    }
}
