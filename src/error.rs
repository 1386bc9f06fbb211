//! Errors, classified once.
//!
//! A part of the program that fails says *what broke* ([`Error`]). Everything that follows from it (the stable code, the
//! exit code, whether trying again can help, what to do next) is looked up in one table, [`ErrorKind::class`].

use std::fmt;
use std::io;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the process returns to its caller. The numbers are a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    Success = 0,
    /// Failed, and no other class fits better.
    Failed = 1,
    /// Wrong usage or configuration: edit something, then run again.
    Usage = 2,
    /// Validation, reconciliation, replay or quality said no.
    Integrity = 3,
    /// The schema changed and the configuration says to stop.
    Drift = 4,
    /// Refused in order to protect data that is already there.
    Protected = 5,
    /// Source or destination unavailable: trying again makes sense.
    Unavailable = 6,
    /// Another process holds this export.
    Busy = 7,
    /// Stopped by a signal; `rivet resume` goes on.
    Interrupted = 130,
}

impl Exit {
    pub fn code(self) -> i32 {
        self as i32
    }
}

/// Whether repeating the same thing can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same statement would fail again.
    Never,
    /// Transient: again after a pause, on a new connection.
    Again,
    /// The snapshot is gone: again, but in a new snapshot.
    NewSnapshot,
}

/// What follows from an [`ErrorKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// `RIVET_<FAMILY>_<NAME>`. Stable: people match on it.
    pub code: &'static str,
    pub exit: Exit,
    pub retry: Retry,
    /// The next step for whoever reads the message. A full sentence.
    pub hint: &'static str,
}

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $kind:ident = $code:literal, $exit:ident, $retry:ident, $hint:literal;)*) => {
        /// Every way in which rivet fails.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorKind { $($(#[$doc])* $kind,)* }

        impl ErrorKind {
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$kind,)*];

            /// The one table from kind to code, exit code, retry and hint.
            pub fn class(self) -> Class {
                match self {
                    $(ErrorKind::$kind => Class { code: $code, exit: Exit::$exit, retry: Retry::$retry, hint: $hint },)*
                }
            }

            /// The kind behind a stable code, for reading codes back from a journal.
            pub fn from_code(code: &str) -> Option<ErrorKind> {
                match code { $($code => Some(ErrorKind::$kind),)* _ => None }
            }
        }
    };
}

error_kinds! {
    Usage = "RIVET_USAGE", Usage, Never, "Run `rivet --help` to see what can be asked.";
    /// Standard output is a file or a device that takes no more.
    OutputUnwritable = "RIVET_OUTPUT_UNWRITABLE", Failed, Never, "Check where standard output goes; what the command did is done.";
    ConfigMissing = "RIVET_CONFIG_MISSING", Usage, Never, "Name the file with `-c FILE`; `rivet run --help` shows a small one to start from.";
    ConfigUnreadable = "RIVET_CONFIG_UNREADABLE", Usage, Never, "Check the file's permissions and that it is text.";
    ConfigSyntax = "RIVET_CONFIG_SYNTAX", Usage, Never, "Mend the YAML at the place that is named.";
    ConfigUnknownKey = "RIVET_CONFIG_UNKNOWN_KEY", Usage, Never, "Correct the key, or take it out.";
    ConfigInvalid = "RIVET_CONFIG_INVALID", Usage, Never, "Change the value that is named.";
    ConfigUnset = "RIVET_CONFIG_UNSET", Usage, Never, "Export the variable, or pass it with `--param NAME=VALUE`.";
    ConfigUnknownExport = "RIVET_CONFIG_UNKNOWN_EXPORT", Usage, Never, "Take one of the exports that the file names.";
    ConfigUnsupported = "RIVET_CONFIG_UNSUPPORTED", Usage, Never, "This version of rivet reads the key but cannot do it yet; take it out or choose another value.";

    SourceUnreachable = "RIVET_SOURCE_UNREACHABLE", Unavailable, Again, "Check host, port and network, then run the same command again.";
    SourceStarting = "RIVET_SOURCE_STARTING", Unavailable, Again, "The server is starting or shutting down; run the same command again.";
    SourceAuth = "RIVET_SOURCE_AUTH", Usage, Never, "Check user, password and pg_hba.conf.";
    SourceTls = "RIVET_SOURCE_TLS", Usage, Never, "Check `source.tls`: its mode, and the CA file that signs the server's certificate.";
    SourceMissing = "RIVET_SOURCE_MISSING", Usage, Never, "Check the name, its schema and its quoting; names are case-sensitive as written.";
    SourceDenied = "RIVET_SOURCE_DENIED", Usage, Never, "Grant SELECT on what the export reads to the configured role.";
    SourceQuery = "RIVET_SOURCE_QUERY", Failed, Never, "Run the statement by hand to see what the server dislikes about it.";
    /// The server cancelled a statement that ran into `statement_timeout`. The same statement would run as long again.
    SourceTimeout = "RIVET_SOURCE_TIMEOUT", Unavailable, Never, "The same statement would run as long again: raise `tuning.statement_timeout_s`, or let more and smaller slices be planned (`chunk_count`). Resume as it is only where the server was busier than usual.";
    SourceLocked = "RIVET_SOURCE_LOCKED", Unavailable, Again, "Something holds a conflicting lock on the table; try again when it is done.";
    SourceTooManyConnections = "RIVET_SOURCE_TOO_MANY_CONNECTIONS", Unavailable, Again, "Lower `tuning.parallel`, or try again when the server is less busy.";
    SourceLost = "RIVET_SOURCE_LOST", Unavailable, Again, "The connection broke; resume the run.";
    SourceStalled = "RIVET_SOURCE_STALLED", Unavailable, Again, "The server stopped sending; look at pg_stat_activity, then resume the run.";
    SourceSnapshotLost = "RIVET_SOURCE_SNAPSHOT_LOST", Unavailable, NewSnapshot, "The session that held the snapshot is gone; resume the run.";
    SourceConflict = "RIVET_SOURCE_CONFLICT", Unavailable, Again, "The server cancelled the statement (recovery conflict, deadlock or an administrator); resume the run.";
    /// Bytes that are not what the protocol promises.
    SourceProtocol = "RIVET_SOURCE_PROTOCOL", Failed, Never, "A proxy or pooler may have changed the stream; connect to the server directly.";
    /// A single value larger than `max_value_mb`, or one that its column cannot hold.
    SourceValue = "RIVET_SOURCE_VALUE", Failed, Never, "Cast or shorten the value in a query, or raise `tuning.max_value_mb`.";
    SourceUnsupported = "RIVET_SOURCE_UNSUPPORTED", Usage, Never, "Export it through a query instead.";

    /// `rivet check --strict` found columns whose values lose something on the way.
    TypesLossy = "RIVET_TYPES_LOSSY", Usage, Never, "Take the override out, or check without `--strict` when the loss is what you want.";
    SchemaDrift = "RIVET_SCHEMA_DRIFT", Drift, Never, "Look at what changed; start anew with `rivet run --fresh` when the new columns are right.";

    DestinationUnwritable = "RIVET_DESTINATION_UNWRITABLE", Unavailable, Never, "Check the directory's owner and permissions, then resume the run.";
    DestinationFull = "RIVET_DESTINATION_FULL", Unavailable, Never, "Free some space, then resume the run.";
    DestinationIo = "RIVET_DESTINATION_IO", Unavailable, Never, "Look at the system's log for the disk, then resume the run.";
    DestinationForeign = "RIVET_DESTINATION_FOREIGN", Protected, Never, "Choose another directory, or move away what is named; rivet replaces nothing that it did not make.";
    DestinationMismatch = "RIVET_DESTINATION_MISMATCH", Protected, Never, "Files were changed or removed after the run; export anew with `rivet run --fresh`.";

    JournalBusy = "RIVET_JOURNAL_BUSY", Busy, Never, "Wait for the other process, or look at it with `rivet status`.";
    JournalMissing = "RIVET_JOURNAL_MISSING", Usage, Never, "Name a journal directory, a state directory or an exported .jsonl file.";
    JournalForeign = "RIVET_JOURNAL_FOREIGN", Protected, Never, "Choose another `state_dir`; this directory is not a journal of rivet.";
    JournalNewer = "RIVET_JOURNAL_NEWER", Protected, Never, "Use the version of rivet that wrote it, or a later one.";
    /// Acknowledged events are missing from the end of the log.
    JournalTruncated = "RIVET_JOURNAL_TRUNCATED", Protected, Never, "Restore the journal from a backup; without one, `rivet journal repair --accept-loss` copies it and gives up what is lost.";
    JournalCorrupt = "RIVET_JOURNAL_CORRUPT", Protected, Never, "Restore the journal from a backup; without one, `rivet journal repair --accept-loss` copies it and gives up what is lost.";
    /// Log and head witness belong to different histories.
    JournalForked = "RIVET_JOURNAL_FORKED", Protected, Never, "Directories were mixed or copied while in use; restore one whole copy.";
    JournalHeadless = "RIVET_JOURNAL_HEADLESS", Protected, Never, "Restore `head`; without a copy, look at the log with `rivet journal verify --trust-log`, and make a new head with `rivet journal repair --trust-log`.";
    JournalUnopenable = "RIVET_JOURNAL_UNOPENABLE", Protected, Never, "Restore the journal from a backup; without one, `rivet journal repair --accept-loss` keeps what can still be read, or start anew with another `state_dir`.";
    JournalUnwritable = "RIVET_JOURNAL_UNWRITABLE", Unavailable, Never, "Check permissions and free space of the state directory, then run again.";
    /// The journal saw an I/O error; nothing after it may be trusted to be on disk.
    JournalIo = "RIVET_JOURNAL_IO", Unavailable, Never, "Check free space and health of the disk under the state directory, then resume the run.";
    /// An event that does not fit in 4 KiB: a name or path of absurd length.
    JournalEventTooLarge = "RIVET_JOURNAL_EVENT_TOO_LARGE", Failed, Never, "Shorten the name or path that is named.";

    RunUnknown = "RIVET_RUN_UNKNOWN", Usage, Never, "`rivet runs` lists the runs that the journal knows.";
    RunChanged = "RIVET_RUN_CHANGED", Protected, Never, "Put the definition back as it was to resume, or start anew with `rivet run --fresh`.";
    RunSuperseded = "RIVET_RUN_SUPERSEDED", Protected, Never, "A later run of this export exists; resume that one.";
    RunInterrupted = "RIVET_RUN_INTERRUPTED", Interrupted, Never, "Resume it with the command that is printed.";
    /// A fold refused an event. Either the journal is not one of rivet's, or rivet has a defect.
    RunIllegal = "RIVET_RUN_ILLEGAL", Integrity, Never, "Keep the journal directory and report this; `rivet replay` shows the place.";
    RunInvariant = "RIVET_RUN_INVARIANT", Integrity, Never, "Do not use the output; keep the journal directory and report this.";
    CountMismatch = "RIVET_COUNT_MISMATCH", Integrity, Never, "Do not use the output; keep the journal directory and report this.";
    EmptyPlan = "RIVET_EMPTY_PLAN", Integrity, Never, "The plan of slices does not cover the table; keep the journal directory and report this.";

    ManifestInvalid = "RIVET_MANIFEST_INVALID", Integrity, Never, "The manifest was changed after it was written; export anew.";
    /// One more part would make it larger than what readers take.
    ManifestTooLarge = "RIVET_MANIFEST_TOO_LARGE", Usage, Never, "Raise `max_file_size` or lower `chunk_count`, so that there are fewer files; then start anew with `rivet run --fresh`.";
    ValidationFailed = "RIVET_VALIDATION_FAILED", Integrity, Never, "Do not use the files that are named; export anew with `rivet run --fresh`.";
    ReplayDiverged = "RIVET_REPLAY_DIVERGED", Integrity, Never, "Journal and output tell different stories; trust neither before you know why.";

    /// The system gives this process no further descriptor or thread.
    SystemLimit = "RIVET_SYSTEM_LIMIT", Unavailable, Never, "Raise `ulimit -n` and `ulimit -u`, or lower `tuning.parallel`; then run or resume again.";
    /// A defect of rivet itself, reported instead of a panic.
    Internal = "RIVET_INTERNAL", Failed, Never, "This is a defect of rivet; please report it with the command and the journal.";
}

/// What broke, and where. `what` is a sentence without a secret in it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    /// Replaces the table's hint where the place of failure knows better.
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Error { kind, what: what.into(), hint: None, source: None }
    }

    /// A hint of the place. Where the system has nothing left to give, no place knows better than the table.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        if self.kind != ErrorKind::SystemLimit {
            self.hint = Some(hint.into());
        }
        self
    }

    /// The cause. One that [`is_system_limit`] is what the error is about, wherever it happened to be met.
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        let cause: &(dyn std::error::Error + 'static) = &source;
        if cause.downcast_ref::<io::Error>().is_some_and(is_system_limit) {
            self.kind = ErrorKind::SystemLimit;
            self.hint = None;
        }
        self.source = Some(Box::new(source));
        self
    }

    /// Puts a place in front: `table "orders": …`.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub fn code(&self) -> &'static str {
        self.kind.class().code
    }

    pub fn exit(&self) -> Exit {
        self.kind.class().exit
    }

    pub fn retry(&self) -> Retry {
        self.kind.class().retry
    }

    /// What happened and where, with its causes, on one line.
    pub fn what(&self) -> &str {
        &self.what
    }

    pub fn hint(&self) -> &str {
        self.hint.as_deref().unwrap_or(self.kind.class().hint)
    }
}

/// Whether the process, or the whole system, has as many files open as it may have.
pub fn is_system_limit(error: &io::Error) -> bool {
    let limits = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    error.raw_os_error().is_some_and(|code| limits.iter().any(|limit| limit.raw_os_error() == code))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.what)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_is_unique_well_formed_and_read_back() {
        let mut seen = HashSet::new();
        for &kind in ErrorKind::ALL {
            let class = kind.class();
            assert!(class.code.starts_with("RIVET_"), "{}", class.code);
            assert!(class.code.chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{}", class.code);
            assert!(seen.insert(class.code), "{} stands twice", class.code);
            assert!(class.hint.ends_with('.'), "{}: the hint is not a sentence", class.code);
            assert_eq!(ErrorKind::from_code(class.code), Some(kind));
        }
    }

    #[test]
    fn a_limit_of_the_system_is_told_as_such_wherever_it_is_met() {
        let too_many = || io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        let error =
            Error::new(ErrorKind::JournalUnwritable, "x").with_hint("Check permissions.").with_source(too_many());
        assert_eq!((error.kind(), error.hint()), (ErrorKind::SystemLimit, ErrorKind::SystemLimit.class().hint));
        let error = Error::new(ErrorKind::Internal, "x").with_source(too_many()).with_hint("Check permissions.");
        assert_eq!(error.hint(), ErrorKind::SystemLimit.class().hint);
        let other = Error::new(ErrorKind::Internal, "x").with_source(io::Error::other("full"));
        assert_eq!(other.kind(), ErrorKind::Internal);
    }

    #[test]
    fn a_retry_only_makes_sense_where_trying_again_is_the_advice() {
        for &kind in ErrorKind::ALL {
            let class = kind.class();
            if class.retry != Retry::Never {
                assert_eq!(class.exit, Exit::Unavailable, "{}", class.code);
            }
        }
    }
}
