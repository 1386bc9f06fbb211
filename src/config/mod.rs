//! `rivet.yaml`, read and validated. What comes out of here needs no further checks, and prints no secret.

pub mod model;
pub mod secret;

pub use model::*;
pub use secret::Secret;
