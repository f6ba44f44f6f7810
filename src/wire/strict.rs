//! JSON of signed documents, read strictly: a depth, a number of values, no key twice, no number that loses digits.
//!
//! `serde_json` alone keeps the last of two equal keys and rounds what does not fit; two readers of one document could
//! then see two different commands. Here such a document is refused before anybody looks at its meaning.

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Largest whole number that every JSON reader keeps (2⁵³ − 1).
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Bounds of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Objects and arrays inside each other.
    pub depth: usize,
    /// Values in all.
    pub values: usize,
}

/// Why a document is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotStrict(String);

/// Reads a whole document.
///
/// # Errors
/// [`NotStrict`]: not JSON, something behind it, a key twice, too deep, too many values, a number out of range.
pub fn parse(bytes: &[u8], bounds: Bounds) -> Result<Value, NotStrict> {
    let mut left = bounds.values;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let seed = Node {
        depth: bounds.depth,
        left: &mut left,
    };
    let value = seed
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    value.map_err(|e| NotStrict(e.to_string()))
}

struct Node<'l> {
    depth: usize,
    left: &'l mut usize,
}

impl Node<'_> {
    fn below<E: serde::de::Error>(&mut self) -> Result<Node<'_>, E> {
        Ok(Node {
            depth: self
                .depth
                .checked_sub(1)
                .ok_or_else(|| E::custom("nested too deeply"))?,
            left: self.left,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        *self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| D::Error::custom("too many values"))?;
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Value, E> {
        if v > MAX_INTEGER {
            return Err(E::custom("a number is out of range"));
        }
        Ok(v.into())
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Value, E> {
        if v.unsigned_abs() > MAX_INTEGER {
            return Err(E::custom("a number is out of range"));
        }
        Ok(v.into())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        // Whole numbers beyond 64 bits arrive here, already rounded.
        if !v.is_finite() || v.abs() > MAX_INTEGER as f64 {
            return Err(E::custom("a number is out of range"));
        }
        Ok(v.into())
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(self.below()?)? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if out.contains_key(&key) {
                return Err(A::Error::custom("a key stands twice"));
            }
            let value = members.next_value_seed(self.below()?)?;
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const BOUNDS: Bounds = Bounds {
        depth: 3,
        values: 12,
    };

    fn read(text: &str) -> Result<Value, NotStrict> {
        parse(text.as_bytes(), BOUNDS)
    }

    #[test]
    fn what_is_in_bounds_is_read_as_it_stands() {
        let text = r#"{"a":[1,-2,0.5,{"b":null}],"c":"é","d":true}"#;
        assert_eq!(
            read(text).unwrap(),
            serde_json::from_str::<Value>(text).unwrap()
        );
        assert_eq!(read("9007199254740991").unwrap(), json!(MAX_INTEGER));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"\u0061":2}}"#,
            "[[[[1]]]]",
            &deep,
            "[1,2,3,4,5,6,7,8,9,10,11,12]",
            "9007199254740992",
            "-9007199254740992",
            "18446744073709551616",
            "1e400",
            "1e300",
            "NaN",
            "{} {}",
            "{}x",
            "",
            "{\"a\":1,}",
            "\"\u{1}\"",
        ] {
            assert!(read(text).is_err(), "{}", &text[..text.len().min(60)]);
        }
    }

    proptest::proptest! {
        #[test]
        fn it_reads_what_serde_reads_or_refuses(text in "[\\[\\]{},:\"a0-9.e-]{0,40}") {
            if let Ok(value) = parse(text.as_bytes(), BOUNDS) {
                proptest::prop_assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes, BOUNDS);
        }
    }
}
