//! Where cases come from: this program, or a directory.

use std::collections::BTreeSet;
use std::path::Path;

use super::case::{Case, CaseFile};
use crate::cli::error::CliError;

/// Every file of `tests/conformance`; a test compares.
const EMBEDDED: [(&str, &str); 14] = [
    ("hello.json", include_str!("../../../tests/conformance/hello.json")),
    ("frames.json", include_str!("../../../tests/conformance/frames.json")),
    ("service.json", include_str!("../../../tests/conformance/service.json")),
    ("issue.json", include_str!("../../../tests/conformance/issue.json")),
    ("verify.json", include_str!("../../../tests/conformance/verify.json")),
    ("revoke.json", include_str!("../../../tests/conformance/revoke.json")),
    ("bound.json", include_str!("../../../tests/conformance/bound.json")),
    ("exchange.json", include_str!("../../../tests/conformance/exchange.json")),
    ("watch.json", include_str!("../../../tests/conformance/watch.json")),
    ("jws.json", include_str!("../../../tests/conformance/jws.json")),
    ("seal.json", include_str!("../../../tests/conformance/seal.json")),
    ("admin.json", include_str!("../../../tests/conformance/admin.json")),
    ("doors.json", include_str!("../../../tests/conformance/doors.json")),
    ("disruptive.json", include_str!("../../../tests/conformance/disruptive.json")),
];

/// The largest file of cases, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// The suite of this program.
pub(super) fn embedded() -> Result<Vec<Case>, CliError> {
    let files = EMBEDDED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    read(files.collect())
}

/// The `*.json` of a directory, by name.
pub(super) fn of_directory(dir: &Path) -> Result<Vec<Case>, CliError> {
    let unreadable = |why| CliError::File { path: dir.to_owned(), why };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.display().to_string();
        if std::fs::metadata(&path).is_ok_and(|data| data.len() > MAX_FILE) {
            return Err(CliError::input(&name, format!("more than {MAX_FILE} bytes")));
        }
        let text = std::fs::read_to_string(&path).map_err(|why| CliError::File { path, why })?;
        files.push((name, text));
    }
    files.sort_unstable();
    if files.is_empty() {
        return Err(CliError::input(&dir.display().to_string(), "there is no *.json in it"));
    }
    read(files)
}

fn read(files: Vec<(String, String)>) -> Result<Vec<Case>, CliError> {
    let mut cases = Vec::new();
    let mut names = BTreeSet::new();
    for (name, text) in files {
        let file: CaseFile = serde_json::from_str(&text).map_err(|error| CliError::input(&name, error.to_string()))?;
        for case in file.cases {
            if !names.insert(case.name.clone()) {
                return Err(CliError::input(&name, format!("there are two cases {:?}", case.name)));
            }
            cases.push(case);
        }
    }
    Ok(cases)
}

/// Those of these names, in the order of the suite; all if none is named.
pub(super) fn only(cases: Vec<Case>, names: &[String]) -> Result<Vec<Case>, CliError> {
    if let Some(unknown) = names.iter().find(|name| cases.iter().all(|case| case.name != **name)) {
        return Err(CliError::Usage(format!("there is no case {unknown:?}; see tests/conformance")));
    }
    Ok(cases.into_iter().filter(|case| names.is_empty() || names.contains(&case.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance"))
    }

    #[test]
    fn what_is_embedded_is_what_is_in_the_directory() {
        let names = std::fs::read_dir(dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let there: BTreeSet<_> = names.filter(|name| name.ends_with(".json")).collect();
        assert_eq!(there, EMBEDDED.iter().map(|(name, _)| (*name).to_owned()).collect());
        let names = |cases: Vec<Case>| cases.into_iter().map(|case| case.name).collect::<BTreeSet<_>>();
        assert_eq!(names(embedded().unwrap()), names(of_directory(dir()).unwrap()));
    }

    #[test]
    fn only_the_named_run_and_an_unknown_name_is_an_error() {
        let names = ["verify".to_owned(), "hello".to_owned()];
        let chosen: Vec<_> = only(embedded().unwrap(), &names).unwrap().into_iter().map(|case| case.name).collect();
        assert_eq!(chosen, ["hello", "verify"]);
        assert!(only(embedded().unwrap(), &["nothing".to_owned()]).is_err());
    }

    #[test]
    fn two_cases_of_one_name_and_a_slip_in_a_member_are_errors() {
        let case = r#"{"name": "a", "shows": "", "steps": []}"#;
        let file = |cases: &str| read(vec![("f".to_owned(), format!("{{\"about\": \"\", \"cases\": [{cases}]}}"))]);
        assert_eq!(file(case).unwrap().len(), 1);
        assert!(file(&format!("{case},{case}")).unwrap_err().to_string().contains("two cases \"a\""));
        assert!(file(&case.replace("steps", "step")).is_err());
    }
}
