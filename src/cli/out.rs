//! Where answers go: tables for people, JSON for programs, one line on stderr when something is wrong.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table};
use indicatif::ProgressBar;
use serde::Serialize;

use super::args::Format;
use super::error::CliError;
use super::progress::{Extent, Progress};
use super::text;

/// Narrower than this, wrapped cells can't be read; the terminal may wrap the lines instead.
const MIN_WIDTH: u16 = 40;

/// What stdout and stderr are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Screen {
    /// Somebody is watching stdout.
    pub(super) terminal: bool,
    /// Its columns, if it is known to have an end.
    pub(super) width: Option<u16>,
    /// Whether colours are welcome: a terminal that has them, and no `NO_COLOR` (no-color.org).
    pub(super) colour: bool,
    /// Somebody is watching stderr.
    pub(super) watched: bool,
}

impl Screen {
    /// The process's own stdout and stderr.
    pub(super) fn own() -> Self {
        let stdout = io::stdout();
        let terminal = io::IsTerminal::is_terminal(&stdout);
        let width = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col);
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        // A terminal without a name may be a printer.
        let dumb = std::env::var_os("TERM").is_none_or(|value| value == "dumb");
        Self {
            terminal,
            width: width.filter(|width| *width >= MIN_WIDTH),
            colour: terminal && !plain && !dumb,
            watched: io::IsTerminal::is_terminal(&io::stderr()),
        }
    }
}

/// Stdout and stderr of a command.
pub(super) struct Out<'a> {
    stdout: &'a mut dyn Write,
    stderr: &'a mut dyn Write,
    screen: Screen,
    format: Option<Format>,
    closed: bool,
    /// What is drawn on stderr meanwhile, or was.
    bar: ProgressBar,
    /// Shown from the first connection on, where nothing that says more is.
    waiting: Option<Progress>,
}

impl<'a> Out<'a> {
    pub(super) fn new(
        stdout: &'a mut dyn Write,
        stderr: &'a mut dyn Write,
        screen: Screen,
        format: Option<Format>,
    ) -> Self {
        let bar = ProgressBar::hidden();
        bar.finish();
        Self { stdout, stderr, screen, format, closed: false, bar, waiting: None }
    }

    /// The same, in the format that was asked for.
    pub(super) fn with_format(self, format: Option<Format>) -> Self {
        Self { format, ..self }
    }

    /// Whether to answer in JSON; tables unless asked otherwise.
    pub(super) fn is_json(&self) -> bool {
        self.format == Some(Format::Json)
    }

    /// Whether to answer in JSON, for commands whose answer another program reads unless somebody is watching.
    pub(super) fn is_json_in_a_pipe(&self) -> bool {
        self.format.map_or(!self.screen.terminal, |format| format == Format::Json)
    }

    /// Whether a table was asked for by name.
    pub(super) fn is_table_asked_for(&self) -> bool {
        self.format == Some(Format::Table)
    }

    /// Whether somebody is watching.
    pub(super) fn is_terminal(&self) -> bool {
        self.screen.terminal
    }

    /// Whether the reader of stdout has left.
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Exactly these bytes. A reader that has left is no error: `passportctl … | head` has got what it wanted, and the
    /// exit code still says how the command ended.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        if self.closed {
            return Ok(());
        }
        let Self { stdout, bar, .. } = self;
        match bar.suspend(|| stdout.write_all(bytes).and_then(|()| stdout.flush())) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            other => other.map_err(CliError::Output),
        }
    }

    /// One line.
    pub(super) fn line(&mut self, text: &str) -> Result<(), CliError> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// One JSON document: on one line in a pipe, indented for people.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text =
            if self.screen.terminal { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        self.line(&text::escaped(&text.map_err(|error| CliError::Output(error.into()))?))
    }

    /// A table with a header.
    pub(super) fn table(
        &mut self,
        header: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Result<(), CliError> {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(header.iter().map(|name| name.to_uppercase()));
        for row in rows {
            table.add_row(row);
        }
        self.draw(table)
    }

    /// Names and values, one pair a line.
    pub(super) fn pairs<K: Into<String>>(
        &mut self,
        pairs: impl IntoIterator<Item = (K, String)>,
    ) -> Result<(), CliError> {
        let mut table = Table::new();
        table.load_style(NOTHING);
        for (key, value) in pairs {
            table.add_row(vec![key.into(), value]);
        }
        self.draw(table)
    }

    fn draw(&mut self, mut table: Table) -> Result<(), CliError> {
        if let Some(width) = self.screen.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            // The first column holds names, which nobody can copy once they are broken over lines.
            if let Some(names) = table.column_mut(0) {
                names.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        let mut text = String::new();
        for line in table.lines() {
            // The style without borders pads each line on both sides.
            text.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
            text.push('\n');
        }
        self.bytes(text.as_bytes())
    }

    /// `ok` or `FAIL`, in colour where that is welcome, padded to the same width.
    pub(super) fn mark(&self, ok: bool) -> &'static str {
        match (ok, self.screen.colour) {
            (true, false) => "ok  ",
            (false, false) => "FAIL",
            (true, true) => "\u{1b}[32mok\u{1b}[0m  ",
            (false, true) => "\u{1b}[31mFAIL\u{1b}[0m",
        }
    }

    /// Words that must not be overlooked.
    pub(super) fn loud(&self, words: &str) -> String {
        if self.screen.colour { format!("\u{1b}[1;31m{words}\u{1b}[0m") } else { words.to_owned() }
    }

    /// The columns of the terminal, if there is one.
    pub(super) fn width(&self) -> Option<usize> {
        self.screen.width.map(usize::from)
    }

    /// Announces something that may take over a second: on a terminal's stderr alone, and never beside JSON that was
    /// asked for. It is cleared when the result is dropped.
    pub(super) fn progress(&mut self, what: &str, extent: Extent) -> Progress {
        self.answered();
        if !self.screen.watched || self.is_json() {
            return Progress::hidden();
        }
        let progress = Progress::start(what, extent);
        self.bar = progress.bar();
        progress
    }

    /// Announces that the daemon is being asked, unless the command itself has said what it does. It is shown until that
    /// or the end of the command.
    pub(super) fn asking(&mut self) {
        if self.bar.is_finished() {
            let waiting = self.progress("waiting for the daemon", Extent::Unknown);
            self.waiting = Some(waiting);
        }
    }

    /// Clears what [`Out::asking`] announced.
    pub(super) fn answered(&mut self) {
        self.waiting = None;
    }

    /// One line for people, on stderr. Where even that can't be written there is nobody left to tell.
    pub(super) fn note(&mut self, text: &str) {
        self.error(&format!("passportctl: {text}\n"));
    }

    /// Exactly this text, on stderr.
    pub(super) fn error(&mut self, text: &str) {
        let Self { stderr, bar, .. } = self;
        drop(bar.suspend(|| stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Left;

    impl Write for Left {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shown(screen: Screen, format: Option<Format>, show: impl FnOnce(&mut Out<'_>)) -> String {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        show(&mut Out::new(&mut stdout, &mut stderr, screen, format));
        assert!(stderr.is_empty());
        String::from_utf8(stdout).unwrap()
    }

    #[test]
    fn a_reader_that_has_left_is_no_error() {
        let mut stderr = Vec::new();
        let mut left = Left;
        let mut out = Out::new(&mut left, &mut stderr, Screen::default(), None);
        out.line("one").unwrap();
        out.line("two").unwrap();
        assert!(stderr.is_empty());
    }

    #[test]
    fn tables_have_no_borders_and_no_trailing_blanks() {
        let text = shown(Screen::default(), None, |out| {
            out.table(&["kid", "state"], [vec!["k1".into(), "active".into()], vec!["key-2".into(), String::new()]])
                .unwrap();
        });
        assert_eq!(text, "KID    STATE\nk1     active\nkey-2\n");
    }

    #[test]
    fn a_screen_bounds_the_lines() {
        let screen = Screen { terminal: true, width: Some(40), ..Screen::default() };
        let text = shown(screen, None, |out| out.pairs([("note", "word ".repeat(30))]).unwrap());
        assert!(text.lines().count() > 3 && text.lines().all(|line| line.chars().count() <= 40), "{text}");
    }

    #[test]
    fn who_gets_json() {
        let pipe = Screen::default();
        let screen = Screen { terminal: true, ..pipe };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        for (screen, format, always, piped) in [
            (pipe, None, false, true),
            (screen, None, false, false),
            (pipe, Some(Format::Table), false, false),
            (screen, Some(Format::Json), true, true),
        ] {
            let out = Out::new(&mut stdout, &mut stderr, screen, format);
            assert_eq!((out.is_json(), out.is_json_in_a_pipe()), (always, piped));
        }
    }
}
