//! Named places at which a test can stop, kill or fail the program.
//!
//! Compiled to nothing without the feature `failpoints`. With it, `RIVET_FAILPOINTS` holds a list of
//! `name[@ordinal]=action`, separated by `;`: at the `ordinal`-th passage (1 = first, the default) of the point `name`,
//! the action happens. Actions: `kill` (SIGKILL to the own process, no destructors, no flush), `error` (the point reports
//! an injected I/O error), `panic`, `pause:MILLIS`, `gate:FILE` (waits for as long as the
//! file is there, and makes FILE.reached to say so), `clock:SECONDS` (from here on the wall clock is off by that many, which may
//! be negative). `limit:NUMBER` replaces the bound `name`, so that a test need not fill it.
//!
//! `RIVET_FAILPOINTS_TRACE=FILE` appends one line for each passage, which is how a kill matrix enumerates its points
//! from a probe run instead of sampling them.

/// Passes the point `name`.
///
/// # Errors
/// An injected error, where the test asked for one. Never without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_name: &str) -> std::io::Result<()> {
    Ok(())
}

/// The bound `name`, which is `usual` unless a test has lowered it.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn limit(_name: &str, usual: u64) -> u64 {
    usual
}

/// How far a test has moved the wall clock. Always 0 without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn clock_shift_ms() -> i64 {
    0
}

#[cfg(feature = "failpoints")]
pub use armed::{clock_shift_ms, hit, limit};

#[cfg(feature = "failpoints")]
mod armed {
    use std::collections::HashMap;
    use std::io::Write;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::sync::{Mutex, OnceLock};

    static CLOCK_SHIFT_MS: AtomicI64 = AtomicI64::new(0);

    /// How far a test has moved the wall clock.
    pub fn clock_shift_ms() -> i64 {
        CLOCK_SHIFT_MS.load(Ordering::Relaxed)
    }

    #[derive(Clone)]
    enum Action {
        Kill,
        Error,
        Panic,
        Pause(std::time::Duration),
        Gate(std::path::PathBuf),
        Limit(u64),
        Clock(i64),
    }

    struct Armed {
        actions: Vec<(String, u64, Action)>,
        passages: Mutex<HashMap<String, u64>>,
        trace: Option<Mutex<std::fs::File>>,
    }

    fn armed() -> &'static Armed {
        static ARMED: OnceLock<Armed> = OnceLock::new();
        ARMED.get_or_init(|| Armed {
            actions: std::env::var("RIVET_FAILPOINTS").map(|s| parse(&s)).unwrap_or_default(),
            passages: Mutex::default(),
            trace: std::env::var_os("RIVET_FAILPOINTS_TRACE").map(|path| {
                let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
                Mutex::new(file.expect("a test names a trace file that can be written"))
            }),
        })
    }

    fn parse(script: &str) -> Vec<(String, u64, Action)> {
        let entries = script.split(';').filter(|entry| !entry.trim().is_empty());
        entries
            .map(|entry| {
                let (place, action) = entry.trim().split_once('=').expect("a failpoint is name[@ordinal]=action");
                let (name, ordinal) = place.split_once('@').unwrap_or((place, "1"));
                let ordinal = ordinal.parse().expect("a failpoint's ordinal is a number");
                let action = match action.split_once(':').unwrap_or((action, "")) {
                    ("kill", _) => Action::Kill,
                    ("error", _) => Action::Error,
                    ("panic", _) => Action::Panic,
                    ("pause", millis) => {
                        Action::Pause(std::time::Duration::from_millis(millis.parse().expect("pause:MILLIS")))
                    }
                    ("gate", file) => Action::Gate(file.into()),
                    ("limit", number) => Action::Limit(number.parse().expect("limit:NUMBER")),
                    ("clock", seconds) => {
                        Action::Clock(seconds.parse::<i64>().expect("clock:SECONDS").saturating_mul(1000))
                    }
                    (other, _) => panic!("no failpoint action is called {other:?}"),
                };
                (name.to_owned(), ordinal, action)
            })
            .collect()
    }

    /// The bound `name`, which is `usual` unless the test has replaced it.
    pub fn limit(name: &str, usual: u64) -> u64 {
        let replaced = armed().actions.iter().find_map(|(point, _, action)| match action {
            Action::Limit(number) if point == name => Some(*number),
            _ => None,
        });
        replaced.unwrap_or(usual)
    }

    /// Passes the point `name`.
    ///
    /// # Errors
    /// An injected error, where the test asked for one.
    pub fn hit(name: &str) -> std::io::Result<()> {
        let armed = armed();
        if armed.actions.is_empty() && armed.trace.is_none() {
            return Ok(());
        }
        let passage = {
            let mut passages = armed.passages.lock().expect("no failpoint panics while it counts");
            let count = passages.entry(name.to_owned()).or_insert(0);
            *count += 1;
            *count
        };
        if let Some(trace) = &armed.trace {
            let mut trace = trace.lock().expect("no failpoint panics while it writes its trace");
            writeln!(trace, "{name}@{passage}")?;
        }
        let action = armed.actions.iter().find(|(n, at, _)| n == name && *at == passage).map(|(_, _, a)| a.clone());
        match action {
            None | Some(Action::Limit(_)) => Ok(()),
            Some(Action::Kill) => {
                let me = rustix::process::getpid();
                rustix::process::kill_process(me, rustix::process::Signal::KILL)?;
                // The signal is delivered before this thread runs far; it never gets to return.
                loop {
                    std::thread::park();
                }
            }
            Some(Action::Error) => Err(std::io::Error::other(format!("injected at {name}"))),
            Some(Action::Panic) => panic!("injected at {name}"),
            Some(Action::Clock(shift)) => {
                CLOCK_SHIFT_MS.store(shift, Ordering::Relaxed);
                Ok(())
            }
            Some(Action::Pause(time)) => {
                std::thread::sleep(time);
                Ok(())
            }
            Some(Action::Gate(file)) => {
                std::fs::write(file.with_extension("reached"), "")?;
                while file.exists() {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                Ok(())
            }
        }
    }
}
