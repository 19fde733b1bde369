//! The fenced blocks of the documents, each with its place and language.

use std::fs;
use std::path::Path;

/// Languages that a block may say, and what becomes of such a block. Nothing else is a block here: a slip in the first
/// line would take it from its test.
const LANGUAGES: [(&str, &str); 10] = [
    (
        "sh",
        "run by tests/readme.rs; those of docs/LOGS.md by tests/logs/journal.rs, of docs/AUDIT.md by tests/e2e_audit.rs",
    ),
    ("console", "run by tests/readme.rs and tests/examples.rs, or named in tests/readme.rs with the reason"),
    ("python", "run by tests/python_live.rs and tests/python_verifier.rs"),
    ("rust", "compiled with the documentation of strict25519"),
    ("toml", "loaded by tests/examples.rs"),
    ("ini", "held against examples/orders.service by tests/examples.rs"),
    ("json", "read by tests/wire/spec.rs; that of tests/conformance has the form of the cases"),
    ("text", "a picture"),
    ("vectors", "decoded by tests/wire/spec.rs"),
    ("refused", "refused in tests/wire/spec.rs"),
];

/// A block.
#[derive(Clone, Debug)]
pub(crate) struct Fence {
    /// The document, from the root of the repository.
    pub(crate) page: String,
    /// Where it begins.
    pub(crate) line: usize,
    pub(crate) language: String,
    pub(crate) text: String,
}

impl Fence {
    /// For messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    /// What is typed in a `console` block: the lines after `$ `, without the remarks.
    pub(crate) fn typed(&self) -> Vec<&str> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("$ "));
        lines.map(|line| line.split(" # ").next().unwrap().trim()).collect()
    }

    /// What a `console` block shows as answers.
    pub(crate) fn shown(&self) -> Vec<&str> {
        self.text.lines().filter(|line| !line.starts_with("$ ")).collect()
    }
}

/// Where there are no documents of ours: what is built, and what others wrote.
const PASSED_OVER: [&str; 3] = ["target", "tests/vectors", "fuzz"];

/// Every block of every document, in order.
pub(crate) fn all() -> Vec<Fence> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    let mut places = vec![root.to_owned()];
    while let Some(place) = places.pop() {
        for path in fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()) {
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if path.is_dir() && !hidden && !PASSED_OVER.iter().any(|over| path == root.join(over)) {
                places.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/LOGS.md", "clients/python/README.md"] {
        assert!(pages.contains(&root.join(page)), "{page} is found");
    }
    pages.iter().flat_map(|page| of(page, root)).collect()
}

fn of(page: &Path, root: &Path) -> Vec<Fence> {
    let (text, page) = (fs::read_to_string(page).unwrap(), page.strip_prefix(root).unwrap().display().to_string());
    read(&page, &text)
}

fn read(page: &str, text: &str) -> Vec<Fence> {
    let mut fences: Vec<Fence> = Vec::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        let place = format!("{page}:{}", at + 1);
        match line.strip_prefix("```") {
            Some("") if open => open = false,
            Some(language) => {
                assert!(!open, "{place}: a block begins in a block");
                let known = LANGUAGES.iter().any(|(known, _)| *known == language);
                assert!(known, "{place}: {language:?} is no language of LANGUAGES in tests/support/fences.rs");
                fences.push(Fence {
                    page: page.to_owned(),
                    line: at + 1,
                    language: language.to_owned(),
                    text: String::new(),
                });
                open = true;
            }
            None => {
                let other = line.trim_start();
                assert!(!other.starts_with("```") && !other.starts_with("~~~"), "{place}: a block that is not seen");
                if open && let Some(fence) = fences.last_mut() {
                    fence.text.push_str(line);
                    fence.text.push('\n');
                }
            }
        }
    }
    assert!(!open, "{page}: a block is not closed");
    fences
}
