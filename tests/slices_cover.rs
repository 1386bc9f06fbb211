//! Whatever the key looks like, the slices of a plan hold every row of the relation once, in about equal shares.

mod slices;
mod support;

use rivet::run::plan::{Bounds, Split};
use rivet::source::postgres::split::SplitRequest;
use slices::*;

/// Creates `t (k <type>, x text)` from a SELECT of k, with a primary key over `k` unless told otherwise.
fn keyed(key_type: &str, values: &str, constraint: &str) -> String {
    format!(
        "CREATE TABLE t (k {key_type}, x text); INSERT INTO t SELECT k, md5(k::text) FROM ({values}) v(k); {constraint}"
    )
}

const PRIMARY: &str = "ALTER TABLE t ADD PRIMARY KEY (k)";

#[tokio::test]
async fn a_key_of_any_type_is_cut_into_equal_ranges_by_a_sample_and_by_statistics() {
    let cases = [
        ("int", "int", "SELECT i FROM generate_series(-20000, 20000) i"),
        ("bigint", "bigint", "SELECT i * 1000000007 FROM generate_series(1::bigint, 30000) i"),
        ("smallint", "smallint", "SELECT i FROM generate_series(-32768, 32767, 7) i"),
        ("oid", "oid", "SELECT (4294967295 - i)::oid FROM generate_series(0::bigint, 20000) i"),
        ("uuid", "uuid", "SELECT md5(i::text)::uuid FROM generate_series(1, 30000) i"),
        ("text_c", "text COLLATE \"C\"", "SELECT md5(i::text) FROM generate_series(1, 30000) i"),
        ("text_icu", "text COLLATE \"de-x-icu\"", WORDS),
        ("text_en", "varchar(60) COLLATE \"en-x-icu\"", WORDS),
        ("text_utf8", "text COLLATE \"C.utf8\"", WORDS),
        ("bpchar", "character(40) COLLATE \"en-x-icu\"", WORDS),
        ("bytea", "bytea", "SELECT decode(md5(i::text), 'hex') FROM generate_series(1, 20000) i"),
        (
            "numeric",
            "numeric",
            "SELECT (i * i)::numeric / 7 FROM generate_series(1, 20000) i UNION ALL SELECT 'NaN' \
          UNION ALL SELECT 'Infinity' UNION ALL SELECT '-Infinity'",
        ),
        (
            "timestamptz",
            "timestamptz",
            "SELECT '2020-01-01 00:00:00.123457+02'::timestamptz + i * interval '1.000001 s' \
          FROM generate_series(1, 20000) i UNION ALL SELECT 'infinity' UNION ALL SELECT '-infinity' \
          UNION ALL SELECT '0044-03-15 12:00:00 BC'",
        ),
        (
            "timestamp",
            "timestamp",
            "SELECT '1969-12-31 23:00:00'::timestamp + i * interval '0.3 s' \
          FROM generate_series(1, 20000) i",
        ),
        (
            "date",
            "date",
            "SELECT '1582-10-15'::date + i FROM generate_series(1, 20000) i UNION ALL SELECT 'infinity' \
          UNION ALL SELECT '-infinity'",
        ),
        (
            "time",
            "time",
            "SELECT '00:00'::time + i * interval '2.5 s' FROM generate_series(1, 20000) i UNION ALL SELECT '24:00'",
        ),
        ("interval", "interval", "SELECT i * interval '1 day 03:04:05.678' FROM generate_series(-10000, 10000) i"),
        (
            "float8",
            "float8",
            "SELECT i / 3.0::float8 FROM generate_series(-10000, 10000) i UNION ALL SELECT 'NaN' \
          UNION ALL SELECT 'Infinity' UNION ALL SELECT '-Infinity' UNION ALL SELECT 1e-300",
        ),
        ("float4", "float4", "SELECT (i / 3.0)::float4 FROM generate_series(-10000, 10000) i UNION ALL SELECT 'NaN'"),
        ("inet", "inet", "SELECT '10.0.0.0'::inet + i FROM generate_series(1, 20000) i"),
        ("varbit", "bit varying", "SELECT i::bit(20)::bit varying FROM generate_series(1, 20000) i"),
        ("char", "\"char\"", "SELECT chr(i)::\"char\" FROM generate_series(1, 127) i"),
        ("arrays", "int[]", "SELECT ARRAY[i % 100, i] FROM generate_series(1, 20000) i"),
        ("ranges", "int4range", "SELECT int4range(i, i + 5) FROM generate_series(1, 20000) i"),
    ];
    let first = prepared("cov_types", "").await;
    for (name, key_type, values) in cases {
        let schema = format!("cov_{name}");
        let client = first.beside(&schema, &keyed(key_type, values, PRIMARY)).await;
        let sampled = judged(&client, &table(&schema, "t"), &slices(8)).await;
        assert_eq!((sampled.evidence(), sampled.key()), ("sample", vec!["k"]), "{name}");
        assert_eq!(sampled.rows.len(), 8, "{name}");
        assert!(sampled.imbalance() < 1.5, "{name}: {:?}", sampled.rows);
        let plan = explained(&client, &sampled, 3).await;
        assert!(plan.contains("Index"), "{name}: {plan}");

        client.batch_execute("ANALYZE t").await.unwrap();
        let analysed = judged(&client, &table(&schema, "t"), &slices(8)).await;
        assert_eq!(
            analysed.evidence(),
            if ["arrays", "ranges"].contains(&name) { "sample" } else { "histogram" },
            "{name}"
        );
        assert!(analysed.imbalance() < 1.5, "{name}: {:?}", analysed.rows);
    }
}

/// Words in which case, accents, spaces, quotes, backslashes and punctuation matter to some collations and not to others.
const WORDS: &str = "SELECT (ARRAY['Ä','a','Z','z','ß','ss','É','e','o''b','ö','-','_','c\\d','\"q\"','日本'])[1 + i % 15] || ' ' || \
                     (i / 15) || (ARRAY['', ' ', '-X', 'é'])[1 + i % 4] FROM generate_series(1, 20000) i";

/// Tables drawn by lot: type, number of rows, how often values repeat, how many are NULL, what order they lie in,
/// whether the statistics are fresh, stale or absent, and how many slices are wished.
#[tokio::test]
async fn whatever_is_in_a_column_the_slices_hold_every_row_once() {
    let types = [
        ("int", "%::int"),
        ("bigint", "(%::bigint << 40)"),
        ("numeric", "%::numeric / 3"),
        ("float8", "CASE %::int % 9 WHEN 0 THEN 'NaN' WHEN 1 THEN -0.0 WHEN 2 THEN 'Infinity' ELSE %::float8 / 7 END"),
        ("text COLLATE \"en-x-icu\"", "(ARRAY['ä','A','-a','a ','Z'])[1 + %::int % 5] || %::text"),
        ("text COLLATE \"C\"", "repeat('x', %::int % 700) || '\\' || %::text"),
        ("uuid", "md5(%::text)::uuid"),
        (
            "timestamptz",
            "CASE %::int % 11 WHEN 0 THEN 'infinity' WHEN 1 THEN '-infinity' ELSE '2024-10-27 00:00:00+00'::timestamptz + % * interval '17 min' END",
        ),
        ("date", "'2024-02-28'::date + %::int"),
        ("interval", "% * interval '11 hours'"),
        ("boolean", "%::int % 2 = 0"),
    ];
    let first = prepared("lot", "").await;
    for seed in 0..44_u64 {
        let mut lot = fastrand::Rng::with_seed(seed);
        let (key_type, value) = types[seed as usize % types.len()];
        let (rows, distinct, nulls) = (lot.u32(1..3000), lot.u32(1..4000), lot.choice([0.0, 0.1, 0.9]).unwrap());
        let drawn =
            lot.choice(["floor(random() * {d})", "floor(random() * random() * random() * {d})", "i % {d}"]).unwrap();
        let drawn = drawn.replace("{d}", &distinct.to_string());
        let setup = format!(
            "SELECT setseed(0.{seed:02}); CREATE TABLE t (k {key_type}, b int);
             INSERT INTO t SELECT CASE WHEN random() >= {nulls} THEN {} END, i
             FROM (SELECT i, {drawn} AS v FROM generate_series(1, {rows}) i OFFSET 0) d; CREATE INDEX ON t (k)",
            value.replace('%', "v").replace("v::int v ", "v::int % ")
        );
        let schema = format!("lot_{seed}");
        let client = first.beside(&schema, &setup).await;
        match lot.u32(0..3) {
            0 => client.batch_execute("ANALYZE t").await.unwrap(),
            1 => client.batch_execute("ANALYZE t; INSERT INTO t SELECT k, -b FROM t").await.unwrap(),
            _ => {}
        }
        judged(&client, &table(&schema, "t"), &by("k", lot.u32(2..40))).await;
    }
}

#[tokio::test]
async fn a_composite_key_is_cut_by_its_leading_column_where_that_is_fine_enough() {
    let setup = "CREATE TABLE t AS SELECT i::bigint AS a, i % 7 AS b FROM generate_series(1, 40000) i;
                 ALTER TABLE t ADD PRIMARY KEY (a, b)";
    let client = prepared("cov_lead", setup).await;
    let sampled = judged(&client, &table("cov_lead", "t"), &slices(8)).await;
    assert_eq!((sampled.evidence(), sampled.key()), ("sample", vec!["a"]));
    assert!(sampled.imbalance() < 1.5, "{:?}", sampled.rows);
    client.batch_execute("ANALYZE t").await.unwrap();
    let analysed = judged(&client, &table("cov_lead", "t"), &slices(8)).await;
    assert_eq!((analysed.evidence(), analysed.key()), ("histogram", vec!["a"]));
}

#[tokio::test]
async fn a_composite_key_with_a_coarse_leading_column_is_cut_within_it() {
    let cases = [
        ("cov_tenant", "bigint", "i % 3", "int", "i"),
        (
            "cov_texttime",
            "text COLLATE \"en-x-icu\"",
            "(ARRAY['Zoë','anna','O''Neil'])[1 + i % 3]",
            "timestamptz",
            "'2024-03-31 01:30:00+01'::timestamptz + i * interval '1 s'",
        ),
        ("cov_onevalue", "int", "1", "uuid", "md5(i::text)::uuid"),
    ];
    for (schema, first, a, second, b) in cases {
        let setup = format!(
            "CREATE TABLE t (a {first}, b {second}, PRIMARY KEY (a, b));
                             INSERT INTO t SELECT {a}, {b} FROM generate_series(1, 30000) i"
        );
        let client = prepared(schema, &setup).await;
        for analysed in [false, true] {
            let judged = judged(&client, &table(schema, "t"), &slices(8)).await;
            assert_eq!((judged.evidence(), judged.key()), ("sample", vec!["a", "b"]), "{schema} {analysed}");
            assert_eq!(judged.rows.len(), 8, "{schema}");
            assert!(judged.imbalance() < 1.5, "{schema}: {:?}", judged.rows);
            client.batch_execute("ANALYZE t").await.unwrap();
            if analysed {
                let plan = explained(&client, &judged, 3).await;
                assert!(plan.contains("Index Cond: ((a >= ") && plan.contains("Index"), "{schema}: {plan}");
            }
        }
    }
}

#[tokio::test]
async fn a_value_with_more_rows_than_a_slice_stands_alone_and_the_rest_stays_even() {
    // 40 % of the rows on one value in the middle, the rest spread.
    let setup = "CREATE TABLE t AS SELECT CASE WHEN i % 5 < 2 THEN 5000 ELSE i END AS k, i AS x FROM generate_series(1, 30000) i;
                 CREATE INDEX ON t (k)";
    let client = prepared("cov_heavy", setup).await;
    for _ in 0..2 {
        let judged = judged(&client, &table("cov_heavy", "t"), &by("k", 10)).await;
        let mut rows = judged.rows[..judged.rows.len() - usize::from(judged.null_rows().is_some())].to_vec();
        rows.sort_unstable();
        let heaviest = rows.pop().unwrap();
        assert!((12_000..14_000).contains(&heaviest), "{heaviest}");
        assert!(rows[rows.len() - 1] < 2 * rows[0], "{:?}", judged.rows);
        client.batch_execute("ANALYZE t").await.unwrap();
    }
}

#[tokio::test]
async fn a_zipf_distributed_column_loses_nothing_and_only_its_heavy_values_make_large_slices() {
    let setup = "CREATE TABLE t AS SELECT floor(10000 / (1 + (i * 7919 % 30000)))::int AS k, i AS x FROM generate_series(1, 30000) i;
                 CREATE INDEX ON t (k)";
    let client = prepared("cov_zipf", setup).await;
    for _ in 0..2 {
        let judged = judged(&client, &table("cov_zipf", "t"), &by("k", 8)).await;
        assert!(judged.rows.len() >= 3, "{:?}", judged.rows);
        client.batch_execute("ANALYZE t").await.unwrap();
    }
}

#[tokio::test]
async fn ten_rows_in_the_whole_range_of_bigint_are_cut_evenly() {
    let values =
        "SELECT ('x' || lpad(to_hex(i), 1, '0') || repeat('0', 15))::bit(64)::bigint FROM generate_series(0, 9) i";
    let client = prepared("cov_sparse", &keyed("bigint", values, PRIMARY)).await;
    let judged = judged(&client, &table("cov_sparse", "t"), &slices(5)).await;
    assert_eq!(judged.rows, [2, 2, 2, 2, 2]);
}

#[tokio::test]
async fn rows_whose_key_is_null_have_a_slice_of_their_own() {
    let setup = "CREATE TABLE t (k int UNIQUE, x text); INSERT INTO t SELECT CASE WHEN i % 4 > 0 THEN i END, i::text
                 FROM generate_series(1, 20000) i";
    let client = prepared("cov_null", setup).await;
    for _ in 0..2 {
        let judged = judged(&client, &table("cov_null", "t"), &slices(6)).await;
        assert_eq!((judged.key(), judged.null_rows()), (vec!["k"], Some(5000)));
        assert!(judged.imbalance() < 1.5, "{:?}", judged.rows);
        let estimated = judged.planned.slices.last().unwrap().estimated_rows;
        assert!((3000..7000).contains(&estimated), "{estimated}");
        client.batch_execute("ANALYZE t").await.unwrap();
    }
}

#[tokio::test]
async fn a_null_behind_the_first_column_of_a_key_is_in_no_range() {
    let setup = "CREATE TABLE t (a int, b int, UNIQUE (a, b)); INSERT INTO t
                 SELECT CASE WHEN i % 10 > 0 THEN i % 17 END, CASE WHEN i % 7 > 0 THEN i END FROM generate_series(1, 20000) i";
    let client = prepared("cov_null2", setup).await;
    for _ in 0..2 {
        let judged = judged(&client, &table("cov_null2", "t"), &slices(6)).await;
        assert_eq!(judged.key(), ["a", "b"]);
        assert_eq!(judged.null_rows(), Some(20000 / 10 + 20000 / 7 - 20000 / 70));
        client.batch_execute("ANALYZE t").await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_is_null_or_equal_everywhere_still_covers_the_table() {
    for (schema, value) in [("cov_allnull", "NULL::int"), ("cov_allequal", "7")] {
        let setup = format!(
            "CREATE TABLE t AS SELECT {value} AS k, i AS x FROM generate_series(1, 20000) i; CREATE INDEX ON t (k)"
        );
        let client = prepared(schema, &setup).await;
        for _ in 0..2 {
            judged(&client, &table(schema, "t"), &by("k", 6)).await;
            client.batch_execute("ANALYZE t").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_table_without_a_key_is_cut_into_page_ranges_up_to_an_open_end() {
    let client = prepared(
        "cov_nokey",
        "CREATE TABLE t AS SELECT i % 10 AS a, md5(i::text) AS x FROM generate_series(1, 50000) i",
    )
    .await;
    let judged = judged(&client, &table("cov_nokey", "t"), &slices(8)).await;
    assert!(matches!(judged.planned.split, Split::Pages { pages } if pages > 100));
    assert_eq!(judged.planned.slices[7].bounds, Bounds::Pages { first: judged_first(&judged), end: None });
    assert!(judged.imbalance() < 1.2, "{:?}", judged.rows);
    for slice in [0, 4, 7] {
        let plan = explained(&client, &judged, slice).await;
        assert!(plan.contains("Tid Range Scan"), "{plan}");
    }
}

fn judged_first(judged: &Judged) -> u32 {
    match judged.planned.slices.last().unwrap().bounds {
        Bounds::Pages { first, .. } => first,
        _ => panic!("{:?}", judged.planned),
    }
}

#[tokio::test]
async fn a_plan_has_no_more_slices_than_its_manifest_has_room_for_and_says_so() {
    let keyed = keyed("int", "SELECT i FROM generate_series(1, 30000) i", PRIMARY);
    for (name, setup) in
        [("room_key", keyed.as_str()), ("room_pages", "CREATE TABLE t AS SELECT i FROM generate_series(1, 30000) i")]
    {
        let client = prepared(name, setup).await;
        let wide = judged(&client, &table(name, "t"), &slices(40)).await;
        assert!(wide.rows.len() > 20 && !wide.planned.reason.contains("has at most"), "{}", wide.planned.reason);
        let narrow = judged(&client, &table(name, "t"), &SplitRequest { most_slices: 5, ..slices(40) }).await;
        assert!((2..=10).contains(&narrow.rows.len()), "{} slices", narrow.rows.len());
        let said = "; 40 were wanted, a run with so many columns has at most about 5";
        assert!(narrow.planned.reason.ends_with(said), "{}", narrow.planned.reason);
    }
}

#[tokio::test]
async fn partial_and_expression_indexes_are_no_keys() {
    let setup = "CREATE TABLE t (a int NOT NULL, b int NOT NULL, c text NOT NULL);
                 INSERT INTO t SELECT i, i % 100, i::text FROM generate_series(1, 30000) i;
                 CREATE UNIQUE INDEX ON t (a) WHERE b > 50; CREATE UNIQUE INDEX ON t (lower(c));
                 CREATE UNIQUE INDEX ON t (c text_pattern_ops); CREATE UNIQUE INDEX ON t (c COLLATE \"en-x-icu\")";
    let client = prepared("cov_partial", setup).await;
    let judged = judged(&client, &table("cov_partial", "t"), &slices(4)).await;
    assert_eq!(judged.planned.split.name(), "pages");
}

#[tokio::test]
async fn a_primary_key_goes_before_a_unique_index_and_one_without_nulls_before_one_with() {
    let setup = "CREATE TABLE t (a int UNIQUE, b int NOT NULL, c int NOT NULL, d int);
                 INSERT INTO t SELECT i, i, i, i FROM generate_series(1, 10000) i; CREATE UNIQUE INDEX ON t (b) INCLUDE (d)";
    let client = prepared("cov_best", setup).await;
    assert_eq!(judged(&client, &table("cov_best", "t"), &slices(4)).await.key(), ["b"]);
    client.batch_execute("ALTER TABLE t ADD PRIMARY KEY (c)").await.unwrap();
    assert_eq!(judged(&client, &table("cov_best", "t"), &slices(4)).await.key(), ["c"]);
}

#[tokio::test]
async fn a_column_without_an_index_is_left_for_page_ranges_where_there_are_any() {
    let setup = "CREATE TABLE t AS SELECT i AS a, i % 1000 AS b FROM generate_series(1, 30000) i; ALTER TABLE t ADD PRIMARY KEY (a);
                 CREATE TABLE p (a int, b int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p DEFAULT;
                 INSERT INTO p SELECT i, i % 1000 FROM generate_series(1, 30000) i";
    let client = prepared("cov_noindex", setup).await;
    let plain = judged(&client, &table("cov_noindex", "t"), &by("b", 6)).await;
    assert_eq!(plain.planned.split.name(), "pages");
    assert!(plain.planned.reason.contains("no index begins with \"b\""), "{}", plain.planned.reason);
    let parent = judged(&client, &table("cov_noindex", "p"), &by("b", 6)).await;
    assert_eq!(parent.key(), ["b"]);
    assert!(parent.planned.reason.contains("no index"), "{}", parent.planned.reason);
}

#[tokio::test]
async fn partitions_belong_to_their_parent_and_share_its_key() {
    let setup = "CREATE TABLE t (id int, at date, x text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
                 CREATE TABLE t1 PARTITION OF t FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
                 CREATE TABLE t2 PARTITION OF t FOR VALUES FROM ('2024-02-01') TO ('2024-03-01') PARTITION BY HASH (id);
                 CREATE TABLE t2a PARTITION OF t2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                 CREATE TABLE t2b PARTITION OF t2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
                 CREATE TABLE t3 (x text, gone int, at date NOT NULL, id int NOT NULL); ALTER TABLE t3 DROP COLUMN gone;
                 ALTER TABLE t ATTACH PARTITION t3 DEFAULT;
                 INSERT INTO t SELECT i, '2023-12-01'::date + i % 100, md5(i::text) FROM generate_series(1, 40000) i";
    let client = prepared("cov_part", setup).await;
    for _ in 0..2 {
        let judged = judged(&client, &table("cov_part", "t"), &slices(8)).await;
        assert_eq!(judged.key(), ["id"]);
        assert!(judged.imbalance() < 1.5, "{:?}", judged.rows);
        let plan = explained(&client, &judged, 3).await;
        assert!(!plan.contains("Seq Scan"), "{plan}");
        client.batch_execute("ANALYZE t").await.unwrap();
    }
    let leaf = judged(&client, &table("cov_part", "t2a"), &slices(4)).await;
    assert_eq!(leaf.key(), ["id"]);
}

#[tokio::test]
async fn children_of_plain_inheritance_are_read_with_their_parent() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, x text NOT NULL); CREATE TABLE kid (extra int) INHERITS (t);
                 ALTER TABLE kid ALTER x DROP NOT NULL;
                 INSERT INTO t SELECT i, 'parent' FROM generate_series(1, 5000) i;
                 INSERT INTO kid SELECT i, NULL, i FROM generate_series(1, 5000) i";
    let client = prepared("cov_inherit", setup).await;
    let whole = judged(&client, &table("cov_inherit", "t"), &slices(4)).await;
    assert_eq!(whole.rows, [10_000]);
    assert!(whole.described.column("x").unwrap().column.nullable, "a child may hold NULL where its parent may not");
    let asked = judged(&client, &table("cov_inherit", "t"), &by("id", 4)).await;
    assert_eq!((asked.key(), asked.rows.len()), (vec!["id"], 4 + usize::from(asked.null_rows().is_some())));
    assert!(asked.imbalance() < 1.5);
}

#[tokio::test]
async fn views_and_queries_are_one_slice_unless_a_column_is_named() {
    let setup = "CREATE TABLE t AS SELECT i AS id, CASE WHEN i % 9 > 0 THEN i * 0.5::float8 END AS half FROM generate_series(1, 20000) i;
                 CREATE VIEW v AS SELECT id, half FROM t; CREATE MATERIALIZED VIEW m AS SELECT id, half FROM t;
                 CREATE VIEW few AS SELECT id FROM t LIMIT 500";
    let client = prepared("cov_view", setup).await;
    let query = |text: &str| rivet::config::model::Selection::Query(text.to_owned());
    assert_eq!(judged(&client, &table("cov_view", "v"), &slices(4)).await.rows, [20_000]);
    let view = judged(&client, &table("cov_view", "v"), &by("half", 4)).await;
    assert_eq!((view.evidence(), view.null_rows()), ("scan", Some(2222)));
    assert!(view.imbalance() < 1.5 && view.planned.reason.contains("full scan"), "{}", view.planned.reason);
    assert_eq!(judged(&client, &table("cov_view", "m"), &slices(4)).await.planned.split.name(), "pages");

    let text = "SELECT id * 2 AS \"Twice\", half FROM t WHERE id > 100 -- some;\n;";
    assert_eq!(judged(&client, &query(text), &slices(4)).await.rows, [19_900]);
    let aliased = judged(&client, &query(text), &by("Twice", 4)).await;
    assert_eq!((aliased.key(), aliased.rows.len()), (vec!["Twice"], 5));
    assert!(aliased.imbalance() < 1.5);

    // Each slice would get other rows.
    assert_eq!(judged(&client, &query("SELECT id FROM t LIMIT 500"), &by("id", 4)).await.planned.split, Split::Whole);
    assert_eq!(judged(&client, &table("cov_view", "few"), &by("id", 4)).await.planned.split, Split::Whole);
}

#[tokio::test]
async fn names_of_every_kind_are_quoted_where_they_stand() {
    let long = "ü".repeat(31) + "x";
    for name in ["Mixed Case", "dot.ted", "quo\"te", "апостроф'", "back\\slash", "select", &long] {
        let quoted = name.replace('"', "\"\"");
        let setup = format!(
            "CREATE TABLE \"{quoted}\" (\"{quoted}\" text PRIMARY KEY, \"a b\" int);
                             INSERT INTO \"{quoted}\" SELECT 'v''\\' || i, i FROM generate_series(1, 5000) i"
        );
        let client = prepared("cov_names", &setup).await;
        for _ in 0..2 {
            let judged = judged(&client, &table("cov_names", name), &slices(4)).await;
            assert_eq!(judged.key(), [name]);
            assert_eq!(judged.rows.len(), 4);
            client.batch_execute(&format!("ANALYZE \"{quoted}\"")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn dropped_and_generated_columns_and_domains_are_seen_as_select_sees_them() {
    let setup = "CREATE DOMAIN code AS varchar(12) CHECK (value <> ''); CREATE DOMAIN strict_code AS code CHECK (length(value) > 1);
                 CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
                 CREATE TABLE t (gone int, k strict_code PRIMARY KEY, gone2 text, m mood NOT NULL, n int GENERATED ALWAYS AS (length(k)) STORED);
                 INSERT INTO t (k, m) SELECT 'x' || i, (ARRAY['sad','ok','happy'])[1 + i % 3]::mood FROM generate_series(1, 9000) i;
                 ALTER TABLE t DROP COLUMN gone; ALTER TABLE t DROP COLUMN gone2; CREATE INDEX ON t (m)";
    let client = prepared("cov_odd", setup).await;
    for _ in 0..2 {
        let keyed = judged(&client, &table("cov_odd", "t"), &slices(4)).await;
        let names: Vec<&str> = keyed.described.columns.iter().map(|c| c.column.name.as_str()).collect();
        assert_eq!((names, keyed.rows.len()), (vec!["k", "m", "n"], 4));
        let by_enum = judged(&client, &table("cov_odd", "t"), &by("m", 3)).await;
        assert_eq!(by_enum.rows, [3000, 3000, 3000]);
        client.batch_execute("ANALYZE t").await.unwrap();
    }
}

#[tokio::test]
async fn values_that_are_equal_to_the_database_and_not_to_the_eye_fall_into_one_slice() {
    let setup = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
                 CREATE TABLE t (k text COLLATE ci, x int); CREATE INDEX ON t (k);
                 INSERT INTO t SELECT (ARRAY['résumé','RESUME','Resume','zoo','Zoo','apple','ÄPPLE'])[1 + i % 7], i FROM generate_series(1, 7000) i";
    let client = prepared("cov_nondet", setup).await;
    for _ in 0..2 {
        let judged = judged(&client, &table("cov_nondet", "t"), &by("k", 3)).await;
        let mut rows = judged.rows.clone();
        rows.sort_unstable();
        assert_eq!(rows, [0, 2000, 2000, 3000], "the NULL slice and three words");
        client.batch_execute("ANALYZE t").await.unwrap();
    }
}

#[tokio::test]
async fn an_empty_table_is_one_slice_and_long_values_are_no_boundaries() {
    let client = prepared("cov_empty", "CREATE TABLE t (k int PRIMARY KEY)").await;
    let empty = judged(&client, &table("cov_empty", "t"), &slices(8)).await;
    assert_eq!((empty.rows, empty.planned.estimated_rows), (vec![0], 0));

    let setup = "CREATE TABLE t (k text, x int); CREATE INDEX ON t (k);
                 INSERT INTO t SELECT CASE WHEN i % 10 > 0 THEN lpad(i::text, 900, '0') ELSE lpad(i::text, 20, '0') END, i
                 FROM generate_series(1, 5000) i";
    let client = prepared("cov_long", setup).await;
    for _ in 0..2 {
        let judged = judged(&client, &table("cov_long", "t"), &by("k", 4)).await;
        for slice in &judged.planned.slices {
            let Bounds::Range { lower, upper } = &slice.bounds else { continue };
            assert!(lower.iter().chain(upper).flatten().all(|value| value.len() <= 512));
        }
        client.batch_execute("ANALYZE t").await.unwrap();
    }
}

#[tokio::test]
async fn a_table_of_the_most_columns_is_read() {
    let columns: Vec<String> = (0..1600).map(|i| format!("c{i} int2")).collect();
    let setup = format!(
        "CREATE TABLE t ({}); INSERT INTO t (c0, c1599) SELECT i, -i FROM generate_series(1, 100) i",
        columns.join(", ")
    );
    let client = prepared("cov_wide", &setup).await;
    let judged = judged(&client, &table("cov_wide", "t"), &slices(4)).await;
    assert_eq!((judged.described.columns.len(), judged.rows.iter().sum::<usize>()), (1600, 100));
}

/// Pages filled to a tenth, so that a table of few rows has more blocks than are sampled.
const SPARSE_PAGES: &str = "WITH (fillfactor = 10, autovacuum_enabled = false)";

#[tokio::test]
async fn a_sample_of_a_few_blocks_divides_as_well_as_all_of_them_and_reads_nothing_else() {
    let keys =
        [("follows", "int", "i"), ("scattered", "uuid", "md5(i::text)::uuid"), ("falls", "bigint", "-i::bigint << 30")];
    let first = prepared("sample", "").await;
    for (name, key_type, value) in keys {
        let setup = format!(
            "CREATE TABLE t (k {key_type} NOT NULL, x text) {SPARSE_PAGES};
             INSERT INTO t SELECT {value}, repeat('x', i % 200) FROM generate_series(1, 60000) i; ALTER TABLE t ADD PRIMARY KEY (k)"
        );
        let client = first.beside(name, &setup).await;
        let judged = judged(&client, &table(name, "t"), &slices(30)).await;
        assert_eq!((judged.evidence(), judged.rows.len()), ("sample", 30), "{name}");
        assert!(judged.described.relation.as_ref().unwrap().pages > 8_000, "{name}");
        assert!(judged.imbalance() < 1.6, "{name}: {:?}", judged.rows);

        rivet::source::postgres::snapshot::open(&client).await.unwrap();
        // Counts of what this session did before are in it until they are reported: the difference is the plan's.
        let counted =
            "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 't' AND schemaname = current_schema";
        let scans = async || client.query_one(counted, &[]).await.unwrap().get::<_, i64>(0);
        let before = scans().await;
        rivet::source::postgres::split::plan(&client, &judged.described, &slices(30)).await.unwrap();
        assert_eq!(scans().await - before, 0, "{name}: sequential scans");
    }
}

#[tokio::test]
async fn pages_that_updates_and_deletes_have_thinned_out_weigh_less() {
    let setup = format!(
        "CREATE TABLE t (k int PRIMARY KEY, x text) {SPARSE_PAGES}; INSERT INTO t SELECT i, repeat('x', 60) FROM generate_series(1, 60000) i;
         DELETE FROM t WHERE k < 30000 AND k % 10 > 0; UPDATE t SET x = x || 'y' WHERE k > 45000"
    );
    let client = prepared("thinned", &setup).await;
    let judged = judged(&client, &table("thinned", "t"), &slices(8)).await;
    assert!(judged.imbalance() < 1.6, "{:?}", judged.rows);
}

#[tokio::test]
async fn a_large_partitioned_table_is_sampled_over_all_of_its_partitions() {
    let parts: Vec<String> = (0..5)
        .map(|i| {
            format!(
                "CREATE TABLE t{i} PARTITION OF t FOR VALUES FROM ({}) TO ({}) {SPARSE_PAGES};",
                i * i * 3000,
                (i + 1) * (i + 1) * 3000
            )
        })
        .collect();
    let setup = format!(
        "CREATE TABLE t (k int PRIMARY KEY, x text) PARTITION BY RANGE (k); {}
         INSERT INTO t SELECT i, repeat('x', 60) FROM generate_series(0, 74999) i",
        parts.concat()
    );
    let client = prepared("parts", &setup).await;
    let judged = judged(&client, &table("parts", "t"), &slices(10)).await;
    assert!(judged.described.relation.as_ref().unwrap().pages > 6_000);
    assert_eq!((judged.evidence(), judged.rows.len()), ("sample", 10));
    assert!(judged.imbalance() < 2.0, "{:?}", judged.rows);
}

#[tokio::test]
async fn a_large_table_that_lies_in_another_order_than_its_key_is_read_by_pages_unless_a_column_is_named() {
    let setup = format!(
        "CREATE UNLOGGED TABLE t (k uuid NOT NULL, x text) {SPARSE_PAGES};
         INSERT INTO t SELECT md5(i::text)::uuid, '' FROM generate_series(1, 560000) i; ALTER TABLE t ADD PRIMARY KEY (k)"
    );
    let client = prepared("scattered", &setup).await;
    let request = rivet::source::postgres::split::SplitRequest { slices: None, ..slices(1) };
    for _ in 0..2 {
        let by_default = judged(&client, &table("scattered", "t"), &request).await;
        assert!(by_default.described.relation.as_ref().unwrap().bytes >= 256 << 20);
        assert_eq!(
            (by_default.planned.split.name(), by_default.rows.len()),
            ("pages", 8),
            "{}",
            by_default.planned.reason
        );
        assert!(by_default.imbalance() < 1.2, "{:?}", by_default.rows);
        client.batch_execute("ANALYZE t").await.unwrap();
    }
    let asked = judged(&client, &table("scattered", "t"), &by("k", 8)).await;
    assert_eq!((asked.evidence(), asked.rows.len()), ("histogram", 8));
}

#[tokio::test]
async fn sizes_decide_how_many_slices_there_are_when_nobody_asks() {
    let client =
        prepared("sizes", "CREATE TABLE t AS SELECT i AS k FROM generate_series(1, 100000) i; ANALYZE t").await;
    let small = rivet::source::postgres::split::SplitRequest { slices: None, ..slices(1) };
    assert_eq!(judged(&client, &table("sizes", "t"), &small).await.planned.split, Split::Whole);
    let rows = rivet::source::postgres::split::SplitRequest { rows_per_slice: Some(30_000), ..small };
    assert_eq!(judged(&client, &table("sizes", "t"), &rows).await.rows.len(), 4);
}
