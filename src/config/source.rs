//! The `source` section: where the rows come from.

use super::section::{Field, Section};
use super::tuning::{self, Layer};
use super::url::{self, Fault, SslMode, Url};
use super::{Context, Host, Profile, Secret, SourceConfig, Tls, TlsMode};
use crate::error::{Error, ErrorKind, Result};
use std::path::PathBuf;

const KEYS: &[&str] = &[
    "type",
    "url",
    "url_env",
    "url_file",
    "host",
    "port",
    "user",
    "password",
    "password_env",
    "database",
    "environment",
    "tls",
    "tuning",
];
const URL_KEYS: &[&str] = &["url", "url_env", "url_file"];
const STRUCTURED_KEYS: &[&str] = &["host", "port", "user", "password", "password_env", "database"];

/// The source, and what it says about the tuning of every export.
pub struct Source {
    pub config: SourceConfig,
    pub tuning: Layer,
    /// What `environment` suggests.
    pub profile: Option<Profile>,
}

pub fn read(context: &Context<'_>, field: &Field<'_>) -> Result<Source> {
    let section = field.section(KEYS)?;
    read_engine(&section.required("type")?)?;
    let (parts, place) = read_address(context, &section)?;
    let tuning = section.get("tuning").map(|field| tuning::read(&field)).transpose()?.unwrap_or_default();
    let profile = match section.get("environment") {
        Some(field) => {
            field.word(&[("local", Some(Profile::Fast)), ("replica", None), ("production", Some(Profile::Balanced))])?
        }
        None => None,
    };
    let host = match parts.host.clone() {
        Some(dir) if dir.starts_with('/') => Host::Unix(PathBuf::from(dir)),
        Some(host) => Host::Tcp(host),
        None => {
            return Err(place
                .invalid("names no host")
                .with_hint("Add the host, or the directory of the server's socket."));
        }
    };
    let Some(user) = parts.user else {
        return Err(place.invalid("names no user").with_hint("Add the role to connect as."));
    };
    let mut tls = read_tls(context, &section, &host, parts.sslmode, parts.sslrootcert.as_deref(), &place)?;
    if matches!(host, Host::Unix(_)) {
        // As libpq: nothing leaves the machine, and the server offers no TLS on a socket.
        tls.mode = TlsMode::Disable;
    }
    let config = SourceConfig {
        host,
        port: parts.port.unwrap_or(5432),
        // libpq's rule: a database of the same name.
        database: parts.database.unwrap_or_else(|| user.clone()),
        user,
        password: parts.password,
        tls,
    };
    Ok(Source { config, tuning, profile })
}

fn read_engine(field: &Field<'_>) -> Result<()> {
    let known = field.word(&[
        ("postgres", true),
        ("postgresql", true),
        ("mysql", false),
        ("mariadb", false),
        ("sqlite", false),
    ])?;
    match known {
        true => Ok(()),
        false => {
            Err(field.unsupported("names an engine that this version does not read", "`postgres` is what it reads."))
        }
    }
}

/// The parts of the address, and the field that errors about them should name.
fn read_address<'a>(context: &Context<'_>, section: &Section<'a>) -> Result<(Url, Field<'a>)> {
    let urls: Vec<_> = URL_KEYS.iter().filter_map(|key| section.get(key)).collect();
    let structured = section.first_of(STRUCTURED_KEYS);
    match (urls.as_slice(), structured) {
        ([], None) => {
            for key in URL_KEYS.iter().chain(STRUCTURED_KEYS) {
                section.get_filled(key)?;
            }
            Err(section.missing("`source` names no server").with_hint(
                "Give one of `url`, `url_env`, `url_file`, or `host`, `user`, `password_env` and `database`.",
            ))
        }
        ([_, second, ..], _) => {
            Err(second.invalid("stands beside another URL").with_hint("Keep one of `url`, `url_env` and `url_file`."))
        }
        ([_], Some(field)) => {
            Err(field.invalid("stands beside a URL").with_hint("Put it into the URL, or write all parts as keys."))
        }
        ([field], None) => Ok((read_url(context, field)?, field.clone())),
        ([], Some(_)) => read_structured(context, section),
    }
}

fn read_structured<'a>(context: &Context<'_>, section: &Section<'a>) -> Result<(Url, Field<'a>)> {
    let host = section.required("host")?;
    let user = section.required("user")?.text()?.to_owned();
    let database = section.required("database")?.text()?.to_owned();
    if host.text()?.contains(',') {
        return Err(several_hosts(&host));
    }
    let port = section.get_filled("port")?.map(|field| field.number(1..=65535)).transpose()?;
    let password = match (section.get_filled("password")?, section.get_filled("password_env")?) {
        (Some(_), Some(env)) => return Err(env.invalid("stands beside `password`").with_hint("Keep one of the two.")),
        // An empty password is what an unset default often leaves behind; it means none.
        (Some(field), None) => Some(field.scalar()?.text.as_str()).filter(|p| !p.is_empty()).map(Secret::new),
        (None, Some(field)) => Some(Secret::new(from_environment(context, &field)?)),
        (None, None) => None,
    };
    let url = Url {
        host: Some(host.text()?.to_owned()),
        port: port.map(|port| port as u16),
        user: Some(user),
        password,
        database: Some(database),
        ..Url::default()
    };
    Ok((url, host))
}

fn read_url(context: &Context<'_>, field: &Field<'_>) -> Result<Url> {
    let text = match field.path.as_str() {
        "source.url_env" => from_environment(context, field)?,
        "source.url_file" => super::read_named_text(context, field, 64 << 10)?.1.trim().to_owned(),
        _ => field.text()?.trim().to_owned(),
    };
    url::parse(&text).map_err(|fault| match fault {
        Fault::Invalid(what) => field.invalid(what),
        Fault::InvalidParameter(name) => field.invalid(&format!("has a value for `{name}` that cannot be")),
        Fault::Unsupported(_) => several_hosts(field),
        Fault::UnsupportedParameter(name) => field.unsupported(
            &format!("sets `{name}`, which this version does not pass on"),
            "Take the parameter out of the URL.",
        ),
    })
}

fn several_hosts(field: &Field<'_>) -> Error {
    field.unsupported("names several hosts; this version connects to one", "Name the one server to read from.")
}

fn from_environment(context: &Context<'_>, field: &Field<'_>) -> Result<String> {
    let name = field.text()?;
    let value = (context.env)(name).filter(|value| !value.is_empty());
    value.ok_or_else(|| {
        // The name itself is not repeated when it is not a name: it may be the secret, written under the wrong key.
        let is_name =
            name.len() <= 64 && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        let shown = if is_name { format!("the variable {name}") } else { "a variable".to_owned() };
        Error::new(ErrorKind::ConfigUnset, format!("{}: `{}` names {shown}, which is not set", field.at(), field.path))
            .with_hint("Export the variable before running rivet.")
    })
}

fn read_tls(
    context: &Context<'_>,
    section: &Section<'_>,
    host: &Host,
    sslmode: Option<SslMode>,
    sslrootcert: Option<&str>,
    place: &Field<'_>,
) -> Result<Tls> {
    let modes = [
        ("disable", TlsMode::Disable),
        ("require", TlsMode::Require),
        ("verify-ca", TlsMode::VerifyCa),
        ("verify-full", TlsMode::VerifyFull),
    ];
    let from_url = match sslmode {
        Some(SslMode::Disable) => Some(TlsMode::Disable),
        Some(SslMode::Require) => Some(TlsMode::Require),
        Some(SslMode::VerifyCa) => Some(TlsMode::VerifyCa),
        Some(SslMode::VerifyFull) => Some(TlsMode::VerifyFull),
        Some(SslMode::Opportunistic) | None => None,
    };
    let mut tls = Tls { ca_file: sslrootcert.map(|path| context.beside(path)), ..Tls::default() };
    let Some(block) = section.get("tls") else {
        tls.mode = match (from_url, is_local(host)) {
            (Some(mode), _) => mode,
            (None, true) => TlsMode::Disable,
            (None, false) => return Err(remote_without_tls(place, host)),
        };
        return Ok(verified_when_possible(tls));
    };
    let block = block.section(&["mode", "ca_file", "accept_invalid_certs", "accept_invalid_hostnames"])?;
    tls.mode =
        match (block.get("mode").map(|field| Ok::<_, Error>((field.word(&modes)?, field))).transpose()?, from_url) {
            (Some((mode, field)), Some(other)) if mode != other => {
                return Err(field.invalid("and the URL's `sslmode` disagree").with_hint("Keep one of the two."));
            }
            (Some((mode, _)), _) | (None, Some(mode)) => mode,
            (None, None) => TlsMode::VerifyFull,
        };
    if let Some(field) = block.get_filled("ca_file")? {
        let path = context.beside(field.text()?);
        if !path.is_file() {
            return Err(field.invalid("names a file that is not there"));
        }
        tls.ca_file = Some(path);
    }
    let flag = |key| block.get(key).map(|field| field.flag()).transpose().map(Option::unwrap_or_default);
    tls.accept_invalid_certs = flag("accept_invalid_certs")?;
    tls.accept_invalid_hostnames = flag("accept_invalid_hostnames")?;
    Ok(verified_when_possible(tls))
}

/// libpq's rule: whoever names a CA and asks for `require` expects the certificate to be checked against it.
fn verified_when_possible(mut tls: Tls) -> Tls {
    if tls.mode == TlsMode::Require && tls.ca_file.is_some() {
        tls.mode = TlsMode::VerifyCa;
    }
    tls
}

fn remote_without_tls(place: &Field<'_>, host: &Host) -> Error {
    let shown = match host {
        // A host that came from outside, or from a URL, is not repeated: it may be a piece of a password.
        Host::Tcp(host) if place.path == "source.host" && place.scalar().is_ok_and(|s| !s.filled) => {
            format!(" {host:?}")
        }
        _ => String::new(),
    };
    place
        .invalid(&format!("names a remote host{shown}, and nothing says how to protect the connection"))
        .with_hint("Add `source.tls` (its mode is verify-full unless you say otherwise); `tls: { mode: disable }` sends everything in the clear.")
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
        }
    }
}
