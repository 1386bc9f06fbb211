//! What the integration tests stand on: a private PostgreSQL, the built binary, and readers that are not ours.
//!
//! * [`database::Database`]: a fresh database in a cluster that lives as long as the test run.
//! * [`cluster::OwnCluster`]: a cluster of a test's own, to restart and to kill.
//! * [`rivet::Scratch`] and [`rivet::Rivet`]: a directory with a `rivet.yaml`, and the binary run in it.
//! * [`contract`]: names that others rely on.
//! * [`converge`] and [`matrix`]: what a run that was stopped has to end in, and many such runs side by side.
//! * [`probe`]: where such runs are stopped.
//! * [`proxy::Proxy`]: a network that breaks.
//! * [`trace`]: the system calls of a process, as strace prints them.
//! * [`oracle`]: the server's own rows against what DuckDB and pyarrow read in the files.
//!
//! Nothing here skips. What is missing is an error that says what to install.

// Each test binary uses its own share of this.
#![allow(dead_code)]

pub mod cluster;
pub mod contract;
pub mod converge;
pub mod database;
pub mod files;
pub mod matrix;
pub mod oracle;
pub mod probe;
pub mod proxy;
pub mod rivet;
pub mod trace;
