//! What a run tells whoever watches it. Notices are for eyes only: nothing is decided by them, and losing all of them
//! changes no file and no event. A sender ignores that nobody listens any more.

use std::sync::mpsc;

/// Sent by the workers of a run, in no particular order among slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A run, or a resume of one, has a journal and a place to write to.
    Started {
        export: String,
        run_id: String,
        resumed: bool,
        /// `host:port/database`, without credentials.
        source: String,
        /// Where the files go.
        location: String,
    },
    Planned {
        export: String,
        slices: u32,
        /// Of `slices`, those that an earlier invocation completed.
        slices_done: u32,
        /// Over all slices, by the server's statistics.
        estimated_rows: u64,
        /// In parts that earlier invocations committed.
        rows_done: u64,
        reason: String,
    },
    /// Fetched since the last notice of this kind. Bytes are those of the COPY stream.
    Rows {
        export: String,
        rows: u64,
        bytes: u64,
    },
    /// Rows fetched by an attempt that failed count no longer.
    RowsDiscarded {
        export: String,
        rows: u64,
        bytes: u64,
    },
    /// A file stands under its final name.
    Part {
        export: String,
        path: String,
        rows: u64,
        bytes: u64,
    },
    SliceDone {
        export: String,
        slice: u32,
    },
    /// `code` is a stable word.
    Warning {
        export: String,
        code: String,
        message: String,
    },
    Retry {
        export: String,
        slice: u32,
        /// The attempt to come.
        attempt: u32,
        delay_ms: u64,
        reason: String,
    },
    /// All rows are read; files are being checked or published. `stage` is a word such as `manifest` or `validate`.
    Closing {
        export: String,
        stage: String,
    },
    /// A signal was seen; slices in flight are being stopped.
    Stopping {
        export: String,
    },
    /// Nothing follows for this export. `status` is that of the summary.
    Finished {
        export: String,
        run_id: String,
        status: String,
        rows: u64,
        files: u64,
        bytes: u64,
    },
}

impl Notice {
    pub fn export(&self) -> &str {
        match self {
            Notice::Started { export, .. }
            | Notice::Planned { export, .. }
            | Notice::Rows { export, .. }
            | Notice::RowsDiscarded { export, .. }
            | Notice::Part { export, .. }
            | Notice::SliceDone { export, .. }
            | Notice::Warning { export, .. }
            | Notice::Retry { export, .. }
            | Notice::Closing { export, .. }
            | Notice::Stopping { export }
            | Notice::Finished { export, .. } => export,
        }
    }
}

/// Sends without caring whether anybody listens.
pub fn tell(listener: &mpsc::Sender<Notice>, notice: Notice) {
    // The receiver goes away when output is no longer wanted; the run goes on.
    let _ = listener.send(notice);
}
