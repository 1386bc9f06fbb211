//! What it costs to receive and to decode a table over one connection, in wall time and in CPU time of this process.
//!
//! `RIVET_BENCH_PG_URL=postgres://postgres@127.0.0.1/bench cargo bench --profile perf --bench read -- lineitem`
//!
//! Beside it the CPU time that the server's backend takes to make the same stream and throw it away, where the server is on this
//! machine and lets the user write files. The floor in wall time is the server with a connection:
//! `psql -c '\copy lineitem to /dev/null (format binary)'`.

use rivet::config::model::{Selection, TypePolicies};
use rivet::config::{Host, SourceConfig, Tls};
use rivet::source::postgres::sql::ident;
use rivet::source::postgres::{DecodeColumn, Decoder, Session, SessionSettings, catalog};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The engine cuts batches at about this size.
const BATCH_BYTES: usize = 2 << 20;

fn main() {
    let tables: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let url = std::env::var("RIVET_BENCH_PG_URL").expect("RIVET_BENCH_PG_URL names the server");
    for table in if tables.is_empty() { vec!["lineitem".to_owned()] } else { tables } {
        for (mode, decoding) in [("receive", false), ("receive and decode", true)] {
            let (wall, cpu, thread) = (Instant::now(), cpu_seconds("self"), thread_seconds());
            let (rows, bytes) = read(&url, &table, decoding);
            let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds("self") - cpu);
            let thread = thread_seconds() - thread;
            let what = format!("{rows} rows, {} MB, {wall:.2} s wall", bytes >> 20);
            println!("{table}: {mode}: {what}, {cpu:.2} s CPU, {thread:.2} s of it in this thread");
        }
        if let Some(cpu) = serve(&url, &table) {
            println!("{table}: the server, into nothing: {cpu:.2} s CPU of its backend");
        }
    }
}

fn connect(url: &str) -> (tokio::runtime::Runtime, Session) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let none = Duration::ZERO;
    let settings =
        SessionSettings { statement_timeout: none, lock_timeout: none, stall_timeout: Duration::from_secs(60) };
    let session = runtime.block_on(Session::connect(&source(url), &settings)).expect("a session");
    (runtime, session)
}

/// CPU seconds of a backend that copies the table into nothing; `None` where that cannot be seen from here.
fn serve(url: &str, table: &str) -> Option<f64> {
    let (runtime, session) = connect(url);
    let pid: i32 = runtime.block_on(session.client().query_one("SELECT pg_backend_pid()", &[])).ok()?.get(0);
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if command.trim() != "postgres" {
        return None;
    }
    let before = cpu_seconds(&pid.to_string());
    let copy = format!("COPY {table} TO '/dev/null' (FORMAT binary)");
    runtime.block_on(session.client().batch_execute(&copy)).ok()?;
    Some(cpu_seconds(&pid.to_string()) - before)
}

fn read(url: &str, table: &str, decoding: bool) -> (u64, u64) {
    let (runtime, session) = connect(url);
    let columns = runtime.block_on(columns(&session, table));
    let list: Vec<_> = columns.iter().map(|column| column.mapping.select.sql(&ident(&column.name))).collect();
    let sql = format!("COPY (SELECT {} FROM {table}) TO STDOUT (FORMAT binary)", list.join(", "));
    let mut decoder = Decoder::new(&columns, 256 << 20).expect("a decoder");
    let mut stream = session.copy_out(&sql);
    let mut chunks = 0;
    while let Some(chunk) = stream.next_chunk().expect("a chunk") {
        chunks += 1;
        if decoding {
            decoder.push_messages(chunk.messages()).expect("rows");
            if decoder.buffered_bytes() > BATCH_BYTES {
                decoder.take_batch().expect("a batch");
            }
        }
    }
    let bytes = stream.bytes();
    eprintln!("{chunks} chunks of {} bytes", bytes / chunks.max(1));
    if decoding { (stream.finish(&decoder).expect("a whole stream"), bytes) } else { (0, bytes) }
}

async fn columns(session: &Session, table: &str) -> Vec<DecodeColumn> {
    let selection = Selection::Table { schema: None, name: table.to_owned() };
    let described = catalog::describe(session.client(), &selection, &BTreeMap::new(), TypePolicies::default()).await;
    let columns = described.expect("the table's columns").columns.into_iter();
    columns.map(|source| DecodeColumn::new(source.column.name, source.column.nullable, source.mapping)).collect()
}

fn source(url: &str) -> SourceConfig {
    let config: tokio_postgres::Config = url.parse().expect("a PostgreSQL URL");
    let host = match config.get_hosts().first().expect("a host") {
        tokio_postgres::config::Host::Tcp(name) => Host::Tcp(name.clone()),
        tokio_postgres::config::Host::Unix(path) => Host::Unix(path.clone()),
    };
    SourceConfig {
        host,
        port: config.get_ports().first().copied().unwrap_or(5432),
        user: config.get_user().unwrap_or("postgres").to_owned(),
        password: None,
        database: config.get_dbname().unwrap_or("postgres").to_owned(),
        tls: Tls::default(),
    }
}

/// User and system time of a process, from the kernel's hundredths of a second.
fn cpu_seconds(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields after the name").split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number of ticks");
    (ticks(11) + ticks(12)) / 100.0
}

/// Time of this thread on a processor: it takes chunks and decodes them, another one receives.
fn thread_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
    stat.split(' ').next().and_then(|time| time.parse::<f64>().ok()).expect("nanoseconds") / 1e9
}
