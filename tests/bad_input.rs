//! Whatever is wrong with the input, the surroundings or the state: a code, an exit code, the next step, no secret, and
//! nothing lost that was there before.

mod support;

use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use support::cluster::free_port;
use support::database::Database;
use support::rivet::{Finished, Rivet, Scratch, config, export, run_id};
use support::{files, oracle};

const SECRET: &str = "p@ss:w/o?r#d";
const SECRET_ENCODED: &str = "p%40ss%3Aw%2Fo%3Fr%23d";

/// `rivet run` on a whole configuration file.
fn run_config(yaml: &str) -> Finished {
    let scratch = Scratch::new();
    scratch.write_config(yaml);
    scratch.rivet(&["run", "-c", "rivet.yaml"])
}

fn small(name: &str) -> Database {
    let database = Database::create(name);
    database.execute("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t SELECT g, 'n' || g FROM generate_series(1, 200) AS g; ANALYZE t");
    database
}

/// Large enough for several parts and for many writes.
fn sizeable(name: &str) -> Database {
    let database = Database::create(name);
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, noise text);
         INSERT INTO t SELECT g, md5(g::text) || md5((g + 1)::text) FROM generate_series(1, 20000) AS g; ANALYZE t;",
    );
    database
}

const SLICED: &str = "table: t\nmode: chunked\nchunk_count: 4\ntuning: { parallel: 2 }";

// ---- the command line and the file

#[test]
fn a_missing_file_is_named() {
    let scratch = Scratch::new();
    let finished = scratch.rivet(&["run", "-c", "nowhere.yaml"]);
    finished.expect_error(2, "RIVET_CONFIG_MISSING").expect_in_stderr("nowhere.yaml");
}

#[test]
fn a_file_that_is_not_yaml_is_refused_with_the_line() {
    let finished = run_config("source:\n  type: postgres\n  url: [unclosed\nexports: []\n");
    finished.expect_error(2, "RIVET_CONFIG_SYNTAX").expect_in_stderr("rivet.yaml");
    let scratch = Scratch::new();
    scratch.write("rivet.yaml", &[0xff, 0xfe, 0x00, 0x80, b'a']);
    let finished = scratch.rivet(&["run", "-c", "rivet.yaml"]);
    assert_eq!(finished.code(), Some(2), "{finished}");
    let finished = finished.expect_in_stderr("RIVET_CONFIG_");
    assert!(!finished.stderr.contains("panicked"), "{finished}");
}

#[test]
fn files_that_say_nothing_or_something_else_are_refused() {
    for yaml in ["", "null\n", "[]\n", "42\n", "source: {}\n", "exports: []\n", "a: &a [*a]\n"] {
        let finished = run_config(yaml);
        let finished = finished.expect_exit(2);
        assert!(finished.stderr.contains("RIVET_CONFIG_"), "{yaml:?}: {finished}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
    let yaml = config("postgres://postgres@127.0.0.1:1/x", &[export("a", "table: t\nchunk_cuont: 4")]);
    let finished = run_config(&yaml).expect_error(2, "RIVET_CONFIG_UNKNOWN_KEY");
    finished.expect_in_stderr("chunk_cuont").expect_in_stderr("chunk_count").expect_in_stderr("rivet.yaml:");
}

#[test]
fn values_outside_their_range_are_refused_by_name() {
    let wrong = [
        ("table: t\nformat_: x", "format_"),
        ("table: t\nmode: sideways", "sideways"),
        ("table: t\nmode: chunked\nchunk_count: 0", "chunk_count"),
        ("table: t\nmode: chunked\nchunk_count: -3", "chunk_count"),
        ("table: t\nmax_file_size: lots", "max_file_size"),
        ("table: t\ntuning: { parallel: 0 }", "parallel"),
        ("table: t\ntuning: { profile: reckless }", "reckless"),
        ("table: t\ncompression: rar", "rar"),
        ("table: t\ncolumns: { a: 'decimal(99,3)' }", "decimal(99,3)"),
        ("table: t\nquery: SELECT 1", "query"),
        ("table: ''", "table"),
    ];
    for (lines, named) in wrong {
        let finished = run_config(&config("postgres://postgres@127.0.0.1:1/x", &[export("a", lines)]));
        let finished = finished.expect_exit(2);
        assert!(finished.stderr.contains("RIVET_CONFIG_") && finished.stderr.contains(named), "{lines}: {finished}");
    }
}

#[test]
fn two_exports_of_one_name_and_an_export_that_does_not_exist_are_refused() {
    let url = "postgres://postgres@127.0.0.1:1/x";
    let twice = config(url, &[export("a", "table: t"), export("a", "table: u")]);
    run_config(&twice).expect_error(2, "RIVET_CONFIG_INVALID").expect_in_stderr("a");
    let scratch = Scratch::new();
    scratch.write_config(&config(url, &[export("orders", "table: t")]));
    let finished = scratch.rivet(&["run", "-c", "rivet.yaml", "-e", "ordres"]);
    finished.expect_error(2, "RIVET_CONFIG_UNKNOWN_EXPORT").expect_in_stderr("orders");
    for name in ["../escape", "a/b", "", "a b", ".."] {
        let finished = run_config(&config(url, &[export(&format!("'{name}'"), "table: t")]));
        assert_eq!(finished.code(), Some(2), "the name {name:?}: {finished}");
    }
}

#[test]
fn an_unset_secret_is_named_and_a_set_one_is_never_printed() {
    let lines = [export("a", "table: t")].concat();
    let yaml = format!("source:\n  type: postgres\n  url: '${{RIVET_TEST_UNSET_URL}}'\nexports:\n{lines}");
    run_config(&yaml).expect_error(2, "RIVET_CONFIG_UNSET").expect_in_stderr("RIVET_TEST_UNSET_URL");
    let yaml = format!("source:\n  type: postgres\n  url_env: UNSET_URL_OF_A_TEST\nexports:\n{lines}");
    run_config(&yaml).expect_error(2, "RIVET_CONFIG_UNSET").expect_in_stderr("UNSET_URL_OF_A_TEST");
    // A URL with a secret in it that cannot be parsed.
    let scratch = Scratch::new();
    scratch.write_config(&format!("source:\n  type: postgres\n  url: '${{THE_URL}}'\nexports:\n{lines}"));
    let url = format!("postgres://user:{SECRET_ENCODED}@[bad host:notaport/db");
    let finished = Rivet::new(&scratch).env("THE_URL", url).run(&["run", "-c", "rivet.yaml"]).expect_exit(2);
    finished.expect_nowhere(SECRET_ENCODED).expect_nowhere(SECRET);
}

#[test]
fn a_missing_verb_an_unknown_flag_and_a_missing_argument_are_usage() {
    let scratch = Scratch::new();
    for arguments in [&["frobnicate"][..], &["run", "--frobnicate"], &["resume"], &["run", "-c"]] {
        let finished = scratch.rivet(arguments).expect_exit(2);
        assert!(!finished.stderr.is_empty(), "{finished}");
    }
    let help = scratch.rivet(&["--help"]).expect_exit(0);
    for verb in ["run", "resume", "replay", "runs", "status"] {
        assert!(help.stdout.contains(verb), "{verb} is not in the help: {help}");
    }
}

// ---- the source

#[test]
fn an_unreachable_server_is_unavailable_and_its_place_is_named() {
    let port = free_port();
    let yaml = config(&format!("postgres://user:{SECRET_ENCODED}@127.0.0.1:{port}/x"), &[export("a", "table: t")]);
    let finished = run_config(&yaml).expect_error(6, "RIVET_SOURCE_UNREACHABLE");
    finished.expect_in_stderr(&port.to_string()).expect_nowhere(SECRET).expect_nowhere(SECRET_ENCODED);
}

#[test]
fn a_wrong_password_is_an_authentication_error_without_the_password() {
    let database = small("password");
    if database.server.socket_dir.is_none() {
        // A server of somebody else's has its own rules for who may log in.
        return refused_role(&database);
    }
    database.execute(
        "DO $$ BEGIN CREATE ROLE rivet_password LOGIN PASSWORD 'right'; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         GRANT SELECT ON t TO rivet_password",
    );
    let wrong = database.url_as(&format!("rivet_password:{SECRET_ENCODED}"));
    let finished = run_config(&config(&wrong, &[export("a", "table: t")])).expect_error(2, "RIVET_SOURCE_AUTH");
    finished.expect_nowhere(SECRET).expect_nowhere(SECRET_ENCODED);
    let right = database.url_as("rivet_password:right");
    run_config(&config(&right, &[export("a", "table: t")])).expect_exit(0).expect_nowhere("right@");
    refused_role(&database);
}

fn refused_role(database: &Database) {
    let nobody = database.url_as("rivet_role_that_does_not_exist");
    let finished = run_config(&config(&nobody, &[export("a", "table: t")]));
    finished.expect_error(2, "RIVET_SOURCE_AUTH").expect_in_stderr("rivet_role_that_does_not_exist");
}

#[test]
fn a_missing_database_and_a_missing_table_are_named() {
    let database = small("missing");
    let nowhere = database.server.url("no_such_database");
    let finished = run_config(&config(&nowhere, &[export("a", "table: t")]));
    finished.expect_error(2, "RIVET_SOURCE_MISSING").expect_in_stderr("no_such_database");
    for (table, named) in [
        ("no_such_table", "no_such_table"),
        ("no_such_schema.t", "no_such_schema"),
        ("\"T\"", "T"),
        ("public.\"t \"", "t "),
    ] {
        let finished = run_config(&config(&database.url(), &[export("a", &format!("table: '{table}'"))]));
        finished.expect_error(2, "RIVET_SOURCE_MISSING").expect_in_stderr(named);
    }
}

#[test]
fn a_query_that_the_server_rejects_fails_with_the_servers_words() {
    let database = small("query");
    for query in
        ["SELEC 1", "SELECT nothing FROM t", "SELECT 1; DROP TABLE t", "DELETE FROM t RETURNING id", "SELECT 1/0"]
    {
        let finished = run_config(&config(&database.url(), &[export("a", &format!("query: '{query}'"))]));
        assert!(matches!(finished.code(), Some(1 | 2)), "{query}: {finished}");
        assert!(
            finished.stderr.contains("RIVET_SOURCE_") || finished.stderr.contains("RIVET_CONFIG_"),
            "{query}: {finished}"
        );
        assert!(!finished.stderr.contains("panicked"), "{finished}");
    }
    assert_eq!(database.value("SELECT count(*) FROM t"), "200", "nothing that was configured changed the source");
}

#[test]
fn a_table_without_the_right_to_read_it_is_denied() {
    let database = small("denied");
    let role = format!("rivet_denied_{}", std::process::id());
    database.execute(&format!("CREATE ROLE {role} LOGIN"));
    let finished = run_config(&config(&database.url_as(&role), &[export("a", "table: public.t")]));
    database.execute(&format!("DROP ROLE {role}"));
    finished.expect_error(2, "RIVET_SOURCE_DENIED").expect_in_stderr("t");
}

#[test]
fn a_table_without_columns_is_exported_or_refused_but_never_lied_about() {
    let database = Database::create("zero_columns");
    database.execute("CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES");
    let scratch = Scratch::with(&database, &[export("a", "table: nothing")]);
    let finished = scratch.rivet(&["run", "-c", "rivet.yaml", "--json"]);
    match finished.code() {
        Some(0) => assert_eq!(finished.summary()["total_rows"], 2),
        _ => drop(finished.expect_error(2, "RIVET_SOURCE_UNSUPPORTED")),
    }
}

#[test]
fn a_locked_table_is_given_up_after_the_lock_timeout() {
    let database = small("locked");
    let mut session = database.session();
    session.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
    let lines = "table: t\ntuning: { lock_timeout_s: 1, max_retries: 0 }";
    let finished = run_config(&config(&database.url(), &[export("a", lines)]));
    finished.expect_error(6, "RIVET_SOURCE_LOCKED");
}

#[test]
fn a_server_without_free_connections_is_unavailable() {
    let cluster = support::cluster::OwnCluster::start();
    cluster.configure("max_connections = 5\nsuperuser_reserved_connections = 3\nmax_wal_senders = 0");
    cluster.restart("fast");
    let database = Database::create_in(&cluster.server, "crowded");
    database.execute("CREATE TABLE t (id int); CREATE ROLE visitor LOGIN; GRANT SELECT ON t TO visitor");
    let mut crowd: Vec<_> = (0..2).map(|_| database.session()).collect();
    crowd.iter_mut().for_each(|session| drop(session.execute("SELECT 1")));
    let lines = "table: t\ntuning: { max_retries: 0 }";
    let finished = run_config(&config(&database.url_as("visitor"), &[export("a", lines)]));
    finished.expect_error(6, "RIVET_SOURCE_TOO_MANY_CONNECTIONS");
}

// ---- the destination

#[test]
fn a_directory_among_whose_files_rivet_did_not_write_is_left_alone() {
    let database = small("foreign");
    let scratch = Scratch::new();
    let lines = "  - name: a\n    table: t\n    format: parquet\n    destination: { type: local, path: ./out }\n";
    scratch.write_config(&config(&database.url(), &[lines.to_owned()]));
    fs::create_dir_all(scratch.path().join("out")).expect("a scratch directory can be written");
    scratch.write("out/manifest.json", b"{\"mine\": true}");
    scratch.write("out/thesis.parquet", b"years of work");
    scratch.rivet(&["run", "-c", "rivet.yaml"]).expect_error(5, "RIVET_DESTINATION_FOREIGN").expect_in_stderr("out");
    assert_eq!(files::tree(&scratch.path().join("out")), ["manifest.json", "thesis.parquet"]);
    assert_eq!(fs::read(scratch.path().join("out/thesis.parquet")).expect("it is there"), b"years of work");
}

#[test]
fn a_destination_that_is_a_file_or_cannot_be_written_is_named() {
    let database = small("unwritable");
    let scratch = Scratch::with(&database, &[export("a", "table: t")]);
    scratch.write("out", b"a file");
    let finished = scratch.rivet(&["run", "-c", "rivet.yaml"]);
    assert!(matches!(finished.code(), Some(5 | 6)), "{finished}");
    assert!(finished.stderr.contains("RIVET_DESTINATION_") && finished.stderr.contains("out"), "{finished}");
    assert_eq!(fs::read(scratch.path().join("out")).expect("it is there"), b"a file");

    let scratch = Scratch::with(&database, &[export("a", "table: t")]);
    let out = scratch.path().join("out");
    fs::create_dir(&out).expect("a scratch directory can be written");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o555)).expect("permissions can be set");
    let finished = Rivet::new(&scratch).bound_by_permissions().run(&["run", "-c", "rivet.yaml"]);
    finished.expect_error(6, "RIVET_DESTINATION_UNWRITABLE").expect_in_stderr("out");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o755)).expect("permissions can be set");
    let run = only_run(&scratch, "a");
    let summary = scratch.resume_ok(&run);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
}

/// The run that the journal of an export knows.
fn only_run(scratch: &Scratch, name: &str) -> String {
    let journal = scratch.journal_dir(name).display().to_string();
    let finished = scratch.rivet(&["replay", "--journal", &journal, "--json"]).expect_exit(0);
    run_id(finished.summaries().last().expect("the journal knows a run"))
}

/// The shell's limit on the size of a file stands in for a full disk: every write beyond it fails.
#[test]
fn a_write_that_the_system_refuses_is_typed_leaves_no_half_part_and_can_be_resumed() {
    let database = sizeable("file_limit");
    let scratch = Scratch::with(&database, &[export("a", SLICED)]);
    let limited = Rivet::new(&scratch).through(&["sh", "-c", "trap '' XFSZ; ulimit -f 60; exec \"$0\" \"$@\""]);
    let finished = limited.run(&["run", "-c", "rivet.yaml"]).expect_exit(6);
    assert!(finished.stderr.contains("RIVET_DESTINATION_") || finished.stderr.contains("RIVET_JOURNAL_"), "{finished}");
    let run = only_run(&scratch, "a");
    files::assert_no_half_part(&scratch.run_dir(&run));
    assert!(!scratch.run_dir(&run).join("_SUCCESS").exists());
    let summary = scratch.resume_ok(&run);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
}

/// On a small file system of its own, where the system lets one be mounted.
#[test]
fn a_full_disk_is_typed_and_the_run_goes_on_when_there_is_space_again() {
    let database = sizeable("disk_full");
    let scratch = Scratch::with(&database, &[export("a", SLICED)]);
    fs::create_dir(scratch.path().join("out")).expect("a scratch directory can be written");
    fs::create_dir(scratch.path().join("kept")).expect("a scratch directory can be written");
    let script = r#"
        mount -t tmpfs -o size=160k tmpfs out || exit 99
        "$0" run -c rivet.yaml >first.out 2>first.err; echo $? >first.code
        run=$(ls out | grep '^a-')
        ls -la out/* >first.ls
        mount -o remount,size=100m out || exit 98
        "$0" resume "$run" -c rivet.yaml --json >second.out 2>second.err; echo $? >second.code
        cp -r out/. kept/
    "#;
    let arguments: &[&str] = if rustix::process::geteuid().is_root() {
        &["unshare", "-m", "sh", "-c", script]
    } else {
        &["unshare", "-Urm", "sh", "-c", script]
    };
    let finished = Rivet::new(&scratch).through(arguments).run(&[]);
    let read = |name: &str| fs::read_to_string(scratch.path().join(name)).unwrap_or_default();
    if finished.code() != Some(0) && read("first.code").is_empty() {
        // A container that forbids mounting: the limit on the size of a file, tested above, is what is left, where
        // whoever runs the tests says that this is enough.
        assert!(finished.stderr.contains("unshare") || finished.stderr.contains("mount"), "{finished}");
        assert!(
            std::env::var_os("RIVET_TEST_WITHOUT_MOUNT").is_some(),
            "no file system can be mounted here, so nothing was tested; set RIVET_TEST_WITHOUT_MOUNT=1 to leave this out: {finished}"
        );
        return;
    }
    let first = read("first.err");
    assert_eq!(read("first.code").trim(), "6", "{first}");
    assert!(first.contains("RIVET_DESTINATION_FULL") && !first.contains("panicked"), "{first}");
    assert!(read("first.out").contains("rivet resume a-"), "what to do next is not said: {}", read("first.out"));
    assert_eq!(read("second.code").trim(), "0", "{}", read("second.err"));
    let summary: serde_json::Value = serde_json::from_str(&read("second.out")).expect("--json prints JSON");
    let run = run_id(&summary["runs"][0]);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.path().join("kept").join(run));
}

// ---- the journal

fn finished_export(name: &str) -> (Database, Scratch, String) {
    let database = small(name);
    let scratch = Scratch::with(&database, &[export("a", "table: t")]);
    let run = run_id(&scratch.run_ok(&[]));
    (database, scratch, run)
}

/// The output of an earlier run is what it was.
#[track_caller]
fn assert_output_untouched(database: &Database, scratch: &Scratch, run: &str) {
    oracle::assert_same_rows(database, "SELECT * FROM t", &scratch.run_dir(run));
}

#[test]
fn a_journal_of_a_later_format_is_refused_politely() {
    let (database, scratch, run) = finished_export("newer");
    let format = scratch.journal_dir("a").join("FORMAT");
    let text = fs::read_to_string(&format).expect("a journal names its format");
    let newer = text.replacen('1', "999", 1);
    assert_ne!(text, newer, "the format has a number: {text}");
    fs::write(&format, newer).expect("the format can be written");
    scratch.rivet(&["run", "-c", "rivet.yaml"]).expect_error(5, "RIVET_JOURNAL_NEWER");
    let journal = scratch.journal_dir("a").display().to_string();
    scratch.rivet(&["replay", "--journal", &journal]).expect_error(5, "RIVET_JOURNAL_NEWER");
    assert_output_untouched(&database, &scratch, &run);
}

#[test]
fn a_damaged_journal_is_refused_and_nothing_is_overwritten() {
    let (database, scratch, run) = finished_export("damaged");
    let log = scratch.journal_dir("a").join("log/db");
    let whole = fs::read(&log).expect("the log is there");
    // In the middle of what is written, where an acknowledged event lies.
    let written = whole.iter().rposition(|&byte| byte != 0).expect("the log is not empty");
    let mut damaged = whole.clone();
    for at in [written / 3, written / 2] {
        damaged[at..at + 64].iter_mut().for_each(|byte| *byte ^= 0xa5);
    }
    fs::write(&log, &damaged).expect("the log can be written");
    let finished = scratch.rivet(&["run", "-c", "rivet.yaml"]).expect_exit(5);
    assert!(finished.stderr.contains("RIVET_JOURNAL_"), "{finished}");
    assert_output_untouched(&database, &scratch, &run);
}

#[test]
fn a_journal_that_lost_its_end_or_its_head_is_refused() {
    let (database, scratch, run) = finished_export("truncated");
    let journal = scratch.journal_dir("a");
    let head = fs::read(journal.join("head")).expect("the head is there");
    fs::remove_file(journal.join("head")).expect("the head can be removed");
    let finished = scratch.rivet(&["run", "-c", "rivet.yaml"]).expect_exit(5);
    assert!(finished.stderr.contains("RIVET_JOURNAL_HEADLESS"), "{finished}");
    fs::write(journal.join("head"), &head).expect("the head can be written");

    let log = journal.join("log");
    fs::remove_dir_all(&log).expect("the log can be removed");
    let finished = scratch.rivet(&["run", "-c", "rivet.yaml"]).expect_exit(5);
    assert!(finished.stderr.contains("RIVET_JOURNAL_TRUNCATED"), "{finished}");
    assert_output_untouched(&database, &scratch, &run);
}

#[test]
fn a_directory_that_is_no_journal_is_left_alone() {
    let database = small("no_journal");
    let scratch = Scratch::with(&database, &[export("a", "table: t")]);
    let dir = scratch.journal_dir("a");
    fs::create_dir_all(&dir).expect("a scratch directory can be written");
    fs::write(dir.join("photo.jpg"), b"holiday").expect("a scratch directory can be written");
    scratch.rivet(&["run", "-c", "rivet.yaml"]).expect_error(5, "RIVET_JOURNAL_FOREIGN");
    assert_eq!(fs::read(dir.join("photo.jpg")).expect("it is there"), b"holiday");
    let finished = scratch.rivet(&["replay", "--journal", "nowhere"]);
    finished.expect_error(2, "RIVET_JOURNAL_MISSING").expect_in_stderr("nowhere");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let database = small("read_only_state");
    let scratch = Scratch::with(&database, &[export("a", "table: t")]);
    let state = scratch.path().join(".rivet");
    fs::create_dir(&state).expect("a scratch directory can be written");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o555)).expect("permissions can be set");
    let finished = Rivet::new(&scratch).bound_by_permissions().run(&["run", "-c", "rivet.yaml"]);
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).expect("permissions can be set");
    finished.expect_error(6, "RIVET_JOURNAL_UNWRITABLE").expect_in_stderr(".rivet");
    assert!(files::tree(&scratch.path().join("out")).is_empty(), "nothing is written that no journal knows");
}

#[test]
fn two_processes_never_work_on_one_export() {
    let database = sizeable("busy");
    let lines = "table: t\ntuning: { batch_size: 200, throttle_ms: 100 }";
    let scratch = Scratch::with(&database, &[export("a", lines)]);
    let mut first = Rivet::new(&scratch).spawn(&["run", "-c", "rivet.yaml"]);
    // The lock is held from before the first event, and the log appears after it.
    while !scratch.journal_dir("a").join("log").exists() {
        assert!(first.is_running(), "{}", first.wait());
        std::thread::yield_now();
    }
    scratch.rivet(&["run", "-c", "rivet.yaml"]).expect_error(7, "RIVET_JOURNAL_BUSY");
    // Looking is allowed at any time.
    scratch.rivet(&["status", "-c", "rivet.yaml"]).expect_exit(0);
    scratch.rivet(&["runs", "-c", "rivet.yaml"]).expect_exit(0);
    first.signal(Signal::INT);
    let finished = first.wait().expect_exit(130);
    let run = only_run(&scratch, "a");
    assert!(finished.stdout.contains(&format!("rivet resume {run}")), "{finished}");
    let summary = scratch.resume_ok(&run);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
}

#[test]
fn an_unknown_run_is_named_and_those_that_exist_are_pointed_to() {
    let (_database, scratch, _run) = finished_export("unknown_run");
    let finished = scratch.rivet(&["resume", "a-01AAAAAAAAAAAAAAAAAAAAAAAA", "-c", "rivet.yaml"]);
    finished
        .expect_error(2, "RIVET_RUN_UNKNOWN")
        .expect_in_stderr("a-01AAAAAAAAAAAAAAAAAAAAAAAA")
        .expect_in_stderr("rivet runs");
}

#[test]
fn a_definition_that_changed_since_the_run_began_is_not_resumed() {
    let database = sizeable("changed");
    let scratch = Scratch::with(&database, &[export("a", "table: t\ntuning: { batch_size: 200, throttle_ms: 100 }")]);
    let mut first = Rivet::new(&scratch).spawn(&["run", "-c", "rivet.yaml"]);
    while !scratch.journal_dir("a").join("log").exists() {
        assert!(first.is_running(), "{}", first.wait());
        std::thread::yield_now();
    }
    first.signal(Signal::INT);
    first.wait().expect_exit(130);
    let run = only_run(&scratch, "a");
    scratch.write_config(&config(&database.url(), &[export("a", "query: SELECT id FROM t")]));
    scratch.rivet(&["resume", &run, "-c", "rivet.yaml"]).expect_error(5, "RIVET_RUN_CHANGED");
}

#[test]
fn columns_that_changed_since_the_run_began_are_never_mixed() {
    let database = sizeable("drift");
    let scratch = Scratch::with(
        &database,
        &[export("a", &SLICED.replace("parallel: 2", "parallel: 1, batch_size: 200, throttle_ms: 50"))],
    );
    let mut first = Rivet::new(&scratch).spawn(&["run", "-c", "rivet.yaml"]);
    while !files::tree(&scratch.path().join("out")).iter().any(|name| name.ends_with(".parquet")) {
        assert!(first.is_running(), "{}", first.wait());
        std::thread::yield_now();
    }
    first.signal(Signal::KILL);
    first.wait();
    database.execute("ALTER TABLE t ADD COLUMN extra int");
    let run = only_run(&scratch, "a");
    scratch
        .rivet(&["resume", &run, "-c", "rivet.yaml"])
        .expect_error(4, "RIVET_SCHEMA_DRIFT")
        .expect_in_stderr("extra");
    assert!(!scratch.run_dir(&run).join("_SUCCESS").exists());
    database.execute("ALTER TABLE t DROP COLUMN extra");
    let summary = scratch.resume_ok(&run);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
}

#[test]
fn files_that_somebody_changed_after_the_run_are_noticed() {
    let (_database, scratch, run) = finished_export("tampered");
    let part = files::parts(&scratch.run_dir(&run)).pop().expect("there is a part");
    let mut bytes = fs::read(&part).expect("a part is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&part, bytes).expect("a part can be written");
    let journal = scratch.journal_dir("a").display().to_string();
    let finished = scratch.rivet(&["replay", "--journal", &journal, "--run", &run, "--parts"]).expect_exit(3);
    let name = part.file_name().expect("a part has a name").to_string_lossy().into_owned();
    assert!(
        finished.stderr.contains("RIVET_") && format!("{}{}", finished.stdout, finished.stderr).contains(&name),
        "{finished}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let (_database, scratch, _run) = finished_export("pipe");
    let journal = scratch.journal_dir("a").display().to_string();
    let through = ["sh", "-c", "\"$0\" \"$@\" | true"];
    let finished = Rivet::new(&scratch).through(&through).run(&["replay", "--journal", &journal, "--events"]);
    assert!(!finished.stderr.contains("panicked"), "{finished}");
}
