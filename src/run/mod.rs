//! The core: a run as a pure function of its events.
//!
//! ```text
//! command ──decide──▶ events ──append (durable)──▶ apply ──▶ state ──next──▶ step ──perform──▶ receipts (commands)
//! ```
//!
//! Nothing in here does I/O, sees a clock, awaits, or knows a driver. A test holds that line.

pub mod command;
pub mod decide;
pub mod event;
pub mod ids;
pub mod journal;
pub mod part;
pub mod plan;
pub mod relation;
pub mod schema;
pub mod state;
pub mod step;
pub mod summary;

pub use command::Command;
pub use decide::decide;
pub use state::RunState;
pub use step::{Step, next};
pub use summary::RunSummary;
