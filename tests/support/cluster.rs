//! Private PostgreSQL clusters.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A server that accepts connections, and how to reach it as a superuser.
#[derive(Debug, Clone)]
pub struct Server {
    /// URL without a database: `postgres://postgres@127.0.0.1:5432`.
    authority: String,
    parameters: String,
    /// Unix socket directory, where the cluster is ours.
    pub socket_dir: Option<PathBuf>,
    pub port: u16,
}

impl Server {
    /// The server of this test run: `RIVET_TEST_PG_URL`, or the shared private cluster.
    pub fn shared() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| match std::env::var("RIVET_TEST_PG_URL") {
            Ok(url) => Server::from_url(&url),
            Err(_) => shared_cluster(),
        })
    }

    fn from_url(url: &str) -> Server {
        let (url, parameters) = url.split_once('?').map_or((url, String::new()), |(u, p)| (u, format!("?{p}")));
        let (scheme, rest) = url.split_once("://").expect("RIVET_TEST_PG_URL is a postgres:// URL");
        let authority = rest.split('/').next().expect("splitting yields at least one piece");
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(5432);
        Server { authority: format!("{scheme}://{authority}"), parameters, socket_dir: None, port }
    }

    fn private(dir: &Path, port: u16) -> Server {
        Server {
            authority: format!("postgres://postgres@127.0.0.1:{port}"),
            parameters: String::new(),
            socket_dir: Some(dir.to_owned()),
            port,
        }
    }

    /// URL of a database, as the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("{}/{database}{}", self.authority, self.parameters)
    }

    /// URL of a database as another role; `credentials` is `user` or `user:password`, encoded.
    pub fn url_as(&self, credentials: &str, database: &str) -> String {
        let (scheme, authority) = self.authority.split_once("://").expect("the authority keeps its scheme");
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("{scheme}://{credentials}@{host}/{database}{}", self.parameters)
    }
}

/// Directory of the PostgreSQL programs: `RIVET_TEST_PG_BIN`, the newest under the usual places, or the search path's.
pub fn bin_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        if let Some(dir) = std::env::var_os("RIVET_TEST_PG_BIN") {
            return PathBuf::from(dir);
        }
        let mut found: Vec<(u32, PathBuf)> = Vec::new();
        for root in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr"] {
            let Ok(entries) = fs::read_dir(root) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().replace("postgresql@", "").replace("pgsql-", "");
                let bin = entry.path().join("bin");
                if let (Ok(version), true) = (name.parse(), bin.join("initdb").exists()) {
                    found.push((version, bin));
                }
            }
        }
        let on_path = std::env::var_os("PATH")
            .and_then(|path| std::env::split_paths(&path).find(|dir| dir.join("initdb").exists()));
        found.into_iter().max().map(|(_, bin)| bin).or(on_path).unwrap_or_else(|| {
            panic!(
                "no PostgreSQL server programs were found. Run tools/setup, or set RIVET_TEST_PG_BIN to the directory \
                 that holds initdb, or RIVET_TEST_PG_URL to a server whose superuser the tests may use"
            )
        })
    })
}

/// One cluster serves every test binary that the same `cargo test` starts. The lock file under `target/` names it; it
/// goes when the process that started the tests is gone.
fn shared_cluster() -> Server {
    let parent = std::os::unix::process::parent_id();
    // An orphan has no parent worth waiting for.
    let owner = if parent > 1 { parent } else { std::process::id() };
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shared-cluster");
    let mut lock =
        File::options().create(true).truncate(false).read(true).write(true).open(&path).unwrap_or_else(|e| {
            panic!("{} cannot be opened: {e}", path.display());
        });
    lock.lock().expect("the lock file of the shared cluster can be locked");
    let mut text = String::new();
    lock.read_to_string(&mut text).expect("the lock file of the shared cluster is text");
    if let Some(server) = running(&text, owner) {
        return server;
    }
    let (dir, port, child) = start(bin_dir(), None, &["pid", &owner.to_string()], Stdio::null());
    // Nobody reaps it here: it outlives this process, and init takes it over.
    drop(child);
    lock.set_len(0).and_then(|()| lock.seek(SeekFrom::Start(0))).expect("the lock file can be rewritten");
    write!(lock, "{owner}\n{port}\n{}\n", dir.display()).expect("the lock file can be written");
    Server::private(&dir, port)
}

fn running(text: &str, owner: u32) -> Option<Server> {
    let mut lines = text.lines();
    let recorded: u32 = lines.next()?.parse().ok()?;
    let port = lines.next()?.parse().ok()?;
    let dir = PathBuf::from(lines.next()?);
    (recorded == owner && dir.join("ready").exists() && dir.join("data/postmaster.pid").exists())
        .then(|| Server::private(&dir, port))
}

/// Starts `cluster.sh` and waits until its server answers.
fn start(programs: &Path, locales: Option<&Path>, until: &[&str], stdin: Stdio) -> (PathBuf, u16, Child) {
    // Under the system's own temporary directory: the path of a Unix socket is limited to about a hundred bytes.
    let dir = tempfile::Builder::new().prefix("rivet-test-pg-").tempdir().expect("a temporary directory can be made");
    let dir = dir.keep();
    let port = free_port();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/cluster.sh");
    let mut command = Command::new("sh");
    if let Some(locales) = locales {
        command.env("LOCPATH", locales);
    }
    let mut child = command
        .arg(script)
        .arg(programs)
        .arg(&dir)
        .arg(port.to_string())
        .args(until)
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C at the terminal is for the tests; the cluster is stopped in order afterwards.
        .process_group(0)
        .spawn()
        .expect("sh can be started");
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if dir.join("ready").exists() {
            return (dir, port, child);
        }
        if let Ok(reason) = fs::read_to_string(dir.join("failed")) {
            panic!("the private cluster in {} did not start: {reason}", dir.display());
        }
        if let Ok(Some(status)) = child.try_wait() {
            panic!("cluster.sh ended with {status} before the cluster in {} was ready", dir.display());
        }
        assert!(Instant::now() < deadline, "the private cluster in {} took over two minutes to start", dir.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// A cluster of a test's own. Stopped and removed when it is dropped, and also when the test process is killed.
pub struct OwnCluster {
    pub server: Server,
    programs: PathBuf,
    dir: PathBuf,
    watchdog: Child,
    /// Closing it, which the system does for a killed process too, is what ends the watchdog's wait.
    lifeline: Option<ChildStdin>,
}

impl OwnCluster {
    pub fn start() -> OwnCluster {
        OwnCluster::start_with(bin_dir(), None)
    }

    /// Of the server whose programs are in a directory, with the locales of another instead of the system's.
    pub fn start_with(programs: &Path, locales: Option<&Path>) -> OwnCluster {
        let (dir, port, mut watchdog) = start(programs, locales, &["stdin"], Stdio::piped());
        let lifeline = watchdog.stdin.take();
        OwnCluster { server: Server::private(&dir, port), programs: programs.to_owned(), dir, watchdog, lifeline }
    }

    /// `pg_ctl stop -m MODE`, where mode is `smart`, `fast` or `immediate`.
    pub fn stop(&self, mode: &str) {
        self.pg_ctl(&["-w", "-m", mode, "stop"]);
    }

    pub fn start_again(&self) {
        let log = self.dir.join("log");
        self.pg_ctl(&["-w", "-l", &log.display().to_string(), "start"]);
    }

    pub fn restart(&self, mode: &str) {
        self.stop(mode);
        self.start_again();
    }

    /// Adds a line to `postgresql.conf`; takes effect at the next start.
    pub fn configure(&self, line: &str) {
        let mut file = File::options().append(true).open(self.dir.join("data/postgresql.conf")).expect("it is there");
        writeln!(file, "{line}").expect("postgresql.conf can be appended to");
    }

    fn pg_ctl(&self, arguments: &[&str]) {
        let mut command = unprivileged(&self.programs.join("pg_ctl"));
        command.arg("-D").arg(self.dir.join("data")).args(arguments);
        let status = command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("pg_ctl can be started");
        assert!(status.success(), "pg_ctl {arguments:?} ended with {status}");
    }
}

/// A command that runs as the account that owns the server: PostgreSQL refuses to run as root.
fn unprivileged(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let account = if Command::new("id").arg("postgres").output().is_ok_and(|o| o.status.success()) {
        "postgres"
    } else {
        "nobody"
    };
    let mut command = Command::new("runuser");
    command.args(["-u", account, "--"]).arg(program);
    command
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // A failure to wait leaves the watchdog to finish by itself.
        let _ = self.watchdog.wait();
    }
}
