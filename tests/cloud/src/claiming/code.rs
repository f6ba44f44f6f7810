//! Claim codes and user codes: eight letters of RFC 8628 section 6.1, shown `XXXX-XXXX`, without vowels so that
//! they spell nothing. Case, dashes and blanks do not matter.

use crate::secret::{SecretError, random};

const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LETTERS: usize = 8;

/// A code that was typed in or made.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(String);

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code(***)")
    }
}

impl Code {
    /// Makes a code from the system's random numbers.
    ///
    /// # Errors
    /// When there are none.
    pub fn random() -> Result<Self, SecretError> {
        let mut letters = String::with_capacity(LETTERS);
        while letters.len() < LETTERS {
            // 240 is a multiple of 20: no letter is likelier than another.
            for byte in random::<16>()?.into_iter().filter(|byte| *byte < 240) {
                if letters.len() < LETTERS {
                    letters.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
                }
            }
        }
        Ok(Self(letters))
    }

    /// Reads what a person or a device sent; none when it cannot be a code.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 64 {
            return None;
        }
        let letters: String = text
            .chars()
            .filter(|c| !matches!(c, '-' | ' ' | '\t' | '\r' | '\n'))
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let right = letters.len() == LETTERS && letters.bytes().all(|b| ALPHABET.contains(&b));
        right.then_some(Self(letters))
    }

    /// The eight letters.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `XXXX-XXXX`, for people.
    pub fn expose_for_people(&self) -> String {
        let (first, second) = self.0.split_at(LETTERS / 2);
        format!("{first}-{second}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_write_them() {
        for text in ["WDJBMJHT", "wdjb-mjht", " wdjb mjht\n", "W-D-J-B-M-J-H-T"] {
            assert_eq!(Code::parse(text).unwrap().expose(), "WDJBMJHT");
        }
        for text in [
            "",
            "WDJBMJH",
            "WDJBMJHTT",
            "WDJBMJHA",
            "WDJBMJH1",
            "ẄDJBMJHT",
            "WDJB_MJHT",
        ] {
            assert!(Code::parse(text).is_none(), "{text}");
        }
        assert!(Code::parse(&"-".repeat(1000)).is_none());
    }

    #[test]
    fn made_codes_use_every_letter_alike_and_can_be_read() {
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..1000 {
            let code = Code::random().unwrap();
            assert_eq!(Code::parse(&code.expose_for_people()), Some(code.clone()));
            for letter in code.expose().bytes() {
                *seen.entry(letter).or_insert(0) += 1;
            }
        }
        assert_eq!(seen.len(), 20);
        // 400 of each on average; six standard deviations are 117.
        assert!(seen.values().all(|n| (283..517).contains(n)), "{seen:?}");
        assert_eq!(format!("{:?}", Code::random().unwrap()), "Code(***)");
    }
}
