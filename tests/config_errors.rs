//! Every way in which a configuration is refused: its code, its place, what it says, and that it says no secret.

use proptest::prelude::*;
use rivet::config::{LoadOptions, load_with};
use rivet::{Error, ErrorKind};
use std::path::Path;

use ErrorKind::*;

fn refused_with(text: &str, env: &dyn Fn(&str) -> Option<String>, options: &LoadOptions) -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rivet.yaml");
    std::fs::write(&path, text).unwrap();
    load_with(&path, options, env).map(drop)
}

fn refused(text: &str) -> Error {
    let result = refused_with(text, &|_| None, &LoadOptions::default());
    result.err().unwrap_or_else(|| panic!("accepted:\n{text}"))
}

/// The `line:column` of an error, where it names one.
fn place(error: &Error) -> &str {
    let after = error.what().split_once("rivet.yaml:").map_or("", |(_, after)| after);
    after.split_once(": ").map_or("", |(place, _)| place)
}

const SOURCE: &str = "source:\n  type: postgres\n  url: postgres://reader@localhost/shop\n";
const EXPORT: &str = "exports:\n  - name: orders\n    table: public.orders\n    format: parquet\n    destination: { type: local, path: out }\n";

/// Lines added to the only export begin at line 9, lines added to the source at line 4.
fn export(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("{SOURCE}{EXPORT}{lines}")
}

fn source(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    format!("{SOURCE}{lines}{EXPORT}")
}

fn instead(from: &str, to: &str) -> String {
    let base = format!("{SOURCE}{EXPORT}");
    assert!(base.contains(from), "{from}");
    base.replacen(from, to, 1)
}

#[test]
fn each_mistake_has_its_code_its_place_and_a_word_that_helps() {
    #[rustfmt::skip]
    let table: Vec<(String, ErrorKind, &str, &str)> = vec![
        // Root.
        (export("").replacen("source:", "sources:", 1), ConfigUnknownKey, "1:1", "Did you mean `source`?"),
        (EXPORT.to_owned(), ConfigInvalid, "1:1", "`source` is missing"),
        (SOURCE.to_owned(), ConfigInvalid, "1:1", "`exports` is missing"),
        (format!("{SOURCE}exports: []\n"), ConfigInvalid, "4:1", "`exports` is empty"),
        (format!("{SOURCE}exports: {{}}\n"), ConfigInvalid, "4:1", "must be a list"),
        (format!("{SOURCE}exports: [orders]\n"), ConfigInvalid, "4:11", "must be a mapping"),
        ("just text".to_owned(), ConfigInvalid, "1:1", "must be a mapping"),
        ("[]".to_owned(), ConfigInvalid, "1:1", "must be a mapping"),
        (String::new(), ConfigInvalid, "", "is empty"),
        ("\n  \n".to_owned(), ConfigInvalid, "", "is empty"),
        ("# nothing\n".to_owned(), ConfigInvalid, "", "is empty"),
        (format!("{SOURCE}{EXPORT}snapshot_group: true\n"), ConfigUnsupported, "9:17", "each export is read in one snapshot"),
        (format!("{SOURCE}{EXPORT}notifications:\n  slack: {{ webhook_url_env: X }}\n"), ConfigUnsupported, "9:1", "exit code"),
        (format!("{SOURCE}{EXPORT}parallel_exports: maybe\n"), ConfigInvalid, "9:19", "`true` or `false`"),
        // YAML.
        ("source: [\n".to_owned(), ConfigSyntax, "1:9", "not valid YAML"),
        (format!("{SOURCE}{SOURCE}{EXPORT}"), ConfigSyntax, "4:1", "\"source\" stands twice"),
        ("a: b: c\n".to_owned(), ConfigSyntax, "1:5", "not valid YAML"),
        ("a: *b\n".to_owned(), ConfigSyntax, "1:4", "names no anchor"),
        (format!("{SOURCE}{EXPORT}---\na: 1\n"), ConfigSyntax, "10:1", "second document"),
        // Interpolation.
        (instead("table: public.orders", "query: select ${region}"), ConfigUnset, "6:12", "`${region}` is neither"),
        (instead("table: public.orders", "query: select ${"), ConfigSyntax, "6:12", "never closed"),
        (instead("table: public.orders", "query: select ${a b}"), ConfigSyntax, "6:12", "not a name"),
        // Source.
        (instead("type: postgres", "type: mysql"), ConfigUnsupported, "2:9", "`postgres` is what it reads"),
        (instead("type: postgres", "type: sqlite"), ConfigUnsupported, "2:9", "does not read"),
        (instead("type: postgres", "type: postgers"), ConfigInvalid, "2:9", "Did you mean `postgres`?"),
        (instead("type: postgres", "type: oracle"), ConfigInvalid, "2:9", "one of `postgres`"),
        (instead("  type: postgres\n", ""), ConfigInvalid, "2:3", "`source.type` is missing"),
        (instead("  url: postgres://reader@localhost/shop\n", ""), ConfigInvalid, "2:3", "names no server"),
        (source("url_env: X"), ConfigInvalid, "4:12", "beside another URL"),
        (source("host: x"), ConfigInvalid, "4:9", "beside a URL"),
        (instead("url: postgres://reader@localhost/shop", "url_env: SHOP_URL"), ConfigUnset, "3:12", "SHOP_URL, which is not set"),
        (instead("url: postgres://reader@localhost/shop", "url_file: nowhere"), ConfigInvalid, "3:13", "there is no file"),
        (instead("url: postgres://reader@localhost/shop", "url:"), ConfigInvalid, "3:3", "holds nothing"),
        (instead("url: postgres://reader@localhost/shop", "url: mysql://u@h/d"), ConfigInvalid, "3:8", "another engine"),
        (instead("url: postgres://reader@localhost/shop", "url: reader@localhost"), ConfigInvalid, "3:8", "not a URL"),
        (instead("reader@localhost", "reader@a,b"), ConfigUnsupported, "3:8", "several hosts"),
        (instead("reader@localhost", "localhost"), ConfigInvalid, "3:8", "names no user"),
        (instead("localhost/shop", "/shop"), ConfigInvalid, "3:8", "names no host"),
        (instead("localhost/shop", "localhost:x/shop"), ConfigInvalid, "3:8", "percent-encoded"),
        (instead("/shop", "/shop?options=-c"), ConfigUnsupported, "3:8", "`options`"),
        (instead("/shop", "/shop?sslmode=on"), ConfigInvalid, "3:8", "`sslmode`"),
        (instead("url: postgres://reader@localhost/shop", "host: localhost"), ConfigInvalid, "2:3", "`source.user` is missing"),
        (instead("url: postgres://reader@localhost/shop", "{ host: a }"), ConfigSyntax, "3:3", ""),
        (instead("url: postgres://reader@localhost/shop", "host: db\n  user: u\n  database: d"), ConfigInvalid, "3:9", "a remote host \"db\""),
        (instead("url: postgres://reader@localhost/shop", "host: a,b\n  user: u\n  database: d"), ConfigUnsupported, "3:9", "several hosts"),
        (instead("url: postgres://reader@localhost/shop", "host: localhost\n  user: u\n  database: d\n  port: 70000"), ConfigInvalid, "6:9", "1 to 65535"),
        (instead("url: postgres://reader@localhost/shop", "host: localhost\n  user: u\n  database: d\n  password: a\n  password_env: B"), ConfigInvalid, "7:17", "beside `password`"),
        (instead("url: postgres://reader@localhost/shop", "host: localhost\n  user: u\n  database: d\n  password:"), ConfigInvalid, "6:3", "needs quotes"),
        (instead("url: postgres://reader@localhost/shop", "host: localhost\n  user: u\n  database: d\n  password: [a]"), ConfigInvalid, "6:3", "not a list"),
        (source("environment: prod"), ConfigInvalid, "4:16", "Did you mean `production`?"),
        (source("tls: { mode: verify }"), ConfigInvalid, "4:16", "Did you mean `verify-ca`?"),
        (source("tls: { ca_file: nowhere.pem }"), ConfigInvalid, "4:19", "not there"),
        (source("tls: { ca: x }"), ConfigUnknownKey, "4:10", "`ca` in `source.tls`"),
        (source("batch_size: 5"), ConfigUnknownKey, "4:3", "`batch_size` in `source`"),
        // Tuning.
        (source("tuning: { parralel: 4 }"), ConfigUnknownKey, "4:13", "Did you mean `parallel`?"),
        (source("tuning: { parallel: 0 }"), ConfigInvalid, "4:23", "from 1 to 128, not \"0\""),
        (source("tuning: { parallel: -1 }"), ConfigInvalid, "4:23", "whole number"),
        (source("tuning: { batch_size: 1.5 }"), ConfigInvalid, "4:25", "whole number"),
        (source("tuning: { profile: turbo }"), ConfigInvalid, "4:22", "one of `fast`, `balanced`, `safe`"),
        (source("tuning: { adaptive: true }"), ConfigUnsupported, "4:23", "Set `parallel` by hand"),
        (source("tuning: { on_batch_memory_exceeded: fail }"), ConfigUnsupported, "4:39", "auto_shrink"),
        (source("tuning: []"), ConfigInvalid, "4:11", "must be a mapping"),
        // Exports.
        (instead("  - name: orders\n    table", "  - table"), ConfigInvalid, "5:5", "`exports[0].name` is missing"),
        (instead("name: orders", "name: or/ders"), ConfigInvalid, "5:11", "becomes part of file names"),
        (instead("name: orders", "name: .."), ConfigInvalid, "5:11", "letters, digits"),
        (instead("name: orders", "name: naïve"), ConfigInvalid, "5:11", "letters, digits"),
        (instead("name: orders", "name: '-x'"), ConfigInvalid, "5:11", "begins an option"),
        (instead("name: orders", "name: .x"), ConfigInvalid, "5:11", "the first a letter"),
        (format!("{SOURCE}{EXPORT}{}", EXPORT.replace("exports:\n", "").replace("orders", "Orders")), ConfigInvalid, "9:11", "the first is at"),
        (export("tabel: x"), ConfigUnknownKey, "9:5", "Did you mean `table`?"),
        (export("profile: fast"), ConfigUnknownKey, "9:5", "It belongs under `tuning`."),
        (export("path: ./x"), ConfigUnknownKey, "9:5", "It belongs under `destination`."),
        (export("types:\n  special_values:"), ConfigInvalid, "10:7", "`clamp`, or take the key out"),
        (export("special_values: error"), ConfigUnknownKey, "9:5", "It belongs under `types`."),
        (export("query: select 1"), ConfigInvalid, "6:12", "beside another selection"),
        (instead("    table: public.orders\n", ""), ConfigInvalid, "5:5", "selects nothing"),
        (instead("table: public.orders", "query: ' ; '"), ConfigInvalid, "6:12", "no statement"),
        (instead("table: public.orders", "query_file: none.sql"), ConfigInvalid, "6:17", "there is no file"),
        (instead("public.orders", "a.b.c"), ConfigInvalid, "6:12", "more than two parts"),
        (instead("public.orders", "'\"a'"), ConfigInvalid, "6:12", "never closed"),
        (instead("    format: parquet\n", ""), ConfigInvalid, "5:5", "`exports[0].format` is missing"),
        (instead("format: parquet", "format: csv"), ConfigUnsupported, "7:13", "`parquet` is what it writes"),
        (instead("format: parquet", "format: jsonl"), ConfigUnsupported, "7:13", "does not write"),
        (instead("format: parquet", "format: parket"), ConfigInvalid, "7:13", "Did you mean `parquet`?"),
        (export("mode: incremental\ncursor_column: id"), ConfigUnsupported, "9:11", "`full` and `chunked` are there"),
        (export("mode: time_window"), ConfigUnsupported, "9:11", "does not have"),
        (export("mode: ful"), ConfigInvalid, "9:11", "Did you mean `full`?"),
        (export("chunk_count: 4"), ConfigInvalid, "9:18", "belongs to `mode: chunked`"),
        (export("mode: chunked\ncursor_column: id"), ConfigInvalid, "10:20", "belongs to `mode: incremental`"),
        (export("days_window: 3"), ConfigInvalid, "9:18", "belongs to `mode: time_window`"),
        (export("mode: chunked\nchunk_size: 4\nchunk_count: 4"), ConfigInvalid, "11:18", "beside `chunk_size`"),
        (export("mode: chunked\nchunk_column: a\nchunk_by_key: b"), ConfigInvalid, "11:19", "beside `chunk_column`"),
        (export("mode: chunked\nchunk_by_days: 4"), ConfigUnsupported, "10:20", "`chunk_count`"),
        (export("mode: chunked\nchunk_size_memory_mb: 4"), ConfigUnsupported, "10:27", "`chunk_count`"),
        (export("mode: chunked").replacen("table: public.orders", "query: select 1", 1), ConfigInvalid, "6:12", "`mode: full`"),
        (export("parallel: 2\ntuning: { parallel: 3 }"), ConfigInvalid, "9:15", "disagree"),
        (export("consistency: per_slice"), ConfigUnsupported, "9:18", "one snapshot"),
        (export("on_schema_drift: panic"), ConfigInvalid, "9:22", "one of `warn`"),
        (export("verify: md5"), ConfigInvalid, "9:13", "one of `size`, `content`"),
        (export("skip_empty: 1"), ConfigInvalid, "9:17", "`true` or `false`"),
        (export("compression: brotli"), ConfigInvalid, "9:18", "one of `zstd`"),
        (export("compression_level: 23"), ConfigInvalid, "9:24", "from 1 to 22"),
        (export("compression: snappy\ncompression_level: 1"), ConfigInvalid, "10:24", "no levels"),
        (export("max_file_size: big"), ConfigInvalid, "9:20", "such as `64MB`"),
        (export("max_file_size: 10"), ConfigInvalid, "9:20", "from 1KB to 1TB"),
        (export("parquet: { row_group_strategy: fixed_rows }"), ConfigInvalid, "9:36", "needs `row_group_rows`"),
        (export("parquet: { row_group_strategy: auto, row_group_rows: 5 }"), ConfigInvalid, "9:58", "fixed_rows"),
        (export("columns: { a: 'decimal(77,0)' }"), ConfigInvalid, "9:19", "precision 1 to 76"),
        (export("columns: { a: 'decimal(2,3)' }"), ConfigInvalid, "9:19", "scale 0 to precision"),
        (export("columns: { a: timestmap }"), ConfigInvalid, "9:19", "Did you mean `timestamp`?"),
        (export("columns: { a: decimal(7,0) }"), ConfigInvalid, "9:19", "in braces"),
        (export("columns: [a]"), ConfigInvalid, "9:14", "must be a mapping"),
        (export("partition_by: day"), ConfigUnsupported, "9:19", "cannot do yet"),
        (export("quality: { row_count_min: 5 }"), ConfigUnsupported, "9:31", "does not evaluate"),
        (export("meta_columns: { row_hash: true }"), ConfigUnsupported, "9:31", "adds a column"),
        (export("reconcile_required: true"), ConfigUnsupported, "9:25", "does not count again"),
        (export("reconcile_required: maybe"), ConfigInvalid, "9:25", "`true` or `false`"),
        (export("shape_drift_warn_factor: 2.5"), ConfigUnsupported, "9:30", "does not watch"),
        (export("shape_drift_warn_factor: -1"), ConfigInvalid, "9:30", "a number"),
        (export("shape_drift_warn_factor: NaN"), ConfigInvalid, "9:30", "a number"),
        (export("wave: {nonsense: [1]}"), ConfigInvalid, "9:5", "not a mapping"),
        (export("wave: first"), ConfigInvalid, "9:11", "whole number"),
        (export("parallel_safe: banana"), ConfigInvalid, "9:20", "`true` or `false`"),
        (export("source_group: [a]"), ConfigInvalid, "9:5", "not a list"),
        // Destination.
        (instead("    destination: { type: local, path: out }\n", ""), ConfigInvalid, "5:5", "`exports[0].destination` is missing"),
        (instead("type: local, path: out", "path: out"), ConfigInvalid, "8:18", "`exports[0].destination.type` is missing"),
        (instead(", path: out", ""), ConfigInvalid, "8:18", "`exports[0].destination.path` is missing"),
        (instead("type: local, path: out", "type: s3, bucket: b"), ConfigUnsupported, "8:26", "`local` is what it writes to"),
        (instead("type: local, path: out", "type: stdout"), ConfigUnsupported, "8:26", "does not write to"),
        (instead("type: local", "type: ftp"), ConfigInvalid, "8:26", "one of `local`"),
        (instead("path: out", "path: out, bucket: b"), ConfigInvalid, "8:52", "another type"),
        (instead("path: out", "path: 'o/{dat}'"), ConfigInvalid, "8:39", "Did you mean `{date}`?"),
        (instead("path: out", "path: 'o/{zz}'"), ConfigInvalid, "8:39", "Known tokens"),
        (instead("path: out", "path: 'o/{partition}'"), ConfigUnsupported, "8:39", "partition_by"),
        (instead("path: out", "path: 'o/{date'"), ConfigInvalid, "8:39", "without a `}`"),
        (instead("path: out", "path: 'o/}'"), ConfigInvalid, "8:39", "without a `{`"),
        (instead("path: out", "path: ''"), ConfigInvalid, "8:39", "must not be empty"),
        (instead("path: out", "path: ~/out"), ConfigInvalid, "8:39", "only a shell resolves"),
        (instead("path: out", "path: '~'"), ConfigInvalid, "8:39", "absolute path"),
        (instead("path: out", "path: 'file:///tmp/out'"), ConfigInvalid, "8:39", "without `file://`"),
        (instead("path: out", "path: 's3://bucket/out'"), ConfigInvalid, "8:39", "local directories only"),
        (instead("path: out", "path: .rivet"), ConfigInvalid, "8:39", "lies in the state directory"),
        (instead("path: out", "path: ./a/../.rivet/out"), ConfigInvalid, "8:39", "outside of it"),
        (instead("path: out", "path: 'a/{export}/b'") + "state_dir: a/orders\n", ConfigInvalid, "8:39", "lies in the state directory"),
        (export("") + "state_dir: ~/state\n", ConfigInvalid, "9:12", "only a shell resolves"),
    ];
    let mut wrong = Vec::new();
    for (text, kind, at, word) in &table {
        let error = refused(text);
        let said = format!("{} {}", error.what(), error.hint());
        let is_sentence = error.hint().ends_with(['.', '?']);
        if error.kind() != *kind || place(&error) != *at || !said.contains(word) || !is_sentence {
            wrong.push(format!(
                "{text}\n  wanted {kind:?} at {at:?} with {word:?}\n  got {error}\n  hint {}\n",
                error.hint()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table.len() > 100);
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let load = |path: &Path| load_with(path, &LoadOptions::default(), &|_| None).map(drop).unwrap_err();
    let missing = load(&dir.path().join("rivet.yaml"));
    assert_eq!(missing.kind(), ConfigMissing);
    assert!(missing.hint().contains("-c FILE"), "{}", missing.hint());
    assert_eq!(load(dir.path()).kind(), ConfigUnreadable);
    let path = dir.path().join("x");
    std::fs::write(&path, b"a: 1\nb: \xff\xfe\n").unwrap();
    assert!(load(&path).what().ends_with("x:2: this is not UTF-8 text"), "{}", load(&path));
    std::fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
    assert!(load(&path).what().contains("longer than"));
    assert_eq!(load(Path::new("/dev/null/x")).kind(), ConfigUnreadable);
}

#[test]
fn a_value_that_was_filled_in_is_never_shown() {
    let env = |name: &str| (name == "PW").then(|| "hunter2".to_owned());
    for text in [
        export("tuning: { profile: '${PW}' }"),
        export("compression: ${PW}"),
        export("max_file_size: ${PW}"),
        export("skip_empty: ${PW}"),
        export("columns: { a: '${PW}' }"),
        export("tuning: { parallel: '${PW}' }"),
        instead("name: orders", "name: '${PW}!'"),
        instead("public.orders", "a.b.${PW}"),
        instead("path: out", "path: '{${PW}}'"),
        instead("url: postgres://reader@localhost/shop", "host: '${PW}'\n  user: u\n  database: d"),
        instead("url: postgres://reader@localhost/shop", "url_env: '${PW}'"),
    ] {
        let error = refused_with(&text, &env, &LoadOptions::default()).unwrap_err();
        let said = format!("{error} {error:?} {}", error.hint());
        assert!(!said.contains("hunter2"), "{said}");
    }
}

/// Nothing that a person could have meant as a password comes back, wherever it was written and whatever is wrong.
fn tells_nothing(secret: &str) -> Result<(), TestCaseError> {
    let quoted = format!("'{}'", secret.replace('\'', "''"));
    let structured = |password: &str, rest: &str| {
        format!(
            "source:\n  type: postgres\n  host: localhost\n  user: u\n  database: d\n  password: {password}\n{rest}{EXPORT}"
        )
    };
    let url = |url: &str| format!("source:\n  type: postgres\n  url: {url}\n{EXPORT}");
    let texts = [
        structured(&quoted, ""),
        structured(&quoted, "  prot: 1\n"),
        structured(&quoted, "  port: x\n"),
        structured(secret, ""),
        structured("'${PW}'", "  tls: 5\n"),
        structured(&format!("\"{secret}"), ""),
        url(&format!("postgres://u:{secret}@localhost/d")),
        url(&format!("'postgres://u:{}@db.example/d?x=1'", secret.replace('\'', "''"))),
        url(&format!("'postgres://u:{}@localhost/d?sslmode=x'", secret.replace('\'', "''"))),
        url("'postgres://u:${PW}@db.example/d'"),
        url("'${PW}'"),
        url(&quoted),
    ];
    for text in texts {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rivet.yaml");
        std::fs::write(&path, &text).unwrap();
        let env = |name: &str| (name == "PW").then(|| secret.to_owned());
        let said = match load_with(&path, &LoadOptions::default(), &env) {
            Ok(config) => format!("{config:?} {}", config.source.label()),
            Err(error) => format!("{error} {error:?} {}", error.hint()),
        };
        prop_assert!(!said.contains(secret), "{:?} in {} for\n{}", secret, said, text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_secret_is_in_any_output(core in "[A-Za-z0-9]{2}[!-~]{6,20}[A-Za-z0-9]{2}") {
        tells_nothing(&format!("Zq{core}"))?;
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}", noise in "[-{}\\[\\]:,&*!|>'\"%@` a-z0-9\\n]{0,80}") {
        let _ = refused_with(&text, &|_| None, &LoadOptions::default());
        let _ = refused_with(&noise, &|_| None, &LoadOptions::default());
        let _ = refused_with(&export(&noise), &|_| None, &LoadOptions::default());
    }
}
