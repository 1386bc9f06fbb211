//! `rivet check`

use super::output::Out;
use super::run::parse_params;
use super::state_dir::CONFIG_FILE;
use super::{errors, figures, summary};
use crate::config::{self, LoadOptions};
use crate::engine::check::{CheckedExport, check};
use crate::error::{Error, Exit, Result};
use crate::run::schema::ColumnType;
use crate::source::postgres::fidelity::{ColumnReport, Fidelity};
use comfy_table::{Table, presets};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

const GREEN: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();
const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// Look at what the exports would be, without running any
///
/// Connects, asks the server about each table or query, and looks at the destination. Reads no rows and writes nothing.
///
/// With `--types`, every column: the source's type, the type in the files, and how faithful that is. `exact` is the same
/// value in a type that means the same, `compatible` the same value in another representation, `logical_string` text that
/// stands for a number or for JSON, `lossy` a column whose override drops a part of some values.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rivet check                         every export of ./rivet.yaml
  rivet check -c prod.yaml -e orders --types
  rivet check --strict                fail where a column is lossy
  rivet check --json | jq '.exports[].columns[] | select(.fidelity != \"exact\")'")]
pub struct Args {
    /// Configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = CONFIG_FILE)]
    config: PathBuf,

    /// Check only this export; may be given more than once
    #[arg(short = 'e', long = "export", value_name = "NAME")]
    exports: Vec<String>,

    /// Show every column and its type
    #[arg(long)]
    types: bool,

    /// Fail where a column loses a part of its values
    #[arg(long)]
    strict: bool,

    /// Fill `${KEY}` in the configuration; goes before the environment
    #[arg(long = "param", value_name = "KEY=VALUE")]
    params: Vec<String>,

    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

/// `{"exports":[…]}`
#[derive(Debug, Serialize)]
struct Checked<'a> {
    exports: Vec<&'a CheckedExport>,
}

pub fn main(args: &Args, out: &mut Out) -> Result<Exit> {
    let options = LoadOptions { params: parse_params(&args.params)?, state_dir: None, exports: args.exports.clone() };
    let config = config::load(&args.config, &options)?;
    let runtime = crate::engine::runtime()?;
    let reports = check(&runtime, &config);
    // A session that hangs in a read must not keep the process from its end.
    runtime.shutdown_background();
    let reports = reports?;
    if args.json {
        out.json(&Checked { exports: reports.iter().filter_map(|report| report.checked.as_ref()).collect() })?;
    }
    let mut failed: Vec<Error> = vec![];
    for report in reports {
        if let Some(checked) = &report.checked {
            let refused = if args.strict { checked.refuse_lossy().err() } else { None };
            if !args.json {
                out.write(&text(checked, report.errors.is_empty() && refused.is_none(), args.types));
            }
            failed.extend(refused);
        }
        failed.extend(report.errors);
    }
    out.flush();
    failed.iter().for_each(|error| errors::show(error, args.json));
    Ok(summary::worst(&failed.iter().collect::<Vec<_>>()))
}

fn text(checked: &CheckedExport, is_well: bool, with_types: bool) -> String {
    let (style, sign) = if is_well { (GREEN, "✓") } else { (RED, "✗") };
    let CheckedExport { export, relation, columns, .. } = checked;
    let mut text = format!("{style}{sign} {export}{style:#}  {}\n", errors::single_line(relation));
    let counted = figures::counted(columns.len() as u64, "column");
    let rows = [
        ("columns", format!("{counted}: {}", by_fidelity(columns))),
        ("rows", format!("about {}", figures::count(checked.rows_expected))),
        ("destination", errors::single_line(&checked.destination)),
        ("schema", checked.schema_fingerprint.map_or("known when the run has measured".to_owned(), |f| f.to_string())),
    ];
    for (label, value) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {DIM}{label:<12}{DIM:#} {value}");
    }
    if with_types {
        for line in table(columns).trim_fmt().lines() {
            let _ = writeln!(text, "  {}", line.trim_end());
        }
    }
    text
}

/// `12 exact, 2 compatible`
fn by_fidelity(columns: &[ColumnReport]) -> String {
    let all = [Fidelity::Exact, Fidelity::Compatible, Fidelity::LogicalString, Fidelity::Lossy];
    let count = |fidelity: Fidelity| columns.iter().filter(|column| column.fidelity == fidelity).count();
    let counted = all.into_iter().map(|fidelity| (count(fidelity), fidelity)).filter(|(count, _)| *count > 0);
    counted.map(|(count, fidelity)| format!("{count} {}", fidelity.name())).collect::<Vec<_>>().join(", ")
}

fn table(columns: &[ColumnReport]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["column", "source type", "target", "fidelity", "special values", "note"]);
    for column in columns {
        let ColumnReport { name, source_type, target, fidelity, policy, note, .. } = column;
        let target = ColumnType::parse(target).map_or_else(|| target.clone(), |target| target.told().to_string());
        let cells = [name, source_type, target.as_str(), fidelity.name(), policy.as_deref().unwrap_or_default(), note];
        table.add_row(cells.map(errors::single_line));
    }
    table
}
