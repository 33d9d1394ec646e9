//! The source of the texts: read ahead by a thread of its own, so that a fast source is never
//! waited for and a slow one is noticed, within bounds however long the input is.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read, stdin};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;

use crate::console::Console;
use crate::lines::{Line, Splitter, parse};
use crate::options::{From, InputOptions};
use crate::outcome::Failure;

/// Bytes that are asked for at once.
const BLOCK: usize = 64 << 10;

/// Blocks that are read ahead.
const BLOCKS_AHEAD: usize = 4;

/// What comes next.
pub(crate) enum Next {
    /// Lines, and how many bytes of the input have been read.
    Lines(Vec<Line>, u64),
    /// Nothing at once.
    Pause,
    /// Nothing any more.
    End,
}

/// The lines of the input, in their order.
pub(crate) struct Input {
    chunks: Receiver<Result<(Vec<Line>, u64), Failure>>,
    /// The size of a file.
    total: Option<u64>,
    /// What a number counts, for messages.
    unit: &'static str,
}

impl Input {
    /// Opens what the options name.
    pub(crate) fn open(options: InputOptions, console: &Console) -> Result<Input, Failure> {
        let InputOptions { texts, input, from } = options;
        if !texts.is_empty() && texts != ["-"] {
            return Ok(Input::from_arguments(&texts, from));
        }
        let Some(path) = input else {
            if stdin().is_terminal() {
                console.note("reading texts from the terminal, one a line (end with Ctrl-D)");
            }
            return Ok(Input::from_reader(stdin(), "stdin".to_owned(), None, from));
        };
        let name = path.display().to_string();
        let failure = |error| Failure::Other(format!("{name}: {error}"));
        let file = File::open(&path).map_err(failure)?;
        let metadata = file.metadata().map_err(failure)?;
        let total = metadata.is_file().then_some(metadata.len());
        Ok(Input::from_reader(file, name, total, from))
    }

    fn from_arguments(texts: &[String], from: From) -> Input {
        let (sender, chunks) = sync_channel(1);
        let lines = texts
            .iter()
            .zip(1..)
            .map(|(text, number)| Line { number, text: parse(text.as_bytes(), from) });
        let sent = sender.send(Ok((lines.collect(), 0)));
        sent.expect("the receiver is here, and there is room for one");
        Input { chunks, total: None, unit: "argument" }
    }

    fn from_reader(
        mut reader: impl Read + Send + 'static,
        name: String,
        total: Option<u64>,
        from: From,
    ) -> Input {
        let (sender, chunks) = sync_channel(BLOCKS_AHEAD);
        // Left behind when the program ends: a blocking read cannot be called off.
        thread::spawn(move || {
            let mut splitter = Splitter::new(from);
            let (mut block, mut bytes) = (vec![0; BLOCK], 0);
            loop {
                let (lines, is_last) = match reader.read(&mut block) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => (Err(Failure::Other(format!("{name}: {error}"))), true),
                    Ok(0) => (Ok(splitter.end()), true),
                    Ok(read) => {
                        bytes += read as u64;
                        (Ok(splitter.feed(&block[..read])), false)
                    }
                };
                if sender.send(lines.map(|lines| (lines, bytes))).is_err() || is_last {
                    return;
                }
            }
        });
        Input { chunks, total, unit: "line" }
    }

    /// The size of the input in bytes, if it is known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    /// `line` or `argument`.
    pub(crate) fn unit(&self) -> &'static str {
        self.unit
    }

    /// What comes next. Only if `wait`, it is waited for.
    ///
    /// # Errors
    /// If the input cannot be read.
    pub(crate) fn next(&self, wait: bool) -> Result<Next, Failure> {
        let chunk = if wait {
            self.chunks.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            self.chunks.try_recv()
        };
        match chunk {
            Ok(chunk) => chunk.map(|(lines, bytes)| Next::Lines(lines, bytes)),
            Err(TryRecvError::Empty) => Ok(Next::Pause),
            Err(TryRecvError::Disconnected) => Ok(Next::End),
        }
    }
}
