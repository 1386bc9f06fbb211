//! Every way to say where the server is leads to it, and no secret of it is printed on the way.

mod support;

use support::cluster::OwnCluster;
use support::database::Database;
use support::rivet::{Rivet, Scratch, export, run_id};
use support::{files, oracle};

const PASSWORD: &str = "p@ss:w/o?r#d %41'\"";

/// A table that only a role with a password may read.
fn guarded(name: &str) -> (OwnCluster, Database) {
    let cluster = OwnCluster::start();
    let database = Database::create_in(&cluster.server, name);
    database.execute(&format!(
        "CREATE TABLE t AS SELECT g AS id, 'n' || g AS name FROM generate_series(1, 100) g;
         SET password_encryption = 'scram-sha-256'; SET standard_conforming_strings = on;
         CREATE ROLE rivet_password LOGIN PASSWORD '{}'; GRANT SELECT ON t TO rivet_password",
        PASSWORD.replace('\'', "''")
    ));
    (cluster, database)
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Runs an export of `t` under the lines of a `source`, with these variables set, and compares with the server.
#[track_caller]
fn assert_read(database: &Database, scratch: &Scratch, source: &str, variables: &[(&str, &str)]) {
    let lines: String = source.lines().map(|line| format!("  {line}\n")).collect();
    scratch.write_config(&format!("source:\n  type: postgres\n{lines}exports:\n{}", export("t", "table: t")));
    let rivet = variables.iter().fold(Rivet::new(scratch), |rivet, (name, value)| rivet.env(name, *value));
    let finished =
        rivet.run(&["run", "--json"]).expect_exit(0).expect_nowhere(PASSWORD).expect_nowhere(&encoded(PASSWORD));
    oracle::assert_same_rows(database, "SELECT * FROM t", &scratch.run_dir(&run_id(&finished.summary())));
}

#[test]
fn a_url_may_stand_in_the_file_in_the_environment_or_in_a_file_of_its_own() {
    let (_cluster, database) = guarded("url");
    let url = database.url_as(&format!("rivet_password:{}", encoded(PASSWORD)));
    let scratch = Scratch::new();
    scratch.write("url.txt", format!("{url}\n").as_bytes());
    assert_read(&database, &scratch, &format!("url: '{url}'"), &[]);
    assert_read(&database, &scratch, "url: ${SHOP_URL}", &[("SHOP_URL", &url)]);
    assert_read(&database, &scratch, "url_env: SHOP_URL", &[("SHOP_URL", &url)]);
    assert_read(&database, &scratch, "url_file: url.txt", &[]);
    // And that it is the password which opens the door.
    let wrong = database.url_as("rivet_password:wrong");
    let finished = Rivet::new(&scratch).env("SHOP_URL", &wrong);
    scratch.write_config(&format!(
        "source: {{ type: postgres, url_env: SHOP_URL }}\nexports:\n{}",
        export("t", "table: t")
    ));
    finished.run(&["run"]).expect_error(2, "RIVET_SOURCE_AUTH");
}

#[test]
fn the_parts_of_an_address_may_be_keys_of_their_own() {
    let (_cluster, database) = guarded("parts");
    let scratch = Scratch::new();
    let parts =
        format!("host: 127.0.0.1\nport: {}\nuser: rivet_password\ndatabase: {}", database.server.port, database.name);
    let quoted = PASSWORD.replace('\'', "''");
    assert_read(&database, &scratch, &format!("{parts}\npassword: '{quoted}'"), &[]);
    assert_read(&database, &scratch, &format!("{parts}\npassword: ${{SHOP_PASSWORD}}"), &[("SHOP_PASSWORD", PASSWORD)]);
    assert_read(&database, &scratch, &format!("{parts}\npassword_env: SHOP_PASSWORD"), &[("SHOP_PASSWORD", PASSWORD)]);
}

#[test]
fn a_socket_in_a_directory_leads_to_the_server_too() {
    let (cluster, database) = guarded("socket");
    let directory = cluster.server.socket_dir.clone().expect("a private cluster has a socket directory");
    let (directory, port, name) = (directory.display().to_string(), cluster.server.port, &database.name);
    // Nothing but the socket is left.
    cluster.configure("listen_addresses = ''");
    cluster.restart("fast");
    let scratch = Scratch::new();
    let sources = [
        format!("host: {directory}\nport: {port}\nuser: postgres\ndatabase: {name}"),
        format!("url: postgres://postgres@/{name}?host={directory}&port={port}"),
        format!("url: postgres://postgres@{}:{port}/{name}", encoded(&directory)),
    ];
    for source in sources {
        let lines: String = source.lines().map(|line| format!("  {line}\n")).collect();
        scratch.write_config(&format!("source:\n  type: postgres\n{lines}exports:\n{}", export("t", "table: t")));
        let summary = scratch.rivet(&["run", "--json"]).expect_exit(0).summary();
        let mut expected: Vec<String> = (1..=100).map(|n| format!("{n}\tn{n}")).collect();
        expected.sort_unstable();
        assert_eq!(files::rows(&files::parts(&scratch.run_dir(&run_id(&summary)))), expected, "{source}");
    }
}
