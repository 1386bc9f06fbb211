//! PostgreSQL: sessions, catalog, snapshots, slices, the COPY stream and its decoders.

pub mod catalog;
pub mod copy;
pub mod decode;
pub mod fault;
pub mod fidelity;
pub mod hold;
pub mod identity;
pub mod overrides;
pub mod probe;
pub mod query;
pub mod session;
pub mod snapshot;
pub mod split;
pub mod sql;
mod tap;
mod tls;
pub mod types;
mod types_of;

pub use copy::{Chunk, CopyStream};
pub use decode::{DecodeColumn, Decoder};
pub use session::{Session, SessionSettings};
