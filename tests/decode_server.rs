//! Sessions, COPY streams and decoders against a real server, which is also the oracle of every value.

mod decode_values;
mod support;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int32Type;
use decode_values::{MADE_TYPES, TYPES, oracle, shown};
use rivet::config::model::{Selection, TypePolicies};
use rivet::config::{Host, Secret, SourceConfig, Tls};
use rivet::run::schema::ColumnType;
use rivet::source::postgres::catalog::{self, Described};
use rivet::source::postgres::sql::ident;
use rivet::source::postgres::{DecodeColumn, Decoder, Session, SessionSettings};
use rivet::{Error, ErrorKind};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::database::Database;

fn source(url: &str) -> SourceConfig {
    let config: tokio_postgres::Config = url.parse().expect("a PostgreSQL URL");
    let host = match config.get_hosts().first().expect("a host") {
        tokio_postgres::config::Host::Tcp(name) => Host::Tcp(name.clone()),
        tokio_postgres::config::Host::Unix(path) => Host::Unix(path.clone()),
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    SourceConfig {
        host,
        port: config.get_ports().first().copied().unwrap_or(5432),
        user: config.get_user().unwrap_or("postgres").to_owned(),
        password: config.get_password().map(|password| Secret::new(text(password))),
        database: config.get_dbname().unwrap_or("postgres").to_owned(),
        tls: Tls::default(),
    }
}

const PATIENT: SessionSettings = SessionSettings {
    statement_timeout: Duration::ZERO,
    lock_timeout: Duration::ZERO,
    stall_timeout: Duration::from_secs(60),
};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn connect(database: &Database, settings: &SessionSettings) -> Session {
    block_on(Session::connect(&source(&database.url()), settings)).expect("a session")
}

/// The first value of a statement's first row.
fn ask(session: &Session, sql: &str) -> String {
    let answers = block_on(session.client().simple_query(sql)).expect("an answer");
    let value = answers.iter().find_map(|answer| match answer {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    value.expect("a value")
}

/// The columns of a table, and the COPY that reads them.
fn columns(database: &Database, table: &str, wanted: Option<&ColumnType>) -> (Vec<DecodeColumn>, String) {
    let described = block_on(async {
        let session = Session::connect(&source(&database.url()), &PATIENT).await.expect("a session");
        let selection = Selection::Table { schema: None, name: table.to_owned() };
        let describe = |wanted| describe_with(&session, &selection, wanted);
        let plain = describe(BTreeMap::new()).await;
        match wanted {
            None => plain,
            Some(wanted) => {
                let names = plain.columns.iter().map(|source| source.column.name.clone());
                describe(names.map(|name| (name, wanted.clone())).collect()).await
            }
        }
    });
    let selects = described.columns.iter().map(|source| source.mapping.select.sql(&ident(&source.column.name)));
    let selects: Vec<String> = selects.collect();
    let columns = described
        .columns
        .into_iter()
        .map(|source| DecodeColumn::new(source.column.name, source.column.nullable, source.mapping));
    let sql = format!("COPY (SELECT {} FROM {table} ORDER BY ctid) TO STDOUT (FORMAT binary)", selects.join(", "));
    (columns.collect(), sql)
}

async fn describe_with(session: &Session, selection: &Selection, wanted: BTreeMap<String, ColumnType>) -> Described {
    catalog::describe(session.client(), selection, &wanted, TypePolicies::default()).await.expect("a description")
}

/// Reads a whole table in one batch.
fn read(session: &Session, columns: &[DecodeColumn], sql: &str) -> rivet::Result<arrow::array::RecordBatch> {
    let mut decoder = Decoder::new(columns, 256 << 20)?;
    let mut stream = session.copy_out(sql);
    while let Some(chunk) = stream.next_chunk()? {
        decoder.push_messages(chunk.messages())?;
    }
    stream.finish(&decoder)?;
    decoder.take_batch()
}

/// Reads a statement to its end or its error; its rows are not decoded.
fn drain(session: &Session, sql: &str) -> rivet::Result<()> {
    let mut stream = session.copy_out(sql);
    while stream.next_chunk()?.is_some() {}
    Ok(())
}

#[test]
fn every_type_arrives_as_the_server_itself_prints_it() {
    let database = Database::create("every_type");
    database.execute(&MADE_TYPES.replace("mood_text", "text"));
    let session = connect(&database, &PATIENT);
    for (index, (name, delivered, values)) in TYPES.iter().enumerate() {
        let table = format!("t{index}");
        database.execute(&format!("CREATE TABLE {table} (n int NOT NULL, v {name})"));
        let rows: Vec<_> = values
            .iter()
            .chain(&["NULL"])
            .enumerate()
            .map(|(n, v)| format!("INSERT INTO {table} SELECT {n}, ({v})::{name};"))
            .collect();
        database.execute(&rows.concat());
        let (columns, sql) = columns(&database, &table, None);
        let column_type = &columns[1].mapping.column_type;
        assert_eq!(column_type.to_string(), *delivered, "{name}");
        let batch = read(&session, &columns, &sql).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(batch.num_rows(), values.len() + 1, "{name}");
        let expression = oracle("v", &columns_name(&database, &table), column_type);
        for row in 0..values.len() {
            let expected = block_on(async {
                let sql = format!("SELECT {expression} FROM {table} WHERE n = {row}");
                let answers = session.client().simple_query(&sql).await.expect("the server's own text");
                answers.into_iter().find_map(|answer| match answer {
                    tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                })
            });
            let got = batch.column(1).is_valid(row).then(|| shown(batch.column(1), row));
            assert!(got == expected, "{name}, {}: {got:.200?} instead of {expected:.200?}", values[row]);
        }
        assert!(batch.column(1).is_null(values.len()), "{name}: NULL stays NULL");
    }
}

fn columns_name(database: &Database, table: &str) -> String {
    database.value(&format!(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname = 'v'"
    ))
}

#[test]
fn every_type_can_be_delivered_as_text() {
    let database = Database::create("as_text");
    database.execute(&MADE_TYPES.replace("mood_text", "text"));
    let session = connect(&database, &PATIENT);
    for (index, (name, _, values)) in TYPES.iter().enumerate() {
        let table = format!("t{index}");
        database.execute(&format!("CREATE TABLE {table} AS SELECT ({})::{name} AS v", values[0]));
        let (columns, sql) = columns(&database, &table, Some(&ColumnType::Text));
        let batch = read(&session, &columns, &sql).unwrap_or_else(|error| panic!("{name}: {error}"));
        // The padding of char(n) is part of the value, but not of its cast.
        let expression = if name.starts_with("char(") { "concat(v)" } else { "v::text" };
        let expected = ask(&session, &format!("SELECT {expression} FROM {table}"));
        assert_eq!(batch.column(0).as_string::<i32>().value(0), expected, "{name}");
    }
}

#[test]
fn an_array_of_several_dimensions_is_refused_as_a_list_and_delivered_as_text() {
    let database = Database::create("matrix");
    database.execute("CREATE TABLE t AS SELECT '{{1,2},{3,4}}'::int[] AS grid");
    let session = connect(&database, &PATIENT);
    let (columns_as_list, sql) = columns(&database, "t", None);
    let error = read(&session, &columns_as_list, &sql).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceValue);
    assert!(error.what().contains("grid") && error.hint().contains("grid: text"), "{error} {}", error.hint());
    block_on(session.quiet());
    let (columns_as_text, sql) = columns(&database, "t", Some(&ColumnType::Text));
    let batch = read(&session, &columns_as_text, &sql).unwrap();
    assert_eq!(batch.column(0).as_string::<i32>().value(0), "{{1,2},{3,4}}");
}

#[test]
fn the_session_is_pinned_and_known() {
    let database = Database::create("pinned");
    database.execute(&format!(
        "ALTER DATABASE {} SET timezone = 'Asia/Tokyo'; ALTER DATABASE {0} SET datestyle = 'German'; \
         ALTER DATABASE {0} SET bytea_output = 'escape'; ALTER DATABASE {0} SET extra_float_digits = -5",
        database.name
    ));
    let settings = SessionSettings {
        statement_timeout: Duration::from_millis(7500),
        lock_timeout: Duration::from_secs(3),
        ..PATIENT
    };
    let session = connect(&database, &settings);
    for (name, value) in [
        ("application_name", "rivet"),
        ("default_transaction_read_only", "on"),
        ("TimeZone", "UTC"),
        ("DateStyle", "ISO, YMD"),
        ("extra_float_digits", "3"),
        ("bytea_output", "hex"),
        ("client_encoding", "UTF8"),
        ("statement_timeout", "7500ms"),
        ("lock_timeout", "3s"),
        ("idle_in_transaction_session_timeout", "0"),
        ("jit", "off"),
        ("max_parallel_workers_per_gather", "0"),
    ] {
        assert_eq!(ask(&session, &format!("SHOW {name}")), value, "{name}");
    }
    assert_eq!(ask(&session, "SELECT pg_backend_pid()"), session.backend_pid().to_string());
    assert_eq!(ask(&session, "SHOW server_version_num"), session.server_version().to_string());
    let refused = block_on(session.client().simple_query("CREATE TABLE t ()")).unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006");
}

/// Long enough that it never ends by itself. A series in the select list is sent as it is made, one in FROM only when whole.
const ENDLESS: &str = "COPY (SELECT generate_series(1, 100000000000), repeat('x', 100)) TO STDOUT (FORMAT binary)";

#[test]
fn an_error_of_the_server_in_the_middle_of_the_rows_is_classified_and_the_session_lives_on() {
    let database = Database::create("midway");
    let session = connect(&database, &PATIENT);
    let sql = "COPY (SELECT 1 / (x - 500000) FROM (SELECT generate_series(1, 1000000) x) s) TO STDOUT (FORMAT binary)";
    let mut stream = session.copy_out(sql);
    let mut bytes = 0;
    let error = loop {
        match stream.next_chunk() {
            Ok(Some(chunk)) => bytes += chunk.messages().len(),
            Ok(None) => panic!("the division by zero was not noticed"),
            Err(error) => break error,
        }
    };
    assert!(bytes > 1_000_000, "rows came before the error");
    assert_eq!(error.kind(), ErrorKind::SourceQuery);
    assert!(error.what().contains("division by zero") && error.what().contains("22012"), "{error}");
    assert_eq!(stream.next_chunk().unwrap_err().kind(), ErrorKind::SourceQuery, "it stays an error");
    drop(stream);
    assert_eq!(ask(&session, "SELECT 1"), "1");
}

#[test]
fn what_the_server_refuses_is_told_apart() {
    let database = Database::create("refusals");
    database.execute("CREATE TABLE secret (a int); CREATE ROLE nobody_special LOGIN");
    let session = connect(&database, &PATIENT);
    let kind = |sql: &str| drain(&session, sql).unwrap_err().kind();
    assert_eq!(kind("COPY (SELECT * FROM missing) TO STDOUT (FORMAT binary)"), ErrorKind::SourceMissing);
    assert_eq!(kind("COPY (SELECT b FROM secret) TO STDOUT (FORMAT binary)"), ErrorKind::SourceMissing);
    assert_eq!(kind("COPY (SELECT FROM FROM) TO STDOUT (FORMAT binary)"), ErrorKind::SourceQuery);
    assert_eq!(kind("SELECT 1"), ErrorKind::SourceProtocol);

    let other = SourceConfig { user: "nobody_special".into(), ..source(&database.url()) };
    let other = block_on(Session::connect(&other, &PATIENT)).unwrap();
    let denied = drain(&other, "COPY (SELECT * FROM secret) TO STDOUT (FORMAT binary)").unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::SourceDenied);
    drop(other);
    database.execute("DROP ROLE nobody_special");

    let snapshot = block_on(async {
        session.client().batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
        session.client().batch_execute("SET TRANSACTION SNAPSHOT '00000003-00000BAD-1'").await.unwrap_err()
    });
    assert_eq!(rivet::source::postgres::fault::from_driver(snapshot).kind(), ErrorKind::SourceSnapshotLost);
}

#[test]
fn connecting_fails_in_words_that_help() {
    let database = Database::create("connecting");
    let good = source(&database.url());
    let fails = |source: SourceConfig| -> Error {
        block_on(Session::connect(&source, &PATIENT)).err().expect("this cannot be connected to")
    };
    let missing = fails(SourceConfig { database: "no such database".into(), ..good.clone() });
    assert_eq!(missing.kind(), ErrorKind::SourceMissing, "{missing}");
    let unknown = fails(SourceConfig { user: "no such role".into(), ..good.clone() });
    assert_eq!(unknown.kind(), ErrorKind::SourceAuth, "{unknown}");
    let nobody = fails(SourceConfig {
        host: Host::Tcp("127.0.0.1".into()),
        port: support::cluster::free_port(),
        ..good.clone()
    });
    assert_eq!(nobody.kind(), ErrorKind::SourceUnreachable, "{nobody}");
    let socket = fails(SourceConfig { host: Host::Unix("/nowhere".into()), ..good.clone() });
    assert_eq!(socket.kind(), ErrorKind::SourceUnreachable, "{socket}");
    assert!(socket.what().contains("/nowhere"), "{socket}");
    let tls = Tls { mode: rivet::config::TlsMode::Require, ..Tls::default() };
    let plain = fails(SourceConfig { host: Host::Tcp("127.0.0.1".into()), tls, ..good });
    assert_eq!(plain.kind(), ErrorKind::SourceTls, "{plain}");
}

/// Terminates the backend of a running statement and returns what the stream says then.
fn terminated(database: &Database, session: &Session, sql: &str) -> Error {
    let mut stream = session.copy_out(sql);
    stream.next_chunk().unwrap().expect("rows");
    database.execute(&format!("SELECT pg_terminate_backend({})", session.backend_pid()));
    loop {
        match stream.next_chunk() {
            Ok(chunk) => assert!(chunk.is_some(), "a terminated statement does not end well"),
            Err(error) => return error,
        }
    }
}

#[test]
fn a_terminated_backend_is_a_lost_connection() {
    let database = Database::create("terminated");
    let session = connect(&database, &PATIENT);
    let error = terminated(&database, &session, ENDLESS);
    assert_eq!(error.kind(), ErrorKind::SourceLost, "{error}");
    assert_eq!(drain(&session, "COPY (SELECT 1) TO STDOUT (FORMAT binary)").unwrap_err().kind(), ErrorKind::SourceLost);
    assert!(session.is_lost());

    // A backend that is not stuck in sending has time for some last words.
    let session = connect(&database, &PATIENT);
    let sql = "COPY (SELECT repeat('x', 500000), pg_sleep(CASE g WHEN 2 THEN 3600 ELSE 0 END)::text \
               FROM (SELECT generate_series(1, 2) g OFFSET 0) s) TO STDOUT (FORMAT binary)";
    let error = terminated(&database, &session, sql);
    assert_eq!(error.kind(), ErrorKind::SourceLost, "{error}");
    assert!(error.what().contains("57P01"), "the server's own words are kept: {error}");
}

#[test]
fn a_statement_timeout_and_a_cancellation_are_different_things() {
    let database = Database::create("timeout");
    let settings = SessionSettings { statement_timeout: Duration::from_millis(300), ..PATIENT };
    assert_eq!(drain(&connect(&database, &settings), ENDLESS).unwrap_err().kind(), ErrorKind::SourceTimeout);

    let session = connect(&database, &PATIENT);
    let mut stream = session.copy_out(ENDLESS);
    stream.next_chunk().unwrap().expect("rows");
    block_on(session.cancel()).unwrap();
    let error = loop {
        if let Err(error) = stream.next_chunk() {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::SourceConflict, "{error}");
}

#[test]
fn a_lock_that_is_not_granted_in_time_is_named() {
    let database = Database::create("locked");
    database.execute("CREATE TABLE t (a int)");
    let mut holder = database.session();
    holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
    let settings = SessionSettings { lock_timeout: Duration::from_millis(200), ..PATIENT };
    let session = connect(&database, &settings);
    let error = drain(&session, "COPY (SELECT a FROM t) TO STDOUT (FORMAT binary)").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceLocked, "{error}");
}

#[test]
fn a_server_that_falls_silent_is_a_stall() {
    let database = Database::create("stall");
    let settings = SessionSettings { stall_timeout: Duration::from_millis(300), ..PATIENT };
    let session = connect(&database, &settings);
    let started = Instant::now();
    let error = drain(&session, "COPY (SELECT pg_sleep(3600)) TO STDOUT (FORMAT binary)").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceStalled, "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
    // The sleeping statement was cancelled when its stream was dropped.
    assert_eq!(ask(&session, "SELECT 1"), "1");
}

#[test]
fn a_trickle_is_not_a_stall_and_shows_its_rows() {
    let database = Database::create("trickle");
    let settings = SessionSettings { stall_timeout: Duration::from_millis(900), ..PATIENT };
    let session = connect(&database, &settings);
    // The server sends when its buffer of 8 KiB is full: once in 300 ms, for longer than a stall takes.
    let sql =
        "COPY (SELECT repeat('x', 9000), pg_sleep(0.3)::text FROM generate_series(1, 6)) TO STDOUT (FORMAT binary)";
    let mut stream = session.copy_out(sql);
    let mut chunks = 0;
    while stream.next_chunk().unwrap().is_some() {
        chunks += 1;
    }
    assert!(chunks > 1, "rows were handed over before the end");
}

#[test]
fn a_stream_that_is_dropped_early_cancels_its_statement_and_frees_the_session() {
    let database = Database::create("dropped");
    let session = connect(&database, &PATIENT);
    for _ in 0..3 {
        let mut stream = session.copy_out(ENDLESS);
        stream.next_chunk().unwrap().expect("rows");
        let dropped = Instant::now();
        drop(stream);
        assert!(dropped.elapsed() < Duration::from_millis(500), "dropping does not wait");
        block_on(session.quiet());
        assert_eq!(ask(&session, "SELECT 7"), "7");
        assert!(dropped.elapsed() < Duration::from_secs(10));
    }
    // Never read at all, and right behind each other.
    drop(session.copy_out(ENDLESS));
    drop(session.copy_out(ENDLESS));
    let batch = read(&session, &[], "COPY (SELECT FROM generate_series(1, 10)) TO STDOUT (FORMAT binary)").unwrap();
    assert_eq!(batch.num_rows(), 10);
}

#[test]
fn a_session_that_is_dropped_leaves_no_backend_behind() {
    let database = Database::create("left");
    let idle = connect(&database, &PATIENT);
    let busy = connect(&database, &PATIENT);
    let pids = format!("{}, {}", idle.backend_pid(), busy.backend_pid());
    let mut stream = busy.copy_out(ENDLESS);
    stream.next_chunk().unwrap().expect("rows");
    drop((idle, busy));
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(20);
    while database.value(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid IN ({pids})")) != "0" {
        assert!(Instant::now() < deadline, "a backend is still there");
    }
}

#[test]
fn a_stream_outlives_its_session_only_to_say_so() {
    let database = Database::create("outlived");
    let session = connect(&database, &PATIENT);
    let mut stream = session.copy_out(ENDLESS);
    stream.next_chunk().unwrap().expect("rows");
    drop(session);
    let error = loop {
        if let Err(error) = stream.next_chunk() {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::SourceLost, "{error}");
}

#[test]
fn a_reader_that_pauses_slows_the_server_down_instead_of_filling_the_memory() {
    let database = Database::create("paused");
    let session = connect(&database, &PATIENT);
    let mut stream = session.copy_out(ENDLESS);
    stream.next_chunk().unwrap().expect("rows");
    // Once all buffers between here and there are full, the server waits for the client to read.
    let sql = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {}", session.backend_pid());
    let deadline = Instant::now() + Duration::from_secs(30);
    while database.value(&sql) != "ClientWrite" {
        assert!(Instant::now() < deadline, "the server does not wait for its slow reader");
    }
    assert!(stream.next_chunk().unwrap().is_some(), "and goes on when it reads again");
}

#[test]
fn rows_are_counted_by_both_sides() {
    let database = Database::create("counted");
    database.execute("CREATE TABLE t AS SELECT g AS a, repeat('é', g % 100) AS b FROM generate_series(1, 100000) g");
    let session = connect(&database, &PATIENT);
    let (columns, sql) = columns(&database, "t", None);
    let batch = read(&session, &columns, &sql).unwrap();
    assert_eq!(batch.num_rows(), 100_000);
    let sum: i64 = batch.column(0).as_primitive::<Int32Type>().values().iter().map(|v| i64::from(*v)).sum();
    assert_eq!(sum.to_string(), ask(&session, "SELECT sum(a) FROM t"));
    assert_eq!(
        batch.column(1).as_string::<i32>().value_data().len().to_string(),
        ask(&session, "SELECT sum(octet_length(b)) FROM t")
    );

    // A decoder that has not seen the rows does not let the stream pass for complete.
    let mut stream = session.copy_out(&sql);
    let mut decoder = Decoder::new(&columns, 1 << 20).unwrap();
    while let Some(chunk) = stream.next_chunk().unwrap() {
        drop(chunk);
    }
    assert_eq!(stream.finish(&decoder).unwrap_err().kind(), ErrorKind::SourceProtocol);
    let mut stream = session.copy_out("COPY (SELECT a, b FROM t LIMIT 0) TO STDOUT (FORMAT binary)");
    while let Some(chunk) = stream.next_chunk().unwrap() {
        decoder.push_messages(chunk.messages()).unwrap();
    }
    stream.finish(&decoder).unwrap();
}

#[test]
fn an_empty_result_and_one_very_long_row_both_arrive() {
    let database = Database::create("extremes");
    database.execute("CREATE TABLE t AS SELECT repeat('abcdefgh', 4000000) AS v; CREATE TABLE e (v text)");
    let session = connect(&database, &PATIENT);
    let (long, sql) = columns(&database, "t", None);
    let batch = read(&session, &long, &sql).unwrap();
    assert_eq!(batch.column(0).as_string::<i32>().value(0).len(), 32_000_000);
    let (none, sql) = columns(&database, "e", None);
    assert_eq!(read(&session, &none, &sql).unwrap().num_rows(), 0);
}
