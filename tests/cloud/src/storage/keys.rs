//! Object keys: ids and nothing else, so that a device can name nothing outside of its own.

use uuid::Uuid;

/// What is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A clip.
    Recording,
    /// A picture: on command, or an event's thumbnail.
    Snapshot,
}

impl Kind {
    /// The word in the database.
    pub fn word(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Snapshot => "snapshot",
        }
    }

    /// The kind of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Recording, Self::Snapshot]
            .into_iter()
            .find(|kind| kind.word() == word)
    }

    /// Content types that it may have, with the ending of the key.
    pub fn content_types(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Recording => &[("video/mp4", "mp4")],
            Self::Snapshot => &[("image/jpeg", "jpg"), ("image/png", "png")],
        }
    }
}

/// The key of a device's object.
pub fn object_key(organization: Uuid, device: Uuid, kind: Kind, uid: Uuid, ending: &str) -> String {
    format!("{organization}/{device}/{}s/{uid}.{ending}", kind.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_of_ids() {
        let [a, b, c] = [1, 2, 3].map(Uuid::from_u128);
        assert_eq!(
            object_key(a, b, Kind::Recording, c, "mp4"),
            "00000000-0000-0000-0000-000000000001/00000000-0000-0000-0000-000000000002/recordings/\
             00000000-0000-0000-0000-000000000003.mp4"
        );
    }
}
