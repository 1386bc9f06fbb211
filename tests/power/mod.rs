//! Power cuts, without a machine that loses its power: what a process wrote is recorded with `strace`, and from the record
//! come images of the directory as a disk could hold them when the power went at any moment.
//!
//! * [`disk`] replays the calls into files, names and syncs, and builds the images.
//! * [`record`] runs a process under strace and proves that the replay ends in the directory that is really there.
//!
//! What is assumed of the medium: a sector of 512 bytes is written whole or not at all; what was written to a file before
//! an `fsync` or `fdatasync` of it began is there once that has returned; what was done to the names of a directory before
//! an `fsync` of that directory began likewise; a rename is one step. Nothing else is: not that names become durable with
//! the file they name, not that writes or names arrive in order, not that `sync_file_range` does anything.

pub mod disk;
pub mod record;
