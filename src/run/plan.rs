//! Slices: disjoint pieces of the source, each a unit of work, retry and resume.
//!
//! A [`SlicePlan`] is plain data with everything a worker needs to know about its piece, so that another process, or
//! another machine, could do the work.

use super::ids::SliceNo;
use serde::{Deserialize, Serialize};

/// How a run's source was divided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Split {
    /// One slice holds everything.
    Whole,
    /// Ranges of a key, in the order of the database's own comparison. Survives into a resume.
    Key {
        columns: Vec<KeyColumn>,
        /// Where the boundaries came from, for the record: `histogram`, `sample`.
        evidence: String,
    },
    /// Ranges of heap pages. Only valid inside the snapshot in which it was planned.
    Pages { pages: u32 },
}

impl Split {
    /// Whether slices that were not read yet still mean the same rows in a later snapshot.
    pub fn survives_its_snapshot(&self) -> bool {
        !matches!(self, Split::Pages { .. })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Split::Whole => "whole",
            Split::Key { .. } => "key",
            Split::Pages { .. } => "pages",
        }
    }
}

/// A column that slices are bounded by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// The column's name as the catalog has it, unquoted.
    pub name: String,
    /// The type as `format_type` prints it; bounds are cast to it.
    pub type_name: String,
}

/// By what the server orders the values of a key column. A collation of the operating system or of ICU comes in versions,
/// and another version may order the same values differently: rows move across boundaries that stay where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOrdering {
    /// The column's name as the catalog has it, unquoted.
    pub column: String,
    /// `schema.collation`, or `default` and the database's locale.
    pub collation: String,
    /// What the library says its version is. `None` where there is none, as for `C`, which never changes.
    pub version: Option<String>,
}

/// Which rows a slice holds. All slices of a split together hold every row once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Bounds {
    Whole,
    /// `lower <= key < upper`, compared as a row of the split's columns. Values are the server's own text output under
    /// pinned session settings, one for each key column. `None` is open. Rows with a NULL in the key are not in any range.
    Range {
        lower: Option<Vec<String>>,
        upper: Option<Vec<String>>,
    },
    /// Rows in which at least one key column is NULL.
    NullKey,
    /// Heap pages `first <= page < end`; `None` runs to the end of the relation, however long it is.
    Pages {
        first: u32,
        end: Option<u32>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicePlan {
    pub slice: SliceNo,
    pub bounds: Bounds,
    /// What statistics say. Never used for correctness.
    pub estimated_rows: u64,
}
