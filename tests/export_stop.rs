//! A request to stop while the server is busy with a question of the planning: the answer comes at once, and nothing is left
//! running on the server.

mod support;

use std::time::{Duration, Instant};
use support::database::Database;
use support::rivet::{Rivet, Scratch, export};

/// Waits until as many of rivet's statements run on the server's database as `expected` says.
#[track_caller]
fn wait_for_statements(database: &Database, what: &str, expected: fn(u32) -> bool) {
    let running = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'rivet' AND state = 'active'";
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let count: u32 = database.value(running).parse().expect("a count is a number");
        if expected(count) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {count} statements");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn planning_that_waits_or_works_on_the_server_is_cancelled_there() {
    let database = Database::create("stop_planning");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000); ANALYZE t;
         CREATE FUNCTION slow(i int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT i FROM (SELECT pg_sleep(0.5)) AS s';",
    );
    let query = "query: 'SELECT slow(id) AS id FROM t'\nmode: chunked\nchunk_column: id\nchunk_count: 4";
    for (lines, locked) in [("table: t", true), (query, false)] {
        let mut lock = database.session();
        if locked {
            lock.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE;");
        }
        let scratch = Scratch::with(&database, &[export("a", lines), export("b", lines)]);
        let running = Rivet::new(&scratch).spawn(&["run"]);
        wait_for_statements(&database, "planning does not begin", |count| count > 0);
        running.signal(rustix::process::Signal::INT);
        let stopped = running.wait().expect_exit(130);
        assert_eq!(stopped.stderr.matches("a second signal ends the process at once").count(), 1, "{stopped}");
        // The lock is still held, and the query would take minutes: only a cancellation ends them.
        wait_for_statements(&database, "a statement outlives its process", |count| count == 0);
        drop(lock);
    }
}
