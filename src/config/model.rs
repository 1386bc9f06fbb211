//! The validated configuration: every default applied, every overlay resolved, every path absolute.

use super::Secret;
use crate::run::command::DriftPolicy;
use crate::run::ids::Fingerprint;
use crate::run::schema::ColumnType;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Config {
    /// Absolute path of the file.
    pub path: PathBuf,
    pub source: SourceConfig,
    pub exports: Vec<ExportConfig>,
    pub parallel_exports: bool,
    /// Absolute; `.rivet` beside the file unless configured or given on the command line.
    pub state_dir: PathBuf,
}

#[derive(Debug, Clone)]
pub struct SourceConfig {
    pub host: Host,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret>,
    pub database: String,
    pub tls: Tls,
}

impl SourceConfig {
    /// `host:port/database`: where the rows come from, without a credential.
    pub fn label(&self) -> String {
        match &self.host {
            Host::Tcp(host) => format!("{host}:{}/{}", self.port, self.database),
            Host::Unix(dir) => format!("{}:{}/{}", dir.display(), self.port, self.database),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Tcp(String),
    /// Directory that holds `.s.PGSQL.<port>`.
    Unix(PathBuf),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    pub mode: TlsMode,
    pub ca_file: Option<PathBuf>,
    pub accept_invalid_certs: bool,
    pub accept_invalid_hostnames: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain text. Only loopback addresses, unix sockets, or an explicit `tls.mode: disable` get here.
    #[default]
    Disable,
    /// Encrypted, server not verified.
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Fast,
    Balanced,
    Safe,
}

impl Profile {
    pub fn name(self) -> &'static str {
        match self {
            Profile::Fast => "fast",
            Profile::Balanced => "balanced",
            Profile::Safe => "safe",
        }
    }
}

/// The tuning of one export: profile, then source level, then export level, key by key.
#[derive(Debug, Clone)]
pub struct Tuning {
    pub profile: Profile,
    /// Slices read at once.
    pub parallel: usize,
    /// Configured rows per batch.
    pub batch_size: usize,
    /// Set: rows per batch are derived from this many MiB. `None` when `batch_size` was set by hand.
    pub batch_size_memory_mb: Option<usize>,
    /// A second limit on a batch, in MiB, whatever the first is counted in.
    pub max_batch_memory_mb: Option<usize>,
    pub memory_budget_mb: usize,
    /// Pause per full batch of `batch_size` rows, scaled by the rows in it.
    pub throttle: Duration,
    /// Zero = none.
    pub statement_timeout: Duration,
    /// Zero = none.
    pub lock_timeout: Duration,
    /// A stream that brings nothing for this long is a stall.
    pub stall_timeout: Duration,
    pub max_retries: u32,
    pub retry_backoff: Duration,
    pub max_value_mb: usize,
}

#[derive(Debug, Clone)]
pub struct ExportConfig {
    pub name: String,
    pub selection: Selection,
    pub mode: Mode,
    pub format: Format,
    pub compression: Compression,
    /// Local directory, absolute, tokens other than `{run_id}` still in it.
    pub destination: DestinationConfig,
    /// Overrides by column.
    pub columns: BTreeMap<String, ColumnType>,
    pub types: TypePolicies,
    pub skip_empty: bool,
    pub on_schema_drift: DriftPolicy,
    /// `consistency: restart`: a resume starts over in its new snapshot instead of mixing two.
    pub restart_on_resume: bool,
    /// `verify: content`.
    pub verify_content: bool,
    /// Encoded bytes after which a part is closed.
    pub max_file_size: u64,
    /// Fixed number of rows per row group; `None` = adaptive, by encoded bytes.
    pub row_group_rows: Option<usize>,
    /// Target for adaptive row groups, encoded bytes.
    pub row_group_bytes: usize,
    /// chunked: configured number or size of slices.
    pub chunks: Chunks,
    pub tuning: Tuning,
    /// Over everything above that decides which rows and bytes come out (not tuning, not secrets, not `skip_empty`).
    pub definition: Fingerprint,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    Table {
        /// `None`: found through the search path.
        schema: Option<String>,
        name: String,
    },
    Query(String),
}

impl Selection {
    /// For the journal and the screen: `schema.table`, or `query`.
    pub fn label(&self) -> String {
        match self {
            Selection::Table { schema: Some(schema), name } => format!("{schema}.{name}"),
            Selection::Table { schema: None, name } => name.clone(),
            Selection::Query(_) => "query".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Full,
    Chunked,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Full => "full",
            Mode::Chunked => "chunked",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Parquet,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Zstd(i32),
    Snappy,
    Gzip(u32),
    Lz4,
    None,
}

impl Compression {
    pub fn name(self) -> &'static str {
        match self {
            Compression::Zstd(_) => "zstd",
            Compression::Snappy => "snappy",
            Compression::Gzip(_) => "gzip",
            Compression::Lz4 => "lz4",
            Compression::None => "none",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationConfig {
    pub path: PathBuf,
}

/// How many slices `mode: chunked` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunks {
    pub column: Option<String>,
    /// Rows per slice.
    pub size: Option<u64>,
    /// Number of slices.
    pub count: Option<u32>,
}

/// `types`: what becomes of what a column's type alone does not settle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TypePolicies {
    pub special_values: SpecialValues,
    pub numeric: BareNumeric,
    pub arrays: ArrayShape,
}

/// What becomes of values that the delivered type has no room for: `NaN` and infinities of a decimal, infinite dates and
/// times, `24:00:00`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SpecialValues {
    /// An error for decimals, a counted NULL for dates and times.
    #[default]
    Usual,
    Error,
    Null,
    /// Columns that can hold any are delivered as text.
    Text,
    /// The nearest value that fits, counted.
    Clamp,
}

impl SpecialValues {
    pub fn name(self) -> &'static str {
        match self {
            SpecialValues::Usual => "usual",
            SpecialValues::Error => "error",
            SpecialValues::Null => "null",
            SpecialValues::Text => "text",
            SpecialValues::Clamp => "clamp",
        }
    }
}

/// As what an array column is delivered, into which the server lets arrays of any number of dimensions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ArrayShape {
    /// Lists of as many dimensions as the column was declared with; other values are errors.
    #[default]
    Declared,
    /// As the server prints them.
    Text,
    /// As lists of as many dimensions as all values have, or as text where they differ: looked through beforehand in the same
    /// snapshot.
    Probe,
}

impl ArrayShape {
    pub fn name(self) -> &'static str {
        match self {
            ArrayShape::Declared => "declared",
            ArrayShape::Text => "text",
            ArrayShape::Probe => "probe",
        }
    }
}

/// How a `numeric` without a declared precision is delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum BareNumeric {
    /// As text, every digit as it is.
    #[default]
    Text,
    /// As the decimal that holds the values that are there, which are looked through beforehand in the same snapshot.
    Probe,
}

impl BareNumeric {
    pub fn name(self) -> &'static str {
        match self {
            BareNumeric::Text => "string",
            BareNumeric::Probe => "probe",
        }
    }
}
