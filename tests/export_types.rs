//! Values: what the server holds is what two independent readers find in the files, type by type.

mod support;

use support::database::Database;
use support::rivet::{Scratch, export, run_id};
use support::{files, oracle};

/// Exports `table` in full and compares with `query`, the server's own view of what has to be in the files.
#[track_caller]
fn assert_exported(database: &Database, table: &str, query: &str) {
    let scratch = Scratch::with(database, &[export("values", &format!("table: {table}"))]);
    let summary = scratch.run_ok(&[]);
    assert_eq!(summary["status"], "success");
    oracle::assert_same_rows(database, query, &scratch.run_dir(&run_id(&summary)));
}

/// A table with one column for each declaration and one row for each literal of that column, the others NULL.
fn table_of(database: &Database, table: &str, columns: &[(&str, &[&str])]) {
    let mut sql = format!("CREATE TABLE {table} (n int");
    for (i, (declaration, _)) in columns.iter().enumerate() {
        sql.push_str(&format!(", c{i} {declaration}"));
    }
    sql.push_str(");\n");
    for (i, (_, literals)) in columns.iter().enumerate() {
        for (n, literal) in literals.iter().enumerate() {
            sql.push_str(&format!("INSERT INTO {table} (n, c{i}) VALUES ({n}, {literal});\n"));
        }
    }
    sql.push_str(&format!("INSERT INTO {table} DEFAULT VALUES;\n"));
    database.execute(&sql);
}

#[test]
fn integers_booleans_and_identifiers_keep_their_extremes() {
    let database = Database::create("integers");
    table_of(
        &database,
        "t",
        &[
            ("boolean", &["true", "false"]),
            ("smallint", &["-32768", "32767", "0"]),
            ("integer", &["-2147483648", "2147483647"]),
            ("bigint", &["'-9223372036854775808'", "9223372036854775807"]),
            ("oid", &["0", "4294967295"]),
            ("xid", &["'3'", "'4294967295'"]),
            ("cid", &["'7'"]),
        ],
    );
    assert_exported(&database, "t", "SELECT * FROM t");
}

#[test]
fn floats_keep_every_bit_that_has_a_meaning() {
    let database = Database::create("floats");
    let special = "'NaN'|'Infinity'|'-Infinity'|'-0'|0|1|0.1|123456789|1e-300|1.7976931348623157e308|5e-324|1e15|-1e-5";
    let double: Vec<&str> = special.split('|').collect();
    let single = "'NaN'|'Infinity'|'-Infinity'|'-0'|0|1|0.1|16777217|3.4028235e38|1e-45|1e6|-1e-5";
    let single: Vec<&str> = single.split('|').collect();
    table_of(&database, "t", &[("double precision", &double), ("real", &single)]);
    assert_exported(&database, "t", "SELECT * FROM t");
}

#[test]
fn numbers_with_a_precision_are_decimals_to_the_last_digit() {
    let database = Database::create("decimals");
    table_of(
        &database,
        "t",
        &[
            ("numeric(1,0)", &["9", "-9", "0"]),
            ("numeric(9,4)", &["99999.9999", "-0.0001", "10000", "1.05"]),
            ("numeric(18,2)", &["9999999999999999.99", "-0.01", "100"]),
            ("numeric(19,19)", &["0.9999999999999999999", "-0.0000000000000000001"]),
            ("numeric(38,10)", &["9999999999999999999999999999.9999999999", "-1", "10000.0001"]),
            ("numeric(38,0)", &["99999999999999999999999999999999999999"]),
            ("numeric(39,0)", &["999999999999999999999999999999999999999", "-1"]),
            (
                "numeric(76,38)",
                &["12345678901234567890123456789012345678.00000000000000000000000000000000000001", "-7"],
            ),
        ],
    );
    assert_exported(&database, "t", "SELECT * FROM t");
}

#[test]
fn numbers_without_a_precision_come_as_the_server_writes_them() {
    let database = Database::create("bare_numeric");
    let literals = [
        "1.50",
        "0",
        "-0.000000000000000000000001",
        "'NaN'",
        "'Infinity'",
        "'-Infinity'",
        "1e500",
        "1.05",
        "10000",
        "100000000.000000001",
        "1e-200",
    ];
    table_of(
        &database,
        "t",
        &[("numeric", &literals), ("numeric(100,50)", &["1.5", "-3"]), ("numeric(4,-2)", &["12300"])],
    );
    assert_exported(&database, "t", "SELECT * FROM t");
}

#[test]
fn dates_and_times_keep_their_microseconds_far_before_and_after_our_era() {
    let database = Database::create("times");
    let timestamps = [
        "'1970-01-01 00:00:00'",
        "'1969-12-31 23:59:59.999999'",
        "'2026-02-28 12:34:56.789012'",
        "'9999-12-31 23:59:59.999999'",
        "'12345-06-07 08:09:10.111213'",
        "'0001-01-01'",
        "'0044-03-15 BC'",
        "'4713-01-02 BC'",
    ];
    table_of(
        &database,
        "t",
        &[
            (
                "date",
                &[
                    "'1970-01-01'",
                    "'1969-12-31'",
                    "'0001-01-01'",
                    "'0044-03-15 BC'",
                    "'4713-01-01 BC'",
                    "'12345-06-07'",
                ],
            ),
            ("time", &["'00:00'", "'23:59:59.999999'", "'12:00:00.1'"]),
            ("timestamp", &timestamps),
            ("timestamptz", &timestamps),
            ("timestamp(3)", &["'2026-01-01 00:00:00.123456'"]),
        ],
    );
    assert_exported(&database, "t", "SELECT * FROM t");
}

#[test]
fn infinite_dates_become_null_and_are_counted_in_a_warning() {
    let database = Database::create("infinite");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, d date, ts timestamp, tz timestamptz);
         INSERT INTO t VALUES (1, 'infinity', '-infinity', 'infinity'), (2, '-infinity', '2026-01-01', NULL), (3, '2026-01-01', NULL, now());",
    );
    let scratch = Scratch::with(&database, &[export("values", "table: t")]);
    let summary = scratch.run_ok(&[]);
    let finite = "SELECT id, CASE WHEN isfinite(d) THEN d END AS d, CASE WHEN isfinite(ts) THEN ts END AS ts, \
                  CASE WHEN isfinite(tz) THEN tz END AS tz FROM t";
    oracle::assert_same_rows(&database, finite, &scratch.run_dir(&run_id(&summary)));
    let journal = scratch.journal_dir("values").display().to_string();
    let events = scratch.rivet(&["replay", "--journal", &journal, "--events", "--json"]).expect_exit(0).stdout;
    let warnings: Vec<&str> = events.lines().filter(|event| event.contains("warning_noted")).collect();
    for warned in [
        r#"\"d\": infinity was delivered as NULL, once"#,
        r#"\"d\": -infinity was delivered as NULL, once"#,
        r#"\"ts\": -infinity was delivered as NULL, once"#,
        r#"\"tz\": infinity was delivered as NULL, once"#,
    ] {
        assert!(warnings.iter().any(|warning| warning.contains(warned)), "no warning says {warned}: {warnings:?}");
    }
}

#[test]
fn text_of_every_kind_arrives_byte_for_byte() {
    let database = Database::create("texts");
    let hostile = [
        "''",
        "' '",
        "'NULL'",
        "E'\\\\N'",
        "E'tab\\tline\\nreturn\\rquote\\'back\\\\slash\\x01'",
        "'\u{10ffff}\u{301}é字🦀'",
        "'\u{feff}bom'",
        "repeat('x', 70000)",
        "repeat('0123456789abcdef', 65536)",
    ];
    table_of(
        &database,
        "t",
        &[
            ("text", &hostile),
            ("varchar(20)", &["'twenty characters ok'", "''"]),
            ("char(8)", &["'pad'", "''", "'12345678'"]),
            ("name", &["'a name'"]),
            ("\"char\"", &["'c'", "''"]),
            ("json", &["'{\"a\":  [1, 2.50, null], \"a\": \"twice\"}'", "'\"\\u00e9\"'", "'null'"]),
            ("jsonb", &["'{\"b\": 1.0, \"a\": [true, {}]}'", "'null'", "'[]'"]),
            ("xml", &["'<a>é</a>'"]),
        ],
    );
    assert_exported(&database, "t", "SELECT * FROM t");
}

#[test]
fn bytes_and_uuids_arrive_whole() {
    let database = Database::create("bytes");
    table_of(
        &database,
        "t",
        &[
            (
                "bytea",
                &["''", "'\\x00'", "'\\xdeadbeef00ff'", "decode(repeat('00ff', 300000), 'hex')", "'\\x5c783030'"],
            ),
            (
                "uuid",
                &[
                    "'00000000-0000-0000-0000-000000000000'",
                    "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
                    "gen_random_uuid()",
                ],
            ),
        ],
    );
    assert_exported(&database, "t", "SELECT * FROM t");
}

#[test]
fn types_without_a_column_type_of_their_own_come_as_the_servers_text() {
    let database = Database::create("others");
    database.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'ünïcode');
         CREATE DOMAIN positive AS numeric(10,2) CHECK (VALUE > 0);
         CREATE TYPE pair AS (a int, b text);",
    );
    table_of(
        &database,
        "t",
        &[
            ("mood", &["'sad'", "'it''s ok'", "'ünïcode'"]),
            ("positive", &["1.05", "99999999.99"]),
            ("pair", &["ROW(1, 'x, \"y\"')", "ROW(NULL, '')"]),
            ("interval", &["'1 year 2 mons -3 days 04:05:06.7'", "'0'", "'-1 sec'"]),
            ("timetz", &["'12:34:56.789+05:30'"]),
            // A cast to text always shows the mask, `COPY` leaves it out for a single host.
            ("inet", &["'10.0.0.1/8'", "'fe80::/10'"]),
            ("cidr", &["'10.0.0.0/8'"]),
            ("macaddr", &["'08:00:2b:01:02:03'"]),
            ("bit(5)", &["B'10101'"]),
            ("varbit", &["B''", "B'1'"]),
            ("int4range", &["'[1,5)'", "'empty'", "'(,)'"]),
            ("tstzrange", &["'[2026-01-01, 2026-02-01)'"]),
            ("point", &["'(1.5,-2)'"]),
            ("box", &["'(1,1),(0,0)'"]),
            ("tsvector", &["'a:1 b:2A'"]),
            ("tsquery", &["'a & !b'"]),
            ("pg_lsn", &["'16/B374D848'"]),
            ("regclass", &["'pg_class'"]),
            ("aclitem", &["'postgres=r/postgres'"]),
            ("money", &["12.34"]),
            ("txid_snapshot", &["'10:20:10,14'"]),
        ],
    );
    assert_exported(&database, "t", "SELECT * FROM t");
}

#[test]
fn lists_keep_nulls_empties_and_quoting() {
    let database = Database::create("lists");
    database.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')");
    table_of(
        &database,
        "t",
        &[
            ("int[]", &["'{}'", "'{1,NULL,3}'", "'{NULL}'", "'{-2147483648}'"]),
            ("bigint[]", &["'{9223372036854775807}'"]),
            ("smallint[]", &["'{1,2}'"]),
            ("boolean[]", &["'{t,f,NULL}'"]),
            ("text[]", &["ARRAY['', 'NULL', NULL, 'a,b', '{}', E'q\"\\\\', ' ', 'é']"]),
            ("varchar(5)[]", &["'{a,b}'"]),
            ("double precision[]", &["'{1.5,NaN,-Infinity,NULL}'"]),
            ("real[]", &["'{0.1}'"]),
            ("numeric(10,2)[]", &["'{1.50,NULL,-0.01}'"]),
            ("uuid[]", &["ARRAY['00000000-0000-0000-0000-000000000001'::uuid, NULL]"]),
            ("date[]", &["'{2026-01-01,NULL,0044-03-15 BC}'"]),
            ("timestamptz[]", &["'{2026-01-01 00:00:00.5+00,NULL}'"]),
            ("timestamp[]", &["'{1969-12-31 23:59:59.5}'"]),
            ("time[]", &["'{12:00,23:59:59.999999}'"]),
            ("bytea[]", &["ARRAY['\\x00ff'::bytea, '', NULL]"]),
            ("jsonb[]", &["ARRAY['{\"a\": 1}'::jsonb, NULL]"]),
            ("numeric[]", &["'{1.5,NaN,1e50}'"]),
            ("mood[]", &["'{sad,NULL,ok}'"]),
            ("interval[]", &["'{1 day,NULL}'"]),
            ("inet[]", &["'{10.0.0.1}'"]),
        ],
    );
    assert_exported(&database, "t", "SELECT * FROM t");
}

#[test]
fn lists_of_lists_are_never_flattened_and_never_fatal() {
    let database = Database::create("matrices");
    table_of(&database, "t", &[("int[]", &["'{{1,2},{3,4}}'", "'{5}'"]), ("text[][]", &["'{{a,NULL},{c,d}}'"])]);
    let scratch = Scratch::with(&database, &[export("values", "table: t")]);
    let finished = scratch.rivet(&["run", "-c", "rivet.yaml", "--json"]);
    match finished.code() {
        // Either the shape arrives, or the value is refused by a name; what may not happen is `{1,2,3,4}`.
        Some(0) => {
            let run_dir = scratch.run_dir(&run_id(&finished.summary()));
            oracle::assert_same_rows(&database, "SELECT * FROM t", &run_dir);
        }
        _ => {
            let finished = finished.expect_error(1, "RIVET_SOURCE_VALUE");
            assert!(finished.stderr.contains("c0") || finished.stderr.contains("c1"), "{finished}");
        }
    }
}

#[test]
fn a_not_null_column_is_required_in_the_file_and_others_are_not() {
    let database = Database::create("nullability");
    database
        .execute("CREATE TABLE t (id int PRIMARY KEY, a text NOT NULL, b text); INSERT INTO t VALUES (1, 'x', NULL)");
    let scratch = Scratch::with(&database, &[export("values", "table: t")]);
    let summary = scratch.run_ok(&[]);
    let manifest = files::manifest(&scratch.run_dir(&run_id(&summary)));
    let nullable: Vec<bool> = manifest["schema"]
        .as_array()
        .expect("a schema is a list of columns")
        .iter()
        .map(|column| column["nullable"].as_bool().expect("a column says whether it may be null"))
        .collect();
    assert_eq!(nullable, [false, false, true]);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
}

#[test]
fn the_settings_of_the_server_do_not_reach_the_values() {
    let database = Database::create("settings");
    database.execute(&format!(
        "ALTER DATABASE {name} SET timezone = 'America/St_Johns'; ALTER DATABASE {name} SET datestyle = 'SQL, DMY';
         ALTER DATABASE {name} SET intervalstyle = 'iso_8601'; ALTER DATABASE {name} SET bytea_output = 'escape';
         ALTER DATABASE {name} SET extra_float_digits = -15; ALTER DATABASE {name} SET xmlbinary = 'hex';
         ALTER DATABASE {name} SET search_path = 'pg_catalog'; ALTER DATABASE {name} SET row_security = off;
         CREATE TABLE public.t (id int PRIMARY KEY, ts timestamptz, i interval, b bytea, f float8, r tstzrange, p point);
         INSERT INTO public.t VALUES (1, '2026-07-01 12:00+00', '1 day 02:03', '\\xff00', 1.0/3,
                                      '[2026-01-01, 2026-01-02)', point(1.0/3, -1e-7));",
        name = database.name
    ));
    assert_exported(&database, "public.t", "SELECT * FROM public.t");
}

#[cfg(feature = "failpoints")]
#[test]
fn an_enum_that_gains_a_value_in_the_middle_of_a_run_arrives_with_it() {
    let database = Database::create("enum_gains");
    database.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE TABLE t (id int PRIMARY KEY, m mood, ms mood[]);
         INSERT INTO t SELECT g, 'ok', '{sad,NULL}' FROM generate_series(1, 400) AS g; ANALYZE t;",
    );
    let lines = "table: t\nmode: chunked\nchunk_count: 4\nparallel: 1";
    let scratch = Scratch::with(&database, &[export("orders", lines)]);
    let killed = support::rivet::Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.created@2=kill").run(&["run"]);
    assert!(killed.killed(), "{killed}");
    let run = support::converge::journaled_run(&scratch).expect("the run is in the journal");
    database.execute("ALTER TYPE mood ADD VALUE 'gl\u{fc}cklich, \"sehr\"' BEFORE 'sad'");
    database.execute("UPDATE t SET m = enum_first(NULL::mood), ms = ARRAY[enum_first(NULL::mood)] WHERE id > 300");
    let run_dir = scratch.run_dir(&run_id(&scratch.resume_ok(&run)));
    oracle::assert_same_rows(&database, "SELECT * FROM t", &run_dir);
}
