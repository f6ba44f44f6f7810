//! JSON objects with one thing wrong.

use crate::hostile::claims::nested;

/// Values of a wrong type or form for any member that has to be there; `-` leaves it out.
pub const WRONG: [&str; 11] = [
    "-",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "-1.5",
    "NaN",
    "1e999",
    "\"\\u0000\"",
    "[[\"x\"]]",
];

/// A JSON object as members in their order.
#[derive(Debug, Clone)]
pub struct Object(pub Vec<(&'static str, String)>);

impl Object {
    /// As text.
    pub fn text(&self) -> String {
        let members = self
            .0
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }

    /// With another value of a member, or without it.
    pub fn with(&self, member: &str, value: &str) -> String {
        let mut changed = self.clone();
        if value == "-" {
            changed.0.retain(|(name, _)| *name != member);
        } else if let Some(found) = changed.0.iter_mut().find(|(name, _)| *name == member) {
            value.clone_into(&mut found.1);
        }
        changed.text()
    }

    /// Every form in which a right text is wrong as a whole: names and bytes.
    pub fn forms(&self) -> Vec<(String, Vec<u8>)> {
        let good = self.text();
        let inner = &good[1..good.len() - 1];
        let pad = "x".repeat(2 * 1024 * 1024);
        let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut broken = good.clone().into_bytes();
        broken.splice(2..2, [0xff, 0xfe]);
        let mut all: Vec<(String, Vec<u8>)> = [
            ("empty", String::new()),
            ("blank", " \n".into()),
            ("null", "null".into()),
            ("number", "7".into()),
            ("string", format!("{good:?}")),
            ("array", format!("[{good}]")),
            (
                "html",
                "<html><body>Welcome to the hotel</body></html>".into(),
            ),
            ("truncated", good[..good.len() - 1].into()),
            ("half", good[..good.len() / 2].into()),
            ("twice", format!("{good}{good}")),
            ("more", format!("{good}x")),
            ("comment", format!("{{/*x*/{inner}}}")),
            ("trailing-comma", format!("{{{inner},}}")),
            ("single-quotes", good.replace('"', "'")),
            ("bom", format!("\u{feff}{good}")),
            ("zero", format!("{good}\0")),
            ("deep", format!("{{\"more\":{},{inner}}}", nested(10_000))),
            ("huge", format!("{{\"more\":\"{pad}\",{inner}}}")),
        ]
        .into_iter()
        .map(|(name, text)| (format!("form/{name}"), text.into_bytes()))
        .collect();
        all.push(("form/utf-16".into(), utf16));
        all.push(("form/not-utf-8".into(), broken));
        for (name, value) in &self.0 {
            let first = format!("{{\"{name}\":{value},{inner}}}");
            let last = format!("{{{inner},\"{name}\":\"other\"}}");
            all.push((format!("twice/{name}-first"), first.into_bytes()));
            all.push((format!("twice/{name}-last"), last.into_bytes()));
        }
        all
    }
}

/// A JSON string of plain text.
pub fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}
