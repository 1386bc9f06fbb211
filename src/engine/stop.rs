//! A request to stop, seen by everything that waits.

use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Cloned freely; every clone sees the same request.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Stop(Arc::new(watch::Sender::new(false)))
    }
}

impl Stop {
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// # Errors
    /// [`ErrorKind::RunInterrupted`] once a stop was requested.
    pub fn check(&self) -> Result<()> {
        if self.is_requested() { Err(interrupted()) } else { Ok(()) }
    }

    /// Returns when a stop is requested.
    pub async fn requested(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives in `self`, so the only way for this to end is the request.
        let _ = receiver.wait_for(|stop| *stop).await;
    }
}

pub fn interrupted() -> Error {
    Error::new(ErrorKind::RunInterrupted, "stopped by a signal")
}

/// Signals closer together than this are one request.
const ONE_REQUEST: Duration = Duration::from_millis(100);

/// `SIGXFSZ` of signal(7), the same on every Linux architecture that Rust builds for but MIPS and SPARC.
const SIGXFSZ: i32 = 25;

/// SIGINT and SIGTERM: the first asks everything to come to a durable stop, the second ends the process at once, which
/// the journal survives like any crash.
///
/// # Errors
/// The handlers cannot be installed.
pub fn on_signals(runtime: &tokio::runtime::Handle, stop: &Stop) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let _in_runtime = runtime.enter();
    let install = |kind| {
        signal(kind).map_err(|e| {
            Error::new(ErrorKind::Internal, format!("signal handlers cannot be installed: {e}")).with_source(e)
        })
    };
    let mut interrupt = install(SignalKind::interrupt())?;
    let mut terminate = install(SignalKind::terminate())?;
    // A file that reaches its limit (`ulimit -f`) is an error to report, and not the end of the process: once a signal is
    // listened to, its default action is gone for good.
    drop(install(SignalKind::from_raw(SIGXFSZ))?);
    let stop = stop.clone();
    runtime.spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            match first {
                None => {
                    first = Some(Instant::now());
                    stop.request();
                }
                // timeout(1) and shells signal a process and its group: that is one request, heard twice.
                Some(first) if first.elapsed() < ONE_REQUEST => {}
                Some(_) => std::process::exit(crate::error::Exit::Interrupted.code()),
            }
        }
    });
    Ok(())
}
