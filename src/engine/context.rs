//! What one export's work needs of its surroundings, and how it waits.

use super::clock::Clock;
use super::ledger::Ledger;
use super::notice::{Notice, tell};
use super::stop::Stop;
use crate::config::{Config, ExportConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::journal::Journal;
use crate::run::Command;
use crate::run::decide::retry_pause_ms;
use crate::source::postgres::session::SessionSettings;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// What one export's work needs of its surroundings.
pub struct ExportContext<'a> {
    pub runtime: &'a tokio::runtime::Handle,
    pub config: &'a Config,
    pub export: &'a ExportConfig,
    pub stop: &'a Stop,
    /// Whether this invocation was asked to validate, whatever the run was planned with.
    pub validate: bool,
    /// What --force bypassed to come here.
    pub forced: Option<String>,
    /// Runs since before the journal was opened.
    pub clock: Clock,
    notices: Sender<Notice>,
    /// How many exports share the memory budget.
    pub(super) exports_at_once: usize,
}

impl<'a> ExportContext<'a> {
    pub fn new(
        runtime: &'a tokio::runtime::Handle,
        config: &'a Config,
        export: &'a ExportConfig,
        notices: Sender<Notice>,
        stop: &'a Stop,
        exports_at_once: usize,
    ) -> Self {
        ExportContext {
            runtime,
            config,
            export,
            stop,
            validate: false,
            forced: None,
            clock: Clock::start(),
            notices,
            exports_at_once: exports_at_once.max(1),
        }
    }

    pub fn notify(&self, notice: Notice) {
        tell(&self.notices, notice);
    }

    /// Says what opening the journal found, where no work on its run will note it.
    pub fn tell_of_recovery(&self, journal: &Journal) {
        if let Some(message) = journal.recovery().note() {
            let (export, code) = (self.export.name.clone(), "journal_recovered".to_owned());
            self.notify(Notice::Warning { export, code, message });
        }
    }

    /// A warning for the journal and for the eyes.
    pub fn warn(&self, ledger: &mut Ledger, code: &str, message: String) -> Result<()> {
        ledger.record(Command::Warn { code: code.to_owned(), message: message.clone() })?;
        self.notify(Notice::Warning { export: self.export.name.clone(), code: code.to_owned(), message });
        Ok(())
    }

    pub(super) fn settings(&self) -> SessionSettings {
        let tuning = &self.export.tuning;
        SessionSettings {
            statement_timeout: tuning.statement_timeout,
            lock_timeout: tuning.lock_timeout,
            stall_timeout: tuning.stall_timeout,
        }
    }

    /// Waits for the server's answer, for as long as it may be silent, or for a request to stop.
    pub(super) fn ask_server<T>(&self, question: impl Future<Output = Result<T>>) -> Result<T> {
        self.ask(in_time(self.export.tuning.stall_timeout, question))
    }

    /// How long to wait before the next try, after `failures` earlier ones.
    pub fn retry_pause(&self, failures: u32) -> Duration {
        let backoff_ms = self.export.tuning.retry_backoff.as_millis() as u64;
        Duration::from_millis(retry_pause_ms(backoff_ms, failures, fastrand::f64()))
    }

    /// Waits before another try, or for a request to stop.
    pub(super) fn pause(&self, pause: Duration) -> Result<()> {
        self.ask(async {
            tokio::time::sleep(pause).await;
            Ok(())
        })
    }

    /// Waits for an end, or for a request to stop.
    pub(super) fn ask<T>(&self, question: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                answer = question => answer,
                () = self.stop.requested() => {
                    self.notify(Notice::Stopping { export: self.export.name.clone() });
                    Err(super::stop::interrupted())
                }
            }
        })
    }
}

/// Gives a question up whose answer takes longer than the server may be silent: a connection that is dead without saying
/// so never answers.
pub(super) async fn in_time<T>(limit: Duration, question: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, question).await {
        Ok(answer) => answer,
        Err(_) => {
            let what = format!("the server has not answered for {} s", limit.as_secs_f64());
            Err(Error::new(ErrorKind::SourceStalled, what))
        }
    }
}
