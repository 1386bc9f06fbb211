//! (being written)
pub mod notice;
