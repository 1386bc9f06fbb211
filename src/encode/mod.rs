//! Arrow batches in, Parquet bytes out, with a checksum of every column on the way.

pub mod arrow_schema;
pub mod checksum;
pub mod encoding;
pub mod parquet;
