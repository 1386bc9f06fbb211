//! Names for numbers that would otherwise be confused.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            pub fn next(self) -> Self {
                $name(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Position of an event in an export's journal: 1, 2, 3, … without gaps, over all runs of the export.
    EventSeq(u64)
);
number!(
    /// Which run of the export an event belongs to: 1, 2, 3, …
    RunOrdinal(u32)
);
number!(
    /// A slice of a run's plan: 0, 1, 2, …
    SliceNo(u32)
);
number!(
    /// Which try at a slice: 1, 2, 3, … over all invocations of the run.
    Attempt(u32)
);
number!(
    /// Which file of a slice: 0, 1, 2, …
    FileNo(u32)
);
number!(
    /// Which snapshot of a run: 0, 1, 2, … More than one only across resumes or a lost snapshot.
    SnapshotNo(u32)
);

/// An xxh3-64 hash, written `xxh3:<16 hex>`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    pub fn of(bytes: &[u8]) -> Self {
        Fingerprint(xxhash_rust::xxh3::xxh3_64(bytes))
    }

    /// Reads `xxh3:<16 hex>` back.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("xxh3:")?;
        if hex.len() != 16 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return None;
        }
        u64::from_str_radix(hex, 16).ok().map(Fingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xxh3:{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Fingerprint::parse(&text).ok_or_else(|| serde::de::Error::custom("expected xxh3:<16 hex>"))
    }
}

/// Hash of an event and of everything before it (xxh3-128). `ChainHash::GENESIS` stands before the first event.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash(pub [u8; 16]);

impl ChainHash {
    pub const GENESIS: ChainHash = ChainHash([0; 16]);
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for ChainHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChainHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom("expected 32 hex digits");
        if text.len() != 32 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 16];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(ChainHash(bytes))
    }
}
