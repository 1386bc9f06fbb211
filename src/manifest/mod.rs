//! The manifest: what a run delivered, in one document that a reader can check.

pub mod model;
pub mod of_run;
pub mod pointer;
pub mod read;
pub mod room;
pub mod write;
