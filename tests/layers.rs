//! The order of the rooms, enforced: a room imports only rooms that stand before it in `src/lib.rs`. The files are read
//! as tokens, tests included; what is in comments and strings does not count.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The order of DESIGN §4. `src/lib.rs` may leave rooms out, but not turn them round.
const ORDER: &str = "secret clock passport statement wire metrics policy config sandbox verify hsm signer seal log state \
                     audit watch issue check ceremony lifecycle service server boot";
/// Rooms beside the order, with what each may import.
const ASIDE: [(&str, &str); 2] = [
    // The last two for verdicts that are the daemon's (decision 0057): without the daemon they are pure.
    ("client", "clock passport wire verify state check"),
    // The last three for the doctor, who reads their files and changes nothing (decision 0034).
    ("cli", "secret clock passport statement wire metrics policy config verify client hsm log state audit"),
];
/// Crates that few rooms keep to themselves.
const KEPT: [(&str, &str); 2] = [("bincode", "wire"), ("cryptoki", "hsm ceremony")];
/// Where the time of day is read: where something begins. Whatever decides is given it.
const READS_THE_CLOCK: &str = "src/service/ src/lifecycle/ src/ceremony/ src/boot/ src/hsm/server/desk.rs src/hsm/fleeting.rs \
                              src/cli/attestation/mod.rs src/cli/conformance/mod.rs src/cli/doctor/gather.rs \
                              src/cli/inspect/mod.rs src/cli/mod.rs src/client/verifier/";
/// What a service that links only the client must not build.
const NOT_IN_CLIENT: [&str; 8] = ["cryptoki", "redb", "hyper", "clap", "nix", "prometheus", "landlock", "toml"];
/// Lines of a file. A longer one wants to be two.
const MAX_LINES: usize = 400;

/// A word or a single sign, with its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// Splits Rust source into words and signs; comments, strings, characters and lifetimes are left out.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let (length, is_token) = step(rest, first);
        let (text, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        if is_token {
            out.push(Token { text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    out
}

/// The length of what comes next, and whether it is a token.
fn step(rest: &str, first: char) -> (usize, bool) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), false);
    }
    if let Some(length) = raw_string(rest) {
        return (length, false);
    }
    match first {
        '"' => (quoted(rest, '"'), false),
        '\'' => (character_or_lifetime(rest), false),
        _ if first.is_alphanumeric() || first == '_' => {
            (rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()), true)
        }
        _ => (first.len_utf8(), !first.is_whitespace()),
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    for (at, _) in rest.char_indices() {
        let here = rest.get(at..).unwrap_or("");
        if here.starts_with("/*") {
            depth += 1;
        } else if here.starts_with("*/") {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return at + 2;
            }
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`; none for a word that only starts so.
fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix("br").or_else(|| rest.strip_prefix("cr")).or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let start = rest.len() - body.len() + hashes;
    let inner = rest.get(start..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(inner.find(&end).map_or(rest.len(), |at| start + 1 + at + end.len()))
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn character_or_lifetime(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (_, Some('\'')) => quoted(rest, '\''),
        _ => 1,
    }
}

/// A name directly under the crate's root that a file refers to.
#[derive(Debug, PartialEq, Eq)]
struct Import<'a> {
    name: &'a str,
    line: usize,
}

/// Every name that is reached as `crate::name`, `crate::{name, …}`, or by as many `super` as lead to the root.
/// `depth` is how deep the file's own module lies: 1 for `src/room.rs` and `src/room/mod.rs`.
fn imports<'a>(source: &'a str, depth: usize) -> Vec<Import<'a>> {
    let tokens = tokens(source);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut found = Vec::new();
    let (mut braces, mut inline) = (0_usize, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        match text(at) {
            "{" => braces += 1,
            "}" => {
                braces = braces.saturating_sub(1);
                inline.retain(|opened| *opened <= braces);
            }
            "mod" if text(at + 2) == "{" => inline.push(braces + 1),
            "crate" if text(at + 1) == ":" => found.extend(heads(&tokens, at + 3)),
            "super" if at == 0 || text(at - 1) != ":" => {
                let supers = (0..).take_while(|n| text(at + 3 * n) == "super" && text(at + 3 * n + 1) == ":").count();
                if supers == depth + inline.len() {
                    found.extend(heads(&tokens, at + 3 * supers));
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The first names of a path's rest: `a` of `a::b`, or `a` and `c` of `{a::b, c::{d}}`.
fn heads<'a>(tokens: &[Token<'a>], start: usize) -> Vec<Import<'a>> {
    let Some(first) = tokens.get(start) else { return Vec::new() };
    let import = |token: &Token<'a>| Import { name: token.text, line: token.line };
    if first.text != "{" {
        return vec![import(first)];
    }
    let (mut depth, mut expects, mut out) = (1_usize, true, Vec::new());
    for token in tokens.iter().skip(start + 1) {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => expects = true,
            _ if depth == 1 && expects => {
                out.push(import(token));
                expects = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    out
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            out.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

/// The room of a file in `src` and how deep its module lies; none for `lib.rs` and the binaries.
fn room_of(path: &Path) -> Option<(String, usize)> {
    let inside = path.strip_prefix(root().join("src")).ok()?.with_extension("");
    let mut parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
    if parts.last() == Some(&"mod") {
        parts.pop();
    }
    let room = parts.first().filter(|room| !["lib", "bin"].contains(room))?;
    Some(((*room).to_owned(), parts.len()))
}

/// Rooms in the order of `src/lib.rs`.
fn rooms(library: &str) -> Vec<&str> {
    let tokens = tokens(library);
    // What is not public is for tests.
    let declared = tokens.windows(4).filter_map(|window| match window {
        [public, first, name, end] if public.text == "pub" && first.text == "mod" && end.text == ";" => Some(name.text),
        _ => None,
    });
    let mut declared: Vec<_> = declared.collect();
    // One with the daemon, and one without.
    declared.dedup();
    declared
}

/// Why `room` must not import `name`, if it must not.
fn forbidden(rooms: &[&str], room: &str, name: &str) -> Option<String> {
    if name == room {
        return None;
    }
    if name == "*" || name == "self" {
        return Some("imports the whole crate".to_owned());
    }
    let place = |wanted: &str| rooms.iter().position(|room| *room == wanted);
    // What is no room is an item of the root: there is none, or the compiler says so.
    place(name)?;
    if let Some((_, allowed)) = ASIDE.iter().find(|(aside, _)| *aside == room) {
        let fine = allowed.split_whitespace().any(|allowed| allowed == name);
        return (!fine).then(|| format!("`{room}` may import only: {allowed}"));
    }
    if ASIDE.iter().any(|(aside, _)| *aside == name) {
        return Some(format!("`{name}` stands aside: no room of the daemon imports it"));
    }
    (place(name) >= place(room)).then(|| format!("`{name}` does not stand before `{room}` in src/lib.rs"))
}

#[test]
fn rooms_stand_in_the_order_of_the_design() {
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared = rooms(&library);
    let mut order = ORDER.split_whitespace().chain(ASIDE.iter().map(|(room, _)| *room));
    for room in &declared {
        assert!(order.any(|known| known == *room), "src/lib.rs: `{room}` is unknown or stands in the wrong place");
    }
    assert!(declared.len() > 20, "{declared:?}");
}

#[test]
fn a_room_imports_only_rooms_before_it() {
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let (rooms, mut wrong) = (rooms(&library), Vec::new());
    for path in rust_files(&root().join("src")).unwrap() {
        let Some((room, depth)) = room_of(&path) else { continue };
        assert!(rooms.contains(&&*room), "{}: `{room}` is not declared in src/lib.rs", path.display());
        for Import { name, line } in imports(&fs::read_to_string(&path).unwrap(), depth) {
            if let Some(why) = forbidden(&rooms, &room, name) {
                wrong.push(format!("{}:{line}: room `{room}` imports `{name}`: {why}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn some_crates_are_kept_in_one_room() {
    let mut wrong = Vec::new();
    for path in rust_files(&root().join("src")).unwrap() {
        let room = room_of(&path).map(|(room, _)| room).unwrap_or_default();
        for token in tokens(&fs::read_to_string(&path).unwrap()) {
            let kept =
                KEPT.iter().find(|(name, owner)| token.text == *name && !owner.split(' ').any(|owner| room == owner));
            wrong.extend(
                kept.map(|(name, owner)| format!("{}:{}: only `{owner}` names {name}", path.display(), token.line)),
            );
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_clock_is_read_where_something_begins() {
    let (mut wrong, mut readers) = (Vec::new(), 0);
    for path in rust_files(&root().join("src")).unwrap() {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let source = fs::read_to_string(&path).unwrap();
        // Tests may ask for the time.
        let source = source.split_once("#[cfg(test)]\nmod tests {").map_or(&*source, |(code, _)| code);
        let tokens = tokens(if name.ends_with("tests.rs") { "" } else { source });
        for call in tokens.windows(4).filter(|call| call.iter().map(|token| token.text).eq(["Moment", ":", ":", "now"]))
        {
            readers += 1;
            if !READS_THE_CLOCK.split(' ').any(|place| name.starts_with(place)) {
                wrong.push(format!("{name}:{}", call.first().map_or(0, |token| token.line)));
            }
        }
    }
    assert!(wrong.is_empty() && readers > 5, "the time is to be an argument: {wrong:?}");
}

#[test]
fn files_stay_short() {
    let mut long = Vec::new();
    for dir in ["src", "tests", "benches", "strict25519", "fuzz/src"]
        .map(|dir| root().join(dir))
        .iter()
        .filter(|dir| dir.exists())
    {
        for path in rust_files(dir).unwrap() {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            long.extend((lines > MAX_LINES).then(|| format!("{}: {lines} lines", path.display())));
        }
    }
    assert!(long.is_empty(), "more than {MAX_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn the_client_builds_nothing_of_the_daemon() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        .args(["tree", "--offline", "--locked", "-p", "passportd", "--no-default-features", "--features", "client"])
        .args(["-e", "normal,build", "--prefix", "none", "--format", "{p}"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains("bincode") && names.contains("tokio"), "the list is that of the client: {names:?}");
    let found: Vec<_> = NOT_IN_CLIENT.iter().filter(|name| names.contains(**name)).collect();
    assert!(found.is_empty(), "the client pulls in {found:?}");
}

#[test]
fn forbidden_imports_are_found_wherever_they_hide() {
    let rooms = ["wire", "config", "server", "client", "cli"];
    let source = r##"
        // use crate::server::x;
        /* crate::server /* nested */ crate::server */
        use crate::wire::Code;
        use crate::{wire::{self, server}, server::{a, b}, cli};
        const A: &str = "crate::server"; const B: &str = r#"crate::server "quoted" "#;
        const C: char = '"'; fn f<'a>(x: &'a str) -> char { '\'' }
        fn g() { crate::server::go(); super::super::client::go(); super::server::fine(); }
        mod inner { use super::super::server; use super::super::super::cli; mod deep {} }
        use super::server::fine;
    "##;
    let found: Vec<_> = imports(source, 2).into_iter().map(|import| (import.name, import.line)).collect();
    let expected = [("wire", 4), ("wire", 5), ("server", 5), ("cli", 5), ("server", 8), ("client", 8), ("cli", 9)];
    assert_eq!(found, expected);
    assert_eq!(imports("use super::server::x;", 1), [Import { name: "server", line: 1 }]);

    for (room, name, allowed) in [
        ("config", "wire", true),
        ("config", "config", true),
        ("config", "server", false),
        ("config", "client", false),
        ("server", "cli", false),
        ("client", "wire", true),
        ("client", "config", false),
        ("cli", "client", true),
        ("cli", "server", false),
        ("wire", "*", false),
    ] {
        assert_eq!(forbidden(&rooms, room, name).is_none(), allowed, "{room} imports {name}");
    }
}
