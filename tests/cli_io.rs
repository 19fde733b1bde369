//! What surrounds the answers of `passportctl`: terminals, pipes, full disks, the environment, shells, files.
#![cfg(feature = "cli")]

#[cfg(test)]
#[path = "cli_io/challenge.rs"]
mod challenge;
#[cfg(test)]
#[path = "cli_fake/mod.rs"]
#[expect(dead_code, reason = "shared by several tests")]
mod fake;
#[cfg(test)]
#[path = "cli_io/files.rs"]
mod files;
#[cfg(test)]
#[path = "cli_fake/leaves.rs"]
mod leaves;
#[cfg(test)]
#[path = "cli_io/shells.rs"]
mod shells;
#[cfg(test)]
#[path = "cli_io/slowly.rs"]
mod slowly;
#[cfg(test)]
#[path = "cli_io/streams.rs"]
mod streams;
#[cfg(test)]
#[path = "cli_io/terminal.rs"]
mod terminal;
#[cfg(test)]
#[path = "cli_fake/tool.rs"]
#[expect(dead_code, reason = "shared by several tests")]
mod tool;
#[cfg(test)]
#[path = "cli_io/typing.rs"]
mod typing;
