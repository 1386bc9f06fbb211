//! PostgreSQL.

pub mod catalog;
pub mod query;
pub mod snapshot;
pub mod split;
pub mod sql;
pub mod types;
mod types_of;
