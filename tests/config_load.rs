//! What a configuration means: defaults, overlays, addresses, paths, definitions.

use rivet::config::*;
use rivet::run::command::DriftPolicy;
use rivet::run::schema::ColumnType;
use rivet::{ErrorKind, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

struct Project {
    dir: tempfile::TempDir,
    env: BTreeMap<String, String>,
    options: LoadOptions,
}

fn project() -> Project {
    Project { dir: tempfile::tempdir().unwrap(), env: BTreeMap::new(), options: LoadOptions::default() }
}

impl Project {
    fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.dir.path().join(name), text).unwrap();
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    fn param(mut self, name: &str, value: &str) -> Self {
        self.options.params.insert(name.into(), value.into());
        self
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("rivet.yaml")
    }

    fn load(&self) -> Result<Config> {
        load_with(&self.path(), &self.options, &|name| self.env.get(name).cloned())
    }
}

const SOURCE: &str = "source:\n  type: postgres\n  url: postgres://reader@localhost/shop\n";
const EXPORT: &str = "exports:\n  - name: orders\n    table: public.orders\n    format: parquet\n    destination: { type: local, path: out }\n";

/// A project whose file has these lines in its `source` and in its only export.
fn with(source: &str, export: &str) -> Project {
    let indent = |text: &str, by: &str| text.lines().map(|line| format!("{by}{line}\n")).collect::<String>();
    let text = format!("{SOURCE}{}{EXPORT}{}", indent(source, "  "), indent(export, "    "));
    project().file("rivet.yaml", &text)
}

fn only(config: &Config) -> &ExportConfig {
    let [export] = config.exports.as_slice() else { panic!("{} exports", config.exports.len()) };
    export
}

#[test]
fn a_small_file_gets_every_default() {
    let project = with("", "");
    let config = project.load().unwrap();
    assert_eq!(config.source.label(), "localhost:5432/shop");
    assert_eq!(config.source.user, "reader");
    assert_eq!(config.source.tls, Tls::default());
    assert!(!config.parallel_exports);
    assert_eq!(config.path, project.path());
    assert_eq!(config.state_dir, project.dir.path().join(".rivet"));
    let export = only(&config);
    assert_eq!(export.selection, Selection::Table { schema: Some("public".into()), name: "orders".into() });
    assert_eq!((export.mode, export.format, export.compression), (Mode::Full, Format::Parquet, Compression::Zstd(1)));
    assert_eq!(export.destination.path, project.dir.path().join("out"));
    assert_eq!((export.max_file_size, export.row_group_rows, export.row_group_bytes), (128 << 20, None, 8 << 20));
    assert!(!(export.skip_empty || export.restart_on_resume || export.verify_content));
    assert_eq!(export.on_schema_drift, DriftPolicy::Warn);
    assert_eq!(export.chunks, Chunks::default());
}

#[test]
fn profiles_are_the_table_of_the_documentation() {
    let cores = std::thread::available_parallelism().unwrap().get().min(128);
    let expected = [
        ("fast", cores, 50_000, Some(64), 256, 0, 0, 0, 1, 1_000, 8),
        ("balanced", 2, 10_000, Some(32), 128, 0, 300, 30, 3, 2_000, 8),
        ("safe", 1, 2_000, None, 96, 500, 120, 10, 10, 5_000, 8),
    ];
    for (name, parallel, batch, memory, budget, throttle, statement, lock, retries, backoff, group) in expected {
        let config = with("", &format!("tuning: {{ profile: {name} }}")).load().unwrap();
        let tuning = &only(&config).tuning;
        assert_eq!(tuning.profile.name(), name);
        assert_eq!(
            (tuning.parallel, tuning.batch_size, tuning.batch_size_memory_mb, tuning.memory_budget_mb),
            (parallel, batch, memory, budget),
            "{name}"
        );
        assert_eq!(tuning.throttle, Duration::from_millis(throttle), "{name}");
        assert_eq!(tuning.statement_timeout, Duration::from_secs(statement), "{name}");
        assert_eq!(tuning.lock_timeout, Duration::from_secs(lock), "{name}");
        assert_eq!(tuning.stall_timeout, Duration::from_secs(300), "{name}");
        assert_eq!((tuning.max_retries, tuning.retry_backoff), (retries, Duration::from_millis(backoff)), "{name}");
        assert_eq!(tuning.max_value_mb, 256, "{name}");
        assert_eq!(only(&config).row_group_bytes, group << 20, "{name}");
    }
}

#[test]
fn an_export_overlays_the_source_key_by_key_and_the_environment_only_suggests_a_profile() {
    let source = "environment: local\ntuning: { parallel: 3, throttle_ms: 7, batch_size: 100 }";
    let config = with(source, "tuning: { throttle_ms: 9 }").load().unwrap();
    let tuning = &only(&config).tuning;
    assert_eq!(tuning.profile, Profile::Fast);
    assert_eq!((tuning.parallel, tuning.throttle), (3, Duration::from_millis(9)));
    assert_eq!((tuning.batch_size, tuning.batch_size_memory_mb), (100, None), "rows by hand turn derived rows off");

    let config = with("environment: local\ntuning: { profile: safe }", "").load().unwrap();
    assert_eq!(only(&config).tuning.profile, Profile::Safe);
    for (environment, profile) in [("production", Profile::Balanced), ("replica", Profile::Balanced)] {
        let config = with(&format!("environment: {environment}"), "").load().unwrap();
        assert_eq!(only(&config).tuning.profile, profile);
    }
    let config =
        with("tuning: { profile: safe, batch_size: 5 }", "tuning: { batch_size_memory_mb: 8 }").load().unwrap();
    assert_eq!((only(&config).tuning.batch_size, only(&config).tuning.batch_size_memory_mb), (5, Some(8)));
    let config = with("tuning: { max_batch_memory_mb: 8, on_batch_memory_exceeded: auto_shrink }", "").load().unwrap();
    assert_eq!(only(&config).tuning.batch_size_memory_mb, Some(8));
    let config = with("tuning: { batch_size: 5, max_batch_memory_mb: 8 }", "").load().unwrap();
    let tuning = &only(&config).tuning;
    assert_eq!((tuning.batch_size, tuning.batch_size_memory_mb, tuning.max_batch_memory_mb), (5, None, Some(8)));
}

#[test]
fn a_url_may_come_from_the_file_the_environment_or_a_file_of_its_own() {
    let export = EXPORT;
    let url = "postgresql://re%40der:p%2F%40%3A%3F%23@127.0.0.1:6432/sh%20op";
    let texts = [
        format!("source: {{ type: postgres, url: \"{url}\" }}\n{export}"),
        format!("source: {{ type: postgres, url_env: SHOP_URL }}\n{export}"),
        format!("source: {{ type: postgres, url_file: url.txt }}\n{export}"),
        format!("source: {{ type: postgres, url: '${{SHOP_URL}}' }}\n{export}"),
        format!(
            "source: {{ type: postgres, host: 127.0.0.1, port: 6432, user: re@der, password: 'p/@:?#', database: sh op }}\n{export}"
        ),
        format!(
            "source: {{ type: postgres, host: 127.0.0.1, port: '${{PORT}}', user: re@der, password_env: PW, database: sh op }}\n{export}"
        ),
    ];
    for text in texts {
        let project = project().file("rivet.yaml", &text).file("url.txt", &format!("{url}\n"));
        let config = project.env("SHOP_URL", url).env("PW", "p/@:?#").env("PORT", "6432").load().unwrap();
        let source = &config.source;
        assert_eq!((source.user.as_str(), source.port, source.database.as_str()), ("re@der", 6432, "sh op"), "{text}");
        assert_eq!(source.host, Host::Tcp("127.0.0.1".into()), "{text}");
        assert_eq!(source.password.as_ref().map(Secret::reveal), Some("p/@:?#"), "{text}");
    }
}

#[test]
fn a_socket_directory_is_a_host_and_needs_no_tls() {
    let text =
        format!("source: {{ type: postgres, host: /tmp/pgdev, port: 5499, user: postgres, database: cli }}\n{EXPORT}");
    let config = project().file("rivet.yaml", &text).load().unwrap();
    assert_eq!(config.source.host, Host::Unix(PathBuf::from("/tmp/pgdev")));
    assert_eq!(config.source.label(), "/tmp/pgdev:5499/cli");
    assert_eq!(config.source.password, None);
    let config = project().file("rivet.yaml", &text.replace("database: cli", "database: cli, tls: {}")).load().unwrap();
    assert_eq!(config.source.tls.mode, TlsMode::Disable, "a socket has no TLS");
    let text =
        format!("source: {{ type: postgres, url: 'postgres://postgres@/cli?host=/tmp/pgdev&port=5499' }}\n{EXPORT}");
    let config = project().file("rivet.yaml", &text).load().unwrap();
    assert_eq!(config.source.label(), "/tmp/pgdev:5499/cli");
}

#[test]
fn a_remote_host_needs_a_word_on_tls_and_a_local_one_does_not() {
    let load = |host: &str, query: &str, tls: &str| {
        let text = format!("source:\n  type: postgres\n  url: postgres://u:hunter2@{host}/d{query}\n{tls}{EXPORT}");
        project().file("rivet.yaml", &text).file("ca.pem", "x").load().map(|config| config.source.tls)
    };
    for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
        assert_eq!(load(host, "", "").unwrap().mode, TlsMode::Disable, "{host}");
    }
    for (host, query) in [("db", ""), ("10.0.0.1", "?sslmode=prefer"), ("[2001:db8::1]", ""), ("localhost.evil", "")] {
        let error = load(host, query, "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{host}");
        assert!(error.what().contains("rivet.yaml:3:8: `source.url` names a remote host"), "{error}");
        assert!(error.hint().contains("source.tls"), "{}", error.hint());
    }
    assert_eq!(load("db", "?sslmode=disable", "").unwrap().mode, TlsMode::Disable);
    assert_eq!(load("db", "?sslmode=require", "").unwrap().mode, TlsMode::Require);
    assert_eq!(load("db", "", "  tls: { ca_file: ca.pem }\n").unwrap().mode, TlsMode::VerifyFull);
    assert_eq!(load("db", "", "  tls: { mode: require, ca_file: ca.pem }\n").unwrap().mode, TlsMode::VerifyCa);
    assert_eq!(load("db", "", "  tls: { mode: disable }\n").unwrap().mode, TlsMode::Disable);
    assert_eq!(load("db", "?sslmode=verify-ca", "  tls: { ca_file: ca.pem }\n").unwrap().mode, TlsMode::VerifyCa);
    let tls = load("db", "", "  tls: { accept_invalid_certs: true, accept_invalid_hostnames: true }\n").unwrap();
    assert!(tls.accept_invalid_certs && tls.accept_invalid_hostnames && tls.mode == TlsMode::VerifyFull);
    let error = load("db", "?sslmode=disable", "  tls: { mode: verify-full }\n").unwrap_err();
    assert!(error.what().contains("disagree"), "{error}");
}

#[test]
fn every_key_that_an_existing_file_may_hold_without_effect_is_accepted() {
    let export = "mode: chunked\nchunk_column: id\nchunk_size: 1_000\nchunk_checkpoint: true\nchunk_max_attempts: 4\nchunk_dense: true\n\
                  on_schema_drift: continue\nsource_group: replica-1\nconsistency: mixed\nwave: 2\nparallel_safe: true\n\
                  reconcile_required: false\nshape_drift_warn_factor: 0.0\nparallel: 4\nmeta_columns: { exported_at: false }\n\
                  quality:\nverify: content\nskip_empty: yes\n";
    let config = with("tuning: { adaptive: false, min_parallel: 1 }", export).load().unwrap();
    let export = only(&config);
    assert_eq!(export.chunks, Chunks { column: Some("id".into()), size: Some(1000), count: None });
    assert_eq!((export.tuning.parallel, export.tuning.max_retries), (4, 3));
    assert!(export.verify_content && export.skip_empty && export.on_schema_drift == DriftPolicy::Continue);
}

#[test]
fn codecs_sizes_groups_and_columns_are_read() {
    let export = "compression: gzip\ncompression_level: 9\nmax_file_size: 1.5GB\non_schema_drift: fail\nconsistency: restart\n\
                  parquet: { row_group_strategy: fixed_rows, row_group_rows: 1000 }\n\
                  columns:\n  amount: decimal(18, 2)\n  small: int2\n  at: timestamp_tz\n  \"odd name\": text\n";
    let config = with("", export).load().unwrap();
    let export = only(&config);
    assert_eq!((export.compression, export.max_file_size), (Compression::Gzip(9), 3 << 29));
    assert_eq!(export.row_group_rows, Some(1000));
    assert!(export.on_schema_drift == DriftPolicy::Fail && export.restart_on_resume);
    let columns: Vec<_> = export.columns.iter().map(|(name, kind)| (name.as_str(), kind.clone())).collect();
    assert_eq!(
        columns,
        [
            ("amount", ColumnType::Decimal { precision: 18, scale: 2 }),
            ("at", ColumnType::TimestampUtc),
            ("odd name", ColumnType::Text),
            ("small", ColumnType::Int16),
        ]
    );
    for (text, codec) in [
        ("compression: zstd\ncompression_level: 19", Compression::Zstd(19)),
        ("compression: snappy", Compression::Snappy),
        ("compression: lz4", Compression::Lz4),
        ("compression: none", Compression::None),
        ("compression: gzip", Compression::Gzip(6)),
        ("compression_profile: compact", Compression::Zstd(9)),
    ] {
        assert_eq!(only(&with("", text).load().unwrap()).compression, codec, "{text}");
    }
    let config = with("", "parquet: { target_row_group_mb: 64, max_row_group_mb: 32 }").load().unwrap();
    assert_eq!(only(&config).row_group_bytes, 32 << 20);
}

#[test]
fn queries_are_filled_in_and_lose_their_last_semicolon() {
    let text = format!("{SOURCE}{}", EXPORT.replace("table: public.orders", "query_file: q.sql"));
    let project =
        project().file("rivet.yaml", &text).file("q.sql", "select '$${x}' || '${region}' from t -- $1 $$\n ; \n;");
    let project = project.param("region", "eu").env("region", "us");
    let config = project.load().unwrap();
    assert_eq!(only(&config).selection, Selection::Query("select '${x}' || 'eu' from t -- $1 $$".into()));
}

#[test]
fn only_what_was_asked_for_is_returned_and_what_was_not_may_need_a_later_version() {
    let other = "  - name: events\n    table: events\n    mode: incremental\n    cursor_column: id\n    format: csv\n    destination: { type: s3, bucket: b }\n";
    let mut project = project().file("rivet.yaml", &format!("{SOURCE}{EXPORT}{other}"));
    assert_eq!(project.load().unwrap_err().kind(), ErrorKind::ConfigUnsupported);
    project.options.exports = vec!["orders".into(), "orders".into()];
    assert_eq!(only(&project.load().unwrap()).name, "orders");
    project.options.exports = vec!["order".into()];
    let error = project.load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigUnknownExport);
    assert_eq!(error.hint(), "Did you mean \"orders\"?");
    project.options.exports = vec!["zzz".into()];
    assert_eq!(project.load().unwrap_err().hint(), "It has: orders, events.");
}

#[test]
fn what_another_export_needs_has_to_be_given_for_that_one_alone() {
    let other = "  - query: select ${limit}\n    name: ${prefix}-events\n    format: parquet\n    destination: { type: local, path: '$${date}' }\n";
    let third =
        "  - name: third\n    query_file: q.sql\n    format: parquet\n    destination: { type: local, path: out }\n";
    let project = project().file("q.sql", "select ${lower}").param("prefix", "big");
    let mut project = project.file("rivet.yaml", &format!("{SOURCE}{EXPORT}{other}{third}"));
    project.options.exports = vec!["orders".into()];
    assert_eq!(only(&project.load().unwrap()).name, "orders");
    for (wanted, missing) in [("big-events", "`${limit}`"), ("third", "`${lower}`")] {
        project.options.exports = vec![wanted.into()];
        let error = project.load().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigUnset);
        assert!(error.what().contains(missing), "{error}");
    }
    project.options.exports = Vec::new();
    assert_eq!(project.load().unwrap_err().kind(), ErrorKind::ConfigUnset);
    let mut project = project.param("limit", "5");
    project.options.exports = vec!["big-events".into()];
    let config = project.load().unwrap();
    assert_eq!(only(&config).selection, Selection::Query("select 5".into()));
    assert!(only(&config).destination.path.ends_with("${date}"), "values are filled once");
    // Its name has to be known to tell whether it was asked for, and so has the source.
    project.options.exports = vec!["orders".into()];
    project.options.params.remove("prefix");
    assert_eq!(project.load().unwrap_err().kind(), ErrorKind::ConfigUnset);
    let project = project.file("rivet.yaml", &format!("{}{EXPORT}", SOURCE.replace("reader", "${limit2}")));
    assert_eq!(project.load().unwrap_err().kind(), ErrorKind::ConfigUnset);
}

#[test]
fn a_destination_in_the_state_directory_is_refused_by_whatever_name_and_one_beside_it_is_not() {
    let mut project = with("", "");
    let state = project.dir.path().join("out");
    for (state_dir, refused) in [("out", true), (".", true), ("out2", false), ("out/orders", false)] {
        project.options.state_dir = Some(project.dir.path().join(state_dir));
        assert_eq!(project.load().is_err(), refused, "{state_dir}");
    }
    std::fs::create_dir(&state).unwrap();
    std::os::unix::fs::symlink(&state, project.dir.path().join("link")).unwrap();
    project.options.state_dir = Some(project.dir.path().join("link"));
    assert_eq!(project.load().unwrap_err().kind(), ErrorKind::ConfigInvalid);
}

#[test]
fn the_state_directory_is_found_without_a_valid_file() {
    let mut project = project().file("rivet.yaml", &format!("state_dir: ../state\n{SOURCE}{EXPORT}"));
    let parent = project.dir.path().parent().unwrap().to_path_buf();
    assert_eq!(project.load().unwrap().state_dir, parent.join("state"));
    project.options.state_dir = Some(PathBuf::from("/elsewhere/./x"));
    assert_eq!(project.load().unwrap().state_dir, Path::new("/elsewhere/x"));

    let broken = project.file("rivet.yaml", "state_dir: s\nsource: nonsense\nunknown: 1\n");
    assert_eq!(state_dir_of(&broken.path()).unwrap(), broken.dir.path().join("s"));
    let without = broken.file("rivet.yaml", "source: ${UNSET_ANYWHERE}\n");
    assert_eq!(state_dir_of(&without.path()).unwrap(), without.dir.path().join(".rivet"));
}

#[test]
fn destinations_are_resolved_once_and_stay_inside() {
    let resolve = |table: &str, path: &str| {
        let text = format!(
            "{SOURCE}{}",
            EXPORT.replace("public.orders", table).replace("path: out", &format!("path: \"{path}\""))
        );
        let project = project().file("rivet.yaml", &text);
        let (root, prefix) = resolve_destination(only(&project.load().unwrap()), "orders-01J", "2026-01-31");
        let relative = |path: &Path| path.strip_prefix(project.dir.path()).unwrap().display().to_string();
        (relative(&root), relative(&prefix))
    };
    let pair = |root: &str, prefix: &str| (root.to_owned(), prefix.to_owned());
    assert_eq!(resolve("t", "out"), pair("out", "out/orders-01J"));
    assert_eq!(
        resolve("s.t", "out/{date}/{table}/{export}/"),
        pair("out/2026-01-31/t/orders", "out/2026-01-31/t/orders/orders-01J")
    );
    assert_eq!(resolve("t", "a/{run_id}/b"), pair("a/orders-01J/b", "a/orders-01J/b"));
    assert_eq!(resolve("'\"../../etc\"'", "o/{table}"), pair("o/.._.._etc", "o/.._.._etc/orders-01J"));
    assert_eq!(resolve("'\"..\"'", "o/{table}"), pair("o/_..", "o/_../orders-01J"));
    assert_eq!(resolve("'\"{run_id}\"'", "o/{table}"), pair("o/_run_id_", "o/_run_id_/orders-01J"));
}

#[test]
fn a_root_is_still_the_same_on_any_day_and_nowhere_else() {
    let check = |template: &str, planned: &str| {
        let text = format!("{SOURCE}{}", EXPORT.replace("path: out", &format!("path: \"{template}\"")));
        let project = project().file("rivet.yaml", &text);
        let planned = project.dir.path().join(planned);
        let now = still_resolves_to(only(&project.load().unwrap()), "orders-01J", &planned);
        now.map_err(|now| now.strip_prefix(project.dir.path()).unwrap().display().to_string())
    };
    assert_eq!(check("out", "out"), Ok(()));
    assert_eq!(check("out/{run_id}", "out/orders-01J"), Ok(()));
    assert_eq!(check("1999-12-31/{date}/x/{date}", "1999-12-31/2026-01-31/x/2026-01-31"), Ok(()));
    assert_eq!(check("a{date}1", "a2026-01-311"), Ok(()));
    assert_eq!(check("out/{date}", "out/yesterday"), Err("out/{date}".to_owned()));
    assert_eq!(check("out/{date}", "elsewhere/2026-01-31"), Err("out/{date}".to_owned()));
    assert_eq!(check("out/{run_id}", "out/orders-01K"), Err("out/orders-01J".to_owned()));
    assert_eq!(check("out", "before/out"), Err("out".to_owned()));
}

/// Every change that changes rows or bytes, or where they go, changes the definition; nothing else does.
#[test]
fn the_definition_follows_what_comes_out() {
    let definition = |text: &str| {
        let project = project().file("rivet.yaml", text).file("q.sql", "select 1").file("ca.pem", "");
        only(&project.load().unwrap_or_else(|error| panic!("{error} in {text}"))).definition
    };
    let base = format!("{SOURCE}{EXPORT}");
    let reference = definition(&base);
    assert_eq!(reference.to_string(), "xxh3:775f6da450f7c5d2", "the runs of earlier builds cannot be resumed");
    assert_eq!(definition(&base), reference, "the directory of the file does not matter");
    for (from, to) in [
        ("localhost", "127.0.0.1"),
        ("localhost", "localhost:5433"),
        ("/shop", "/other"),
        ("name: orders", "name: orders2"),
        ("public.orders", "orders"),
        ("public.orders", "public.orders2"),
        ("table: public.orders", "query: select 1"),
        ("path: out", "path: out2"),
        ("format: parquet", "format: parquet\n    mode: chunked"),
        ("format: parquet", "format: parquet\n    mode: chunked\n    chunk_column: id"),
        ("format: parquet", "format: parquet\n    mode: chunked\n    chunk_size: 10"),
        ("format: parquet", "format: parquet\n    mode: chunked\n    chunk_count: 10"),
        ("format: parquet", "format: parquet\n    compression: gzip"),
        ("format: parquet", "format: parquet\n    compression_level: 2"),
        ("format: parquet", "format: parquet\n    max_file_size: 1MB"),
        ("format: parquet", "format: parquet\n    columns: { a: text }"),
        ("format: parquet", "format: parquet\n    consistency: restart"),
        ("format: parquet", "format: parquet\n    parquet: { row_group_rows: 10 }"),
        ("format: parquet", "format: parquet\n    parquet: { target_row_group_mb: 4 }"),
        ("format: parquet", "format: parquet\n    parquet: { target_row_group_mb: 64 }"),
        ("format: parquet", "format: parquet\n    parquet: { max_row_group_mb: 4 }"),
    ] {
        assert_ne!(definition(&base.replacen(from, to, 1)), reference, "{from} → {to}");
    }
    for (from, to) in [
        ("reader@", "writer:secret@"),
        ("format: parquet", "format: parquet\n    parquet: { target_row_group_mb: 8, max_row_group_mb: 64 }"),
        ("localhost", "LOCALHOST"),
        ("format: parquet", "format: parquet\n    tuning: { parallel: 7, profile: safe }"),
        ("format: parquet", "format: parquet\n    skip_empty: true"),
        ("format: parquet", "format: parquet\n    on_schema_drift: fail"),
        ("format: parquet", "format: parquet\n    verify: content"),
        ("format: parquet", "format: parquet\n    mode: full\n    compression: zstd\n    compression_level: 1"),
    ] {
        assert_eq!(definition(&base.replacen(from, to, 1)), reference, "{from} → {to}");
    }
}

#[test]
fn what_becomes_of_special_values_is_one_word_and_null_needs_no_quotes() {
    use rivet::config::model::SpecialValues;
    let of = |lines: &str| with("", lines).load().map(|config| only(&config).types.special_values);
    assert_eq!(of("").unwrap(), SpecialValues::Usual);
    for (word, policy) in [
        ("error", SpecialValues::Error),
        ("null", SpecialValues::Null),
        ("'null'", SpecialValues::Null),
        ("text", SpecialValues::Text),
        ("clamp", SpecialValues::Clamp),
    ] {
        assert_eq!(of(&format!("types: {{ special_values: {word} }}")).unwrap(), policy, "{word}");
    }
    assert_eq!(of("types:\n  special_values: null # as NULL").unwrap(), SpecialValues::Null);
    // What was forgotten is no policy.
    for nothing in ["", " ~", " # none", " Null", " !!null ''"] {
        let error = of(&format!("types:\n  special_values:{nothing}\n  numeric: string")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{nothing:?}: {error}");
        assert!(error.what().contains("types.special_values` holds nothing"), "{nothing:?}: {error}");
        assert!(error.hint().contains("`error`, `null`, `text`, `clamp`"), "{nothing:?}: {}", error.hint());
    }
    assert_eq!(of("types: { special_values: }").unwrap_err().kind(), ErrorKind::ConfigInvalid);
    let error = of("types: { special_values: clmap }").unwrap_err();
    assert!(error.what().contains("special_values") && error.hint().contains("`clamp`"), "{error}");
}

/// A parameter that fills nothing is a mistake that somebody should hear of, wherever else it might have been meant.
#[test]
fn a_parameter_that_nothing_uses_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rivet.yaml");
    std::fs::write(dir.path().join("q.sql"), "select ${in_file}").unwrap();
    let text = "source: { type: postgres, url: 'postgres://u@localhost/${typo}' }\nexports:\n\
                - { name: a, query: 'select $${not_this}', format: parquet, destination: { type: local, path: o } }\n\
                - { name: b, query_file: q.sql, format: parquet, destination: { type: local, path: o } }\n";
    std::fs::write(&path, text).unwrap();
    let load = |given: &[&str], exports: &[&str]| {
        let params = given.iter().map(|key| ((*key).to_owned(), "hunter2".to_owned())).collect();
        let exports = exports.iter().map(|name| (*name).to_owned()).collect();
        load_with(&path, &LoadOptions { params, exports, ..LoadOptions::default() }, &|_| None)
    };
    load(&["typo", "in_file"], &[]).unwrap();
    load(&["typo", "in_file"], &["a"]).unwrap();
    for unused in ["tpyo", "not_this", "hunter"] {
        let error = load(&["typo", "in_file", unused], &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.what().contains(unused) && !error.what().contains("hunter2"), "{error}");
    }
    assert!(load(&["typo", "in_file", "tpyo"], &[]).unwrap_err().hint().contains("`typo`"));
}
