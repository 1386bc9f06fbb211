//! Checks of what was delivered.

pub mod parquet;
pub mod replay;
pub mod validate;
