//! Version 1 of every payload. Frozen: a field that is added, removed, retyped or moved breaks journals on disk.

use super::{Payload, TooLarge, Undecodable, bounded};
use crate::run::event::{self, Event};
use crate::run::ids::{Attempt, FileNo, Fingerprint, SliceNo, SnapshotNo};
use crate::run::{plan, relation, schema};
use bincode::{Decode, Encode};

/// A domain value and its frozen shape. The way to the wire cannot fail, the way back checks what it finds.
trait Field<W>: Sized {
    fn to_wire(&self) -> W;
    fn from_wire(wire: W) -> Result<Self, String>;
}

macro_rules! as_it_is {
    ($($scalar:ty),*) => {$(
        impl Field<$scalar> for $scalar {
            fn to_wire(&self) -> $scalar {
                self.clone()
            }
            fn from_wire(wire: $scalar) -> Result<Self, String> {
                Ok(wire)
            }
        }
    )*};
}
as_it_is!(bool, u32, u64, i64, String);

macro_rules! numbers {
    ($($name:ident: $inner:ty),*) => {$(
        impl Field<$inner> for $name {
            fn to_wire(&self) -> $inner {
                self.0
            }
            fn from_wire(wire: $inner) -> Result<Self, String> {
                Ok($name(wire))
            }
        }
    )*};
}
numbers!(SliceNo: u32, Attempt: u32, FileNo: u32, SnapshotNo: u32, Fingerprint: u64);

impl<W, T: Field<W>> Field<Option<W>> for Option<T> {
    fn to_wire(&self) -> Option<W> {
        self.as_ref().map(Field::to_wire)
    }
    fn from_wire(wire: Option<W>) -> Result<Self, String> {
        wire.map(Field::from_wire).transpose()
    }
}

impl<W, T: Field<W>> Field<Vec<W>> for Vec<T> {
    fn to_wire(&self) -> Vec<W> {
        self.iter().map(Field::to_wire).collect()
    }
    fn from_wire(wire: Vec<W>) -> Result<Self, String> {
        wire.into_iter().map(Field::from_wire).collect()
    }
}

impl<W, T: Field<W>> Field<W> for Box<T> {
    fn to_wire(&self) -> W {
        (**self).to_wire()
    }
    fn from_wire(wire: W) -> Result<Self, String> {
        T::from_wire(wire).map(Box::new)
    }
}

/// Column types travel as their canonical text, which is a contract of its own.
impl Field<String> for schema::ColumnType {
    fn to_wire(&self) -> String {
        self.to_string()
    }
    fn from_wire(wire: String) -> Result<Self, String> {
        schema::ColumnType::parse(&wire).ok_or_else(|| format!("there is no column type {wire:?}"))
    }
}

/// Declares a frozen struct and both conversions. Fields are written in this order and under no name, so the order is
/// the format; names only tie it to the domain's struct, which does not compile into it once the two differ.
macro_rules! frozen {
    ($($domain:ident)::+ => $name:ident { $($field:ident: $wire:ty,)* }) => {
        #[derive(Encode, Decode)]
        struct $name { $($field: $wire,)* }

        impl Field<$name> for $($domain)::+ {
            fn to_wire(&self) -> $name {
                let Self { $($field,)* } = self;
                $name { $($field: $field.to_wire(),)* }
            }
            fn from_wire(wire: $name) -> Result<Self, String> {
                Ok(Self { $($field: Field::from_wire(wire.$field)?,)* })
            }
        }
    };
}

frozen!(event::RunPlanned => RunPlanned {
    run_id: String,
    export_name: String,
    fold_flags: u32,
    definition: u64,
    config_path: String,
    engine: String,
    source: String,
    relation: String,
    mode: String,
    format: String,
    compression: String,
    tuning_profile: String,
    batch_size: u64,
    batch_size_memory_mb: Option<u64>,
    destination: String,
    root: String,
    prefix: String,
    validate: bool,
    verify_content: bool,
    restart_on_resume: bool,
    skip_empty: bool,
    refuse_drift: bool,
    previous_schema: Option<u64>,
});

frozen!(event::InvocationStarted => InvocationStarted {
    invocation: u32,
    pid: u32,
    host: String,
    version: String,
});

frozen!(event::SchemaResolved => SchemaResolved {
    fingerprint: u64,
    columns: u32,
    changed: Option<bool>,
});

frozen!(schema::Column => Column {
    name: String,
    column_type: String,
    nullable: bool,
    source_type: String,
});

frozen!(event::SchemaColumns => SchemaColumns {
    columns: Vec<Column>,
    last: bool,
});

frozen!(event::SnapshotOpened => SnapshotOpened {
    snapshot: u32,
    id: String,
    lsn: String,
    visible: String,
    server: String,
    standby: bool,
});

frozen!(plan::KeyColumn => KeyColumn {
    name: String,
    type_name: String,
});

#[derive(Encode, Decode)]
enum Split {
    Whole,
    Key { columns: Vec<KeyColumn>, evidence: String },
    Pages { pages: u32 },
}

impl Field<Split> for plan::Split {
    fn to_wire(&self) -> Split {
        match self {
            plan::Split::Whole => Split::Whole,
            plan::Split::Key { columns, evidence } => {
                Split::Key { columns: columns.to_wire(), evidence: evidence.to_wire() }
            }
            plan::Split::Pages { pages } => Split::Pages { pages: *pages },
        }
    }
    fn from_wire(wire: Split) -> Result<Self, String> {
        Ok(match wire {
            Split::Whole => plan::Split::Whole,
            Split::Key { columns, evidence } => plan::Split::Key { columns: Field::from_wire(columns)?, evidence },
            Split::Pages { pages } => plan::Split::Pages { pages },
        })
    }
}

frozen!(event::SplitChosen => SplitChosen {
    split: Split,
    slices: u32,
    estimated_rows: u64,
    reason: String,
});

frozen!(plan::KeyOrdering => KeyOrdering {
    column: String,
    collation: String,
    version: Option<String>,
});

frozen!(event::SplitOrdering => SplitOrdering {
    columns: Vec<KeyOrdering>,
});

#[derive(Encode, Decode)]
enum Bounds {
    Whole,
    Range { lower: Option<Vec<String>>, upper: Option<Vec<String>> },
    NullKey,
    Pages { first: u32, end: Option<u32> },
}

impl Field<Bounds> for plan::Bounds {
    fn to_wire(&self) -> Bounds {
        match self {
            plan::Bounds::Whole => Bounds::Whole,
            plan::Bounds::Range { lower, upper } => Bounds::Range { lower: lower.clone(), upper: upper.clone() },
            plan::Bounds::NullKey => Bounds::NullKey,
            plan::Bounds::Pages { first, end } => Bounds::Pages { first: *first, end: *end },
        }
    }
    fn from_wire(wire: Bounds) -> Result<Self, String> {
        Ok(match wire {
            Bounds::Whole => plan::Bounds::Whole,
            Bounds::Range { lower, upper } => plan::Bounds::Range { lower, upper },
            Bounds::NullKey => plan::Bounds::NullKey,
            Bounds::Pages { first, end } => plan::Bounds::Pages { first, end },
        })
    }
}

frozen!(plan::SlicePlan => SlicePlan {
    slice: u32,
    bounds: Bounds,
    estimated_rows: u64,
});

frozen!(event::SlicesPlanned => SlicesPlanned {
    slices: Vec<SlicePlan>,
    last: bool,
});

frozen!(event::SliceStarted => SliceStarted {
    slice: u32,
    attempt: u32,
    snapshot: u32,
});

frozen!(event::BatchFetched => BatchFetched {
    slice: u32,
    attempt: u32,
    rows: u64,
    bytes: u64,
});

frozen!(event::PartChecksums => PartChecksums {
    slice: u32,
    file: u32,
    attempt: u32,
    first_column: u32,
    sums: Vec<u64>,
});

frozen!(event::PartFacts => PartFacts {
    slice: u32,
    file: u32,
    attempt: u32,
    path: String,
    rows: u64,
    bytes: u64,
    fingerprint: u64,
    snapshot: u32,
    slice_rows: Option<u64>,
});

frozen!(event::PartCommitted => PartCommitted {
    slice: u32,
    file: u32,
    attempt: u32,
    path: String,
    rows: u64,
    bytes: u64,
    fingerprint: u64,
    adopted: bool,
});

frozen!(event::SliceCompleted => SliceCompleted {
    slice: u32,
    attempt: u32,
    rows: u64,
    files: u32,
    took_ms: u64,
    rss_mb: u32,
});

frozen!(event::SliceFailed => SliceFailed {
    slice: u32,
    attempt: u32,
    code: String,
    message: String,
});

frozen!(event::RetryScheduled => RetryScheduled {
    slice: u32,
    attempt: u32,
    delay_ms: u64,
});

frozen!(event::PartSuperseded => PartSuperseded {
    slice: u32,
    file: u32,
    path: String,
    reason: String,
});

frozen!(event::PartQuarantined => PartQuarantined {
    path: String,
    moved_to: String,
    reason: String,
});

frozen!(event::WorkRestarted => WorkRestarted {
    reason: String,
});

frozen!(event::ManifestWritten => ManifestWritten {
    fingerprint: u64,
    bytes: u64,
    parts: u32,
    rows: u64,
});

frozen!(event::Published => Published {
    manifest: u64,
});

frozen!(event::Validated => Validated {
    passed: bool,
    depth: String,
    parts_checked: u32,
    findings: Vec<String>,
});

frozen!(event::WarningNoted => WarningNoted {
    code: String,
    message: String,
});

#[derive(Encode, Decode)]
enum Outcome {
    Success,
    Failed,
    Skipped,
    Interrupted,
}

impl Field<Outcome> for event::Outcome {
    fn to_wire(&self) -> Outcome {
        match self {
            event::Outcome::Success => Outcome::Success,
            event::Outcome::Failed => Outcome::Failed,
            event::Outcome::Skipped => Outcome::Skipped,
            event::Outcome::Interrupted => Outcome::Interrupted,
        }
    }
    fn from_wire(wire: Outcome) -> Result<Self, String> {
        Ok(match wire {
            Outcome::Success => event::Outcome::Success,
            Outcome::Failed => event::Outcome::Failed,
            Outcome::Skipped => event::Outcome::Skipped,
            Outcome::Interrupted => event::Outcome::Interrupted,
        })
    }
}

frozen!(event::RunFinished => RunFinished {
    outcome: Outcome,
    code: Option<String>,
    message: Option<String>,
    skip_reason: Option<String>,
    duration_ms: u64,
    peak_rss_mb: u32,
    pg_temp_bytes_delta: Option<i64>,
    append_p99_us: u64,
    journal_time_ms: u64,
});

frozen!(event::RunAbandoned => RunAbandoned {
    reason: String,
});

frozen!(relation::RelationIdentity => RelationIdentity {
    schema: String,
    name: String,
    oid: u32,
    definition: Option<u64>,
});

frozen!(event::RelationResolved => RelationResolved {
    database: String,
    database_oid: u32,
    named: Option<RelationIdentity>,
    below: Vec<RelationIdentity>,
    relations: u32,
    fingerprint: u64,
});

frozen!(event::SpecialCount => SpecialCount {
    column: u32,
    kind: String,
    count: u64,
});

frozen!(event::SpecialValuesCounted => SpecialValuesCounted {
    slice: u32,
    attempt: u32,
    counts: Vec<SpecialCount>,
});

/// The one table of kind numbers.
macro_rules! kinds {
    ($($number:literal = $variant:ident: $wire:ident,)*) => {
        pub fn encode(event: &Event) -> Result<Payload, TooLarge> {
            let (kind, bytes) = match event {
                $(Event::$variant(domain) => {
                    let wire: $wire = domain.to_wire();
                    ($number, bincode::encode_to_vec(&wire, bounded()))
                })*
            };
            // The limit binds the reader only; an append checks the length of what it is given.
            let bytes = bytes.map_err(|_| TooLarge)?;
            Ok(Payload { kind, version: 1, bytes })
        }

        pub fn decode(kind: u16, bytes: &[u8]) -> Result<Event, Undecodable> {
            match kind {
                $($number => Ok(Event::$variant(read::<$wire, _>(bytes)?)),)*
                _ => Err(Undecodable::Unknown),
            }
        }
    };
}

kinds! {
    1 = RunPlanned: RunPlanned,
    2 = InvocationStarted: InvocationStarted,
    3 = SchemaResolved: SchemaResolved,
    4 = SchemaColumns: SchemaColumns,
    5 = SnapshotOpened: SnapshotOpened,
    6 = SplitChosen: SplitChosen,
    7 = SlicesPlanned: SlicesPlanned,
    8 = SliceStarted: SliceStarted,
    9 = BatchFetched: BatchFetched,
    10 = PartChecksums: PartChecksums,
    11 = PartSealed: PartFacts,
    12 = PartCommitted: PartCommitted,
    13 = SliceCompleted: SliceCompleted,
    14 = SliceFailed: SliceFailed,
    15 = RetryScheduled: RetryScheduled,
    16 = PartSuperseded: PartSuperseded,
    17 = PartQuarantined: PartQuarantined,
    18 = WorkRestarted: WorkRestarted,
    19 = ManifestWritten: ManifestWritten,
    20 = Published: Published,
    21 = Validated: Validated,
    22 = WarningNoted: WarningNoted,
    23 = RunFinished: RunFinished,
    24 = RunAbandoned: RunAbandoned,
    25 = SplitOrdering: SplitOrdering,
    26 = RelationResolved: RelationResolved,
    27 = SpecialValuesCounted: SpecialValuesCounted,
}

fn read<W: Decode<()>, T: Field<W>>(bytes: &[u8]) -> Result<T, Undecodable> {
    let malformed = |what: String| Undecodable::Malformed(what);
    let (wire, used) =
        bincode::decode_from_slice::<W, _>(bytes, bounded()).map_err(|error| malformed(error.to_string()))?;
    if used != bytes.len() {
        return Err(malformed(format!("{} bytes are left over after its last field", bytes.len() - used)));
    }
    T::from_wire(wire).map_err(malformed)
}
