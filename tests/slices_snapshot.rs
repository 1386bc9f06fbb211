//! One snapshot for all sessions of a run, and what happens when something slips past it.

mod slices;
mod support;

use rivet::config::model::Selection;
use rivet::error::{ErrorKind, Retry};
use rivet::run::plan::Split;
use rivet::source::postgres::{snapshot, split, sql};
use slices::*;

async fn count(client: &tokio_postgres::Client, table: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn sessions_that_join_a_snapshot_see_what_it_saw_and_nothing_later() {
    let writer = prepared("snap_join", "CREATE TABLE t AS SELECT i FROM generate_series(1, 100) i").await;
    let (holder, worker) = (writer.session().await, writer.session().await);
    let open = snapshot::open(&holder).await.unwrap();
    assert!(!open.standby && open.server.starts_with(|c: char| c.is_ascii_digit()), "{open:?}");
    assert!(open.lsn.contains('/') && open.visible.matches(':').count() == 2, "{open:?}");
    writer.batch_execute("INSERT INTO t VALUES (101); DELETE FROM t WHERE i < 50").await.unwrap();
    snapshot::join(&worker, &open.id).await.unwrap();
    assert_eq!((count(&worker, "snap_join.t").await, count(&holder, "snap_join.t").await), (100, 100));
    let refused = worker.batch_execute("CREATE TABLE snap_join.u (a int)").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006", "the transaction is read only");
    snapshot::close(&worker).await.unwrap();
    assert_eq!(count(&worker, "snap_join.t").await, 52);
    snapshot::close(&holder).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_whose_holder_is_gone_is_lost_and_the_session_stays_usable() {
    let worker = prepared("snap_lost", "").await;
    let holder = worker.session().await;
    let open = snapshot::open(&holder).await.unwrap();
    snapshot::close(&holder).await.unwrap();
    for id in [open.id.as_str(), "00000000-FFFFFFFF-1"] {
        let error = snapshot::join(&worker, id).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::SourceSnapshotLost, Retry::NewSnapshot), "{error}");
        assert_eq!(count(&worker, "(VALUES (1)) v").await, 1);
    }
    let error = snapshot::join(&worker, "x'; DROP TABLE t; --").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    let again = snapshot::open(&worker).await.unwrap();
    assert_ne!(again.id, open.id);
}

#[tokio::test]
async fn a_table_truncated_or_rewritten_behind_the_snapshot_is_noticed_and_not_read_as_empty() {
    let query = |text: &str| Selection::Query(text.to_owned());
    let cases = [
        ("TRUNCATE t", table("rewrite", "t")),
        ("ALTER TABLE t ALTER id TYPE bigint", table("rewrite", "t")),
        ("TRUNCATE p1", table("rewrite", "p")),
        ("TRUNCATE t", table("rewrite", "v")),
        ("TRUNCATE t", query("SELECT id FROM rewrite.t WHERE id > 10")),
    ];
    for (change, selection) in cases {
        let setup =
            "CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 1000) i; CREATE VIEW v AS SELECT id::text FROM t;
                     CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p DEFAULT;
                     INSERT INTO p SELECT 1 FROM generate_series(1, 1000) i";
        let setup = if change.contains("ALTER") {
            setup.replace("CREATE VIEW v AS SELECT id::text FROM t;", "")
        } else {
            setup.to_owned()
        };
        let writer = prepared("rewrite", &setup).await;
        let holder = writer.session().await;
        let described = described(&holder, &selection).await;
        snapshot::open(&holder).await.unwrap();
        writer.batch_execute(change).await.unwrap();
        // This is what makes it a trap: the snapshot is older than the change, and yet there is nothing to see.
        assert_eq!(count(&holder, &described.from).await, 0, "{change}");
        let error = split::plan(&holder, &described, &slices(4)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceSnapshotLost, "{change}: {error}");
        let error = split::carry_on(&holder, &described, &Split::Whole, &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceSnapshotLost, "{change}: {error}");
        assert!(error.what().contains(if change.contains("p1") { "p1" } else { "t was" }), "{error}");
    }
}

#[tokio::test]
async fn tables_that_only_some_columns_need_are_held_too() {
    let setup = "CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 10) i;
                 CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p DEFAULT;
                 INSERT INTO p SELECT i FROM generate_series(1, 10) i;
                 CREATE VIEW v AS SELECT t.id, s.id AS other FROM t LEFT JOIN (SELECT DISTINCT id FROM p) s USING (id)";
    let writer = prepared("snap_join_removal", setup).await;
    let holder = writer.session().await;
    let described = described(&holder, &table("snap_join_removal", "v")).await;
    snapshot::open(&holder).await.unwrap();
    writer.batch_execute("TRUNCATE p1").await.unwrap();
    let error = split::plan(&holder, &described, &slices(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceSnapshotLost, "{error}");
}

#[tokio::test]
async fn a_partition_attached_between_the_snapshot_and_the_lock_is_noticed() {
    let setup = "CREATE TABLE t (id int) PARTITION BY LIST (id); CREATE TABLE one PARTITION OF t FOR VALUES IN (1);
                 CREATE TABLE two PARTITION OF t FOR VALUES IN (2) PARTITION BY LIST (id);
                 CREATE TABLE late (LIKE t); INSERT INTO late VALUES (2); CREATE VIEW v AS SELECT * FROM t";
    for selection in [table("attach_gap", "t"), table("attach_gap", "v")] {
        let writer = prepared("attach_gap", setup).await;
        let holder = writer.session().await;
        let described = described(&holder, &selection).await;
        snapshot::open(&holder).await.unwrap();
        writer.batch_execute("ALTER TABLE two ATTACH PARTITION late FOR VALUES IN (2)").await.unwrap();
        assert_eq!(count(&holder, "t").await, 1, "a snapshot does not keep it away");
        let error = split::plan(&holder, &described, &slices(4)).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::SourceSnapshotLost, Retry::NewSnapshot), "{error}");
        assert!(error.what().contains("late was attached"), "{error}");
        snapshot::close(&holder).await.unwrap();
        snapshot::open(&holder).await.unwrap();
        split::plan(&holder, &described, &slices(4)).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_session_has_read_beyond_what_is_held_is_known_by_its_locks() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int); CREATE TABLE child () INHERITS (t);
                 CREATE TABLE late (LIKE t); CREATE TABLE p (id int) PARTITION BY LIST (id);
                 CREATE TABLE one PARTITION OF p FOR VALUES IN (1); CREATE TABLE two (LIKE p)";
    let writer = prepared("attach_locks", setup).await;
    for (name, change, arrived) in [
        ("t", "SELECT", None),
        ("t", "CREATE INDEX ON t (id); CREATE INDEX ON child (id)", None),
        ("t", "ALTER TABLE late INHERIT child", Some("late")),
        ("p", "SELECT", None),
        ("p", "ALTER TABLE p ATTACH PARTITION two FOR VALUES IN (2)", Some("two")),
    ] {
        let holder = writer.session().await;
        let described = described(&holder, &table("attach_locks", name)).await;
        snapshot::open(&holder).await.unwrap();
        let hold = split::hold(&holder, &described).await.unwrap();
        writer.batch_execute(change).await.unwrap();
        // The holder reads too, where there is one slice.
        count(&holder, name).await;
        let answer = holder.simple_query(&hold.question()).await.unwrap();
        let others = answer.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        });
        let expected = match arrived {
            Some(table) => {
                Some(writer.query_one(&format!("SELECT '{table}'::regclass::oid::text"), &[]).await.unwrap().get(0))
            }
            None => None,
        };
        assert_eq!(others, Some(expected), "{name} after {change}");
        snapshot::close(&holder).await.unwrap();
    }
}

#[tokio::test]
async fn a_planned_table_cannot_be_truncated_until_the_snapshot_is_closed() {
    let writer = prepared("snap_hold", "CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 1000) i").await;
    let holder = writer.session().await;
    let described = described(&holder, &table("snap_hold", "t")).await;
    snapshot::open(&holder).await.unwrap();
    let request = split::SplitRequest { slices: None, ..slices(1) };
    split::plan(&holder, &described, &request).await.unwrap();
    snapshot::close(&holder).await.unwrap();
    // A later snapshot of the same run plans nothing and holds the table all the same.
    snapshot::open(&holder).await.unwrap();
    split::carry_on(&holder, &described, &Split::Whole, &[]).await.unwrap();
    let refused = writer.batch_execute("SET lock_timeout = '200ms'; TRUNCATE t").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "55P03");
    snapshot::close(&holder).await.unwrap();
    writer.batch_execute("TRUNCATE t").await.unwrap();
}

#[tokio::test]
async fn rows_that_arrive_or_move_while_slices_are_read_change_nothing() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, x text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 20000) i;
                 CREATE TABLE h AS SELECT * FROM t";
    let writer = prepared("snap_moving", setup).await;
    for name in ["t", "h"] {
        let (holder, worker) = (writer.session().await, writer.session().await);
        let described = described(&holder, &table("snap_moving", name)).await;
        let open = snapshot::open(&holder).await.unwrap();
        let planned = split::plan(&holder, &described, &slices(6)).await.unwrap();
        let mut rows = 0;
        for (i, slice) in planned.slices.iter().enumerate() {
            let change = format!(
                "UPDATE {name} SET id = -id WHERE id % 6 = {i}; INSERT INTO {name} VALUES ({}, '')",
                100_000 + i
            );
            writer.batch_execute(&change).await.unwrap();
            snapshot::join(&worker, &open.id).await.unwrap();
            worker.batch_execute(sql::slice_settings(&planned.split)).await.unwrap();
            let statement = sql::copy_statement(&described, &planned.split, &slice.bounds).unwrap();
            rows += tuples(&worker, &statement).await.len();
            snapshot::close(&worker).await.unwrap();
        }
        assert_eq!(rows, 20_000, "{name}: {}", planned.reason);
        snapshot::close(&holder).await.unwrap();
    }
}

#[tokio::test]
async fn bytes_in_temporary_files_are_counted_between_two_transactions() {
    let client = prepared("snap_temp", "").await;
    let before = snapshot::temp_bytes(&client).await.unwrap();
    client.batch_execute("SET work_mem = '64kB'").await.unwrap();
    client
        .query("SELECT count(*) FROM (SELECT i FROM generate_series(1, 200000) i ORDER BY md5(i::text)) s", &[])
        .await
        .unwrap();
    client.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    let after = snapshot::temp_bytes(&client).await.unwrap();
    assert!(after >= before + 1_000_000, "{before} then {after}");
}
