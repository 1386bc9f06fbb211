//! The manifest: what a run delivered, in one document that a reader can check.

pub mod model;
