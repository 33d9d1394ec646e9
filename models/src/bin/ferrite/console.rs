//! What the user is told besides the results: on stderr, so that stdout is data alone.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Messages and progress bars.
pub(crate) struct Console {
    quiet: bool,
}

/// A bar at the bottom of the terminal; nothing where there is none.
pub(crate) struct Progress {
    bar: ProgressBar,
    start: Instant,
}

impl Console {
    pub(crate) fn new(quiet: bool) -> Console {
        Console { quiet }
    }

    /// Says what keeps the program from doing what it was asked for.
    pub(crate) fn error(&self, message: impl Display) {
        // A stderr that is closed is no reason to stop, and `eprintln!` would panic.
        let message = message.to_string();
        let lines: Vec<_> = message.split('\n').map(printable).collect();
        let _ = writeln!(stderr(), "ferrite: {}", lines.join("\n"));
    }

    /// Says what the user should know, unless they don't want to.
    pub(crate) fn note(&self, message: impl Display) {
        if !self.quiet {
            self.error(message);
        }
    }

    /// Shows how far a long work is, of `total` bytes if that is known. Not if the results scroll
    /// over the same screen: they are progress enough.
    pub(crate) fn progress(&self, total: Option<u64>) -> Progress {
        if stdout().is_terminal() { Progress::none() } else { self.download(total) }
    }

    /// The same for work that does not write to stdout.
    pub(crate) fn download(&self, total: Option<u64>) -> Progress {
        if self.quiet || !stderr().is_terminal() {
            return Progress::none();
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => "{bar:30} {percent:>3} %  {elapsed} (left: {eta})  {msg}",
            None => "{spinner} {elapsed}  {msg}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("a constant"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar, start: Instant::now() }
    }
}

impl Progress {
    /// A bar that is not shown.
    fn none() -> Progress {
        Progress { bar: ProgressBar::hidden(), start: Instant::now() }
    }

    /// Says how much is done: bytes of the whole, and how many texts and tokens those were.
    pub(crate) fn update(&self, bytes: u64, texts: u64, tokens: u64) {
        let seconds = self.start.elapsed().as_secs_f64();
        let rate = |count: u64| count as f64 / seconds;
        self.bar.set_position(bytes);
        self.bar.set_message(format!(
            "{texts} texts ({:.0}/s), {tokens} tokens ({:.0}/s)",
            rate(texts),
            rate(tokens)
        ));
    }

    /// Says how much of a file has arrived.
    pub(crate) fn update_download(&self, file: &str, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        let file = printable(file);
        self.bar.set_message(format!("{file}, {:.1} of {:.1} MB", mega(done), mega(total)));
    }

    /// Says how much is done, and of what.
    pub(crate) fn show(&self, position: u64, what: &str) {
        self.bar.set_position(position);
        self.bar.set_message(printable(what).into_owned());
    }

    /// Says how much is done.
    pub(crate) fn position(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// Does something that writes to the terminal, with the bar out of the way.
    pub(crate) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bar.suspend(work)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A text with its control characters escaped: it may come from a file, and a terminal would obey
/// them.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let mut out = String::new();
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.into()
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_nothing_to_obey() {
        assert_eq!(printable("größer\x1b[2J\r\u{9b}1m\x7f"), r"größer\u{1b}[2J\r\u{9b}1m\u{7f}");
        assert!(matches!(printable("[MASK] ä"), Cow::Borrowed("[MASK] ä")));
    }
}
