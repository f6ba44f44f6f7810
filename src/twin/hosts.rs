//! Host patterns of the upload and stream policies: a name, or `*.` and the name of a whole domain.
//!
//! Syntax only; that no private address hides behind a name is checked when it is resolved.

use std::fmt;
use std::str::FromStr;

/// A host that is allowed, or all hosts below one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    name: String,
    below: bool,
}

impl HostPattern {
    /// Whether this allows `host`; case does not matter.
    pub fn allows(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        if !self.below {
            return host == self.name;
        }
        host.strip_suffix(&self.name)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(is_name)
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (name, below) = match s.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (s, false),
        };
        if !is_name(name) || name != name.to_ascii_lowercase() {
            return Err("must be a host name in small letters, or *. and one".into());
        }
        // 127.1, 0x7f000001 and 2130706433 are addresses to a resolver.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
            return Err("must be a name, not an address".into());
        }
        if below && !name.contains('.') {
            return Err("must not allow a whole top-level domain".into());
        }
        Ok(HostPattern {
            name: name.to_owned(),
            below,
        })
    }
}

/// Labels of letters, digits and inner hyphens (RFC 1123).
fn is_name(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_allows_its_host_or_all_below_it() {
        let p: HostPattern = "media.example.com".parse().unwrap();
        assert!(p.allows("media.example.com") && p.allows("MEDIA.example.com"));
        assert!(!p.allows("x.media.example.com") && !p.allows("media.example.com.evil.org"));
        let p: HostPattern = "*.example.com".parse().unwrap();
        assert!(p.allows("a.example.com") && p.allows("a.b.example.com"));
        for host in [
            "example.com",
            ".example.com",
            "evilexample.com",
            "a..example.com",
        ] {
            assert!(!p.allows(host), "{host}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            "*",
            "*.",
            "*.com",
            "a.*.com",
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "[::1]",
            "::1",
            "a b",
            "a/b",
            "user@host",
            "host:80",
            "-a.com",
            "a-.com",
            "EXAMPLE.com",
            "exämple.com",
            "a..b",
            ".a",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
        assert!("x".repeat(64).parse::<HostPattern>().is_err());
        for good in [
            "localhost",
            "s3.eu-central-1.amazonaws.com",
            "*.r2.example.net",
        ] {
            assert_eq!(good.parse::<HostPattern>().unwrap().to_string(), good);
        }
    }
}
