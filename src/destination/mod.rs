//! Where parts, manifests and their markers go. Local directories for now.

pub mod local;
mod publish;

pub use publish::is_published;

use crate::error::{Error, ErrorKind};
use std::io;
use std::path::Path;

/// An I/O error at `path`, while `doing` something to it: `writing`, `renaming`.
pub(crate) fn io_error(doing: &str, path: &Path, error: io::Error) -> Error {
    classified(format!("{doing} {}: {error}", path.display()), error)
}

/// An I/O error whose message already names its path.
pub(crate) fn classify(error: io::Error) -> Error {
    classified(error.to_string(), error)
}

fn classified(what: String, error: io::Error) -> Error {
    let is_too_long = error.kind() == io::ErrorKind::InvalidFilename;
    let classified = Error::new(kind_of(&error), what).with_source(error);
    match is_too_long {
        true => classified.with_hint("Shorten the path: a name in it may have 255 bytes, the whole 4,095."),
        false => classified,
    }
}

fn kind_of(error: &io::Error) -> ErrorKind {
    use io::ErrorKind as Io;
    match error.kind() {
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::DestinationFull,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::DestinationUnwritable,
        _ => ErrorKind::DestinationIo,
    }
}
