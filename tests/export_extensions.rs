//! Types of extensions, on servers that have them: PostGIS in the shared server, pgvector in one of its own.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use support::cluster::OwnCluster;
use support::database::Database;
use support::oracle;
use support::rivet::{Scratch, export, run_id};
use tempfile::TempDir;

/// A server that has pgvector: that of `RIVET_TEST_PGVECTOR_BIN`, or the one that `tools/setup` fetches.
fn server_with_pgvector() -> (OwnCluster, Option<TempDir>) {
    if let Some(programs) = std::env::var_os("RIVET_TEST_PGVECTOR_BIN") {
        return (OwnCluster::start_with(Path::new(&programs), None), None);
    }
    let fetched = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("pgvector");
    assert!(fetched.exists(), "{} is not there. Run tools/setup, or set RIVET_TEST_PGVECTOR_BIN", fetched.display());
    // Where the programs are, the server's account may not be allowed to go.
    let copied = tempfile::Builder::new().prefix("rivet-test-pgvector-").tempdir().expect("a temporary directory");
    let copy = Command::new("cp").arg("-r").arg(fetched).arg(copied.path().join("pgvector")).status();
    assert!(copy.expect("cp can be started").success());
    let open = Command::new("chmod").args(["-R", "go+rX"]).arg(copied.path()).status();
    assert!(open.expect("chmod can be started").success());
    (OwnCluster::start_with(&copied.path().join("pgvector/pgserver/pginstall/bin"), None), Some(copied))
}

#[test]
fn geometries_and_geographies_arrive_as_the_extended_binary_form_that_the_server_sends() {
    let database = Database::create("postgis");
    // Outside of `public`: what counts is the extension, not the name that is seen.
    database.execute(
        "CREATE SCHEMA gis; CREATE EXTENSION postgis SCHEMA gis;
         CREATE DOMAIN gis.place AS gis.geometry(Point, 4326);
         CREATE TYPE stop AS (name text, at gis.geometry);
         CREATE TABLE t (id int PRIMARY KEY, point gis.geometry(Point, 4326), shape gis.geometry, globe gis.geography,
                         place gis.place, route gis.geometry[], stops stop[]);
         SET search_path = public, gis;
         INSERT INTO t VALUES
           (1, 'SRID=4326;POINT(8.5 47.4)', 'POLYGON((0 0,4 0,4 4,0 4,0 0),(1 1,2 1,2 2,1 2,1 1))', 'POINT(-179.9 -89.9)',
            'SRID=4326;POINT(1 2)', ARRAY['POINT(0 0)'::geometry, NULL, 'LINESTRING Z (0 0 1, 1 1 2)'],
            ARRAY[('a', 'POINT(3 4)')::stop, (NULL, NULL)::stop]),
           (2, NULL, NULL, NULL, NULL, NULL, NULL),
           (3, 'SRID=4326;POINT EMPTY', 'GEOMETRYCOLLECTION EMPTY', 'SRID=4326;MULTIPOINT((0 0),(1 1))', NULL, '{}', '{}'),
           (4, 'SRID=4326;POINT(-0.0 1e-300)', 'SRID=3857;CIRCULARSTRING ZM (0 0 1 2, 1 1 3 4, 2 0 5 6)',
            'LINESTRING(0 0, 90 45)', NULL, ARRAY['SRID=2056;TIN(((0 0 0,0 0 1,0 1 0,0 0 0)))'::geometry], NULL);",
    );
    let scratch = Scratch::with(&database, &[export("places", "table: t")]);
    let summary = scratch.run_ok(&[]);
    let served = "SELECT id, gis.ST_AsEWKB(point) AS point, gis.ST_AsEWKB(shape) AS shape,
        gis.ST_AsEWKB(globe::gis.geometry) AS globe, gis.ST_AsEWKB(place) AS place,
        CASE WHEN route IS NOT NULL THEN ARRAY(SELECT gis.ST_AsEWKB(g) FROM unnest(route) WITH ORDINALITY AS r(g, n) ORDER BY n)
        END AS route FROM t";
    let query =
        Scratch::with(&database, &[export("simple", "query: 'SELECT id, point, shape, globe, place, route FROM t'")]);
    let simple = query.run_ok(&[]);
    oracle::assert_same_rows(&database, served, &query.run_dir(&run_id(&simple)));
    let with_stops = served.replace(
        "FROM t",
        ", CASE WHEN stops IS NOT NULL THEN ARRAY(SELECT ROW(name, gis.ST_AsEWKB(at))::sent FROM unnest(stops) WITH ORDINALITY
          AS s(name, at, n) ORDER BY n) END AS stops FROM t",
    );
    database.execute("CREATE TYPE sent AS (name text, at bytea)");
    oracle::assert_same_rows(&database, &with_stops, &scratch.run_dir(&run_id(&summary)));

    let checked = scratch.rivet(&["check", "-c", "rivet.yaml", "--types", "--strict"]).expect_exit(0);
    drop(checked.expect_in_stdout("gis.geometry(Point,4326)").expect_in_stdout("binary").expect_in_stdout("exact"));
}

#[test]
fn vectors_arrive_as_lists_of_floats() {
    let (cluster, _programs) = server_with_pgvector();
    let database = Database::create_in(&cluster.server, "pgvector");
    database.execute(
        "CREATE EXTENSION vector;
         CREATE DOMAIN embedding AS vector(3);
         CREATE TABLE t (id int PRIMARY KEY, v vector(3), any_size vector, e embedding NOT NULL, several vector[]);
         INSERT INTO t VALUES (1, '[1,2.5,-3e-20]', '[0.1]', '[3.4028235e38,-1e-45,0]', ARRAY['[1,2]'::vector, NULL, '[3]']),
                              (2, NULL, NULL, '[1,2,3]', NULL),
                              (3, '[-0,0,1e10]', array_fill(0.5::real, ARRAY[2000])::vector, '[7,8,9]', '{}');",
    );
    let scratch = Scratch::with(&database, &[export("embeddings", "table: t")]);
    let run_dir = scratch.run_dir(&run_id(&scratch.run_ok(&[])));
    let parts = support::files::parts(&run_dir);
    let served = "SELECT id, v::real[] AS v, any_size::real[] AS any_size, e::vector::real[] AS e FROM t";
    let narrow = "query: 'SELECT id, v, any_size, e FROM t'";
    let query = Scratch::with(&database, &[export("embeddings", narrow)]);
    oracle::assert_same_rows(&database, served, &query.run_dir(&run_id(&query.run_ok(&[]))));
    assert_eq!(lists_in("several", &parts), "[[[1.0, 2.0], None, [3.0]], None, []]");
    let checked = scratch.rivet(&["check", "-c", "rivet.yaml", "--types", "--strict"]).expect_exit(0);
    drop(checked.expect_in_stdout("vector(3)").expect_in_stdout("list<float4>"));
}

/// A column as pyarrow shows it, in the order of `id`.
fn lists_in(column: &str, parts: &[PathBuf]) -> String {
    let script = format!(
        "import sys, pyarrow.parquet as pq\n\
         rows = [row for path in sys.argv[1:] for row in pq.read_table(path).to_pylist()]\n\
         print([row['{column}'] for row in sorted(rows, key=lambda row: row['id'])])"
    );
    let output = Command::new(oracle::python()).args(["-c", &script]).args(parts).output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
