//! Standard output, for data. A reader that goes away (`rivet runs | head -1`) ends the output quietly: the command does
//! what it was asked to do, and its exit code says how that went.

use crate::error::{Error, ErrorKind, Result};
use serde::Serialize;
use std::io::{self, BufWriter, Write};

pub struct Out {
    stream: BufWriter<Box<dyn Write>>,
    /// Nobody reads any more.
    closed: bool,
    /// The first failure that is not a closed pipe.
    failure: Option<io::Error>,
}

impl Out {
    /// Colours and styles are kept on a terminal, unless `NO_COLOR` is set, and taken out elsewhere.
    pub fn stdout() -> Out {
        Out::to(Box::new(anstream::AutoStream::auto(io::stdout())))
    }

    pub fn to(stream: Box<dyn Write>) -> Out {
        Out { stream: BufWriter::new(stream), closed: false, failure: None }
    }

    /// Whether more output would be written for nobody.
    pub fn is_over(&self) -> bool {
        self.closed || self.failure.is_some()
    }

    pub fn write(&mut self, text: &str) {
        if !self.is_over() {
            let written = self.stream.write_all(text.as_bytes());
            self.note(written);
        }
    }

    pub fn line(&mut self, text: &str) {
        self.write(text);
        self.write("\n");
    }

    /// One JSON value on a line of its own.
    ///
    /// # Errors
    /// The value cannot be JSON, which is a defect.
    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value);
        let text = text.map_err(|error| Error::new(ErrorKind::Internal, format!("output is not JSON: {error}")))?;
        self.line(&text);
        Ok(())
    }

    /// Lets `write` write to the stream itself.
    ///
    /// # Errors
    /// An error of `write` that is not one of the stream's and carries one of ours.
    pub fn with(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        if self.is_over() {
            return Ok(());
        }
        match write(&mut self.stream) {
            Err(error) if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => {
                let inner = error.into_inner().and_then(|inner| inner.downcast::<Error>().ok());
                Err(inner.map_or_else(|| Error::new(ErrorKind::Internal, "an error was lost"), |inner| *inner))
            }
            written => {
                self.note(written);
                Ok(())
            }
        }
    }

    fn note(&mut self, written: io::Result<()>) {
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.closed = true,
            Err(error) => self.failure = Some(error),
        }
    }

    /// So that what follows on standard error is seen after what came before it.
    pub fn flush(&mut self) {
        if !self.is_over() {
            let flushed = self.stream.flush();
            self.note(flushed);
        }
    }

    /// # Errors
    /// What was written did not arrive, for another reason than that nobody wanted it.
    pub fn finish(mut self) -> Result<()> {
        self.flush();
        match self.failure {
            Some(error) => {
                let what = format!("standard output cannot be written: {error}");
                Err(Error::new(ErrorKind::OutputUnwritable, what).with_source(error))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is_one() {
        let long = "x".repeat(100_000);
        let mut out = Out::to(Box::new(Broken(io::ErrorKind::BrokenPipe)));
        out.line(&long);
        assert!(out.is_over());
        assert!(out.finish().is_ok());
        let mut out = Out::to(Box::new(Broken(io::ErrorKind::StorageFull)));
        out.line("short, and only written at the end");
        assert_eq!(out.finish().unwrap_err().kind(), ErrorKind::OutputUnwritable);
    }
}
