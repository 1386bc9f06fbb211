//! `postgres://user:password@host:port/database?sslmode=…`, as libpq reads it.
//!
//! No error from here repeats any part of the URL but the names of well-known parameters: where a password with special
//! characters was not encoded, every piece of the text may be a piece of the password.

use super::Secret;

/// The parts of a URL that were given. Percent-encoding is resolved.
#[derive(Debug, Default)]
pub struct Url {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub database: Option<String>,
    pub sslmode: Option<SslMode>,
    pub sslrootcert: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    /// `allow` and `prefer`: encrypted when it happens to work, which protects nothing.
    Opportunistic,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Why a URL was not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    Invalid(&'static str),
    /// A well-known parameter with a value that cannot be.
    InvalidParameter(&'static str),
    Unsupported(&'static str),
    UnsupportedParameter(&'static str),
}

/// Parameters of libpq that change nothing here: rivet names itself, and bounds its own waiting.
const WITHOUT_EFFECT: &[&str] = &["application_name", "fallback_application_name", "connect_timeout", "keepalives"];
const UNSUPPORTED: &[&str] = &[
    "options",
    "service",
    "passfile",
    "hostaddr",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslnegotiation",
    "sslsni",
    "channel_binding",
    "gssencmode",
    "krbsrvname",
    "require_auth",
    "requirepeer",
    "replication",
    "target_session_attrs",
    "load_balance_hosts",
    "client_encoding",
];

pub fn parse(text: &str) -> Result<Url, Fault> {
    let (scheme, rest) = text.split_once("://").ok_or(Fault::Invalid("is not a URL: `postgres://…` is expected"))?;
    match scheme {
        "postgres" | "postgresql" => {}
        "mysql" | "mariadb" | "sqlite" | "sqlserver" | "mongodb" => {
            return Err(Fault::Invalid("is the URL of another engine than `source.type: postgres`"));
        }
        _ => return Err(Fault::Invalid("must begin with `postgres://` or `postgresql://`")),
    }
    if rest.contains('#') {
        return Err(Fault::Invalid("holds a `#`, which must be written `%23`"));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    if path.contains('@') {
        return Err(Fault::Invalid("holds an `@` after its first `/`; in a password `/` must be written `%2F`"));
    }
    let mut url = Url::default();
    let (userinfo, address) = match authority.rsplit_once('@') {
        Some((userinfo, address)) => (Some(userinfo), address),
        None => (None, authority),
    };
    if let Some(userinfo) = userinfo {
        let (user, password) = match userinfo.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (userinfo, None),
        };
        url.user = filled(decode(user)?);
        url.password = password.map(decode).transpose()?.filter(|p| !p.is_empty()).map(Secret::new);
    }
    address_into(address, &mut url)?;
    url.database = filled(decode(path.strip_prefix('/').unwrap_or(path))?);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameter_into(&decode(name)?, decode(value)?, &mut url)?;
    }
    Ok(url)
}

fn address_into(address: &str, url: &mut Url) -> Result<(), Fault> {
    if address.contains(',') {
        return Err(Fault::Unsupported("names several hosts"));
    }
    let (host, port) = match address.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or(Fault::Invalid("has a `[` without a `]`"))?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(Fault::Invalid("has something else than an IPv6 address in brackets"));
            }
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(Fault::Invalid("has text between `]` and the port")),
            }
        }
        None => match address.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err(Fault::Invalid("needs brackets around an IPv6 address, and `%3A` for `:` in a password"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    url.host = filled(decode(host)?);
    if let Some(port) = port.filter(|port| !port.is_empty()) {
        url.port = Some(port_number(port)?);
    }
    Ok(())
}

fn port_number(text: &str) -> Result<u16, Fault> {
    let port = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten();
    port.filter(|port| *port != 0).ok_or(Fault::Invalid(
        "has a port that is not a number from 1 to 65535; in a password `/@:?#%` must be percent-encoded",
    ))
}

fn parameter_into(name: &str, value: String, url: &mut Url) -> Result<(), Fault> {
    match name {
        "host" if value.contains(',') => return Err(Fault::Unsupported("names several hosts")),
        "host" => url.host = filled(value),
        "port" => url.port = Some(port_number(&value).map_err(|_| Fault::InvalidParameter("port"))?),
        "user" => url.user = filled(value),
        "password" => url.password = filled(value).map(Secret::new),
        "dbname" => url.database = filled(value),
        "sslrootcert" => url.sslrootcert = filled(value),
        "sslmode" => {
            url.sslmode = Some(match value.as_str() {
                "disable" => SslMode::Disable,
                "allow" | "prefer" => SslMode::Opportunistic,
                "require" => SslMode::Require,
                "verify-ca" => SslMode::VerifyCa,
                "verify-full" => SslMode::VerifyFull,
                _ => return Err(Fault::InvalidParameter("sslmode")),
            });
        }
        name if WITHOUT_EFFECT.contains(&name) || name.starts_with("keepalives_") => {}
        name => {
            return Err(match UNSUPPORTED.iter().find(|known| **known == name) {
                Some(known) => Fault::UnsupportedParameter(known),
                None => Fault::Invalid("has a parameter that is not known; in a password `?` must be written `%3F`"),
            });
        }
    }
    Ok(())
}

fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Percent-decoding. `+` stands for itself, as in libpq.
fn decode(text: &str) -> Result<String, Fault> {
    let wrong = Fault::Invalid("has a `%` that two hexadecimal digits do not follow; a literal `%` is written `%25`");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits.and_then(|two| std::str::from_utf8(two).ok()) else { return Err(wrong) };
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| Fault::Invalid("has a broken percent-encoding"))?);
        rest = &tail[2..];
    }
    if bytes.contains(&0) {
        return Err(Fault::Invalid("holds a NUL byte"));
    }
    String::from_utf8(bytes).map_err(|_| Fault::Invalid("is not UTF-8 when its percent-encoding is resolved"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_part_is_decoded() {
        let url = parse(
            "postgresql://us%40er:p%2F%40%3A%3F%23%25@db.example:6432/my%20db?sslmode=verify-ca&application_name=x",
        )
        .unwrap();
        assert_eq!(url.user.as_deref(), Some("us@er"));
        assert_eq!(url.password.unwrap().reveal(), "p/@:?#%");
        assert_eq!((url.host.as_deref(), url.port), (Some("db.example"), Some(6432)));
        assert_eq!(url.database.as_deref(), Some("my db"));
        assert_eq!(url.sslmode, Some(SslMode::VerifyCa));
    }

    #[test]
    fn sockets_and_ipv6_addresses_are_hosts() {
        assert_eq!(parse("postgres://u@%2Ftmp%2Fpg/db").unwrap().host.as_deref(), Some("/tmp/pg"));
        assert_eq!(parse("postgres:///db?host=/tmp/pg&port=1").unwrap().host.as_deref(), Some("/tmp/pg"));
        let url = parse("postgres://u@[::1]:5433/db").unwrap();
        assert_eq!((url.host.as_deref(), url.port), (Some("::1"), Some(5433)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for text in [
            "",
            "localhost/db",
            "mysql://u@h/db",
            "http://h/",
            "postgres://u:a/b@h/db",
            "postgres://u:1/b@h/db",
            "postgres://u:a#b@h/db",
            "postgres://u:a?b@h/db",
            "postgres://u:1?b@h/db",
            "postgres://u:a%zz@h/db",
            "postgres://u:a%@h/db",
            "postgres://u:%FF@h/db",
            "postgres://u:%00@h/db",
            "postgres://h:0/db",
            "postgres://h:65536/db",
            "postgres://::1/db",
            "postgres://[::1/db",
            "postgres://[::1]x/db",
            "postgres://a,b/db",
            "postgres://h/db?sslmode=maybe",
            "postgres://h/db?options=-c%20x",
            "postgres://h/db?whatever=1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_encoded_password_comes_back_and_nothing_panics(password in "\\PC{1,40}", junk in "\\PC{0,60}") {
            let encoded: String = password.bytes().map(|b| format!("%{b:02X}")).collect();
            let url = parse(&format!("postgres://u:{encoded}@h:1/d")).unwrap();
            let decoded = url.password.unwrap();
            prop_assert_eq!(decoded.reveal(), password.as_str());
            let _ = parse(&junk);
            let _ = parse(&format!("postgres://{junk}"));
        }
    }
}
