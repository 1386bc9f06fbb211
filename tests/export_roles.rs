//! What a role, a database or a locale sets for itself does not reach the values, and what a role may not do is not asked of it.

mod support;

use std::process::Command;
use support::cluster::{OwnCluster, bin_dir};
use support::database::Database;
use support::rivet::{Scratch, config, export, run_id};
use support::{files, oracle};

/// A currency without a fraction, one of thousandths, and one of hundredths that is written with a comma.
const LOCALES: [(&str, &str); 3] = [("ja_JP", "UTF-8"), ("ar_KW", "UTF-8"), ("de_DE", "UTF-8")];

#[test]
fn an_amount_of_money_is_the_same_number_in_a_currency_of_any_fraction() {
    let locales = tempfile::tempdir().expect("a temporary directory can be made");
    for (locale, charmap) in LOCALES {
        let to = locales.path().join(format!("{locale}.{charmap}"));
        let made = Command::new("localedef").args(["-i", locale, "-f", charmap]).arg(&to).output();
        let made = made.expect("localedef can be started; tools/setup installs it");
        assert!(to.exists(), "{}; tools/setup installs the sources of locales", String::from_utf8_lossy(&made.stderr));
    }
    let open = Command::new("chmod").args(["-R", "go+rX"]).arg(locales.path()).status();
    assert!(open.expect("chmod can be started").success());
    let cluster = OwnCluster::start_with(bin_dir(), Some(locales.path()));
    let shown = [("ja_JP.UTF-8", "\u{ffe5}1,235"), ("ar_KW.UTF-8", "1,234.567"), ("de_DE.UTF-8", "$1,234.57")];
    for (locale, shown) in shown {
        let database = Database::create_in(&cluster.server, "money");
        database.execute(&format!("ALTER DATABASE {} SET lc_monetary = '{locale}'", database.name));
        database.execute(&format!(
            "SET lc_monetary = '{locale}'; CREATE TABLE t (id int PRIMARY KEY, m money, ms money[]);
             INSERT INTO t SELECT 1, (1234567::numeric / 1000)::money, ARRAY[(1::numeric)::money, NULL]"
        ));
        let amount = database.value(&format!("SET lc_monetary = '{locale}'; SELECT m::numeric FROM t"));
        let lines = "query: 'SELECT id, m, m AS n, ms FROM t'\ncolumns: { n: 'decimal(20,4)' }";
        let scratch = Scratch::with(&database, &[export("a", lines)]);
        let parts = files::parts(&scratch.run_dir(&run_id(&scratch.run_ok(&[]))));
        let script = "import sys, pyarrow.parquet as pq; print([list(r.values()) for r in pq.read_table(sys.argv[1]).to_pylist()])";
        let read = Command::new(oracle::python()).args(["-c", script]).args(parts).output().expect("python starts");
        let read = String::from_utf8_lossy(&read.stdout).into_owned();
        assert!(read.contains(shown), "{locale}: {read}");
        assert!(read.contains(&format!("Decimal('{amount}")), "{locale}: {amount} is not in {read}");
    }
}

#[test]
fn settings_of_a_role_do_not_reach_what_is_read_or_how_its_types_are_named() {
    let database = Database::create("role_settings");
    let role = format!("{}_hostile", database.name);
    database.execute(&format!(
        "CREATE SCHEMA shop; CREATE TYPE shop.mood AS ENUM ('ok'); CREATE DOMAIN shop.moods AS shop.mood[];
         CREATE TABLE shop.t (id int PRIMARY KEY, at text, m shop.mood, ms shop.mood[], d shop.moods);
         INSERT INTO shop.t VALUES (1, '2020-01-01 12:00 EST', 'ok', '{{ok}}', '{{ok}}');
         CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA shop TO {role}; GRANT SELECT ON shop.t TO {role};
         ALTER ROLE {role} SET timezone_abbreviations = 'Australia'; ALTER ROLE {role} SET search_path = shop, public;"
    ));
    let exported = |url: &str| {
        let scratch = Scratch::new();
        scratch.write_config(&config(url, &[export("a", "table: shop.t\ncolumns: { at: timestamp_tz }")]));
        let run_dir = scratch.run_dir(&run_id(&scratch.run_ok(&[])));
        oracle::assert_same_rows(
            &database,
            "SELECT id, '2020-01-01 17:00Z'::timestamptz AS at, m, ms, d FROM shop.t",
            &run_dir,
        );
        let schema = files::manifest(&run_dir)["schema"].clone();
        let types =
            schema.as_array().expect("a schema is a list").iter().map(|column| column["source_type"].to_string());
        types.collect::<Vec<String>>()
    };
    let expected = ["integer", "text", "shop.mood", "shop.mood[]", "shop.moods"].map(|name| format!("\"{name}\""));
    assert_eq!(exported(&database.url()), expected);
    assert_eq!(exported(&database.url_as(&role)), expected);
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role};"));
}

#[test]
fn a_role_that_may_read_a_table_needs_no_rights_on_the_types_of_its_columns() {
    let database = Database::create("poor");
    let role = format!("{}_poor", database.name);
    database.execute(&format!(
        "CREATE SCHEMA ext; CREATE EXTENSION ltree SCHEMA ext;
         CREATE TABLE t (id int PRIMARY KEY, l ext.ltree, ls ext.ltree[]);
         INSERT INTO t VALUES (1, 'a.b', '{{a.b,NULL}}'), (2, NULL, NULL);
         REVOKE EXECUTE ON FUNCTION pg_catalog.macaddr_out(macaddr) FROM PUBLIC;
         ALTER TABLE t ADD COLUMN m macaddr DEFAULT '08:00:2b:01:02:03';
         CREATE ROLE {role} LOGIN; GRANT SELECT ON t TO {role};"
    ));
    let scratch = Scratch::new();
    scratch.write_config(&config(&database.url_as(&role), &[export("a", "table: t")]));
    let run_dir = scratch.run_dir(&run_id(&scratch.run_ok(&[])));
    oracle::assert_same_rows(&database, "SELECT id, l, ls, m FROM t", &run_dir);
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role};"));
}
