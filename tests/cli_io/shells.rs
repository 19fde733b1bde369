//! Completion scripts, and the shells that read them.

use std::process::Command;

use crate::tool::{Ran, run, tool};

const SHELLS: [&str; 5] = ["bash", "zsh", "fish", "elvish", "powershell"];

fn script(shell: &str) -> String {
    let ran = run(&mut tool(&["completions", shell]), "");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{shell}");
    ran.stdout
}

/// The names of all commands, at every depth.
fn names() -> Vec<String> {
    let mut queue = vec![passportd::cli::command()];
    let mut found = Vec::new();
    while let Some(command) = queue.pop() {
        found.extend(command.get_subcommands().map(|one| one.get_name().to_owned()));
        queue.extend(command.get_subcommands().cloned());
    }
    found
}

#[test]
fn every_script_knows_every_command_and_every_global_option() {
    let names = names();
    assert!(names.len() > 30 && names.contains(&"explain".to_owned()), "{names:?}");
    for shell in SHELLS {
        let script = script(shell);
        let knows = |word: &str| script.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|one| one == word);
        for name in &names {
            assert!(knows(name), "{shell} does not know {name}");
        }
        for option in ["socket", "admin-socket", "output", "timeout"] {
            assert!(script.contains(option), "{shell} does not know --{option}");
        }
    }
}

/// Runs a shell with a script on stdin; none where there is no such shell.
fn shell(name: &str, arguments: &[&str], input: &str) -> Option<Ran> {
    let there = Command::new(name).arg("--version").output().is_ok();
    there.then(|| run(Command::new(name).args(arguments), input))
}

#[test]
fn shells_that_are_here_can_read_their_scripts() {
    let mut read = 0;
    for (name, arguments) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let Some(ran) = shell(name, arguments, &script(name)) else { continue };
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""), "{name}");
        read += 1;
    }
    assert!(read > 0, "not even bash is here");
}

#[test]
fn bash_completes_commands_options_and_values() {
    let complete = |words: &str| {
        let asked = format!(
            "{}\nCOMP_WORDS=({words})\nCOMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _passportctl passportctl \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
             printf '%s ' \"${{COMPREPLY[@]}}\"\n",
            script("bash")
        );
        // Not interactive, so the builtin that registers the function may warn.
        shell("bash", &["--norc", "--noprofile"], &asked).expect("bash is on every machine of ours").stdout
    };
    assert_eq!(complete("passportctl ke"), "keys key ");
    assert_eq!(complete("passportctl policy ex"), "explain ");
    assert_eq!(complete("passportctl keys --pu"), "--publish ");
    assert_eq!(complete("passportctl ping --output j"), "json ");
}
