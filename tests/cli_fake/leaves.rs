//! What there is to run.

/// The paths of all commands without sub-commands, as they are typed.
pub(crate) fn leaves() -> Vec<String> {
    // Types of clap have no name here; a queue needs none.
    let mut queue = vec![(String::new(), passportd::cli::command())];
    let mut found = Vec::new();
    while let Some((path, command)) = queue.pop() {
        let below: Vec<_> = command.get_subcommands().cloned().collect();
        if below.is_empty() {
            found.push(path.clone());
        }
        queue.extend(below.into_iter().map(|one| (format!("{path} {}", one.get_name()).trim().to_owned(), one)));
    }
    found.sort_unstable();
    found
}
