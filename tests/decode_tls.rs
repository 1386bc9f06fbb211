//! Rows over TLS: what each mode believes, and that the tap does its work above the encryption.

mod support;

use rivet::config::{Host, Secret, SourceConfig, Tls, TlsMode};
use rivet::run::schema::ColumnType;
use rivet::source::postgres::types::{Mapping, Select, Wire};
use rivet::source::postgres::{DecodeColumn, Decoder, Session, SessionSettings};
use rivet::{Error, ErrorKind};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::cluster::OwnCluster;
use support::database::Database;

const SETTINGS: SessionSettings = SessionSettings {
    statement_timeout: Duration::ZERO,
    lock_timeout: Duration::ZERO,
    stall_timeout: Duration::from_secs(60),
};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn openssl(dir: &Path, arguments: &str) {
    let run = Command::new("openssl").args(arguments.split_whitespace()).current_dir(dir).output();
    let output = run.expect("openssl can be started; tools/setup installs it");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and a certificate of its own for `localhost`.
fn certificates(dir: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(dir, &format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=Authority"));
    openssl(dir, &format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    std::fs::write(dir.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(
        dir,
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt",
    );
}

/// A server that speaks TLS, and wants SCRAM over TLS from the role `scrammer`.
fn encrypted_cluster(dir: &Path) -> (OwnCluster, Database) {
    certificates(dir);
    let cluster = OwnCluster::start();
    let database = Database::create_in(&cluster.server, "tls");
    let data = PathBuf::from(database.value("SHOW data_directory"));
    let owner = std::fs::metadata(&data).unwrap();
    for file in ["server.key", "server.crt"] {
        std::fs::copy(dir.join(file), data.join(file)).unwrap();
        chown(data.join(file), Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let rules = std::fs::read_to_string(data.join("pg_hba.conf")).unwrap();
    let rule = "hostssl all scrammer 127.0.0.1/32 scram-sha-256\nhost all scrammer all reject\n";
    std::fs::write(data.join("pg_hba.conf"), format!("{rule}{rules}")).unwrap();
    database.execute("SET password_encryption = 'scram-sha-256'; CREATE ROLE scrammer LOGIN PASSWORD 'pä:ß@/?#'");
    cluster.configure("ssl = on");
    cluster.restart("fast");
    (cluster, database)
}

/// Connects and copies rows; returns how many the decoder saw.
fn rows_over(source: &SourceConfig) -> Result<u64, Error> {
    let session = block_on(Session::connect(source, &SETTINGS))?;
    let mapping = |wire, column_type| Mapping { wire, column_type, select: Select::Plain };
    let columns = [
        DecodeColumn::new("g", false, mapping(Wire::Int4, ColumnType::Int32)),
        DecodeColumn::new("t", true, mapping(Wire::Text, ColumnType::Text)),
    ];
    let mut decoder = Decoder::new(&columns, 1 << 20)?;
    let sql = "COPY (SELECT generate_series(1, 300000), repeat('x', 50)) TO STDOUT (FORMAT binary)";
    let mut stream = session.copy_out(sql);
    while let Some(chunk) = stream.next_chunk()? {
        decoder.push_messages(chunk.messages())?;
        decoder.take_batch()?;
    }
    let rows = stream.finish(&decoder)?;
    let answers = block_on(session.client().simple_query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"));
    let encrypted = answers.expect("an answer").iter().any(|answer| match answer {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0) == Some("t"),
        _ => false,
    });
    assert_eq!(encrypted, source.tls.mode != TlsMode::Disable);
    Ok(rows)
}

#[test]
fn each_tls_mode_believes_what_it_should_and_rows_pass() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, database) = encrypted_cluster(dir.path());
    let source = |host: &str, tls: Tls| SourceConfig {
        host: Host::Tcp(host.to_owned()),
        port: cluster.server.port,
        user: "postgres".to_owned(),
        password: None,
        database: database.name.clone(),
        tls,
    };
    let ca_file = Some(dir.path().join("ca.crt"));
    let with_ca = |mode| Tls { mode, ca_file: ca_file.clone(), ..Tls::default() };
    let without_ca = |mode| Tls { mode, ..Tls::default() };

    let passes = |host: &str, tls: Tls| assert_eq!(rows_over(&source(host, tls)).unwrap(), 300_000);
    passes("127.0.0.1", without_ca(TlsMode::Disable));
    passes("127.0.0.1", without_ca(TlsMode::Require));
    passes("localhost", with_ca(TlsMode::VerifyFull));
    passes("127.0.0.1", with_ca(TlsMode::VerifyCa));
    passes("127.0.0.1", Tls { accept_invalid_hostnames: true, ..with_ca(TlsMode::VerifyFull) });
    passes("127.0.0.1", Tls { accept_invalid_certs: true, ..without_ca(TlsMode::VerifyFull) });

    let refused = |host: &str, tls: Tls| {
        let error = rows_over(&source(host, tls)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceTls, "{error}");
    };
    refused("127.0.0.1", with_ca(TlsMode::VerifyFull));
    refused("localhost", without_ca(TlsMode::VerifyFull));
    refused("localhost", without_ca(TlsMode::VerifyCa));
    refused("localhost", Tls { ca_file: Some("/nowhere/ca.crt".into()), ..with_ca(TlsMode::VerifyCa) });

    // SCRAM binds itself to the TLS channel, which it reaches through the tap.
    let password = |password: &str| SourceConfig {
        user: "scrammer".to_owned(),
        password: Some(Secret::new(password)),
        ..source("localhost", with_ca(TlsMode::VerifyFull))
    };
    assert_eq!(rows_over(&password("pä:ß@/?#")).unwrap(), 300_000);
    let wrong = rows_over(&password("wrong-secret")).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::SourceAuth, "{wrong}");
    assert!(!wrong.what().contains("wrong-secret"), "{wrong}");

    // A cancellation goes over TLS as well.
    let session = block_on(Session::connect(&source("localhost", with_ca(TlsMode::VerifyFull)), &SETTINGS)).unwrap();
    let endless = "COPY (SELECT generate_series(1, 100000000000)) TO STDOUT (FORMAT binary)";
    let mut stream = session.copy_out(endless);
    stream.next_chunk().unwrap().expect("rows");
    drop(stream);
    block_on(session.quiet());
    block_on(session.client().simple_query("SELECT 1")).unwrap();
}
