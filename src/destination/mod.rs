//! Where parts, manifests and their markers go. Local directories for now.

pub mod local;
mod publish;

pub use publish::is_published;

use crate::error::{Error, ErrorKind};
use std::io;
use std::path::Path;

/// An I/O error at `path`, while `doing` something to it: `writing`, `renaming`.
pub(crate) fn io_error(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::new(kind_of(&error), format!("{doing} {}: {error}", path.display())).with_source(error)
}

/// An I/O error whose message already names its path.
pub(crate) fn classify(error: io::Error) -> Error {
    Error::new(kind_of(&error), error.to_string()).with_source(error)
}

fn kind_of(error: &io::Error) -> ErrorKind {
    use io::ErrorKind as Io;
    match error.kind() {
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::DestinationFull,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::DestinationUnwritable,
        _ => ErrorKind::DestinationIo,
    }
}
