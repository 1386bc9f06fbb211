//! One entry of `exports`.

use super::model::{ArrayShape, BareNumeric, SpecialValues, TypePolicies};
use super::section::{Field, Section, nearest, parse_size};
use super::source::Source;
use super::tuning::{self, Layer, MAX_PARALLEL};
use super::{
    Chunks, Compression, Context, ExportConfig, Format, Mode, Selection, definition, destination, interpolate,
};
use crate::error::Result;
use crate::run::command::DriftPolicy;
use crate::run::ids::Fingerprint;
use crate::run::schema::ColumnType;
use std::collections::BTreeMap;

const KEYS: &[&str] = &[
    "name",
    "query",
    "query_file",
    "table",
    "mode",
    "format",
    "destination",
    "columns",
    "types",
    "skip_empty",
    "on_schema_drift",
    "consistency",
    "verify",
    "tuning",
    "source_group",
    "compression",
    "compression_level",
    "compression_profile",
    "max_file_size",
    "parquet",
    "partition_by",
    "partition_granularity",
    "quality",
    "meta_columns",
    "cursor_column",
    "cursor_fallback_column",
    "incremental_cursor_mode",
    "settle",
    "fence",
    "chunk_column",
    "chunk_size",
    "chunk_size_memory_mb",
    "chunk_count",
    "chunk_dense",
    "chunk_by_days",
    "chunk_by_key",
    "parallel",
    "chunk_checkpoint",
    "chunk_max_attempts",
    "time_column",
    "time_column_type",
    "days_window",
    "wave",
    "parallel_safe",
    "reconcile_required",
    "shape_drift_warn_factor",
];

/// Keys that only mean something in one mode.
const CHUNKED_KEYS: &[&str] = &[
    "chunk_column",
    "chunk_size",
    "chunk_size_memory_mb",
    "chunk_count",
    "chunk_dense",
    "chunk_by_days",
    "chunk_by_key",
    "chunk_checkpoint",
    "chunk_max_attempts",
];
const INCREMENTAL_KEYS: &[&str] =
    &["cursor_column", "cursor_fallback_column", "incremental_cursor_mode", "settle", "fence"];
pub const TYPES_KEYS: &[&str] = &["special_values", "numeric", "arrays"];
pub const PARQUET_KEYS: &[&str] = &["row_group_rows", "row_group_strategy", "target_row_group_mb", "max_row_group_mb"];
const WINDOW_KEYS: &[&str] = &["time_column", "time_column_type", "days_window"];

const DEFAULT_FILE_SIZE: u64 = 128 << 20;
/// A query is a statement, not a data set.
const MAX_QUERY_BYTES: u64 = 1 << 20;
/// Longer names would not leave room for the run id in a file name of 255 bytes.
const MAX_NAME: usize = 128;

/// The name alone, so that exports that were not asked for can be told apart before anything else of them is judged.
pub fn read_name(field: &Field<'_>) -> Result<(String, String)> {
    let section = field.section(KEYS)?;
    let field = section.required("name")?;
    let name = field.text()?;
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let valid = |c: char| first(c) || matches!(c, '-' | '.');
    if !name.starts_with(first) || !name.chars().all(valid) || name.len() > MAX_NAME {
        return Err(field
            .not(
                " a name of letters, digits, `_`, `-` and `.`, at most 128 of them, the first a letter, a digit or `_`",
            )
            .with_hint("The name becomes part of file names and of commands, where a `-` begins an option."));
    }
    Ok((name.to_owned(), field.at()))
}

pub fn read(context: &Context<'_>, field: &Field<'_>, source: &Source) -> Result<ExportConfig> {
    let (name, _) = read_name(field)?;
    let section = field.section(KEYS)?;
    let mode = read_mode(&section)?;
    refuse_what_is_not_built(&section)?;
    check_advice(&section)?;
    let selection = read_selection(context, &section)?;
    let format = section.required("format")?;
    let words = [("parquet", Some(Format::Parquet)), ("csv", None), ("jsonl", None), ("arrow", None)];
    let Some(format) = format.word(&words)? else {
        return Err(
            format.unsupported("names a format that this version does not write", "`parquet` is what it writes.")
        );
    };
    let (chunks, layer) = read_chunks(&section, mode)?;
    let tuning = tuning::resolve(source.profile, &source.tuning, &layer);
    let restart_on_resume = match section.get("consistency") {
        None => false,
        Some(field) => {
            match field.word(&[
                ("snapshot", Some(false)),
                ("mixed", Some(false)),
                ("restart", Some(true)),
                ("per_slice", None),
            ])? {
                Some(restart) => restart,
                None => {
                    let what = "asks for a transaction for each slice, which this version does not do";
                    return Err(field.unsupported(what, "`snapshot` reads all slices in one snapshot."));
                }
            }
        }
    };
    let policies = [("warn", DriftPolicy::Warn), ("continue", DriftPolicy::Continue), ("fail", DriftPolicy::Fail)];
    let on_schema_drift = section.get("on_schema_drift").map(|field| field.word(&policies)).transpose()?;
    let verify_content = match section.get("verify") {
        Some(field) => field.word(&[("size", false), ("content", true)])?,
        None => false,
    };
    let row_groups = read_row_groups(&section)?;
    let mut export = ExportConfig {
        name,
        selection,
        mode,
        format,
        compression: read_compression(&section)?,
        destination: destination::read(context, &section.required("destination")?)?,
        columns: read_columns(&section)?,
        types: read_types(&section)?,
        skip_empty: section.get("skip_empty").map(|field| field.flag()).transpose()?.unwrap_or(false),
        on_schema_drift: on_schema_drift.unwrap_or_default(),
        restart_on_resume,
        verify_content,
        max_file_size: read_file_size(&section)?,
        row_group_rows: row_groups.rows,
        row_group_bytes: row_groups.bytes,
        chunks,
        tuning,
        definition: Fingerprint::default(),
    };
    let template = section.required("destination")?.section(&["type", "path"])?.required("path")?;
    destination::refuse_state_dir(context, &export, &template)?;
    export.definition = definition::fingerprint(&export, &source.config, template.text()?);
    Ok(export)
}

fn read_mode(section: &Section<'_>) -> Result<Mode> {
    let Some(field) = section.get("mode") else { return mode_from_keys(section, Mode::Full, "full") };
    let words =
        [("full", Some(Mode::Full)), ("chunked", Some(Mode::Chunked)), ("incremental", None), ("time_window", None)];
    match field.word(&words)? {
        Some(mode) => mode_from_keys(section, mode, mode.name()),
        None => Err(field.unsupported(
            "asks for a mode that this version does not have",
            "`full` and `chunked` are there; a `query` with a WHERE clause and `--param` reads a part of a table.",
        )),
    }
}

/// Refuses the keys of another mode: a `chunk_count` that nothing reads is a mistake somebody should hear of.
fn mode_from_keys(section: &Section<'_>, mode: Mode, name: &str) -> Result<Mode> {
    let groups = [(CHUNKED_KEYS, "chunked"), (INCREMENTAL_KEYS, "incremental"), (WINDOW_KEYS, "time_window")];
    for (keys, owner) in groups {
        // Accepted everywhere: every mode is checkpointed.
        let foreign = keys.iter().filter(|key| **key != "chunk_checkpoint").find_map(|key| section.get(key));
        if let Some(field) = foreign.filter(|_| owner != name) {
            let what = format!("belongs to `mode: {owner}`, and the mode is `{name}`");
            return Err(field.invalid(&what).with_hint("Change the mode, or take the key out."));
        }
    }
    Ok(mode)
}

fn refuse_what_is_not_built(section: &Section<'_>) -> Result<()> {
    for key in ["partition_by", "partition_granularity"] {
        if let Some(field) = section.get(key) {
            let what = "divides files by a column's value, which this version cannot do yet";
            return Err(field.unsupported(what, "Take it out; query engines can partition the files afterwards."));
        }
    }
    if let Some(field) = section.get("quality") {
        let known = ["row_count_min", "row_count_max", "null_ratio_max", "unique_columns", "unique_max_entries"];
        if let Some((_, rule)) = field.section(&known)?.entries().next() {
            let what = "is a rule that this version does not evaluate";
            return Err(rule.unsupported(what, "Take it out, and check the files after the run."));
        }
    }
    if let Some(field) = section.get("meta_columns") {
        let columns = field.section(&["exported_at", "row_hash"])?;
        for (_, field) in columns.entries() {
            if field.flag()? {
                let what = "adds a column, which this version cannot do yet";
                return Err(field.unsupported(what, "Take it out, or compute the column in a `query`."));
            }
        }
    }
    Ok(())
}

/// Keys that advise somebody who plans when to run what. They change nothing about a run, but they must make sense; and
/// what asks for a check is refused, since nobody would make it.
fn check_advice(section: &Section<'_>) -> Result<()> {
    section.get("source_group").map(|field| field.text()).transpose()?;
    section.get("wave").map(|field| field.number(0..=u64::from(u32::MAX))).transpose()?;
    section.get("parallel_safe").map(|field| field.flag()).transpose()?;
    if let Some(field) = section.get("reconcile_required")
        && field.flag()?
    {
        let what = "asks for a count beside the export, and this version does not count again";
        return Err(field.unsupported(
            what,
            "Take it out: rows in the files are compared with the server's own count of each statement anyway.",
        ));
    }
    if let Some(field) = section.get("shape_drift_warn_factor") {
        let factor = field.scalar()?.text.parse::<f64>().ok().filter(|factor| factor.is_finite() && *factor >= 0.0);
        let factor = factor.ok_or_else(|| field.not(" a number from 0 on"))?;
        if factor > 0.0 {
            let what = "asks for a warning about values that grow, which this version does not watch";
            return Err(field.unsupported(what, "Take it out, or set it to 0."));
        }
    }
    Ok(())
}

fn read_selection(context: &Context<'_>, section: &Section<'_>) -> Result<Selection> {
    let given: Vec<_> = ["query", "query_file", "table"].iter().filter_map(|key| section.get(key)).collect();
    let [field] = given.as_slice() else {
        return Err(match given.get(1) {
            Some(second) => second
                .invalid("stands beside another selection")
                .with_hint("Keep one of `table`, `query` and `query_file`."),
            None => section
                .missing("the export selects nothing")
                .with_hint("Give one of `table`, `query` and `query_file`."),
        });
    };
    let key = field.path.rsplit('.').next().unwrap_or_default();
    match key {
        "table" => {
            let (schema, name) = parse_table(field.text()?).map_err(|what| field.invalid(what))?;
            Ok(Selection::Table { schema, name })
        }
        "query" => query(field, field.text()?),
        _ => {
            let (path, text) = super::read_named_text(context, field, MAX_QUERY_BYTES)?;
            let text = interpolate::fill_text(&path.display().to_string(), text, &context.values())?.text;
            query(field, &text)
        }
    }
}

/// A statement without its final semicolon: it becomes part of others.
fn query(field: &Field<'_>, text: &str) -> Result<Selection> {
    let statement = text.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    if statement.is_empty() {
        return Err(field.invalid("holds no statement"));
    }
    if statement.contains('\0') {
        return Err(field.invalid("holds a NUL byte"));
    }
    Ok(Selection::Query(statement.to_owned()))
}

/// `name`, `schema.name`, either part in double quotes as in SQL. Case is kept as written.
fn parse_table(text: &str) -> Result<(Option<String>, String), &'static str> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let part;
        (part, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_part(quoted)?,
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if part.is_empty() {
            return Err("has an empty part; write `table` or `schema.table`");
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(tail) => rest = tail,
            None if rest.is_empty() => break,
            None => return Err("has text after a closing quote; write `\"schema\".\"table\"`"),
        }
    }
    match (parts.pop(), parts.pop(), parts.pop()) {
        (Some(name), schema, None) => Ok((schema, name)),
        _ => Err("has more than two parts; write `schema.table`, and quote a name that holds a `.`"),
    }
}

/// What stands up to the closing quote, and what comes after it.
fn quoted_part(text: &str) -> Result<(String, &str), &'static str> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or("has a quote that is never closed")?;
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(tail) => {
                part.push('"');
                rest = tail;
            }
            None => return Ok((part, rest)),
        }
    }
}

fn read_chunks(section: &Section<'_>, mode: Mode) -> Result<(Chunks, Layer)> {
    let mut layer = section.get("tuning").map(|field| tuning::read(&field)).transpose()?.unwrap_or_default();
    if let Some(field) = section.get("parallel") {
        let parallel = field.number(1..=MAX_PARALLEL)? as usize;
        if layer.parallel.is_some_and(|other| other != parallel) {
            return Err(field.invalid("and `tuning.parallel` disagree").with_hint("Keep one of the two."));
        }
        layer.parallel = Some(parallel);
    }
    if let Some(field) = section.get("chunk_checkpoint") {
        field.flag()?;
    }
    if mode != Mode::Chunked {
        return Ok((Chunks::default(), layer));
    }
    if let Some(field) = section.get("chunk_max_attempts") {
        layer.max_retries = Some(field.number(1..=1_000)? as u32 - 1);
    }
    if let Some(field) = section.get("chunk_dense") {
        // Slices hold equal numbers of rows whatever the gaps in the key: what the key asks for happens anyway.
        field.flag()?;
    }
    for key in ["chunk_by_days", "chunk_size_memory_mb"] {
        if let Some(field) = section.get(key) {
            let what = "sizes slices in a way that this version does not";
            return Err(field.unsupported(what, "Give `chunk_count`, or `chunk_size` in rows."));
        }
    }
    if let (Some(_), Some(field)) = (section.get("chunk_size"), section.get("chunk_count")) {
        return Err(field.invalid("stands beside `chunk_size`").with_hint("Keep one of the two."));
    }
    if let (Some(_), Some(field)) = (section.get("chunk_column"), section.get("chunk_by_key")) {
        return Err(field.invalid("stands beside `chunk_column`").with_hint("Keep one of the two."));
    }
    let column = section.first_of(&["chunk_column", "chunk_by_key"]);
    // A table has its key; of what a query returns only whoever wrote it knows what divides it.
    if let (Some(field), None) = (section.first_of(&["query", "query_file"]), &column) {
        let error = field.invalid("is read in chunks, and no column is named to divide it by");
        return Err(error.with_hint("Name one in `chunk_column`, or read the query with `mode: full`."));
    }
    let chunks = Chunks {
        column: column.map(|field| field.text().map(str::to_owned)).transpose()?,
        size: section.get("chunk_size").map(|field| field.number(1..=u64::MAX / 2)).transpose()?,
        count: section.get("chunk_count").map(|field| field.number(1..=100_000)).transpose()?.map(|n| n as u32),
    };
    Ok((chunks, layer))
}

fn read_compression(section: &Section<'_>) -> Result<Compression> {
    if let Some(field) = section.get("compression_profile") {
        return field.word(&[
            ("none", Compression::None),
            ("fast", Compression::Snappy),
            ("balanced", Compression::Zstd(3)),
            ("compact", Compression::Zstd(9)),
        ]);
    }
    let codecs = [
        ("zstd", Compression::Zstd(1)),
        ("snappy", Compression::Snappy),
        ("gzip", Compression::Gzip(6)),
        ("lz4", Compression::Lz4),
        ("none", Compression::None),
    ];
    let codec = match section.get("compression") {
        Some(field) => field.word(&codecs)?,
        None => Compression::Zstd(1),
    };
    let Some(level) = section.get("compression_level") else { return Ok(codec) };
    match codec {
        Compression::Zstd(_) => Ok(Compression::Zstd(level.number(1..=22)? as i32)),
        Compression::Gzip(_) => Ok(Compression::Gzip(level.number(0..=9)? as u32)),
        _ => Err(level.invalid(&format!("does not apply: `{}` has no levels", codec.name()))),
    }
}

fn read_file_size(section: &Section<'_>) -> Result<u64> {
    let Some(field) = section.get("max_file_size") else { return Ok(DEFAULT_FILE_SIZE) };
    let size = parse_size(&field.scalar()?.text).filter(|size| (1024..=1 << 40).contains(size));
    size.ok_or_else(|| field.not(" a size from 1KB to 1TB, such as `64MB` or `1GB`"))
}

struct RowGroups {
    rows: Option<usize>,
    bytes: usize,
}

/// Larger groups gain nothing in size or time on any of the bench tables, and cost memory.
const ROW_GROUP_BYTES: usize = 8 << 20;

fn read_row_groups(section: &Section<'_>) -> Result<RowGroups> {
    let Some(field) = section.get("parquet") else { return Ok(RowGroups { rows: None, bytes: ROW_GROUP_BYTES }) };
    let parquet = field.section(PARQUET_KEYS)?;
    let number = |key, range| parquet.get(key).map(|field| field.number(range)).transpose();
    let rows = number("row_group_rows", 1..=100_000_000)?.map(|n| n as usize);
    let target = number("target_row_group_mb", 1..=2_048)?.map(|mb| (mb as usize) << 20);
    let most = number("max_row_group_mb", 1..=2_048)?.map_or(usize::MAX, |mb| (mb as usize) << 20);
    let fixed = match parquet.get("row_group_strategy") {
        Some(field) => {
            let fixed = field.word(&[("auto", false), ("fixed_memory", false), ("fixed_rows", true)])?;
            if fixed && rows.is_none() {
                return Err(field.invalid("needs `row_group_rows` beside it"));
            }
            fixed
        }
        None => rows.is_some(),
    };
    if let Some(field) = parquet.get("row_group_rows").filter(|_| !fixed) {
        return Err(field.invalid("needs `row_group_strategy: fixed_rows`"));
    }
    Ok(RowGroups { rows, bytes: target.unwrap_or(ROW_GROUP_BYTES).min(most) })
}

fn read_types(section: &Section<'_>) -> Result<TypePolicies> {
    let Some(field) = section.get("types") else { return Ok(TypePolicies::default()) };
    let section = field.section(TYPES_KEYS)?;
    let special_values = [
        ("error", SpecialValues::Error),
        ("null", SpecialValues::Null),
        ("text", SpecialValues::Text),
        ("clamp", SpecialValues::Clamp),
    ];
    let numeric = [("string", BareNumeric::Text), ("probe", BareNumeric::Probe)];
    // Without quotes, which nobody would write, YAML reads the word as its null.
    let special_values = match section.is_null_word("special_values") {
        true => Some(SpecialValues::Null),
        false => {
            let field = section.get_filled("special_values").map_err(|error| {
                error.with_hint("Write one of `error`, `null`, `text`, `clamp`, or take the key out.")
            })?;
            field.map(|field| field.word(&special_values)).transpose()?
        }
    };
    let numeric = section.get("numeric").map(|field| field.word(&numeric)).transpose()?;
    let arrays = [ArrayShape::Declared, ArrayShape::Text, ArrayShape::Probe].map(|shape| (shape.name(), shape));
    let arrays = section.get("arrays").map(|field| field.word(&arrays)).transpose()?;
    Ok(TypePolicies {
        special_values: special_values.unwrap_or_default(),
        numeric: numeric.unwrap_or_default(),
        arrays: arrays.unwrap_or_default(),
    })
}

fn read_columns(section: &Section<'_>) -> Result<BTreeMap<String, ColumnType>> {
    let mut columns = BTreeMap::new();
    let Some(field) = section.get("columns") else { return Ok(columns) };
    // Any name is a column's: open the mapping with its own keys as the known ones.
    let names: Vec<&str> = match &field.node.value {
        super::yaml::Value::Mapping(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
        _ => Vec::new(),
    };
    for (name, field) in field.section(&names)?.entries() {
        columns.insert(name.to_owned(), read_type(&field)?);
    }
    Ok(columns)
}

fn read_type(field: &Field<'_>) -> Result<ColumnType> {
    let written = field.text()?;
    let text: String = written.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    let body = text.strip_prefix("decimal(").or_else(|| text.strip_prefix("numeric("));
    if body.is_some_and(|body| !body.ends_with(')')) {
        // `{ a: decimal(18,2) }`: the comma ends the value.
        return Err(field.invalid("is cut short").with_hint("Quote it: in braces, a comma ends a value."));
    }
    if let Some(body) = body.and_then(|body| body.strip_suffix(')')) {
        let parsed = ColumnType::parse(&format!("decimal({body})"));
        return parsed
            .ok_or_else(|| field.not(" `decimal(precision,scale)` with precision 1 to 76 and scale 0 to precision"));
    }
    let words = [
        ("int2", ColumnType::Int16),
        ("smallint", ColumnType::Int16),
        ("int16", ColumnType::Int16),
        ("int4", ColumnType::Int32),
        ("int", ColumnType::Int32),
        ("integer", ColumnType::Int32),
        ("int32", ColumnType::Int32),
        ("int8", ColumnType::Int64),
        ("bigint", ColumnType::Int64),
        ("int64", ColumnType::Int64),
        ("float4", ColumnType::Float32),
        ("real", ColumnType::Float32),
        ("float8", ColumnType::Float64),
        ("double", ColumnType::Float64),
        ("bool", ColumnType::Bool),
        ("boolean", ColumnType::Bool),
        ("text", ColumnType::Text),
        ("string", ColumnType::Text),
        ("varchar", ColumnType::Text),
        ("uuid", ColumnType::Uuid),
        ("json", ColumnType::Json),
        ("jsonb", ColumnType::Json),
        ("date", ColumnType::Date),
        ("timestamp", ColumnType::Timestamp),
        ("timestamp_tz", ColumnType::TimestampUtc),
        ("timestamptz", ColumnType::TimestampUtc),
        ("binary", ColumnType::Binary),
        ("bytea", ColumnType::Binary),
    ];
    if let Some((_, column_type)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(column_type.clone());
    }
    let error = field.not(
        " one of decimal(p,s), int2, int4, int8, float4, float8, bool, text, uuid, json, date, timestamp, timestamp_tz, binary",
    );
    match nearest(&text, words.iter().map(|(word, _)| *word)) {
        Some(near) => Err(error.with_hint(format!("Did you mean `{near}`?"))),
        None => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_are_split_as_sql_splits_them() {
        let some = |schema: Option<&str>, name: &str| Ok((schema.map(str::to_owned), name.to_owned()));
        assert_eq!(parse_table("orders"), some(None, "orders"));
        assert_eq!(parse_table("public.Orders"), some(Some("public"), "Orders"));
        assert_eq!(parse_table("\"a.b\".\"c\"\"d\""), some(Some("a.b"), "c\"d"));
        assert_eq!(parse_table("s.\"x y\""), some(Some("s"), "x y"));
        for text in ["", ".", "a.", ".a", "a.b.c", "\"a", "\"a\"b", "\"\""] {
            assert!(parse_table(text).is_err(), "{text}");
        }
    }
}
