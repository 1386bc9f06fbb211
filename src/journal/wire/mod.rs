//! Payloads: bincode of structs that are frozen for each version, apart from the domain's events.
//!
//! Kind numbers are explicit and never used again for something else. A change in an event's shape is a new version of
//! its kind, in a new file next to [`v1`]; old versions are read for ever and brought up to the domain's shape.

mod v1;

use super::envelope::MAX_PAYLOAD;
use crate::run::event::Event;
use bincode::config::{Configuration, LittleEndian, Varint};

/// bincode counts a collection by what its elements take in memory, and an integer by its longest form. The smallest
/// element on the wire is one byte and the largest in memory is below a hundred, so no payload that fits an envelope
/// comes near this; a length that was made up does.
const MEMORY_LIMIT: usize = 512 << 10;
const _: () = assert!(MEMORY_LIMIT > 100 * MAX_PAYLOAD);

type Bounded = Configuration<LittleEndian, Varint, bincode::config::Limit<MEMORY_LIMIT>>;

/// A reader never asks for more memory than [`MEMORY_LIMIT`], whatever lengths the bytes claim.
fn bounded() -> Bounded {
    bincode::config::standard().with_limit::<MEMORY_LIMIT>()
}

/// A payload with the numbers that say how to read it.
#[derive(Debug, PartialEq, Eq)]
pub struct Payload {
    pub kind: u16,
    pub version: u16,
    pub bytes: Vec<u8>,
}

/// Why a payload is not an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undecodable {
    /// A kind or version of a later rivet.
    Unknown,
    /// The bytes are not of the layout that kind and version name.
    Malformed(String),
}

/// Why an event does not become a payload: it would be larger than an envelope holds.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

pub fn encode(event: &Event) -> Result<Payload, TooLarge> {
    v1::encode(event)
}

/// Reads a payload, and checks that every byte of it was used.
pub fn decode(kind: u16, version: u16, bytes: &[u8]) -> Result<Event, Undecodable> {
    match version {
        1 => v1::decode(kind, bytes),
        _ => Err(Undecodable::Unknown),
    }
}
