//! What there is to run.

/// The paths of all commands without sub-commands, as they are typed.
pub(crate) fn leaves() -> Vec<String> {
    tree().1
}

/// The paths of all that have sub-commands, from the tool itself, and of all that have none.
pub(crate) fn tree() -> (Vec<String>, Vec<String>) {
    // Types of clap have no name here; a queue needs none.
    let mut queue = vec![(String::new(), passportd::cli::command())];
    let (mut groups, mut found) = (Vec::new(), Vec::new());
    while let Some((path, command)) = queue.pop() {
        let below: Vec<_> = command.get_subcommands().cloned().collect();
        if below.is_empty() { &mut found } else { &mut groups }.push(path.clone());
        queue.extend(below.into_iter().map(|one| (format!("{path} {}", one.get_name()).trim().to_owned(), one)));
    }
    groups.sort_unstable();
    found.sort_unstable();
    (groups, found)
}
