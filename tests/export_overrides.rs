//! `columns:` with another type: the values stay what they are, or the run says which one does not fit, without repeating it.

mod support;

use support::database::Database;
use support::oracle;
use support::rivet::{Finished, Scratch, export, run_id};

/// An export of `t` with these overrides.
fn scratch(database: &Database, columns: &str) -> Scratch {
    Scratch::with(database, &[export("values", &format!("table: t\ncolumns: {{ {columns} }}"))])
}

/// Exports `t` and compares with `query`, the server's view of what has to be in the files.
#[track_caller]
fn assert_delivered(database: &Database, columns: &str, query: &str) {
    let scratch = scratch(database, columns);
    let summary = scratch.run_ok(&[]);
    oracle::assert_same_rows(database, query, &scratch.run_dir(&run_id(&summary)));
}

/// What the run's journal says, as far as it can be told.
fn journaled(scratch: &Scratch) -> String {
    let journal = scratch.journal_dir("values").display().to_string();
    scratch.rivet(&["replay", "--journal", &journal, "--events", "--json"]).expect_exit(0).stdout
}

/// The run ends over a value that does not fit; `value` is neither printed nor journaled.
#[track_caller]
fn refused(database: &Database, columns: &str, value: &str) -> Finished {
    let scratch = scratch(database, columns);
    let finished = scratch.rivet(&["run"]).expect_error(1, "RIVET_SOURCE_VALUE").expect_nowhere(value);
    assert!(!journaled(&scratch).contains(value), "the journal holds {value}");
    finished
}

#[test]
fn numbers_are_the_same_numbers_in_other_widths() {
    let database = Database::create("override_numbers");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b bigint, c smallint, d smallint, e int, f real, g oid, h xid, i bigint,
                         n numeric, w numeric(30,5), m numeric, s numeric, y money, o oid, k bool);
         INSERT INTO t VALUES
           (1, 2147483647, 32767, -1, 32767, 2147483647, 0.1, 4294967295, '7', 9223372036854775807, 12.50, 9223372036854775807,
            -2147483648.000, 32767.0, '-12.34', 2147483647, true),
           (2, -2147483648, -32768, 7, -32768, -2147483648, 'NaN', 0, '0', 0, -0.01, -9223372036854775808, 0, -32768, '1000', 0, false),
           (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    );
    assert_delivered(
        &database,
        "a: int8, b: int2, c: int4, d: float4, e: float8, f: float8, g: int8, h: 'decimal(10,0)', i: 'decimal(19,0)', \
         n: 'decimal(20,4)', w: int8, m: int4, s: int2, y: 'decimal(12,2)', o: int4, k: text",
        "SELECT id, a, b, c, d::float4, e::float8, f::float8, g, h, i, n::numeric(20,4), w::int8, m::int4, s::int2, \
         y::numeric, o, k::text FROM t",
    );
}

#[test]
fn text_is_read_by_the_servers_own_parsers() {
    let database = Database::create("override_text");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, b text, i varchar(20), l text, f text, d char(40), dt text, ts text, tz text, u text,
                         j text, x text, y char(4));
         INSERT INTO t VALUES
           (1, 'yes', ' 42 ', '-9223372036854775808', '0.1', '12.500', '2026-02-28', '2026-02-28 12:34:56.789', '2026-02-28 12:00+02',
            'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{\"a\":  1}', 'é', 'é'),
           (2, 'f', '-7', '0', 'NaN', '-0.001', '0001-01-01', '1969-12-31 23:59:59.999999', '1970-01-01 00:00Z',
            '{00000000-0000-0000-0000-000000000000}', 'null', '', '1234'),
           (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    );
    assert_delivered(
        &database,
        "b: bool, i: int4, l: int8, f: float8, d: 'decimal(10,3)', dt: date, ts: timestamp, tz: timestamp_tz, u: uuid, j: json, \
         x: binary, y: binary",
        "SELECT id, b::bool, i::int4, l::int8, f::float8, d::numeric(10,3) AS d, dt::date, ts::timestamp, tz::timestamptz, \
         u::uuid, j::json, convert_to(x, 'UTF8') AS x, convert_to(rpad(y, 4), 'UTF8') AS y FROM t",
    );
}

#[test]
fn times_documents_and_everything_else_keep_what_they_say() {
    let database = Database::create("override_rest");
    database.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE TABLE t (id int PRIMARY KEY, d date, e date, ts timestamp, tz timestamptz, iv interval, u uuid, v uuid, j json, k jsonb,
                         l jsonb, m mood, n inet, a int[], dt date, tt time, nn numeric(10,2), bb bytea);
         INSERT INTO t VALUES
           (1, '2026-02-28', '1969-12-31', '2026-02-28 12:34:56.789012', '2026-02-28 12:00+02', '1 year -2 days 03:04:05.6',
            'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"a\":  1}', '{\"b\": [1, 2]}',
            '{\"b\": \"é\"}', 'sad', '10.0.0.1/8', '{1,NULL,3}', '0044-03-15 BC', '24:00:00', 1.50, '\\x00ff'),
           (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    );
    assert_delivered(
        &database,
        "d: timestamp, e: timestamp_tz, ts: timestamp_tz, tz: timestamp, iv: text, u: binary, v: text, j: text, k: text, l: binary, \
         m: text, n: text, a: text, dt: text, tt: text, nn: text, bb: text",
        "SELECT id, d::timestamp, e::timestamptz, ts AT TIME ZONE 'UTC' AS ts, tz AT TIME ZONE 'UTC' AS tz, iv::text, \
         decode(replace(u::text, '-', ''), 'hex') AS u, v::text, j::text, k::text, convert_to(l::text, 'UTF8') AS l, m::text, \
         n::text, a::text, dt::text, tt::text, nn::text, bb::text FROM t",
    );
}

#[test]
fn a_number_that_does_not_fit_is_named_by_column_and_key_and_shown_by_its_shape_alone() {
    let database = Database::create("override_unfit");
    database.execute(
        "CREATE TABLE t (code text, day date, owner uuid, n int, v numeric, PRIMARY KEY (code, day, owner, n));
         INSERT INTO t VALUES ('a \"b\"', '2026-02-28', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', -7, 9876501234.54)",
    );
    let key = r#"(code = "a \"b\"", day = 2026-02-28, owner = a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11, n = -7)"#;
    let shape = "holds a number with 10 digits before the point and 2 after it";
    for wanted in ["'decimal(5,2)'", "'decimal(12,1)'", "int8"] {
        let finished = refused(&database, &format!("v: {wanted}"), "9876501234").expect_in_stderr(key);
        drop(finished.expect_in_stderr("column \"v\"").expect_in_stderr(shape).expect_in_stderr("columns: {v: text}"));
    }
    database.execute("UPDATE t SET v = 9876501234");
    let finished = refused(&database, "v: int2", "9876501234").expect_in_stderr("a number of 10 digits");
    drop(finished.expect_in_stderr(key).expect_in_stderr("which a column of type int2 cannot"));
}

#[test]
fn a_table_without_a_key_names_the_row_by_its_place_and_a_long_text_in_a_key_by_its_length() {
    let database = Database::create("override_no_key");
    database.execute("CREATE TABLE t (id int, v numeric); INSERT INTO t VALUES (1, 1), (2, 1.5)");
    drop(refused(&database, "v: int4", "1.5").expect_in_stderr("row 2 of the stream holds"));
    database.execute(
        "DROP TABLE t; CREATE TABLE t (id text PRIMARY KEY, v numeric); INSERT INTO t VALUES (repeat('secret', 20), 1.5)",
    );
    drop(refused(&database, "v: int4", "secret").expect_in_stderr("(id = text of 120 characters)"));
}

/// In a database without an encoding the server finds out, and shows the bytes.
#[test]
fn text_that_is_not_utf8_is_not_shown() {
    let database = Database::create("override_not_utf8");
    let name = format!("{}_ascii", database.name);
    database.execute(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"));
    // Dropped with what is in it, as the other one.
    let other = Database { server: database.server.clone(), name };
    other.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'fine'), (77, E'caf\\xe9')");
    let finished = scratch(&other, "id: int8").rivet(&["run"]).expect_exit(1).expect_nowhere("0xe9");
    let finished = finished.expect_in_stderr("invalid byte sequence for encoding \"UTF8\" (SQLSTATE 22021)");
    drop(finished.expect_in_stderr("columns: {NAME: binary}"));
    let delivered = |columns: &str, query: &str| {
        let scratch = scratch(&other, columns);
        let summary = scratch.run_ok(&[]);
        oracle::assert_same_rows(&other, query, &scratch.run_dir(&run_id(&summary)));
    };
    delivered("v: binary", "SELECT id, convert_to(v, 'SQL_ASCII') AS v FROM t");
    // Where it is a part of something else, as text it would be refused as well.
    other.execute(
        "CREATE TYPE pair AS (a int, b text); CREATE DOMAIN words AS text[];
         CREATE TABLE parts (id int PRIMARY KEY, a text[], w words, c pair, l pair[], h text);
         INSERT INTO parts SELECT id, ARRAY[v, 'x,y', NULL], ARRAY[v], ROW(1, v)::pair, ARRAY[ROW(2, v)::pair], 'fine' FROM t",
    );
    let columns = ["a", "w", "c", "l"];
    let of = |wanted: &str| columns.map(|name| format!("{name}: {wanted}")).join(", ");
    let lines = |columns: &str| format!("table: parts\ncolumns: {{ {columns} }}");
    for wanted in ["id: int8".to_owned(), of("text")] {
        let scratch = Scratch::with(&other, &[export("values", &lines(&wanted))]);
        let refused = scratch.rivet(&["run"]).expect_error(1, "RIVET_SOURCE_VALUE");
        drop(refused.expect_in_stderr("columns: {NAME: binary}"));
    }
    let scratch = Scratch::with(&other, &[export("values", &lines(&of("binary")))]);
    let summary = scratch.run_ok(&[]);
    let bytes = columns.map(|name| format!("convert_to({name}::text, 'SQL_ASCII') AS {name}")).join(", ");
    let query = format!("SELECT id, {bytes}, h FROM parts");
    oracle::assert_same_rows(&other, &query, &scratch.run_dir(&run_id(&summary)));
}

/// In every database, of every type.
#[test]
fn binary_is_the_bytes_of_what_the_server_prints() {
    let database = Database::create("override_bytes");
    database.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'é');
         CREATE TABLE t (id int PRIMARY KEY, i int, n numeric(8,3), a text[], r int4range, m mood, d date, p point, iv interval);
         INSERT INTO t VALUES (1, -7, 1.5, '{é,NULL,\"a b\"}', '[1,5)', 'é', 'infinity', '(1,2)', '1 day 02:03:04.5'),
                              (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    );
    let columns = ["i", "n", "a", "r", "m", "d", "p", "iv"];
    let bytes = columns.map(|name| format!("convert_to({name}::text, 'UTF8') AS {name}")).join(", ");
    let wanted = columns.map(|name| format!("{name}: binary")).join(", ");
    assert_delivered(&database, &wanted, &format!("SELECT id, {bytes} FROM t"));
}

/// Each whole number into each type that it may be delivered as, at the ends of what fits.
#[test]
fn whole_numbers_and_dates_are_the_servers_own_in_every_other_type() {
    let database = Database::create("override_widths");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, s smallint, i int, b bigint, o oid, c cid, x xid8, r real, d date);
         INSERT INTO t VALUES
           (1, 32767, 32767, 32767, 32767, '32767', '32767', 0.1, '2026-02-28'),
           (2, -32768, -32768, -32768, 0, '0', '0', '-Infinity', '4714-11-24 BC'),
           (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
           (4, 0, 7, -7, 1, '1', '1', '1e-40', '294247-01-10')",
    );
    let all = |wanted: &str| ["s", "i", "b", "o", "c", "x"].map(|name| format!("{name}: {wanted}")).join(", ");
    // An oid, a cid and an xid8 have no cast to smallint but by way of their text.
    let cast = |to: &str| ["s", "i", "b", "o", "c", "x"].map(|name| format!("{name}::text::{to} AS {name}")).join(", ");
    for (wanted, to) in [
        ("int2", "int2"),
        ("int4", "int4"),
        ("int8", "int8"),
        ("'decimal(5,0)'", "numeric(5,0)"),
        ("'decimal(38,33)'", "numeric(38,33)"),
        ("'decimal(76,71)'", "numeric(76,71)"),
    ] {
        let query = format!("SELECT id, {}, r, d FROM t", cast(to));
        assert_delivered(&database, &all(wanted), &query);
    }
    assert_delivered(
        &database,
        "s: float4, i: float8, r: float8, d: timestamp",
        "SELECT id, s::float4, i::float8, b, o, c, x, r::float8, d::timestamp FROM t",
    );
    assert_delivered(
        &database,
        "s: float8, d: timestamp_tz",
        "SELECT id, s::float8, i, b, o, c, x, r, d::timestamptz FROM t",
    );
}

#[test]
fn a_number_or_date_of_another_width_that_does_not_fit_is_named_by_column_and_key() {
    let database = Database::create("override_narrow");
    database.execute(
        "CREATE TABLE t (k text PRIMARY KEY, i int, b bigint, o oid, c cid, x xid8, d date);
         INSERT INTO t VALUES ('fine', 1, 1, 1, '1', '1', '2026-01-01'),
           ('odd', 32768, -2147483649, 2147483648, '4294967295', '9223372036854775808', '294277-01-01')",
    );
    let of_digits = |digits: u32| format!("holds a number of {digits} digits");
    let cases = [
        ("i: int2", "32768", of_digits(5)),
        ("b: int4", "2147483649", of_digits(10)),
        ("o: int4", "2147483648", of_digits(10)),
        ("c: int2", "4294967295", of_digits(10)),
        ("x: int8", "9223372036854775808", of_digits(19)),
        ("b: 'decimal(10,1)'", "2147483649", of_digits(10)),
        ("x: 'decimal(40,22)'", "9223372036854775808", of_digits(19)),
        ("d: timestamp", "294277", "holds a date after the year 294276".to_owned()),
    ];
    // Two more overrides, which are nothing to do with it.
    for (column, value, said) in cases {
        let name = &column[..1];
        let finished = refused(&database, column, value).expect_in_stderr(&format!("column \"{name}\": row 2 "));
        let finished = finished.expect_in_stderr("(k = \"odd\")").expect_in_stderr(&said);
        let finished =
            finished.expect_in_stderr(&format!("which a column of type {} cannot", column[3..].trim_matches('\'')));
        drop(finished.expect_in_stderr(&format!("columns: {{{name}: text}}")));
    }
}

#[test]
fn what_the_server_cannot_read_names_the_overrides_that_it_may_be_about_and_not_the_value() {
    let database = Database::create("override_server");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a bigint, b text, c text, d text, e int, m money);
         INSERT INTO t VALUES (1, 1, '2', '2026-01-01', '3.5', 5, '1.50')",
    );
    let columns = "a: int4, b: int4, c: date, d: 'decimal(10,2)', e: int8, m: 'decimal(10,2)'";
    drop(scratch(&database, columns).run_ok(&[]));
    let cases = [
        ("b = 's3cr3t'", "s3cr3t", "column \"b\" to int4", "columns: {b: text}"),
        ("b = '99999999999'", "99999999999", "column \"b\" to int4", "columns: {b: text}"),
        ("c = 's3c\"r3t'", "r3t", "column \"c\" to date", "columns: {c: text}"),
        ("d = 's3cr3t'", "s3cr3t", "column \"d\" to decimal(10,2)", "columns: {d: text}"),
    ];
    for (change, value, said, remedy) in cases {
        database.execute(&format!("BEGIN; UPDATE t SET {change}; COMMIT"));
        let finished = refused(&database, columns, value).expect_in_stderr(said).expect_in_stderr("SQLSTATE 22");
        drop(finished.expect_in_stderr(remedy));
        database.execute("UPDATE t SET b = '2', c = '2026-01-01', d = '3.5'");
    }
    // The message of this one names no type, and its class two.
    database.execute("ALTER TABLE t ADD f text DEFAULT '2026-01-01'; UPDATE t SET c = '2026-13-45'");
    let finished = refused(&database, &format!("{columns}, f: timestamp"), "2026-13-45");
    let finished =
        finished.expect_in_stderr("one of the overrides that convert columns \"c\" to date, \"f\" to timestamp: ");
    drop(finished.expect_in_stderr("columns: {c: text, f: text}"));
    // Time zones have classes of their own.
    for zone in ["Nowhere/Town", "+99"] {
        database.execute(&format!("UPDATE t SET f = '2026-01-01 12:00 {zone}', c = '2026-01-01'"));
        let finished = refused(&database, "f: timestamp_tz, b: int4", zone);
        drop(finished.expect_in_stderr("the override that converts column \"f\" to timestamp_tz: "));
    }
}

/// A text means the same time in each run, and its parts stand in one order.
#[test]
fn a_text_is_no_time_relative_to_the_run_and_begins_with_the_year() {
    let database = Database::create("override_relative");
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text COLLATE \"C\"); INSERT INTO t VALUES (1, '')");
    for wanted in ["date", "timestamp", "timestamp_tz"] {
        for word in
            ["today", " Tomorrow ", "NOW", "yesterday 10:00", "10:00 today", "today10:00", "12/31/2026", "28.02.2026"]
        {
            database.execute(&format!("UPDATE t SET v = '{word}'"));
            let scratch = scratch(&database, &format!("v: {wanted}"));
            let refused = scratch.rivet(&["run"]).expect_error(1, "RIVET_SOURCE_VALUE");
            let said = format!("the override that converts column \"v\" to {wanted}: ");
            drop(refused.expect_in_stderr(&said).expect_in_stderr("`today`, is no time here"));
        }
    }
    database.execute(
        "DROP TABLE t; CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE t (id int PRIMARY KEY, d text COLLATE loose, ts varchar, tz char(40));
         INSERT INTO t VALUES (1, '01-02-03', '01/02/03 04:05', '01-02-03 04:05 America/New_York'),
                              (2, 'epoch', 'Epoch', '2026 Nov 24 10:00 PST'), (3, 'Nov 24, 2026', '20260224 040506', '2026-02-28'),
                              (4, NULL, NULL, NULL)",
    );
    assert_delivered(
        &database,
        "d: date, ts: timestamp, tz: timestamp_tz",
        "SELECT id, (ARRAY['2001-02-03', '1970-01-01', '2026-11-24', NULL]::date[])[id] AS d,
           (ARRAY['2001-02-03 04:05', '1970-01-01', '2026-02-24 04:05:06', NULL]::timestamp[])[id] AS ts,
           (ARRAY['2001-02-03 09:05Z', '2026-11-24 18:00Z', '2026-02-28 00:00Z', NULL]::timestamptz[])[id] AS tz FROM t",
    );
}

#[test]
fn an_error_that_no_override_can_raise_is_not_blamed_on_one() {
    let database = Database::create("innocent");
    database.execute(
        "CREATE TABLE b (id int PRIMARY KEY, c text, m money, k text);
         INSERT INTO b VALUES (1, '2026-01-01', '1.50', 's3cr3t');
         CREATE VIEW t AS SELECT id, c, m, k::int AS k FROM b",
    );
    let finished = refused(&database, "c: date, m: 'decimal(10,2)'", "s3cr3t");
    drop(finished.expect_in_stderr("invalid input syntax for type integer").expect_nowhere("override"));
}

#[test]
fn an_override_that_would_change_values_is_refused_before_anything_is_read() {
    let database = Database::create("override_refused");
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n numeric, f float8, ts timestamp, u inet)");
    for (column, wanted) in
        [("n", "float8"), ("f", "float4"), ("f", "int8"), ("ts", "date"), ("u", "uuid"), ("id", "bool")]
    {
        let scratch = scratch(&database, &format!("{column}: {wanted}"));
        for verb in ["run", "check"] {
            let finished = scratch.rivet(&[verb]).expect_error(2, "RIVET_CONFIG_INVALID");
            drop(
                finished.expect_in_stderr(&format!("column \"{column}\"")).expect_in_stderr("without changing values"),
            );
        }
        assert!(!scratch.path().join("out").exists(), "{column} as {wanted}");
    }
}
