//! What the catalog says about a relation or a query, and what is refused with which words.

mod slices;
mod support;

use rivet::config::model::Selection;
use rivet::error::{Error, ErrorKind};
use rivet::run::plan::{Bounds, KeyColumn, Split};
use rivet::run::schema::ColumnType;
use rivet::source::postgres::catalog::{RelationKind, describe};
use rivet::source::postgres::sql;
use slices::*;
use std::collections::BTreeMap;
use std::time::Instant;

fn query(text: &str) -> Selection {
    Selection::Query(text.to_owned())
}

async fn refused(client: &tokio_postgres::Client, selection: &Selection) -> Error {
    describe(client, selection, &BTreeMap::new(), Default::default()).await.expect_err("this cannot be described")
}

#[tokio::test]
async fn columns_come_in_order_with_their_types_and_nullability() {
    let setup = "CREATE DOMAIN price AS numeric(12,2); CREATE DOMAIN dear AS price NOT NULL; CREATE TYPE mood AS ENUM ('sad');
                 CREATE TYPE pair AS (a int, b text);
                 CREATE TABLE t (id bigint PRIMARY KEY, gone int, p dear, prices price[], n numeric(6,3)[], m mood[] NOT NULL,
                                 v varchar(20), pair pair, i inet, bare numeric, at timestamptz(3));
                 ALTER TABLE t DROP COLUMN gone";
    let client = prepared("cat_types", setup).await;
    let described = described(&client, &table("cat_types", "t")).await;
    let columns: Vec<String> = described
        .schema()
        .columns
        .iter()
        .map(|c| format!("{} {} {} <- {}", c.name, c.column_type, c.nullable, c.source_type))
        .collect();
    assert_eq!(
        columns,
        [
            "id int64 false <- bigint",
            "p decimal(12,2) true <- cat_types.dear",
            "prices list<decimal(12,2)> true <- cat_types.price[]",
            "n list<decimal(6,3)> true <- numeric(6,3)[]",
            "m list<text> false <- cat_types.mood[]",
            "v text true <- character varying(20)",
            "pair struct<1:a:int32,1:b:text> true <- cat_types.pair",
            "i text true <- inet",
            "bare text true <- numeric",
            "at timestamp_utc true <- timestamp(3) with time zone",
        ]
    );
    let relation = described.relation.as_ref().unwrap();
    assert_eq!((relation.kind, relation.children, relation.pages), (RelationKind::Table, 0, 0));
    assert_eq!(relation.indexes.len(), 1);
    assert!(relation.indexes[0].primary && relation.best_key() == relation.indexes.first());
    let statement = sql::copy_statement(&described, &Split::Whole, &Bounds::Whole).unwrap();
    let printed = "pg_catalog.textin(pg_catalog.inet_out(\"i\"))";
    let selected =
        format!("COPY (SELECT \"id\", \"p\", \"prices\", \"n\", \"m\", \"v\", \"pair\", {printed}, \"bare\", ");
    assert!(statement.starts_with(&selected), "{statement}");
    assert!(statement.ends_with(" FROM \"cat_types\".\"t\") TO STDOUT (FORMAT binary)"), "{statement}");
}

#[tokio::test]
async fn a_query_is_analysed_by_the_server_and_all_of_its_columns_may_be_null() {
    let setup = "CREATE TABLE t (id bigint PRIMARY KEY, p numeric(12,2) NOT NULL); CREATE TYPE mood AS ENUM ('sad')";
    let client = prepared("cat_query", setup).await;
    let text =
        "/* ; */ SELECT id, p AS \"the price\", p * 2 AS twice, 'sad'::mood AS m, ARRAY[id] AS ids FROM t -- ;\n;";
    let described = described(&client, &query(text)).await;
    let columns: Vec<String> =
        described.columns.iter().map(|c| format!("{} {}", c.column.name, c.column.column_type)).collect();
    assert_eq!(columns, ["id int64", "the price decimal(12,2)", "twice text", "m text", "ids list<int64>"]);
    assert!(described.columns.iter().all(|c| c.column.nullable) && described.relation.is_none());
}

#[tokio::test]
async fn what_is_not_one_readable_query_is_refused() {
    let client = prepared("cat_badquery", "CREATE TABLE t (a int)").await;
    let cases = [
        ("SELECT 1 AS a, 2 AS a", ErrorKind::ConfigInvalid, "two columns named \"a\""),
        ("SELECT 1 AS a; SELECT 2 AS a", ErrorKind::ConfigInvalid, "more than one statement"),
        ("UPDATE t SET a = 1 RETURNING a", ErrorKind::ConfigInvalid, "begins with \"UPDATE\""),
        ("SELECT $1::int AS a", ErrorKind::ConfigInvalid, "parameters"),
        ("SELECT a FROM nowhere", ErrorKind::SourceMissing, "nowhere"),
        ("SELECT b FROM t", ErrorKind::SourceMissing, "\"b\" does not exist"),
        ("WITH d AS (DELETE FROM t RETURNING a) SELECT a FROM d", ErrorKind::SourceUnsupported, "WITH"),
        ("SELECT FROM t", ErrorKind::SourceUnsupported, "no columns"),
    ];
    for (text, kind, words) in cases {
        let error = refused(&client, &query(text)).await;
        assert_eq!(error.kind(), kind, "{text}: {error}");
        assert!(error.what().contains(words), "{text}: {error}");
    }
}

#[tokio::test]
async fn a_missing_table_is_answered_with_the_nearest_name_there_is() {
    let client = prepared("cat_missing", "CREATE TABLE customer_orders (a int); CREATE TABLE \"Mixed\" (a int)").await;
    let error = refused(&client, &table("cat_missing", "customer_order")).await;
    assert_eq!(error.kind(), ErrorKind::SourceMissing);
    assert!(
        error.what().contains("customer_order") && error.hint().contains("\"customer_orders\" in schema"),
        "{error}"
    );
    assert!(refused(&client, &table("cat_missing", "mixed")).await.hint().contains("\"Mixed\""));
    assert_eq!(refused(&client, &table("no_such_schema", "t")).await.kind(), ErrorKind::SourceMissing);
    // A name longer than 63 bytes is not cut off to one that exists.
    let long = "x".repeat(63);
    client.batch_execute(&format!("CREATE TABLE {long} (a int)")).await.unwrap();
    assert_eq!(refused(&client, &table("cat_missing", &format!("{long}x"))).await.kind(), ErrorKind::SourceMissing);
    let unqualified = Selection::Table { schema: None, name: "customer_orders".to_owned() };
    assert_eq!(described(&client, &unqualified).await.relation.unwrap().schema, "cat_missing");
}

#[tokio::test]
async fn relations_without_rows_and_tables_without_columns_are_refused_by_kind() {
    let setup =
        "CREATE TABLE t (a int PRIMARY KEY); CREATE SEQUENCE s; CREATE TYPE c AS (a int); CREATE TABLE nothing ();
                 CREATE TABLE gone (a int); ALTER TABLE gone DROP COLUMN a";
    let client = prepared("cat_kinds", setup).await;
    for (name, words) in [
        ("t_pkey", "an index"),
        ("s", "a sequence"),
        ("c", "a composite type"),
        ("nothing", "no columns"),
        ("gone", "no columns"),
    ] {
        let error = refused(&client, &table("cat_kinds", name)).await;
        assert_eq!(error.kind(), ErrorKind::SourceUnsupported, "{error}");
        assert!(error.what().contains(words), "{error}");
    }
}

#[tokio::test]
async fn missing_privileges_are_named_before_anything_is_read() {
    let setup = "CREATE ROLE cat_reader;
                 CREATE TABLE open (a int, b int); CREATE TABLE closed (a int); CREATE TABLE half (a int, b int, c int);
                 GRANT SELECT ON open TO cat_reader; GRANT SELECT (a, c) ON half TO cat_reader;";
    let client = prepared("cat_denied", setup).await;
    client.batch_execute("SET ROLE cat_reader").await.unwrap();
    let error = refused(&client, &table("cat_denied", "open")).await;
    assert_eq!(error.kind(), ErrorKind::SourceDenied);
    assert!(error.what().contains("USAGE on schema \"cat_denied\""), "{error}");
    client
        .batch_execute("RESET ROLE; GRANT USAGE ON SCHEMA cat_denied TO cat_reader; SET ROLE cat_reader")
        .await
        .unwrap();
    described(&client, &table("cat_denied", "open")).await;
    assert_eq!(refused(&client, &table("cat_denied", "closed")).await.kind(), ErrorKind::SourceDenied);
    let error = refused(&client, &table("cat_denied", "half")).await;
    assert!(error.kind() == ErrorKind::SourceDenied && error.what().ends_with("column b"), "{error}");
    client.batch_execute("RESET ROLE; DROP OWNED BY cat_reader; DROP ROLE cat_reader").await.unwrap();
}

#[tokio::test]
async fn an_override_changes_the_column_and_one_for_no_column_is_refused() {
    let client = prepared("cat_over", "CREATE TABLE t (id int, amount numeric)").await;
    let wanted = BTreeMap::from([("amount".to_owned(), ColumnType::Decimal { precision: 20, scale: 4 })]);
    let described = describe(&client, &table("cat_over", "t"), &wanted, Default::default()).await.unwrap();
    assert_eq!(described.columns[1].column.column_type.to_string(), "decimal(20,4)");
    let wanted = BTreeMap::from([("Amuont".to_owned(), ColumnType::Text)]);
    let error = describe(&client, &table("cat_over", "t"), &wanted, Default::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(error.what().contains("\"Amuont\"") && error.hint().contains("\"amount\""), "{error}");
    let wanted = BTreeMap::from([("id".to_owned(), ColumnType::Uuid)]);
    let error = describe(&client, &table("cat_over", "t"), &wanted, Default::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::ConfigInvalid && error.what().contains("column \"id\""), "{error}");
}

#[tokio::test]
async fn bounds_that_do_not_belong_to_their_split_make_no_statement() {
    let client = prepared("cat_bounds", "CREATE TABLE t (a int PRIMARY KEY, b int)").await;
    let described = described(&client, &table("cat_bounds", "t")).await;
    let key = |name: &str| KeyColumn { name: name.to_owned(), type_name: "integer".to_owned() };
    let split = |columns: Vec<KeyColumn>| Split::Key { columns, evidence: "sample".to_owned() };
    let range =
        |values: &[&str]| Bounds::Range { lower: Some(values.iter().map(|&v| v.to_owned()).collect()), upper: None };
    let kind = |split: &Split, bounds: &Bounds| sql::copy_statement(&described, split, bounds).unwrap_err().kind();
    assert_eq!(kind(&Split::Whole, &range(&["1"])), ErrorKind::Internal);
    assert_eq!(kind(&split(vec![key("a")]), &Bounds::Whole), ErrorKind::Internal);
    assert_eq!(kind(&split(vec![key("a")]), &range(&["1", "2"])), ErrorKind::Internal);
    assert_eq!(kind(&split(vec![]), &range(&[])), ErrorKind::Internal);
    assert_eq!(kind(&split(vec![key("gone")]), &range(&["1"])), ErrorKind::SourceMissing);
    let predicate = sql::predicate(&described, &split(vec![key("a"), key("b")]), &range(&["1", "2"])).unwrap();
    assert_eq!(
        predicate,
        "\"a\" >= '1'::integer AND (\"a\", \"b\") >= ('1'::integer, '2'::integer) AND \"b\" IS NOT NULL"
    );
}

#[tokio::test]
async fn hundreds_of_tables_are_described_and_planned_in_seconds() {
    let client = prepared("cat_many", "").await;
    let tables: Vec<String> = (0..200)
        .map(|i| format!("CREATE TABLE t{i} (id bigint PRIMARY KEY, a int, b text, c timestamptz, d numeric(10,2)); INSERT INTO t{i} VALUES (1);"))
        .collect();
    client.batch_execute(&tables.concat()).await.unwrap();
    let open = rivet::source::postgres::snapshot::open(&client).await.unwrap();
    let started = Instant::now();
    for i in 0..200 {
        let described = described(&client, &table("cat_many", &format!("t{i}"))).await;
        let request = rivet::source::postgres::split::SplitRequest { slices: None, ..slices(1) };
        let planned = rivet::source::postgres::split::plan(&client, &described, &request).await.unwrap();
        assert_eq!(planned.split, Split::Whole);
    }
    let rate = 200.0 / started.elapsed().as_secs_f64();
    println!("{rate:.0} tables a second in snapshot {}", open.id);
    assert!(rate > 20.0, "{rate:.0} tables a second");
}
