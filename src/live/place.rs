//! Where a session is published to: an address that passed the rule, and the stream's key at the place that its protocol
//! has for it.
//!
//! | protocol | key | without a key |
//! |---|---|---|
//! | RTSP(S) | `user:password` answers the server's challenge; anything else is the last part of the path | as the address says |
//! | RTMP(S) | the stream's name | the last part of the path is the stream's name |
//! | SRT | the stream id; where the address has one (`?streamid=`), the passphrase | as the address says |
//!
//! Addresses hold keys too (in paths and queries): nothing here shows one.

use std::borrow::Cow;

use url::Url;

use crate::model::{LiveProtocol, Secret};
use crate::wire::address::{Denied, Rule, judge};

/// Why there is no place to publish to. Never says what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// The address rule.
    #[error("publish_endpoint {0}")]
    Denied(#[from] Denied),
    /// The rest of it.
    #[error("{0}")]
    Wrong(&'static str),
}

/// Where and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// How it is published.
    pub protocol: LiveProtocol,
    /// To be resolved and vetted; the name in TLS.
    pub host: String,
    /// There.
    pub port: u16,
    /// What the server is told.
    pub way: Way,
}

/// What a server is told, beyond host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// RTSP RECORD.
    Rtsp {
        /// Path and query, from the slash on.
        path: Secret,
        /// User and password for its challenge.
        login: Option<(Secret, Secret)>,
    },
    /// RTMP publish.
    Rtmp {
        /// Application.
        app: Secret,
        /// Name of the stream.
        stream: Secret,
    },
    /// SRT, caller.
    Srt {
        /// Stream id.
        streamid: Option<Secret>,
        /// Encrypts, 10 to 79 characters.
        passphrase: Option<Secret>,
    },
}

/// Judges an endpoint by the signed list: `hosts` says whether it allows a host.
///
/// # Errors
/// [`NoPlace`].
pub fn place(
    protocol: LiveProtocol,
    endpoint: &Secret,
    key: Option<&Secret>,
    hosts: &dyn Fn(&str) -> bool,
    ports: &[u16],
) -> Result<Place, NoPlace> {
    let rule = Rule {
        schemes: &[(protocol.scheme(), protocol.default_port())],
        host: hosts,
        port: &|port| ports.contains(&port),
    };
    let target = judge(endpoint.expose(), &rule)?;
    let way = match protocol {
        LiveProtocol::Rtsp | LiveProtocol::Rtsps => rtsp(&target.url, key),
        LiveProtocol::Rtmp | LiveProtocol::Rtmps => rtmp(&target.url, key),
        LiveProtocol::Srt => srt(&target.url, key),
        LiveProtocol::Whip => Err("whip cannot be published"),
    };
    Ok(Place {
        protocol,
        host: target.host,
        port: target.port,
        way: way.map_err(NoPlace::Wrong)?,
    })
}

/// A key that goes into an address as it is must not change the address's meaning.
fn as_part(key: &Secret) -> Result<&str, &'static str> {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b'#' | b'\\' | b'"' | b' ');
    if key.expose().bytes().all(plain) {
        Ok(key.expose())
    } else {
        Err("stream_key has characters that cannot stand in an address")
    }
}

fn with_query(path: &str, url: &Url) -> Secret {
    Secret::new(match url.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    })
}

fn rtsp(url: &Url, key: Option<&Secret>) -> Result<Way, &'static str> {
    let login = key.and_then(|key| key.expose().split_once(':'));
    let login = login.map(|(user, password)| (Secret::new(user), Secret::new(password)));
    let path = match key.filter(|_| login.is_none()) {
        Some(key) => Cow::Owned(format!(
            "{}/{}",
            url.path().trim_end_matches('/'),
            as_part(key)?
        )),
        None => Cow::Borrowed(url.path()),
    };
    if path.trim_matches('/').is_empty() {
        return Err("publish_endpoint names no stream");
    }
    Ok(Way::Rtsp {
        path: with_query(&path, url),
        login,
    })
}

fn rtmp(url: &Url, key: Option<&Secret>) -> Result<Way, &'static str> {
    let path = url.path().trim_matches('/');
    let (app, stream) = match key {
        Some(key) => (path, as_part(key)?),
        None => path.rsplit_once('/').unwrap_or_default(),
    };
    if app.is_empty() || stream.is_empty() {
        return Err("publish_endpoint names no application and stream");
    }
    Ok(Way::Rtmp {
        app: Secret::new(app),
        stream: with_query(stream, url),
    })
}

fn srt(url: &Url, key: Option<&Secret>) -> Result<Way, &'static str> {
    let mut streamid = None;
    for (name, value) in url.query_pairs() {
        match &*name {
            "streamid" if streamid.is_none() => streamid = Some(Secret::new(value)),
            "mode" if value == "caller" => {}
            _ => return Err("publish_endpoint has a parameter that is not known"),
        }
    }
    if !matches!(url.path(), "" | "/") {
        return Err("publish_endpoint has a path");
    }
    let (streamid, passphrase) = match streamid {
        Some(id) => (Some(id), key.cloned()),
        None => (key.cloned(), None),
    };
    if passphrase
        .as_ref()
        .is_some_and(|p| !(10..=79).contains(&p.expose().len()))
    {
        return Err("stream_key is no passphrase of 10 to 79 characters");
    }
    if streamid.as_ref().is_some_and(|id| id.expose().len() > 512) {
        return Err("the stream id has more than 512 characters");
    }
    Ok(Way::Srt {
        streamid,
        passphrase,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(protocol: LiveProtocol, endpoint: &str, key: Option<&str>) -> Result<Place, NoPlace> {
        let key = key.map(Secret::new);
        let hosts = |host: &str| host.ends_with(".example.com");
        place(
            protocol,
            &Secret::new(endpoint),
            key.as_ref(),
            &hosts,
            &[554, 1935, 443, 9000],
        )
    }

    fn way(protocol: LiveProtocol, endpoint: &str, key: Option<&str>) -> Way {
        at(protocol, endpoint, key).unwrap().way
    }

    #[test]
    fn the_key_goes_where_the_protocol_has_a_place_for_it() {
        use LiveProtocol::*;
        let secret = |s: &str| Secret::new(s);
        let rtsp = |path: &str, login: Option<(&str, &str)>| Way::Rtsp {
            path: secret(path),
            login: login.map(|(u, p)| (secret(u), secret(p))),
        };
        let a = "rtsp://live.example.com/door?x=1";
        assert_eq!(way(Rtsp, a, None), rtsp("/door?x=1", None));
        assert_eq!(way(Rtsp, a, Some("k1")), rtsp("/door/k1?x=1", None));
        assert_eq!(
            way(Rtsp, a, Some("me:pa:ss")),
            rtsp("/door?x=1", Some(("me", "pa:ss")))
        );
        let rtmp = |app: &str, stream: &str| Way::Rtmp {
            app: secret(app),
            stream: secret(stream),
        };
        let a = "rtmps://live.example.com/app/x";
        assert_eq!(way(Rtmps, a, None), rtmp("app", "x"));
        assert_eq!(way(Rtmps, a, Some("k?e=1")), rtmp("app/x", "k?e=1"));
        let srt = |id: Option<&str>, pass: Option<&str>| Way::Srt {
            streamid: id.map(secret),
            passphrase: pass.map(secret),
        };
        assert_eq!(way(Srt, "srt://a.example.com:9000", None), srt(None, None));
        assert_eq!(
            way(Srt, "srt://a.example.com:9000", Some("publish:x")),
            srt(Some("publish:x"), None)
        );
        let a = "srt://a.example.com:9000?mode=caller&streamid=publish%3Ax";
        assert_eq!(
            way(Srt, a, Some("0123456789")),
            srt(Some("publish:x"), Some("0123456789"))
        );
    }

    #[test]
    fn what_is_no_place_is_refused_and_never_shown() {
        use LiveProtocol::*;
        for (protocol, endpoint, key) in [
            (Rtsp, "rtsp://live.example.com/", None),
            (Rtsp, "rtsp://live.example.com:8554/canary", None),
            (Rtsp, "rtsp://evil.example.org/canary", None),
            (Rtsp, "rtsp://127.0.0.1/canary", None),
            (Rtsp, "rtsps://live.example.com/canary", None),
            (Rtsp, "rtsp://me:canary@live.example.com/x", None),
            (Rtsp, "rtsp://live.example.com/x", Some("../canary")),
            (Rtmp, "rtmp://live.example.com/app", None),
            (Rtmp, "rtmp://live.example.com/", Some("canary")),
            (Rtmp, "rtmp://live.example.com/app", Some("canary x")),
            (Srt, "srt://live.example.com", None),
            (Srt, "srt://live.example.com:9000?mode=listener", None),
            (
                Srt,
                "srt://live.example.com:9000?passphrase=canary-123",
                None,
            ),
            (
                Srt,
                "srt://live.example.com:9000?streamid=a&streamid=b",
                None,
            ),
            (
                Srt,
                "srt://live.example.com:9000?streamid=a",
                Some("canary"),
            ),
            (Whip, "https://live.example.com/canary", None),
        ] {
            let refused = at(protocol, endpoint, key).unwrap_err();
            let text = format!("{refused} {refused:?}");
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
