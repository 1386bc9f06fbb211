//! rivet moves tables and queries out of production databases into files that analysts trust.
//!
//! The crate is read from the inside out:
//!
//! * [`run`] is the core. Pure functions over events: what happened, what follows from it, what is left to do.
//! * [`journal`] keeps the events, durably.
//! * [`source`], [`encode`], [`destination`] and [`manifest`] are the stations that data passes.
//! * [`engine`] is the shell: it asks the core what is next, performs it, and journals the receipt.
//! * [`verify`] checks what was delivered. [`config`] and [`cli`] are what a person sees.

pub mod cli;
pub mod config;
pub mod destination;
pub mod encode;
pub mod engine;
pub mod error;
pub mod failpoint;
pub mod journal;
pub mod manifest;
pub mod run;
pub mod source;
pub mod time;
pub mod verify;

pub use error::{Error, ErrorKind, Result};
