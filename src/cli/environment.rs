//! `PASSPORTCTL_…`: variables that stand for options, and those that only look like it.

use std::ffi::OsString;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue};

use super::args::Arguments;
use super::text::plain;
use crate::policy::suggest;

const PREFIX: &str = "PASSPORTCTL_";

/// Options that a variable can stand for: the variable, and the option as it is typed.
fn known() -> Vec<(String, String)> {
    let command = Arguments::command();
    let pair =
        |argument: &clap::Arg| Some((argument.get_env()?.to_str()?.to_owned(), format!("--{}", argument.get_long()?)));
    command.get_arguments().filter_map(pair).collect()
}

/// A line for each variable that is meant for this program, and is none of its own.
pub(super) fn warnings(environment: &[(OsString, OsString)]) -> Vec<String> {
    let known = known();
    let names = || known.iter().map(|(name, _)| name.as_str());
    let given = environment.iter().filter_map(|(name, _)| name.to_str());
    let mut unknown: Vec<_> =
        given.filter(|given| given.starts_with(PREFIX) && !names().any(|name| name == *given)).collect();
    unknown.sort_unstable();
    let line = |name: &str| {
        let hint = match suggest::hint(name, names()) {
            near if near.is_empty() => format!("; there are {}", names().collect::<Vec<_>>().join(", ")),
            near => near,
        };
        format!("warning: {} is in the environment and means nothing{hint}", plain(name))
    };
    unknown.into_iter().map(line).collect()
}

/// For a value that is wrong and was not typed: the variable that it comes from.
pub(super) fn culprit(error: &clap::Error, typed: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    let option = argument.split(' ').next()?;
    let is_typed = |word: &OsString| {
        let word = word.to_string_lossy();
        word == option || word.strip_prefix(option).is_some_and(|rest| rest.starts_with('='))
    };
    if typed.iter().any(is_typed) {
        return None;
    }
    let (name, _) = known().into_iter().find(|(name, long)| long == option && std::env::var_os(name).is_some())?;
    Some(format!("the value comes from the environment: {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(names: &[&str]) -> Vec<String> {
        warnings(&names.iter().map(|name| (name.into(), "x".into())).collect::<Vec<_>>())
    }

    #[test]
    fn every_option_of_all_commands_has_a_variable() {
        let command = Arguments::command();
        let without: Vec<_> = command
            .get_arguments()
            .filter(|argument| argument.get_env().is_none())
            .map(|argument| argument.get_id().as_str())
            .filter(|id| !["help", "version"].contains(id))
            .collect();
        assert!(without.is_empty(), "{without:?}");
        for (name, option) in known() {
            assert_eq!(name, format!("{PREFIX}{}", option.trim_start_matches('-').to_uppercase().replace('-', "_")));
        }
    }

    #[test]
    fn a_variable_that_is_near_is_named() {
        let quiet: [&str; 0] = [];
        assert_eq!(warned(&["PASSPORTCTL_SOCKET", "PASSPORTCTL_TIMEOUT", "PASSPORT_MAX_BATCH", "PATH"]), quiet);
        assert_eq!(
            warned(&["PASSPORTCTL_SOKCET"]),
            [
                "warning: PASSPORTCTL_SOKCET is in the environment and means nothing (did you mean `PASSPORTCTL_SOCKET`?)"
            ]
        );
        let far = warned(&["PASSPORTCTL_COLOUR_SCHEME", "PASSPORTCTL_\u{7}"]);
        assert!(far[0].contains("PASSPORTCTL_\\u{7} is in the environment"), "{far:?}");
        assert!(far[1].contains("; there are PASSPORTCTL_OUTPUT, PASSPORTCTL_SOCKET, "), "{far:?}");
    }
}
