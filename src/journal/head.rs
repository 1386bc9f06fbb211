//! The witness of what was acknowledged: two fixed slots in the file `head`, written in turn.
//!
//! sled takes damage near the end of its log for a torn write and drops what follows without a word. The head turns that
//! into an error: it says how far the log had been durable, and what the chain hash was there.
//!
//! ```text
//! offset  bytes   (slot 0 at 0, slot 1 at 4096: a torn write reaches one of them at most; little endian)
//!      0      8   magic "RIVETHD1"
//!      8      8   seq of the last acknowledged event, 0 before the first
//!     16     16   its chain hash
//!     32      8   checksum: xxh3-64 of the 32 bytes before it
//! ```

use crate::run::ids::{ChainHash, EventSeq};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: [u8; 8] = *b"RIVETHD1";
const SLOT: usize = 40;
const SLOT_AT: [u64; 2] = [0, 4096];
const FILE: usize = 8192;

/// How far the log is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub seq: EventSeq,
    pub hash: ChainHash,
}

impl Mark {
    pub const GENESIS: Mark = Mark { seq: EventSeq(0), hash: ChainHash::GENESIS };
}

/// What the file said when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    /// The later of the valid slots.
    pub mark: Option<Mark>,
    /// The slot that holds it.
    slot: usize,
}

enum Medium {
    File(File),
    Memory(Box<[u8; FILE]>),
}

pub struct Head {
    medium: Medium,
    /// The slot that holds the current mark; the next one goes into the other.
    slot: usize,
}

impl Head {
    pub fn in_memory() -> Head {
        Head { medium: Medium::Memory(Box::new([0; FILE])), slot: 0 }
    }

    /// Opens the file, or creates it with [`Mark::GENESIS`] in both slots and durable. The descriptor stays open, so
    /// that an error of the medium is reported to it.
    pub fn open(path: &Path, witness: &Witness) -> io::Result<Head> {
        if witness.mark.is_none() {
            return Head::create(path, Mark::GENESIS);
        }
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Head { medium: Medium::File(file), slot: witness.slot })
    }

    /// Replaces the file: both slots hold `mark`. The caller syncs the directory.
    pub fn create(path: &Path, mark: Mark) -> io::Result<Head> {
        let mut bytes = [0; FILE];
        for at in SLOT_AT {
            bytes[at as usize..at as usize + SLOT].copy_from_slice(&slot(mark));
        }
        let fresh = path.with_extension("new");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&fresh)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        Ok(Head { medium: Medium::File(file), slot: 0 })
    }

    /// Writes `mark` into the other slot and returns when it is on the medium.
    pub fn write(&mut self, mark: Mark) -> io::Result<()> {
        let next = 1 - self.slot;
        match &mut self.medium {
            Medium::File(file) => {
                file.write_all_at(&slot(mark), SLOT_AT[next])?;
                rustix::fs::fdatasync(&*file)?;
            }
            Medium::Memory(bytes) => {
                let at = SLOT_AT[next] as usize;
                bytes[at..at + SLOT].copy_from_slice(&slot(mark));
            }
        }
        self.slot = next;
        Ok(())
    }
}

/// Reads the head without opening it for writing. A file that is missing or damaged in both slots has no mark.
pub fn read(path: &Path) -> io::Result<Witness> {
    match std::fs::File::open(path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(file, FILE as u64), &mut bytes)?;
            Ok(parse(&bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Witness { mark: None, slot: 0 }),
        Err(error) => Err(error),
    }
}

pub fn parse(bytes: &[u8]) -> Witness {
    let mut witness = Witness { mark: None, slot: 0 };
    for (slot, at) in SLOT_AT.into_iter().enumerate() {
        let at = at as usize;
        let Some(mark) = bytes.get(at..at + SLOT).and_then(read_slot) else { continue };
        if witness.mark.is_none_or(|best| best.seq < mark.seq) {
            witness = Witness { mark: Some(mark), slot };
        }
    }
    witness
}

fn slot(mark: Mark) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&mark.seq.0.to_le_bytes());
    bytes[16..32].copy_from_slice(&mark.hash.0);
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..32]);
    bytes[32..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn read_slot(bytes: &[u8]) -> Option<Mark> {
    let (body, checksum) = bytes.split_at_checked(32)?;
    if body[..8] != MAGIC || xxhash_rust::xxh3::xxh3_64(body).to_le_bytes() != checksum {
        return None;
    }
    let seq = u64::from_le_bytes(body[8..16].try_into().ok()?);
    let hash = ChainHash(body[16..32].try_into().ok()?);
    Some(Mark { seq: EventSeq(seq), hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(n: u64) -> Mark {
        Mark { seq: EventSeq(n), hash: ChainHash([n as u8; 16]) }
    }

    #[test]
    fn a_mark_is_read_back_and_an_older_one_stays_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head");
        assert_eq!(read(&path).unwrap().mark, None);
        let mut head = Head::open(&path, &read(&path).unwrap()).unwrap();
        assert_eq!(read(&path).unwrap().mark, Some(Mark::GENESIS));
        for n in 1..=5 {
            head.write(mark(n)).unwrap();
            assert_eq!(read(&path).unwrap().mark, Some(mark(n)));
        }
        // A head that is opened again goes on in the other slot.
        let mut again = Head::open(&path, &read(&path).unwrap()).unwrap();
        again.write(mark(6)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let seqs: Vec<u64> =
            SLOT_AT.iter().filter_map(|&at| read_slot(&bytes[at as usize..][..SLOT])).map(|m| m.seq.0).collect();
        assert_eq!(seqs, [6, 5]);
    }

    #[test]
    fn damage_in_one_slot_leaves_the_other_and_no_bit_goes_unnoticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head");
        let mut head = Head::create(&path, mark(1)).unwrap();
        head.write(mark(2)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), FILE);
        for bit in 0..FILE * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = parse(&flipped).mark;
            let in_slot_of_2 = (4096..4096 + SLOT).contains(&(bit / 8));
            assert_eq!(found, Some(if in_slot_of_2 { mark(1) } else { mark(2) }), "bit {bit}");
        }
        for length in 0..FILE {
            let _ = parse(&bytes[..length]);
        }
    }
}
