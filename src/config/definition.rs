//! The fingerprint of an export's definition: over everything that decides which rows and bytes come out.
//!
//! The canonical text is one line for each item in the order of [`canonical`]: the item's name, a colon, the length of
//! its value in bytes, a colon, the value, a line feed. The length keeps apart what a separator inside a value would
//! merge. Tuning, secrets, `skip_empty` and the policies on drift and resume are not in it: changing them between a run
//! and its resume changes no byte. The source is in it as host, port and database, so that a resume does not add rows
//! of another server; user and password may be rotated.

use super::model::{ArrayShape, TypePolicies};
use super::{Chunks, Compression, ExportConfig, Host, Selection, SourceConfig};
use crate::run::ids::Fingerprint;
use std::fmt::Write;

/// What [`canonical`] takes for granted. It stays what it is, whatever the configuration's own default becomes.
const ROW_GROUP_BYTES: usize = 8 << 20;

/// `template` is the destination's path as configured, tokens unresolved: moving the project does not change it. Whether it
/// still leads to the same place is [`super::still_resolves_to`]'s question.
pub fn fingerprint(export: &ExportConfig, source: &SourceConfig, template: &str) -> Fingerprint {
    Fingerprint::of(canonical(export, source, template).as_bytes())
}

fn canonical(export: &ExportConfig, source: &SourceConfig, template: &str) -> String {
    let mut text = String::from("rivet definition 1\n");
    let mut item = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}:{}:{value}", value.len());
    };
    match &source.host {
        Host::Tcp(host) => item("host", &host.to_ascii_lowercase()),
        Host::Unix(dir) => item("socket", &dir.to_string_lossy()),
    }
    item("port", &source.port.to_string());
    item("database", &source.database);
    item("export", &export.name);
    match &export.selection {
        Selection::Table { schema, name } => {
            if let Some(schema) = schema {
                item("schema", schema);
            }
            item("table", name);
        }
        Selection::Query(query) => item("query", query),
    }
    item("mode", export.mode.name());
    let Chunks { column, size, count } = &export.chunks;
    item("chunk_column", column.as_deref().unwrap_or_default());
    item("chunk_size", &size.map(|n| n.to_string()).unwrap_or_default());
    item("chunk_count", &count.map(|n| n.to_string()).unwrap_or_default());
    for (name, column_type) in &export.columns {
        item("column", name);
        item("type", &column_type.to_string());
    }
    item("format", export.format.name());
    item("compression", export.compression.name());
    let level = match export.compression {
        Compression::Zstd(level) => level.to_string(),
        Compression::Gzip(level) => level.to_string(),
        Compression::Snappy | Compression::Lz4 | Compression::None => String::new(),
    };
    item("compression_level", &level);
    item("destination", template);
    item("max_file_size", &export.max_file_size.to_string());
    item("row_group_rows", &export.row_group_rows.map(|n| n.to_string()).unwrap_or_default());
    item("restart_on_resume", if export.restart_on_resume { "yes" } else { "no" });
    // Came later: only where it says something else than every definition before it did.
    if export.row_group_bytes != ROW_GROUP_BYTES {
        item("row_group_bytes", &export.row_group_bytes.to_string());
    }
    let TypePolicies { special_values, numeric, arrays } = export.types;
    if (TypePolicies { arrays: ArrayShape::Declared, ..export.types }) != TypePolicies::default() {
        item("types", &format!("{} {}", special_values.name(), numeric.name()));
    }
    if arrays != ArrayShape::Declared {
        item("arrays", arrays.name());
    }
    text
}
