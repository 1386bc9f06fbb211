//! Keeps panics of the storage engine inside the journal.
//!
//! sled answers some damage with a panic, also while it is dropped, and may wait for ever for a thread of its own that
//! panicked. Both become values here, and neither prints a panic message into a user's terminal.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Once, mpsc};
use std::time::Duration;

/// Threads whose panics are caught or, inside the engine, reported by a failing call.
const OUR_THREAD: &str = "journal-open";
const ENGINE_THREADS: &str = "sled-";

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`; a panic in it becomes its message.
pub fn contained<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    silence_contained_panics();
    let outer = INSIDE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    INSIDE.set(outer);
    result.map_err(|payload| message(payload.as_ref()))
}

/// Why a bounded piece of work has no result.
#[derive(Debug)]
pub enum Ended {
    Panicked(String),
    TimedOut(Duration),
    /// No thread could be started.
    NoThread(std::io::Error),
}

/// Runs `f` on a thread of its own and gives up on it after `limit`. The thread is then left to itself.
pub fn bounded<T: Send + 'static>(limit: Duration, f: impl FnOnce() -> T + Send + 'static) -> Result<T, Ended> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let work = move || {
        // The receiver is gone when the time was up; then nobody wants the result.
        let _ = sender.send(contained(f));
    };
    std::thread::Builder::new().name(OUR_THREAD.into()).spawn(work).map_err(Ended::NoThread)?;
    match receiver.recv_timeout(limit) {
        Ok(result) => result.map_err(Ended::Panicked),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Ended::TimedOut(limit)),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Ended::Panicked("the thread ended without a result".into())),
    }
}

fn silence_contained_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let engine = std::thread::current().name().is_some_and(|name| name.starts_with(ENGINE_THREADS));
            if !engine && !INSIDE.get() {
                print(panic);
            }
        }));
    });
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    // The first line is enough; assertions of the engine print whole data structures.
    let line = text.and_then(|text| text.lines().next()).unwrap_or("a panic without a message");
    line.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_first_line() {
        assert_eq!(contained(|| -> u8 { panic!("first\nsecond") }), Err("first".into()));
        assert_eq!(contained(|| 7), Ok(7));
    }

    #[test]
    fn work_that_does_not_end_is_left_behind() {
        let (hold, held) = mpsc::channel::<()>();
        let ended = bounded(Duration::from_millis(20), move || held.recv().is_ok());
        assert!(matches!(ended, Err(Ended::TimedOut(_))), "{ended:?}");
        drop(hold);
        assert!(matches!(bounded(Duration::from_secs(60), || 7), Ok(7)));
        assert!(matches!(bounded(Duration::from_secs(60), || panic!("no")), Err::<(), _>(Ended::Panicked(_))));
    }
}
