//! What the tests of slices share: a database of one's own, and the judgement whether the slices of a plan hold every row
//! once.

// Each test binary uses its own share of this.
#![allow(dead_code)]

use crate::support::database::Database;
use futures_util::TryStreamExt;
use rivet::config::model::Selection;
use rivet::run::plan::{Bounds, Split};
use rivet::source::postgres::catalog::{self, Described};
use rivet::source::postgres::split::{self, PlannedSplit, SplitRequest};
use rivet::source::postgres::{snapshot, sql};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_postgres::{Client, NoTls};

/// The settings that the program pins in every session, as far as they matter here.
const PINNED: &str = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'iso_8601';
    SET extra_float_digits = 3; SET bytea_output = 'hex'; SET jit = off; SET max_parallel_workers_per_gather = 0;
    SET client_min_messages = warning; SET standard_conforming_strings = on";

/// A session in a database of its own.
pub struct Prepared {
    client: Client,
    database: Arc<Database>,
    schema: String,
}

impl std::ops::Deref for Prepared {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Prepared {
    /// Another session in the same database.
    pub async fn session(&self) -> Client {
        connected(&self.database, &self.schema).await
    }

    /// The same in another schema of the same database.
    pub async fn beside(&self, schema: &str, setup: &str) -> Prepared {
        prepared_in(self.database.clone(), schema, setup).await
    }
}

async fn connected(database: &Database, schema: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.expect("the test server answers");
    tokio::spawn(connection);
    client.batch_execute(&format!("{PINNED}; SET search_path = {schema}, public")).await.unwrap();
    client
}

/// A session in a new database, whose search path is a new schema, filled by `setup`.
pub async fn prepared(schema: &str, setup: &str) -> Prepared {
    prepared_in(Arc::new(Database::create(schema)), schema, setup).await
}

async fn prepared_in(database: Arc<Database>, schema: &str, setup: &str) -> Prepared {
    let client = connected(&database, schema).await;
    client.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
    client.batch_execute(setup).await.unwrap_or_else(|error| panic!("{error}: {:?}", error.as_db_error()));
    Prepared { client, database, schema: schema.to_owned() }
}

pub fn table(schema: &str, name: &str) -> Selection {
    Selection::Table { schema: Some(schema.to_owned()), name: name.to_owned() }
}

pub fn slices(count: u32) -> SplitRequest {
    SplitRequest {
        parallel: 4,
        slices: Some(count),
        rows_per_slice: None,
        column: None,
        target_bytes: 128 << 20,
        most_rows: None,
        most_slices: u64::MAX,
    }
}

pub fn by(column: &str, count: u32) -> SplitRequest {
    SplitRequest { column: Some(column.to_owned()), ..slices(count) }
}

pub async fn described(client: &Client, selection: &Selection) -> Described {
    catalog::describe(client, selection, &BTreeMap::new(), Default::default())
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A plan, and how many rows each of its slices really holds.
pub struct Judged {
    pub described: Described,
    pub planned: PlannedSplit,
    pub rows: Vec<usize>,
}

impl Judged {
    /// Largest by smallest slice, the NULL slice left out.
    pub fn imbalance(&self) -> f64 {
        let counted = self.planned.slices.iter().zip(&self.rows);
        let ranges: Vec<usize> =
            counted.filter(|(slice, _)| slice.bounds != Bounds::NullKey).map(|(_, rows)| *rows).collect();
        let (least, most) = (ranges.iter().min().unwrap(), ranges.iter().max().unwrap());
        *most as f64 / *least as f64
    }

    pub fn null_rows(&self) -> Option<usize> {
        let at = self.planned.slices.iter().position(|slice| slice.bounds == Bounds::NullKey)?;
        Some(self.rows[at])
    }

    pub fn key(&self) -> Vec<&str> {
        match &self.planned.split {
            Split::Key { columns, .. } => columns.iter().map(|column| column.name.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    pub fn evidence(&self) -> &str {
        match &self.planned.split {
            Split::Key { evidence, .. } => evidence,
            other => other.name(),
        }
    }
}

/// Plans in a snapshot, reads every slice from another session that joined it, and compares the rows, as bytes on the
/// wire, with those of one COPY of everything.
///
/// # Panics
/// When a row is missing, or there twice.
pub async fn judged(client: &Prepared, selection: &Selection, request: &SplitRequest) -> Judged {
    let described = described(client, selection).await;
    let open = snapshot::open(client).await.unwrap();
    let planned = split::plan(client, &described, request).await.unwrap_or_else(|error| panic!("{error}"));

    let worker = client.session().await;
    // A statement has to mean the same where a server still reads backslashes in plain strings.
    worker.batch_execute("SET standard_conforming_strings = off; SET escape_string_warning = off").await.unwrap();
    let mut rows = Vec::new();
    let mut union = Vec::new();
    for slice in &planned.slices {
        snapshot::join(&worker, &open.id).await.unwrap();
        worker.batch_execute(sql::slice_settings(&planned.split)).await.unwrap();
        let statement = sql::copy_statement(&described, &planned.split, &slice.bounds).unwrap();
        let tuples = tuples(&worker, &statement).await;
        snapshot::close(&worker).await.unwrap();
        rows.push(tuples.len());
        union.extend(tuples);
    }
    let everything = sql::copy_statement(&described, &Split::Whole, &Bounds::Whole).unwrap();
    let mut everything = tuples(client, &everything).await;
    snapshot::close(client).await.unwrap();

    union.sort();
    everything.sort();
    let name = selection.label();
    assert_eq!(union.len(), everything.len(), "{name}: rows in slices, and in the table; {planned:?}");
    assert!(union == everything, "{name}: the slices hold other rows than the table");
    println!("{name}: {} rows, {} slices of {rows:?}; {}", union.len(), rows.len(), planned.reason);
    Judged { described, planned, rows }
}

/// Each tuple of a binary COPY, as its bytes.
pub async fn tuples(client: &Client, statement: &str) -> Vec<Vec<u8>> {
    let stream = client.copy_out(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    let chunks: Vec<bytes::Bytes> = stream.try_collect().await.unwrap();
    let bytes = chunks.concat();
    let mut rest = &bytes[19..];
    let mut tuples = Vec::new();
    loop {
        let fields = i16::from_be_bytes([rest[0], rest[1]]);
        if fields < 0 {
            assert_eq!(rest.len(), 2, "the trailer is the end");
            return tuples;
        }
        let mut at = 2;
        for _ in 0..fields {
            let length = i32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
            at += 4 + usize::try_from(length).unwrap_or(0);
        }
        tuples.push(rest[..at].to_vec());
        rest = &rest[at..];
    }
}

/// The plan of the statement that reads a slice, with the slice's settings.
pub async fn explained(client: &Client, judged: &Judged, slice: usize) -> String {
    let bounds = &judged.planned.slices[slice].bounds;
    let statement = sql::copy_statement(&judged.described, &judged.planned.split, bounds).unwrap();
    let select = statement.strip_prefix("COPY (").unwrap().strip_suffix(") TO STDOUT (FORMAT binary)").unwrap();
    client.batch_execute(&format!("BEGIN; {}", sql::slice_settings(&judged.planned.split))).await.unwrap();
    let rows = client.query(&format!("EXPLAIN (COSTS OFF) {select}"), &[]).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}
