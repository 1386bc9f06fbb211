//! How one event lies in the log: a fixed header, the payload, a checksum. All integers little endian.
//!
//! ```text
//! offset  bytes
//!      0      4  magic "RVEV"
//!      4      2  envelope format, 1
//!      6      2  kind            which event; 0 is the anchor that stands where older runs were pruned
//!      8      2  kind version    which frozen layout of the payload
//!     10      2  flags           0; a set bit means that a later version of rivet is needed
//!     12      4  run
//!     16      8  seq
//!     24      8  wall time       milliseconds since 1970, signed
//!     32      8  monotonic time  microseconds since the invocation began
//!     40     16  chain hash of the event before
//!     56      4  payload length
//!     60      n  payload
//!   60+n      8  checksum        xxh3-64 of everything before it
//! ```
//!
//! The chain hash of an event is xxh3-128 over the hash before it, the header and the payload. The checksum finds damage
//! in one value; the chain finds values that are missing, exchanged or from another history.
//!
//! The last eight bytes are the checksum in every format, so that a number from a later version can be told from damage.

use crate::run::ids::{ChainHash, EventSeq, RunOrdinal};
use std::fmt;

/// No encoded event is longer. Larger values would leave the store's fast path, see ADR 0001.
pub const MAX_ENCODED: usize = 4096;
pub const MAX_PAYLOAD: usize = MAX_ENCODED - HEADER - CHECKSUM;
/// Kind number of the anchor: no event, but the place and hash of the last event that was pruned.
pub const ANCHOR_KIND: u16 = 0;

const MAGIC: [u8; 4] = *b"RVEV";
const FORMAT: u16 = 1;
const HEADER: usize = 60;
const CHECKSUM: usize = 8;

/// Everything around a payload but its length, which the payload itself says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub kind: u16,
    pub version: u16,
    pub run: RunOrdinal,
    pub seq: EventSeq,
    pub wall_ms: i64,
    pub mono_us: u64,
    pub previous: ChainHash,
}

/// An envelope that was taken apart, and its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened<'a> {
    pub header: Header,
    pub payload: &'a [u8],
    pub hash: ChainHash,
}

/// Why bytes are not an envelope that this version can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// Damage: too short, wrong magic, length or checksum.
    Damaged(String),
    /// The checksum is right, but a number says that a later version wrote it.
    Newer(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Damaged(what) | Unreadable::Newer(what) => f.write_str(what),
        }
    }
}

/// Bytes of the envelope, and the chain hash including it. The caller has checked that the payload fits.
pub fn seal(header: &Header, payload: &[u8]) -> (Vec<u8>, ChainHash) {
    debug_assert!(payload.len() <= MAX_PAYLOAD, "an append refuses larger payloads");
    let mut bytes = Vec::with_capacity(HEADER + payload.len() + CHECKSUM);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&header.kind.to_le_bytes());
    bytes.extend_from_slice(&header.version.to_le_bytes());
    bytes.extend_from_slice(&0u16.to_le_bytes());
    bytes.extend_from_slice(&header.run.0.to_le_bytes());
    bytes.extend_from_slice(&header.seq.0.to_le_bytes());
    bytes.extend_from_slice(&header.wall_ms.to_le_bytes());
    bytes.extend_from_slice(&header.mono_us.to_le_bytes());
    bytes.extend_from_slice(&header.previous.0);
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    debug_assert_eq!(bytes.len(), HEADER);
    bytes.extend_from_slice(payload);
    let hash = chain(header.previous, &bytes);
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    (bytes, hash)
}

/// Takes an envelope apart. Total: any bytes give a value or a typed error.
pub fn open(bytes: &[u8]) -> Result<Opened<'_>, Unreadable> {
    let damaged = |what: String| Unreadable::Damaged(what);
    if bytes.len() < HEADER + CHECKSUM {
        return Err(damaged(format!("{} bytes are too few for an envelope", bytes.len())));
    }
    if bytes.len() > MAX_ENCODED {
        return Err(damaged(format!("{} bytes are too many for an envelope", bytes.len())));
    }
    let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
    if xxhash_rust::xxh3::xxh3_64(body).to_le_bytes() != checksum {
        return Err(damaged("its checksum does not match".into()));
    }
    if body[..4] != MAGIC {
        return Err(damaged("it does not begin like an envelope".into()));
    }
    let format = u16::from_le_bytes(array(body, 4));
    if format != FORMAT {
        return Err(Unreadable::Newer(format!("it has envelope format {format}, this version reads {FORMAT}")));
    }
    let flags = u16::from_le_bytes(array(body, 10));
    if flags != 0 {
        return Err(Unreadable::Newer(format!("it has flags {flags:#06x}, which this version does not know")));
    }
    let length = u32::from_le_bytes(array(body, 56)) as usize;
    if length != body.len() - HEADER {
        return Err(damaged(format!("its payload should have {length} bytes and has {}", body.len() - HEADER)));
    }
    let previous = ChainHash(array(body, 40));
    Ok(Opened {
        header: Header {
            kind: u16::from_le_bytes(array(body, 6)),
            version: u16::from_le_bytes(array(body, 8)),
            run: RunOrdinal(u32::from_le_bytes(array(body, 12))),
            seq: EventSeq(u64::from_le_bytes(array(body, 16))),
            wall_ms: i64::from_le_bytes(array(body, 24)),
            mono_us: u64::from_le_bytes(array(body, 32)),
            previous,
        },
        payload: &body[HEADER..],
        hash: chain(previous, body),
    })
}

/// xxh3-128 over the hash before, the header and the payload.
fn chain(previous: ChainHash, header_and_payload: &[u8]) -> ChainHash {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&previous.0);
    hasher.update(header_and_payload);
    ChainHash(hasher.digest128().to_be_bytes())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            kind: 9,
            version: 1,
            run: RunOrdinal(3),
            seq: EventSeq(41),
            wall_ms: -7,
            mono_us: 1_000_000,
            previous: ChainHash([0xab; 16]),
        }
    }

    #[test]
    fn an_envelope_has_the_layout_that_its_table_says() {
        let (bytes, hash) = seal(&header(), b"xyz");
        assert_eq!(bytes.len(), 60 + 3 + 8);
        assert_eq!(&bytes[..4], b"RVEV");
        assert_eq!(&bytes[4..12], &[1, 0, 9, 0, 1, 0, 0, 0]);
        assert_eq!(&bytes[12..24], &[3, 0, 0, 0, 41, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[24..32], &(-7i64).to_le_bytes());
        assert_eq!(&bytes[40..56], &[0xab; 16]);
        assert_eq!(&bytes[56..63], b"\x03\0\0\0xyz");
        let mut chained = vec![0xab; 16];
        chained.extend_from_slice(&bytes[..63]);
        assert_eq!(hash, ChainHash(xxhash_rust::xxh3::xxh3_128(&chained).to_be_bytes()));
        let opened = open(&bytes).unwrap();
        assert_eq!((opened.header, opened.payload, opened.hash), (header(), &b"xyz"[..], hash));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (bytes, _) = seal(&header(), b"a payload of some length");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(open(&flipped), Err(Unreadable::Damaged(_))), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(matches!(open(&bytes[..length]), Err(Unreadable::Damaged(_))), "length {length}");
        }
    }

    #[test]
    fn numbers_of_a_later_version_are_told_from_damage() {
        let (bytes, _) = seal(&header(), b"p");
        for (at, name) in [(4, "format"), (10, "flags")] {
            let mut later = bytes.clone();
            later[at] += 1;
            let end = later.len() - CHECKSUM;
            let checksum = xxhash_rust::xxh3::xxh3_64(&later[..end]);
            later[end..].copy_from_slice(&checksum.to_le_bytes());
            let Err(Unreadable::Newer(what)) = open(&later) else { panic!("{name}: {:?}", open(&later)) };
            assert!(what.contains(name), "{what}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let _ = open(&bytes);
            // The same with a checksum that is right, so that the fields behind it are reached.
            let mut body = bytes;
            let checksum = xxhash_rust::xxh3::xxh3_64(&body);
            body.extend_from_slice(&checksum.to_le_bytes());
            let _ = open(&body);
            if body.len() >= HEADER + CHECKSUM {
                body[..6].copy_from_slice(b"RVEV\x01\0");
                let end = body.len() - CHECKSUM;
                let checksum = xxhash_rust::xxh3::xxh3_64(&body[..end]);
                body[end..].copy_from_slice(&checksum.to_le_bytes());
                let _ = open(&body);
            }
        }
    }
}
