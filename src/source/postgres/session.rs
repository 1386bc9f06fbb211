//! One connection to the server: made, pinned to known settings, and driven by a thread of its own.
//!
//! The thread runs nothing but this connection's driver and tap, which may therefore pace its reads by sleeping (see
//! [`tap`](super::tap)) without holding anybody up.

use super::copy::{Copied, CopyStream, Pipe};
use super::fault;
use super::tap::{Diversion, Socket, Tap, Transport};
use super::tls::{self, TappedTls};
use crate::config::model::{Host, SourceConfig, TlsMode};
use crate::error::{Error, ErrorKind, Result};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, UnixStream, lookup_host};
use tokio::sync::{Mutex, Notify, oneshot};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a session that is dropped may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// A session that takes longer than this to close has a statement that runs.
const STILL_RUNNING: Duration = Duration::from_millis(50);

/// How long a statement may take to notice that it was cancelled, before it is told again.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);

/// What a session is pinned to beside the fixed settings. Zero = none.
#[derive(Debug, Clone, Copy)]
pub struct SessionSettings {
    pub statement_timeout: Duration,
    pub lock_timeout: Duration,
    /// A stream that brings nothing for this long is a stall.
    pub stall_timeout: Duration,
}

/// A connection whose settings are pinned. Dropping it cancels what still runs and closes it, without waiting.
pub struct Session {
    client: Arc<Client>,
    runtime: tokio::runtime::Handle,
    diversion: Arc<Diversion>,
    /// Held by the COPY that runs: the next one, on the same connection, waits for its outcome.
    turn: Arc<Mutex<()>>,
    address: Arc<Address>,
    settings: SessionSettings,
    closing: Arc<Notify>,
    backend_pid: i32,
    server_version: u32,
}

impl Session {
    /// Connects, authenticates and pins the settings.
    ///
    /// # Errors
    /// `SourceUnreachable`, `SourceTls`, `SourceAuth`, `SourceStarting`, `SourceTooManyConnections` and what else the server
    /// may say to a newcomer.
    pub async fn connect(source: &SourceConfig, settings: &SessionSettings) -> Result<Session> {
        let address = Arc::new(Address::new(source)?);
        let (made, waiting) = oneshot::channel();
        let (settings, at) = (*settings, address.clone());
        let thread = std::thread::Builder::new().name("rivet-session".to_owned());
        thread
            .spawn(move || drive(at, settings, made))
            .map_err(|error| Error::new(ErrorKind::SystemLimit, format!("a thread cannot be started: {error}")))?;
        let lost = |_| Error::new(ErrorKind::Internal, format!("connecting to {} was given up", address.label));
        waiting.await.map_err(lost)?
    }

    /// For statements of the catalog and the snapshot. Their errors are classified by [`fault::from_driver`].
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// `server_version_num`: 150004 is 15.4.
    pub fn server_version(&self) -> u32 {
        self.server_version
    }

    pub fn is_lost(&self) -> bool {
        self.client.is_closed()
    }

    /// Starts `sql`, one `COPY … TO STDOUT (FORMAT binary)`, and returns at once. What the server thinks of it is known from
    /// the first [`CopyStream::next_chunk`] on. A second COPY on the same session starts when the first is over. Behind a
    /// `;` it may ask a question whose answer is one row of one text, which costs no round trip: [`CopyStream::answer`].
    pub fn copy_out(&self, sql: &str) -> CopyStream {
        self.copy_out_within(sql, self.settings.statement_timeout)
    }

    /// [`Session::copy_out`] under another statement timeout than the pinned one, which the caller has set on the server: by
    /// it a statement that was late is told from one that was cancelled.
    pub fn copy_out_within(&self, sql: &str, statement_timeout: Duration) -> CopyStream {
        let pipe = Arc::new(Pipe::new());
        let statement = Statement {
            sql: sql.to_owned(),
            client: self.client.clone(),
            address: self.address.clone(),
            diversion: self.diversion.clone(),
            statement_timeout,
            outcome: Outcome(pipe.clone()),
        };
        let turn = self.turn.clone();
        self.runtime.spawn(async move {
            let _turn = turn.lock().await;
            if !statement.outcome.0.is_abandoned() {
                statement.run().await;
            }
        });
        CopyStream::new(pipe, self.settings.stall_timeout)
    }

    /// Waits until a COPY that was dropped before its end is over, so that its cancellation cannot hit what follows.
    pub async fn quiet(&self) {
        drop(self.turn.lock().await);
    }

    /// Asks the server to cancel whatever runs on this session.
    ///
    /// # Errors
    /// `SourceUnreachable` when the request could not be delivered.
    pub async fn cancel(&self) -> Result<()> {
        let (token, address) = (self.client.cancel_token(), self.address.clone());
        let request = self.runtime.spawn(async move { address.cancel(&token).await });
        let lost = |_| Error::new(ErrorKind::SourceLost, "the session is closed");
        request.await.map_err(lost)?
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.closing.notify_one();
    }
}

/// The life of a session's thread.
fn drive(address: Arc<Address>, settings: SessionSettings, made: oneshot::Sender<Result<Session>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = Error::new(ErrorKind::SystemLimit, format!("a session cannot be driven: {error}"));
            // Nobody waits any more: nothing is lost.
            let _ = made.send(Err(error));
            return;
        }
    };
    let (closing, turn) = (Arc::new(Notify::new()), Arc::new(Mutex::new(())));
    runtime.block_on(async {
        let opened = open(&address, settings, closing.clone(), turn.clone());
        let opened = match timeout(CONNECT_TIMEOUT, opened).await {
            Ok(opened) => opened,
            Err(_) => {
                let what = format!("{} did not answer within {} s", address.label, CONNECT_TIMEOUT.as_secs());
                Err(Error::new(ErrorKind::SourceUnreachable, what))
            }
        };
        let (session, mut connection) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let _ = made.send(Err(error));
                return;
            }
        };
        let token = session.client.cancel_token();
        // A session that nobody takes is dropped here and closes itself below.
        let _ = made.send(Ok(session));
        tokio::select! {
            _ = &mut connection => {}
            () = closing.notified() => {
                if timeout(STILL_RUNNING, &mut connection).await.is_err() {
                    // A question that was given up would run on: a server looks for its client only when it has an answer. A COPY
                    // cancels itself when nobody reads it any more.
                    if turn.try_lock().is_ok() {
                        // A server that cannot be reached any more has nothing to cancel.
                        let _ = timeout(FAREWELL, address.cancel(&token)).await;
                    }
                    drop(timeout(FAREWELL, &mut connection).await);
                }
            }
        }
        drop(connection);
        // A statement that runs has its last answer still to read, which may say why the connection ended.
        let _ = timeout(FAREWELL, turn.lock()).await;
    });
    // Statements that still wait end here: dropping them tells their streams that the connection is gone.
    runtime.shutdown_background();
}

type Driver = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>;

async fn open(
    address: &Arc<Address>,
    settings: SessionSettings,
    closing: Arc<Notify>,
    turn: Arc<Mutex<()>>,
) -> Result<(Session, Driver)> {
    let diversion = Arc::new(Diversion::default());
    let socket = Socket::new(address.dial().await?, diversion.clone());
    let refused = |error| fault::from_connecting(error, &address.label);
    let (client, mut driver): (Client, Driver) = match &address.tls {
        None => {
            let tap = Tap::new(socket, diversion.clone());
            let (client, connection) = address.config.connect_raw(tap, NoTls).await.map_err(refused)?;
            refuse_old(connection.parameter("server_version"), &address.label)?;
            (client, Box::pin(connection))
        }
        Some(connector) => {
            let (connector, hostname) = (connector.clone(), address.hostname());
            let tapped = TappedTls { connector, hostname, diversion: diversion.clone() };
            let (client, connection) = address.config.connect_raw(socket, tapped).await.map_err(refused)?;
            refuse_old(connection.parameter("server_version"), &address.label)?;
            (client, Box::pin(connection))
        }
    };
    let facts = tokio::select! {
        facts = pin_settings(&client, &settings) => facts?,
        lost = &mut driver => {
            let lost = lost.map_or_else(fault::from_driver, |()| Error::new(ErrorKind::SourceLost, "the connection was closed"));
            return Err(lost.at(format_args!("connecting to {}", address.label)));
        }
    };
    let session = Session {
        client: Arc::new(client),
        runtime: tokio::runtime::Handle::current(),
        diversion,
        turn,
        address: address.clone(),
        settings,
        closing,
        backend_pid: facts.backend_pid,
        server_version: facts.server_version,
    };
    Ok((session, driver))
}

/// `pg_current_snapshot()` and much of what the catalog is asked came with this version.
const OLDEST_MAJOR: u32 = 13;

/// Looks at what the server says of itself in its greeting, before it is asked for anything that it may not know.
fn refuse_old(version: Option<&str>, server: &str) -> Result<()> {
    let major = version.and_then(|version| version.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok());
    match (version, major) {
        (Some(version), Some(major)) if major < OLDEST_MAJOR => {
            let what =
                format!("{server} is PostgreSQL {version}, and this version of rivet reads {OLDEST_MAJOR} and later");
            let hint = format!("Read from a server of PostgreSQL {OLDEST_MAJOR} or later.");
            Err(Error::new(ErrorKind::SourceUnsupported, what).with_hint(hint))
        }
        _ => Ok(()),
    }
}

struct Facts {
    backend_pid: i32,
    server_version: u32,
}

/// A `money` counts units of which the currency has a hundred, one, or a thousand, as `lc_monetary` says where it is read: under
/// `C` a yen would become a hundredth. So the locale is pinned only where that changes the form and not the amount.
const MONEY: &str = "SELECT pg_catalog.set_config('lc_monetary', 'C', false) \
                     WHERE pg_catalog.scale('1'::pg_catalog.money::pg_catalog.numeric) = 2";

/// Pins what decides how values are written and how long a statement may take, in one round trip.
async fn pin_settings(client: &Client, settings: &SessionSettings) -> Result<Facts> {
    let sql = format!(
        "SET default_transaction_read_only = on; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; \
         SET IntervalStyle = 'iso_8601'; SET extra_float_digits = 3; SET bytea_output = 'hex'; \
         SET timezone_abbreviations = 'Default'; {MONEY}; SET array_nulls = on; SET quote_all_identifiers = off; \
         SET client_encoding = 'UTF8'; SET statement_timeout = {}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = 0; SET jit = off; SET max_parallel_workers_per_gather = 0; \
         SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_version_num')",
        milliseconds(settings.statement_timeout),
        milliseconds(settings.lock_timeout),
    );
    let answers = client.simple_query(&sql).await.map_err(fault::from_driver)?;
    let facts = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => {
            let backend_pid = row.get(0)?.parse().ok()?;
            let server_version = row.get(1)?.parse().ok()?;
            Some(Facts { backend_pid, server_version })
        }
        _ => None,
    });
    facts.ok_or_else(|| Error::new(ErrorKind::SourceProtocol, "the server does not tell its version"))
}

/// Sets another statement timeout than the one the session was pinned to.
pub fn set_statement_timeout(limit: Duration) -> String {
    format!("SET statement_timeout = {}", milliseconds(limit))
}

/// As the server's settings count: at least one where a limit is meant, because zero means none.
fn milliseconds(limit: Duration) -> i32 {
    if limit.is_zero() { 0 } else { i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1) }
}

/// Where the server is, and how it is talked to.
struct Address {
    host: Host,
    port: u16,
    config: Config,
    tls: Option<MakeRustlsConnect>,
    label: String,
}

impl Address {
    fn new(source: &SourceConfig) -> Result<Self> {
        // As in PostgreSQL's own clients, a unix socket is never encrypted.
        let encrypted = source.tls.mode != TlsMode::Disable && matches!(source.host, Host::Tcp(_));
        let tls = encrypted.then(|| tls::connector(&source.tls)).transpose()?;
        let mut config = Config::new();
        config.user(&source.user).dbname(&source.database).application_name("rivet");
        config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        if let Some(password) = &source.password {
            config.password(password.reveal());
        }
        Ok(Address { host: source.host.clone(), port: source.port, config, tls, label: source.label() })
    }

    fn hostname(&self) -> String {
        match &self.host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(_) => String::new(),
        }
    }

    /// Connects the socket: to the first of the host's addresses that answers.
    async fn dial(&self) -> Result<Transport> {
        let refused = |error: std::io::Error| fault::from_socket(&error, &self.label);
        match &self.host {
            Host::Unix(directory) => {
                let path = directory.join(format!(".s.PGSQL.{}", self.port));
                Ok(Transport::Unix(UnixStream::connect(path).await.map_err(refused)?))
            }
            Host::Tcp(name) => {
                let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the host name has no address");
                for address in lookup_host((name.as_str(), self.port)).await.map_err(refused)? {
                    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
                    let socket = socket.map_err(refused)?;
                    socket.set_nodelay(true).map_err(refused)?;
                    socket.set_keepalive(true).map_err(refused)?;
                    match socket.connect(address).await {
                        Ok(stream) => return Ok(Transport::Tcp(stream)),
                        Err(error) => last = error,
                    }
                }
                Err(refused(last))
            }
        }
    }

    /// Delivers a cancel request, and waits until the server has passed it on to the session where it can be seen.
    async fn cancel(&self, token: &CancelToken) -> Result<()> {
        let request = async {
            let refused = |error| fault::from_connecting(error, &self.label);
            let mut socket = Socket::new(self.dial().await?, Arc::default());
            match &self.tls {
                None => {
                    token.cancel_query_raw(&mut socket, NoTls).await.map_err(refused)?;
                    // The server closes the connection after it has sent the signal. However that ends, it is over.
                    let _ = socket.read(&mut [0; 1]).await;
                }
                Some(connector) => {
                    let mut connector = connector.clone();
                    let handshake = MakeTlsConnect::<Socket>::make_tls_connect(&mut connector, &self.hostname());
                    let Ok(handshake) = handshake;
                    token.cancel_query_raw(socket, handshake).await.map_err(refused)?;
                }
            }
            Ok(())
        };
        let late =
            |_| Error::new(ErrorKind::SourceUnreachable, format!("{} did not take a cancel request", self.label));
        timeout(CONNECT_TIMEOUT, request).await.map_err(late)?
    }
}

/// A COPY from its start to its outcome, on the session's thread.
struct Statement {
    sql: String,
    client: Arc<Client>,
    address: Arc<Address>,
    diversion: Arc<Diversion>,
    statement_timeout: Duration,
    outcome: Outcome,
}

impl Statement {
    async fn run(self) {
        let started = Instant::now();
        self.diversion.arm(self.outcome.0.clone());
        let answer = self.answer().await;
        self.diversion.disarm();
        let outcome = match answer {
            Ok(answers) => copied(&answers),
            Err(error) => Err(self.classified(error, started.elapsed())),
        };
        self.outcome.0.end(outcome);
    }

    async fn answer(&self) -> Result<Vec<SimpleQueryMessage>, tokio_postgres::Error> {
        let query = self.client.simple_query(&self.sql);
        tokio::pin!(query);
        tokio::select! {
            // First in order, so that the statement has been sent when it is cancelled.
            biased;
            answer = &mut query => return answer,
            () = self.outcome.0.given_up.notified() => {}
        }
        loop {
            // A request that overtakes its statement finds nothing to cancel; and one may not get through at all. Until the
            // statement ends, its rows are received and dropped.
            let _ = self.address.cancel(&self.client.cancel_token()).await;
            if let Ok(answer) = timeout(CANCEL_AGAIN, &mut query).await {
                return answer;
            }
        }
    }

    fn classified(&self, error: tokio_postgres::Error, elapsed: Duration) -> Error {
        let cancelled = error.code().is_some_and(|code| code.code() == "57014");
        let error = fault::from_driver(error);
        // A server that speaks another language names the timeout in it; the clock does not.
        let overdue = !self.statement_timeout.is_zero() && elapsed >= self.statement_timeout;
        if cancelled && overdue && error.kind() == ErrorKind::SourceConflict {
            return Error::new(ErrorKind::SourceTimeout, error.what());
        }
        error
    }
}

/// `COPY n`, and the one row that a question behind it was answered.
fn copied(answers: &[SimpleQueryMessage]) -> Result<Copied> {
    use SimpleQueryMessage::{CommandComplete, Row, RowDescription};
    match answers {
        [CommandComplete(rows)] => Ok(Copied { rows: *rows, answer: None }),
        [CommandComplete(rows), RowDescription(_), Row(row), CommandComplete(_)] => {
            Ok(Copied { rows: *rows, answer: row.get(0).map(str::to_owned) })
        }
        _ => Err(Error::new(ErrorKind::SourceProtocol, "the server answered a COPY with something else")),
    }
}

/// Ends the pipe even when the statement is dropped with its runtime.
struct Outcome(Arc<Pipe>);

impl Drop for Outcome {
    fn drop(&mut self) {
        self.0.end(Err(Error::new(ErrorKind::SourceLost, "the connection to the server was closed")));
    }
}
