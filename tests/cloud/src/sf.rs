//! The part of structured fields (RFC 9651) that EDGE-SIG/1 uses: a dictionary with one inner list or
//! byte sequence, parameters, strings, integers and byte sequences.
//!
//! The parser is strict and bounded: at most `MAX_LEN` bytes, `MAX_ITEMS` components and parameters,
//! no optional white space but what the canonical form has. What it does not know is an error, never
//! skipped, since a skipped part would be an unsigned part.

use base64::prelude::{BASE64_STANDARD, Engine};

/// Longest field value that is read.
const MAX_LEN: usize = 4096;
/// Most components of an inner list, and most parameters of an item.
const MAX_ITEMS: usize = 32;

/// The field does not have the expected form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the expected structured field")]
pub struct SfError;

/// A bare item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bare {
    /// `"text"`
    String(String),
    /// `1795226400`
    Integer(i64),
    /// `:base64:`
    Bytes(Vec<u8>),
    /// A parameter without a value.
    True,
}

/// Parameters in order.
pub type Params = Vec<(String, Bare)>;

/// One string of an inner list with its parameters.
pub type Component = (String, Params);

/// `label=("a" "b";p);q=1`: a `Signature-Input` member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InnerList {
    /// The strings in the parentheses.
    pub components: Vec<Component>,
    /// The parameters of the list.
    pub params: Params,
    /// The text after `label=`, which is the value of `@signature-params`.
    pub raw: String,
}

impl InnerList {
    /// The parameter of this name; none when it is absent or given twice.
    pub fn param(&self, name: &str) -> Option<&Bare> {
        let mut found = self.params.iter().filter(|(key, _)| key == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    /// The string parameter of this name.
    pub fn string(&self, name: &str) -> Option<&str> {
        match self.param(name) {
            Some(Bare::String(text)) => Some(text),
            _ => None,
        }
    }
}

/// Parses a dictionary that has exactly one member, an inner list.
///
/// # Errors
/// When there are several members or the form differs.
pub fn one_inner_list(field: &str) -> Result<(String, InnerList), SfError> {
    let mut parser = Parser::new(field)?;
    let label = parser.key()?;
    parser.expect(b'=')?;
    let raw = parser.rest().to_owned();
    parser.expect(b'(')?;
    let mut components: Vec<Component> = Vec::new();
    while parser.peek() != Some(b')') {
        if !components.is_empty() {
            parser.expect(b' ')?;
        }
        if components.len() == MAX_ITEMS {
            return Err(SfError);
        }
        let name = parser.string()?;
        let component = (name, parser.params()?);
        if components.contains(&component) {
            return Err(SfError);
        }
        components.push(component);
    }
    parser.expect(b')')?;
    let params = parser.params()?;
    parser.end()?;
    Ok((
        label,
        InnerList {
            components,
            params,
            raw,
        },
    ))
}

/// Parses a dictionary that has exactly one member, a byte sequence (`Signature`, `Content-Digest`).
///
/// # Errors
/// When there are several members or the form differs.
pub fn one_bytes(field: &str) -> Result<(String, Vec<u8>), SfError> {
    let mut parser = Parser::new(field)?;
    let label = parser.key()?;
    parser.expect(b'=')?;
    let bytes = parser.bytes()?;
    parser.end()?;
    Ok((label, bytes))
}

/// Parses a lone string item (`Idempotency-Key`).
///
/// # Errors
/// When it is anything else.
pub fn string_item(field: &str) -> Result<String, SfError> {
    let mut parser = Parser::new(field)?;
    let text = parser.string()?;
    parser.end()?;
    Ok(text)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn new(field: &'a str) -> Result<Self, SfError> {
        if field.len() > MAX_LEN || !field.is_ascii() {
            return Err(SfError);
        }
        Ok(Self {
            text: field.trim_matches(' '),
            at: 0,
        })
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, SfError> {
        let byte = self.peek().ok_or(SfError)?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, byte: u8) -> Result<(), SfError> {
        if self.next()? == byte {
            Ok(())
        } else {
            Err(SfError)
        }
    }

    fn end(&self) -> Result<(), SfError> {
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err(SfError)
        }
    }

    fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(&accept) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn key(&mut self) -> Result<String, SfError> {
        let key = self.take_while(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.' | b'*')
        });
        match key.as_bytes().first() {
            Some(b'a'..=b'z' | b'*') => Ok(key.to_owned()),
            _ => Err(SfError),
        }
    }

    fn string(&mut self) -> Result<String, SfError> {
        self.expect(b'"')?;
        let mut text = String::new();
        loop {
            match self.next()? {
                b'"' => return Ok(text),
                b'\\' => match self.next()? {
                    escaped @ (b'"' | b'\\') => text.push(char::from(escaped)),
                    _ => return Err(SfError),
                },
                byte @ 0x20..=0x7e => text.push(char::from(byte)),
                _ => return Err(SfError),
            }
        }
    }

    fn bytes(&mut self) -> Result<Vec<u8>, SfError> {
        self.expect(b':')?;
        let text = self.take_while(|b| b != b':');
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| SfError)?;
        self.expect(b':')?;
        Ok(bytes)
    }

    fn integer(&mut self) -> Result<i64, SfError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let digits = self.take_while(|b| b.is_ascii_digit());
        if digits.is_empty() || digits.len() > 15 {
            return Err(SfError);
        }
        self.text[start..self.at].parse().map_err(|_| SfError)
    }

    fn params(&mut self) -> Result<Params, SfError> {
        let mut params = Params::new();
        while self.peek() == Some(b';') {
            self.at += 1;
            if params.len() == MAX_ITEMS {
                return Err(SfError);
            }
            let key = self.key()?;
            let value = if self.peek() == Some(b'=') {
                self.at += 1;
                match self.peek() {
                    Some(b'"') => Bare::String(self.string()?),
                    Some(b':') => Bare::Bytes(self.bytes()?),
                    _ => Bare::Integer(self.integer()?),
                }
            } else {
                Bare::True
            };
            params.push((key, value));
        }
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_input_is_read_with_its_raw_text() {
        let field = r#"sig1=("@method" "signature";req;key="sig1");created=17;nonce="n";tag="t""#;
        let (label, list) = one_inner_list(field).unwrap();
        assert_eq!(label, "sig1");
        assert_eq!(list.raw, field.trim_start_matches("sig1="));
        assert_eq!(list.components[1].0, "signature");
        assert_eq!(list.components[1].1.len(), 2);
        assert_eq!(list.param("created"), Some(&Bare::Integer(17)));
        assert_eq!(list.string("tag"), Some("t"));
    }

    #[test]
    fn whatever_is_not_canonical_is_refused() {
        for field in [
            "",
            "sig1",
            "sig1=()x",
            r#"sig1=("a" "a")"#,
            r#"sig1=("a"  "b")"#,
            r#"sig1=("a"), sig2=("a")"#,
            r#"sig1=("a);created=1"#,
            r#"sig1=("a");created=1.5"#,
            r#"sig1=("a");created=1234567890123456"#,
            "sig1=(\"\u{e4}\")",
            r#"Sig1=("a")"#,
        ] {
            assert!(one_inner_list(field).is_err(), "{field}");
        }
        for field in ["sig1=:AA=:x", "sig1=AA==", "sig1=:A:", "a=:AA==:, b=:AA==:"] {
            assert!(one_bytes(field).is_err(), "{field}");
        }
        assert!(one_inner_list(&format!("sig1=(\"{}\")", "a".repeat(5000))).is_err());
    }

    #[test]
    fn a_parameter_given_twice_counts_as_absent() {
        let (_, list) = one_inner_list(r#"s=("a");tag="x";tag="y""#).unwrap();
        assert_eq!(list.param("tag"), None);
    }
}
