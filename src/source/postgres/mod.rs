//! PostgreSQL: sessions, the COPY stream and its decoders.

pub mod copy;
pub mod decode;
pub mod fault;
pub mod session;
mod tap;
mod tls;
pub mod types;

pub use copy::{Chunk, CopyStream};
pub use decode::{DecodeColumn, Decoder};
pub use session::{Session, SessionSettings};
