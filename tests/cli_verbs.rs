//! The verbs against a real server: what they print, where, and how they end.

mod support;

use serde_json::Value;
use std::time::{Duration, Instant};
use support::contract::SUMMARY_FIELDS;
use support::database::Database;
use support::rivet::{Rivet, Running, Scratch, config, export, run_id};

fn orders(rows: u32) -> Database {
    let database = Database::create("cli");
    database.execute(&format!(
        "CREATE TABLE orders (id bigint PRIMARY KEY, note text NOT NULL);
         INSERT INTO orders SELECT n, md5(n::text) FROM generate_series(1, {rows}) n; ANALYZE orders"
    ));
    database
}

fn chunked(database: &Database) -> Scratch {
    Scratch::with(database, &[export("orders", "table: public.orders\nmode: chunked\nchunk_count: 4")])
}

/// An export that would take minutes, started, with rows in its journal.
fn slow_run(scratch: &Scratch, arguments: &[&str]) -> (Running, String) {
    let running = Rivet::new(scratch).spawn(&[&["run"], arguments].concat());
    until_it_reads(scratch, running, &[])
}

/// `place`: where `status` finds it.
fn until_it_reads(scratch: &Scratch, mut running: Running, place: &[&str]) -> (Running, String) {
    let begun = Instant::now();
    loop {
        assert!(running.is_running(), "{}", running.wait());
        assert!(begun.elapsed() < Duration::from_secs(60), "the run does not come to read");
        let status = scratch.rivet(&[&["status", "--json"], place].concat());
        if status.code() == Some(0)
            && let Some(run) = status.json()["live"][0].as_str()
            && status.summary()["journal"]["events"].as_u64() >= Some(8)
        {
            return (running, run.to_owned());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn slow(database: &Database) -> Scratch {
    let tuning = "tuning: { profile: safe, batch_size: 10, throttle_ms: 200 }";
    Scratch::with(database, &[export("orders", &format!("table: public.orders\n{tuning}"))])
}

#[test]
fn a_summary_has_its_29_fields_and_the_same_in_every_verb() {
    let database = orders(1000);
    let scratch = chunked(&database);
    let finished = scratch.rivet(&["run", "--json", "--validate"]).expect_exit(0);
    assert_eq!(finished.stderr, "", "{finished}");
    let summary = finished.summary();
    let mut fields: Vec<&str> = summary.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = SUMMARY_FIELDS.to_vec();
    fields.sort_unstable();
    expected.sort_unstable();
    assert_eq!(fields, expected);
    assert_eq!((summary["status"].as_str(), summary["total_rows"].as_i64()), (Some("success"), Some(1000)));
    assert_eq!(summary["validated"], true);
    for verb in [&["runs"][..], &["status"], &["status", &run_id(&summary)], &["replay"], &["replay", "--parts"]] {
        let told = scratch.rivet(&[verb, &["--json"]].concat()).expect_exit(0);
        assert_eq!(told.summary(), summary, "{verb:?}");
    }
    let replays = scratch.rivet(&["replay", "--parts", "--json"]).expect_exit(0).json()["replays"].clone();
    assert_eq!((replays[0]["compared"].as_str(), &replays[0]["divergence"]), (Some("parts"), &Value::Null));
}

#[test]
fn people_see_what_was_done_on_standard_output_and_progress_on_standard_error() {
    let database = orders(1000);
    let scratch = chunked(&database);
    let finished = scratch.rivet(&["run"]).expect_exit(0);
    for said in [
        "✓ orders  success in",
        "rows         1,000",
        "consistency  one snapshot, at ",
        "manifest     ",
        "journal      ",
    ] {
        assert!(finished.stdout.contains(said), "{said:?} is missing: {finished}");
    }
    assert!(finished.stderr.starts_with("orders: running orders-"), "{finished}");
    assert!(!finished.stdout.contains("rivet resume"), "{finished}");
    let quiet = scratch.rivet(&["run", "--quiet"]).expect_exit(0);
    assert_eq!(quiet.stderr, "", "{quiet}");

    let runs = scratch.rivet(&["runs"]).expect_exit(0);
    assert_eq!(runs.stdout.lines().count(), 3, "{runs}");
    assert!(runs.stdout.lines().all(|line| line.trim_end() == line), "{runs}");
    let status = scratch.rivet(&["status"]).expect_exit(0);
    assert!(status.stdout.starts_with("✓ orders  success in"), "{status}");
}

#[test]
fn a_run_is_retold_from_its_journal_wherever_the_journal_is() {
    let database = orders(1000);
    let scratch = chunked(&database);
    let summary = scratch.run_ok(&[]);
    drop(database);

    let timeline = scratch.rivet(&["replay"]).expect_exit(0);
    for said in ["run_planned", "snapshot_opened", "slice_completed", "part_committed", "published", "run_finished"] {
        assert!(timeline.stdout.contains(said), "{said} is missing: {timeline}");
    }
    assert!(timeline.stdout.contains("and the manifest says the same"), "{timeline}");
    let events = scratch.rivet(&["replay", "--events", "--json"]).expect_exit(0);
    let events: Vec<Value> = events.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Some(events.len() as u64), summary["journal"]["events"].as_u64());
    assert_eq!(events[0]["event"], "run_planned");

    let exported = scratch.rivet(&["journal", "export"]).expect_exit(0);
    scratch.write("orders.jsonl", exported.stdout.as_bytes());
    for path in ["orders.jsonl", ".rivet", ".rivet/orders"] {
        let told = scratch.rivet(&["replay", "--journal", path, "--json"]).expect_exit(0);
        assert_eq!(told.summary(), summary, "{path}");
    }
    scratch.rivet(&["journal", "import", "orders.jsonl", "--into", "copy/orders"]).expect_exit(0);
    let verified = scratch.rivet(&["journal", "verify", "--state-dir", "copy", "--json"]).expect_exit(0).json();
    assert_eq!(verified["journals"][0]["passed"], true);
    assert_eq!(verified["journals"][0]["head_hash"], summary["journal"]["head_hash"]);

    let half = scratch.rivet(&["replay", "--until", "5", "--json"]).expect_exit(0).summary();
    assert_eq!((half["status"].as_str(), half["journal"]["events"].as_u64()), (Some("running"), Some(5)));
    let half = scratch.rivet(&["replay", "--until", "5"]).expect_exit(0);
    assert!(half.stdout.contains("■ orders  running, after ") && !half.stdout.contains("rivet resume"), "{half}");
    scratch.rivet(&["replay", "--until", "0"]).expect_error(2, "RIVET_USAGE");
    scratch.rivet(&["replay", "--run", "orders-nope"]).expect_error(2, "RIVET_RUN_UNKNOWN");
}

#[test]
fn damage_is_found_named_and_never_exits_with_0() {
    let database = orders(1000);
    let scratch = chunked(&database);
    let summary = scratch.run_ok(&[]);
    let id = run_id(&summary);
    let dir = scratch.run_dir(&id);
    scratch.rivet(&["validate", &id, "--depth", "full"]).expect_exit(0);
    let part = summary["manifest_parts"][1]["path"].as_str().unwrap();
    let mut bytes = std::fs::read(dir.join(part)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(dir.join(part), bytes).unwrap();

    scratch.rivet(&["validate", &id]).expect_exit(0);
    let full = scratch.rivet(&["validate", "--prefix", &dir.display().to_string(), "--depth", "full", "--json"]);
    let full = full.expect_error(3, "RIVET_VALIDATION_FAILED");
    assert_eq!(
        (&full.json()["passed"], full.json()["findings"][0]["path"].as_str()),
        (&Value::Bool(false), Some(part))
    );
    scratch.rivet(&["replay"]).expect_exit(0);
    let replayed = scratch.rivet(&["replay", "--parts"]).expect_error(3, "RIVET_REPLAY_DIVERGED");
    let replayed = replayed.expect_in_stderr("(part_committed): ").expect_in_stderr(part);
    assert!(replayed.stdout.contains("DIVERGED"), "{replayed}");

    let manifest = dir.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replacen("\"started_at\": \"2", "\"started_at\": \"3", 1)).unwrap();
    assert_ne!(std::fs::read_to_string(&manifest).unwrap(), text, "the manifest was changed");
    scratch.rivet(&["replay"]).expect_error(3, "RIVET_REPLAY_DIVERGED").expect_in_stderr("(manifest_written): ");
}

#[test]
fn a_signal_stops_cleanly_prints_how_to_go_on_and_going_on_works() {
    let database = orders(3000);
    let scratch = slow(&database);
    let (running, id) = slow_run(&scratch, &[]);
    running.signal(rustix::process::Signal::INT);
    let stopped = running.wait().expect_exit(130);
    assert!(stopped.stdout.contains("■ orders  interrupted"), "{stopped}");
    let next = stopped.stdout.lines().find_map(|line| line.trim().strip_prefix("next"));
    let next = next.unwrap_or_else(|| panic!("no next step: {stopped}")).trim();
    assert_eq!(next, format!("rivet resume {id}"));
    assert!(stopped.stderr.contains("RIVET_RUN_INTERRUPTED"), "{stopped}");

    // As printed, with nothing but the state directory to go by; only the pace is another.
    let text = std::fs::read_to_string(scratch.path().join("rivet.yaml")).unwrap();
    scratch.write_config(&text.replace("throttle_ms: 200", "throttle_ms: 0"));
    let words: Vec<&str> = next.split(' ').skip(1).chain(["--json"]).collect();
    let summary = scratch.rivet(&words).expect_exit(0).summary();
    assert_eq!((summary["status"].as_str(), summary["total_rows"].as_i64()), (Some("success"), Some(3000)));
    let again = scratch.rivet(&words).expect_exit(0).expect_in_stderr("nothing was changed");
    assert_eq!(again.summary(), summary);
}

#[test]
fn the_printed_command_holds_what_was_typed_and_no_value_of_a_parameter() {
    let database = orders(3000);
    let scratch = slow(&database);
    let text = std::fs::read_to_string(scratch.path().join("rivet.yaml")).unwrap();
    let text = text.replace("table: public.orders", "query: SELECT * FROM orders WHERE note <> '${unwanted}'");
    scratch.write("my shop.yaml", text.as_bytes());
    std::fs::remove_file(scratch.path().join("rivet.yaml")).unwrap();
    let secret = "S3cr3t-value";
    let (param, place) = (format!("unwanted={secret}"), ["--state-dir", "states"]);
    let typed = ["run", "-c", "my shop.yaml", "--param", &param, place[0], place[1]];
    let command = |id: &str| format!("rivet resume {id} -c 'my shop.yaml' --param unwanted=… --state-dir states");
    for json in [&[][..], &["--json"]] {
        let running = Rivet::new(&scratch).spawn(&[&typed[..], &["--fresh"], json].concat());
        let (running, id) = until_it_reads(&scratch, running, &place);
        running.signal(rustix::process::Signal::INT);
        let stopped = running.wait().expect_exit(130).expect_nowhere(secret);
        let hint = match json {
            [] => {
                let next = stopped.stdout.lines().find_map(|line| line.trim().strip_prefix("next"));
                assert_eq!(next.map(str::trim), Some(command(&id).as_str()), "{stopped}");
                stopped.stderr.clone()
            }
            _ => serde_json::from_str::<Value>(&stopped.stderr).unwrap()["error"]["hint"].to_string(),
        };
        assert!(hint.contains(&command(&id)), "{stopped}");
    }
    // Filled in, it works.
    let id = run_id(&scratch.rivet(&[&["status", "--json"][..], &place].concat()).summary());
    scratch.write("my shop.yaml", text.replace("throttle_ms: 200", "throttle_ms: 0").as_bytes());
    let words = ["resume", &id, "-c", "my shop.yaml", "--param", &param, place[0], place[1], "--json"];
    let summary = scratch.rivet(&words).expect_exit(0).expect_nowhere(secret).summary();
    assert_eq!(summary["total_rows"], 3000);
    // So does the hint of an error that only --force goes beyond.
    let part = summary["manifest_parts"][0]["path"].as_str().unwrap();
    std::fs::remove_file(scratch.run_dir(&id).join(part)).unwrap();
    let refused = scratch.rivet(&words).expect_error(5, "RIVET_DESTINATION_MISMATCH");
    refused.expect_in_stderr(&format!("{} --force", command(&id)));
}

#[test]
fn warnings_stand_beside_the_summaries_where_a_program_reads_them() {
    let database = orders(100);
    database.execute("ALTER TABLE orders ADD seen timestamp; UPDATE orders SET seen = 'infinity' WHERE id = 7");
    let scratch = Scratch::with(
        &database,
        &[export("plain", "query: SELECT id FROM orders"), export("orders", "table: public.orders")],
    );
    let finished = scratch.rivet(&["run", "--json"]).expect_exit(0);
    assert_eq!(finished.stderr, "", "{finished}");
    let told = finished.json();
    let id = run_id(&told["runs"][1]);
    let [warning] = told["warnings"].as_array().unwrap().as_slice() else { panic!("one warning: {finished}") };
    let fields: Vec<&String> = warning.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["code", "export", "message", "run_id"]);
    assert_eq!((&warning["run_id"], &warning["export"]), (&Value::from(id.as_str()), &"orders".into()));
    assert_eq!(warning["code"], "special_values");
    assert!(warning["message"].as_str().unwrap().contains("\"seen\""), "{warning}");
    for words in [&["resume", &id, "--json"][..], &["replay", "--run", &id, "--json"]] {
        assert_eq!(scratch.rivet(words).expect_exit(0).json()["warnings"], told["warnings"], "{words:?}");
    }
    let quiet = scratch.rivet(&["run", "-e", "plain", "--json"]).expect_exit(0).json();
    assert_eq!(quiet["warnings"], serde_json::json!([]));
}

#[test]
fn what_a_journal_had_to_mend_after_a_kill_is_a_warning_of_the_run_that_goes_on() {
    let database = orders(1000);
    let scratch = chunked(&database);
    // On disk, and not acknowledged.
    let rivet = Rivet::new(&scratch).env("RIVET_FAILPOINTS", "journal.synced@6=kill");
    assert!(rivet.run(&["run", "-q"]).killed());
    let id = run_id(&scratch.rivet(&["status", "--json"]).summary());
    let told = scratch.rivet(&["resume", &id, "--json"]).expect_exit(0).json();
    let codes: Vec<&str> =
        told["warnings"].as_array().unwrap().iter().map(|warning| warning["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"journal_recovered"), "{codes:?}");
    assert_eq!(scratch.rivet(&["replay", "--json"]).expect_exit(0).json()["warnings"], told["warnings"]);
}

#[test]
fn a_killed_run_is_told_from_one_that_works_and_a_second_process_is_sent_away() {
    let database = orders(3000);
    let scratch = slow(&database);
    let (running, id) = slow_run(&scratch, &["-q"]);
    let live = scratch.rivet(&["status"]).expect_exit(0);
    assert!(
        live.stdout.contains("running since 2") && live.stdout.contains(&format!("(pid {} on", running.id())),
        "{live}"
    );
    assert!(!live.stdout.contains("rivet resume"), "{live}");
    scratch.rivet(&["run"]).expect_error(7, "RIVET_JOURNAL_BUSY");
    scratch.rivet(&["resume", &id]).expect_error(7, "RIVET_JOURNAL_BUSY");
    running.signal(rustix::process::Signal::KILL);
    assert!(running.wait().killed());
    let dead = scratch.rivet(&["status"]).expect_exit(0);
    assert!(
        dead.stdout.contains("ended without a word") && dead.stdout.contains(&format!("rivet resume {id}")),
        "{dead}"
    );
    let runs = scratch.rivet(&["runs"]).expect_exit(0);
    assert!(runs.stdout.contains("killed"), "{runs}");
    assert_eq!(scratch.rivet(&["runs", "--json"]).expect_exit(0).json()["live"], serde_json::json!([]));
}

#[test]
fn a_reader_that_goes_away_changes_nothing_about_the_run() {
    let database = orders(1000);
    let scratch = chunked(&database);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Rivet::new(&scratch).command(&["run"]);
    drop(reader);
    let stderr = writer.try_clone().unwrap();
    let status = command.stdout(writer).stderr(stderr).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(scratch.rivet(&["status", "--json"]).expect_exit(0).summary()["status"], "success");
    for words in [&["replay", "--events", "--json"][..], &["journal", "export"], &["runs"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Rivet::new(&scratch).command(words).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{words:?}");
    }
}

#[test]
fn one_export_that_fails_does_not_take_the_others_with_it() {
    let database = orders(100);
    let exports = [export("missing", "table: public.nothing"), export("orders", "table: public.orders")];
    let scratch = Scratch::with(&database, &exports);
    let finished = scratch.rivet(&["run"]).expect_error(2, "RIVET_SOURCE_MISSING");
    assert!(
        finished.stdout.contains("✗ missing  failed") && finished.stdout.contains("✓ orders  success"),
        "{finished}"
    );
    let finished = scratch.rivet(&["run", "--json"]).expect_exit(2);
    let statuses: Vec<Value> = finished.summaries().iter().map(|summary| summary["status"].clone()).collect();
    assert_eq!(statuses, ["failed", "success"]);
    let error: Value = serde_json::from_str(finished.stderr.trim()).unwrap();
    assert_eq!(error["error"]["code"], "RIVET_SOURCE_MISSING");
    let only = scratch.rivet(&["run", "-e", "orders", "--json"]).expect_exit(0);
    assert_eq!(only.summary()["export_name"], "orders");
}

#[test]
fn a_password_is_in_no_output_and_no_file_of_the_run() {
    let database = orders(100);
    let secret = "S3cr3t/@:?#%' \"x";
    let encoded: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let scratch = Scratch::new();
    let shown = |finished: support::rivet::Finished| finished.expect_nowhere(secret).expect_nowhere(&encoded);
    let url = database.url_as(&format!("postgres:{encoded}"));
    scratch.write_config(&config(&url, &[export("orders", "table: public.orders")]));
    let summary = scratch.rivet(&["run", "--json"]).expect_exit(0);
    let id = run_id(&summary.summary());
    shown(summary);
    for words in [&["runs"][..], &["status"], &["replay", "--events"], &["journal", "export"], &["resume", &id]] {
        shown(scratch.rivet(words).expect_exit(0));
    }
    let wrong = database.url_as(&format!("nobody:{encoded}"));
    scratch.write_config(&config(&wrong, &[export("orders", "table: public.orders")]));
    let failed = scratch.rivet(&["run"]);
    assert_ne!(failed.code(), Some(0));
    shown(failed);
    for file in support::files::tree(scratch.path()) {
        let Ok(bytes) = std::fs::read(scratch.path().join(&file)) else { continue };
        let holds = |needle: &str| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
        assert!(file.ends_with("rivet.yaml") || !(holds(secret) || holds(&encoded)), "{file} holds the password");
    }
}

#[test]
fn old_runs_are_pruned_and_nothing_is_repaired_that_is_whole() {
    let database = orders(100);
    let scratch = chunked(&database);
    let ids: Vec<String> = (0..3).map(|_| run_id(&scratch.run_ok(&[]))).collect();
    scratch.rivet(&["journal", "prune", "--keep", "0"]).expect_error(2, "RIVET_USAGE");
    let pruned = scratch.rivet(&["journal", "prune", "--keep", "1", "--json"]).expect_exit(0).json();
    assert_eq!((&pruned["journals"][0]["runs_removed"], &pruned["journals"][0]["runs_kept"]), (&2.into(), &1.into()));
    let left = scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries();
    assert_eq!(left.iter().map(run_id).collect::<Vec<_>>(), ids[2..]);
    scratch.rivet(&["journal", "verify"]).expect_exit(0);
    scratch.rivet(&["status", &ids[0]]).expect_error(2, "RIVET_RUN_UNKNOWN");
    assert!(scratch.run_dir(&ids[0]).join("_SUCCESS").exists(), "files that were delivered stay");

    scratch.rivet(&["journal", "repair"]).expect_error(2, "--accept-loss");
    let repaired = scratch.rivet(&["journal", "repair", "--accept-loss", "--json"]).expect_exit(0).json();
    assert_eq!(repaired["journals"][0]["repaired"], false);
    scratch.rivet(&["journal", "repair", "-e", "other", "--accept-loss"]).expect_error(2, "RIVET_JOURNAL_MISSING");
}

#[test]
fn a_damaged_journal_is_refused_hides_no_other_and_can_be_repaired_at_a_price() {
    let database = orders(100);
    let both = [export("orders", "table: public.orders"), export("others", "table: public.orders")];
    let scratch = Scratch::with(&database, &both);
    scratch.rivet(&["run", "-q"]).expect_exit(0);
    // The head names an event that the log has lost.
    let exported = scratch.rivet(&["journal", "export", "-e", "orders"]).expect_exit(0).stdout.clone();
    let events = exported.lines().count() - 1;
    std::fs::remove_dir_all(scratch.journal_dir("orders").join("log")).unwrap();

    let runs = scratch.rivet(&["runs"]).expect_exit(5).expect_in_stderr("export \"orders\" cannot be read");
    assert!(runs.stdout.contains("others-") && !runs.stdout.contains("orders-"), "{runs}");
    let json = scratch.rivet(&["runs", "--json"]).expect_exit(5).json();
    assert_eq!((json["runs"].as_array().unwrap().len(), json["problems"][0]["export"].as_str()), (1, Some("orders")));
    scratch.rivet(&["journal", "verify"]).expect_exit(5).expect_in_stderr("RIVET_JOURNAL_");
    let run = scratch.rivet(&["run", "-q"]).expect_exit(5);
    assert!(run.stdout.contains("✓ others"), "one broken journal stops nobody else: {run}");

    let repaired =
        scratch.rivet(&["journal", "repair", "-e", "orders", "--accept-loss", "--json"]).expect_exit(0).json();
    assert_eq!(
        (&repaired["journals"][0]["repaired"], &repaired["journals"][0]["acknowledged"]),
        (&true.into(), &events.into())
    );
    let backup = repaired["journals"][0]["backup"].as_str().unwrap();
    assert!(std::path::Path::new(backup).exists());
    // Nobody takes the backup for a journal, until somebody names it.
    for words in [&["runs"][..], &["status"], &["replay"], &["journal", "verify"]] {
        scratch.rivet(words).expect_exit(0);
    }
    for words in [&["journal", "prune", "--keep", "9"][..], &["journal", "repair", "--accept-loss"]] {
        let done = scratch.rivet(&[words, &["--json"]].concat()).expect_exit(0).json();
        assert_eq!(done["journals"].as_array().unwrap().len(), 2, "{done}");
    }
    scratch.rivet(&["journal", "verify", "--journal", backup]).expect_error(5, "RIVET_JOURNAL_TRUNCATED");
    scratch.rivet(&["run", "-q"]).expect_exit(0);
    scratch.rivet(&["replay"]).expect_exit(0);
}

/// The text of the summaries in a line of JSON, as it stands there.
fn summaries_as_printed(line: &str) -> &str {
    let from = line.find("\"runs\":[").unwrap_or_else(|| panic!("no runs: {line}")) + "\"runs\":[".len();
    let summaries = &line[from..];
    let to = summaries.find("}],\"warnings\"").or_else(|| summaries.find("}],\"live\""));
    &summaries[..to.unwrap_or_else(|| panic!("the runs do not end: {line}"))]
}

#[test]
fn every_verb_prints_a_summary_in_the_same_words_and_the_same_order() {
    let database = orders(100);
    let scratch = chunked(&database);
    let ran = scratch.rivet(&["run", "--json"]).expect_exit(0);
    let printed = summaries_as_printed(&ran.stdout);
    assert!(printed.starts_with("{\"run_id\":\"orders-"), "{printed}");
    let id = run_id(&ran.summary());
    for words in [&["runs", "--json"][..], &["status", "--json"], &["replay", "--json"], &["resume", &id, "--json"]] {
        let told = scratch.rivet(words).expect_exit(0);
        assert_eq!(summaries_as_printed(&told.stdout), printed, "{words:?}");
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn what_each_resume_notes_again_is_shown_once_with_how_often_it_was() {
    let database = orders(1000);
    let lines = "table: public.orders\nmode: chunked\nchunk_count: 4\ntuning: { parallel: 1 }";
    let scratch = Scratch::with(&database, &[export("orders", lines)]);
    let dying = Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.created@2=kill");
    assert!(dying.run(&["run", "-q"]).killed());
    let id = run_id(&scratch.rivet(&["status", "--json"]).expect_exit(0).summary());
    assert!(dying.run(&["resume", &id, "-q"]).killed());
    let done = scratch.rivet(&["resume", &id, "-q"]).expect_exit(0);
    let warnings: Vec<&str> = done.stdout.lines().filter(|line| line.contains("mixed_snapshots: ")).collect();
    assert!(matches!(warnings.as_slice(), [line] if line.ends_with(" (×2)")), "{done}");
    let told = scratch.rivet(&["replay", "--json"]).expect_exit(0).json();
    let noted = |warning: &&Value| warning["code"] == "mixed_snapshots";
    assert_eq!(told["warnings"].as_array().unwrap().iter().filter(noted).count(), 2, "a program gets all of them");
}

#[cfg(feature = "failpoints")]
#[test]
fn ranges_are_counted_as_they_were_planned_and_as_they_stand() {
    let database = orders(1000);
    database.execute("CREATE TABLE half AS SELECT nullif(id % 2, 0) * id AS id, note FROM orders; CREATE INDEX ON half (id); ANALYZE half");
    let lines = "table: half\nmode: chunked\nchunk_column: id\nchunk_count: 3\ntuning: { parallel: 1 }";
    let scratch = Scratch::with(&database, &[export("half", lines)]);
    let ran = scratch.rivet(&["run"]).expect_exit(0).expect_in_stderr("3 ranges of id and the rows without one: ");
    let ran = ran.expect_in_stdout("read         3 ranges of id and the rows without one; ");
    drop(ran);
    let summary = scratch.run_ok(&[]);
    let id = run_id(&summary);
    // Two of four slices have to be read again, and the process dies over the first of them.
    for part in [0, 1] {
        let part = summary["manifest_parts"][part]["path"].as_str().unwrap();
        std::fs::remove_file(scratch.run_dir(&id).join(part)).unwrap();
    }
    let dying = Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.created@1=kill");
    assert!(dying.run(&["resume", &id, "--force", "-q"]).killed());
    scratch.rivet(&["status", &id]).expect_exit(0).expect_in_stdout("without one, 2 of them complete");
    let mended = scratch.rivet(&["resume", &id, "-q"]).expect_exit(0);
    assert!(!mended.stdout.contains("of them complete"), "{mended}");
}
