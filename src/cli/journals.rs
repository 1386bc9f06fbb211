//! Finding runs in journals, for the verbs that look.

use super::state_dir::Place;
use super::summary::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::journal::reader::{self, ExportJournal};
use crate::run::RunSummary;
use crate::run::event::Recorded;
use crate::run::ids::RunOrdinal;
use std::path::{Path, PathBuf};

/// Where to read: a journal that is named, or those of a state directory.
#[derive(Debug, Clone, clap::Args)]
pub struct From {
    #[command(flatten)]
    pub place: Place,

    /// One journal's directory, a state directory, or a file that `rivet journal export` wrote
    #[arg(long, value_name = "PATH", conflicts_with_all = ["config", "state_dir"])]
    pub journal: Option<PathBuf>,
}

impl From {
    /// # Errors
    /// There is no journal, or the one that is named cannot be read. In a state directory an unreadable journal stands
    /// in [`ExportJournal::problem`] and hides no other.
    pub fn read(&self) -> Result<Vec<ExportJournal>> {
        self.look(reader::read)
    }

    /// Reads by other means than [`reader::read`].
    ///
    /// # Errors
    /// Those of `read`; that there is no journal means that nothing has run, unless somebody named a place.
    pub fn look<T>(&self, read: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        if let Some(path) = &self.journal {
            return read(path);
        }
        read(&self.place.resolve()?).map_err(|error| match error.kind() {
            ErrorKind::JournalMissing if self.place.state_dir.is_none() => self.place.nothing_yet(&error),
            _ => error,
        })
    }

    /// The journals among which the run is to be looked for: that of its export alone where a state directory has it, and
    /// the run is in it. Reading the others costs a copy of each.
    ///
    /// # Errors
    /// As [`From::read`].
    pub fn read_for(&self, run_id: &str) -> Result<Vec<ExportJournal>> {
        self.look(|path| read_for(path, run_id))
    }
}

fn read_for(path: &Path, run_id: &str) -> Result<Vec<ExportJournal>> {
    let is_journal = |dir: &Path| reader::is_journal(dir).unwrap_or(false);
    let own = path.join(crate::engine::export_of(run_id));
    // The id is the user's: it must not lead out of the state directory.
    if own != path && own.parent() == Some(path) && is_journal(&own) && !is_journal(path) {
        // Why it cannot be read, if it cannot, is told by the search through all.
        if let Ok(journals) = reader::read(&own)
            && find(&journals, run_id).is_ok()
        {
            return Ok(journals);
        }
    }
    reader::read(path)
}

/// One run of a journal.
pub struct Run<'a> {
    pub journal: &'a ExportJournal,
    pub ordinal: RunOrdinal,
    pub summary: RunSummary,
    /// Whether a process works on it at this moment.
    pub live: bool,
}

impl Run<'_> {
    /// Its events, read again: a list of many runs need not hold them all.
    ///
    /// # Errors
    /// As [`ExportJournal::records`].
    pub fn records(&self) -> Result<Vec<Recorded>> {
        self.journal.records(self.ordinal)
    }

    pub fn moment(&self) -> Moment<'_> {
        match &self.journal.live {
            Some(holder) if self.live => Moment::Live(holder),
            _ => Moment::Ended,
        }
    }

    pub fn is_latest(&self) -> bool {
        self.journal.last_run() == Some(self.ordinal)
    }
}

/// What some journals hold, and what could not be read of them.
pub struct AllRuns<'a> {
    /// In each journal's order.
    pub runs: Vec<Run<'a>>,
    /// Exports whose journal is refused.
    pub problems: Vec<(&'a str, &'a Error)>,
    /// Exports with a run that cannot be folded.
    pub unreadable: Vec<(String, Error)>,
}

/// Every run of every journal that can be read.
pub fn runs(journals: &[ExportJournal]) -> AllRuns<'_> {
    let mut runs = Vec::new();
    let mut unreadable = Vec::new();
    let problems = journals.iter().filter_map(|journal| Some((journal.export.as_str(), journal.problem.as_ref()?)));
    for journal in journals.iter().filter(|journal| journal.problem.is_none()) {
        for extent in journal.runs() {
            match journal.records(extent.run) {
                Ok(records) => {
                    let summary = RunSummary::from_events(&records);
                    let live =
                        journal.live.is_some() && Some(extent.run) == journal.last_run() && summary.status == "running";
                    runs.push(Run { journal, ordinal: extent.run, summary, live });
                }
                Err(error) => unreadable.push((journal.export.clone(), error)),
            }
        }
    }
    AllRuns { problems: problems.collect(), runs, unreadable }
}

/// The run of that id.
///
/// # Errors
/// [`ErrorKind::RunUnknown`], or why a journal that might hold it cannot be read.
pub fn find<'a>(journals: &'a [ExportJournal], run_id: &str) -> Result<Run<'a>> {
    let AllRuns { runs, problems, .. } = runs(journals);
    let known: Vec<String> = runs.iter().map(|run| run.summary.run_id.clone()).collect();
    if let Some(run) = runs.into_iter().find(|run| run.summary.run_id == run_id) {
        return Ok(run);
    }
    let export = crate::engine::export_of(run_id);
    if let Some((_, problem)) = problems.iter().find(|(name, _)| *name == export) {
        return Err(Error::new(problem.kind(), problem.what()).with_hint(problem.hint()));
    }
    let shown: String = run_id.chars().take(160).collect();
    let error = Error::new(ErrorKind::RunUnknown, format!("no journal knows a run {shown:?}"));
    match crate::config::nearest(run_id, known.iter().map(String::as_str)) {
        Some(near) => Err(error.with_hint(format!("Did you mean {near}?"))),
        None => Err(error),
    }
}
