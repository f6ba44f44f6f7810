//! Secrets of a document: `{"$secret":"…"}`, taken out before anything is stored, shown or reported.
//!
//! What stays in their place is `{"$secret":"***"}`. Only the password of a camera may be one, and it must be one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::Fault;
use crate::config::table::pointer;
use crate::model::Secret;

const MARK: &str = "$secret";
const SHOWN: &str = "***";
/// A password is not longer.
const MAX_LEN: usize = 1024;

/// Secrets of one document by the id of their camera, so that they survive a change of order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secrets(BTreeMap<String, Secret>);

impl Secrets {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The password of a camera.
    pub fn of(&self, camera: &str) -> Option<&Secret> {
        self.0.get(camera)
    }

    /// For the 0600 file, the only place that this may be written to.
    pub fn exposed(&self) -> impl Serialize + '_ {
        let all: BTreeMap<&str, &str> = self
            .0
            .iter()
            .map(|(k, v)| (k.as_str(), v.expose()))
            .collect();
        all
    }

    /// Takes the secrets out of `doc`. A `"***"` in their place (a document as it is stored) takes nothing.
    pub fn take(doc: &mut Map<String, Value>, faults: &mut Vec<Fault>) -> Secrets {
        let mut secrets = Secrets::default();
        if let Some(Value::Array(cameras)) = doc.get_mut("cameras") {
            for (i, camera) in cameras.iter_mut().enumerate() {
                let Value::Object(camera) = camera else {
                    continue;
                };
                let id = camera.get("id").and_then(Value::as_str).map(str::to_owned);
                let Some(password) = camera.get_mut("password") else {
                    continue;
                };
                match secret_in(password) {
                    Some(text) if text == SHOWN => {}
                    Some(text) => {
                        let secret = Secret::new(text);
                        if let Some(id) = id {
                            secrets.0.insert(id, secret);
                        }
                    }
                    None => {
                        let at = format!("cameras[{i}]");
                        faults.push(fault(&at, "password", "must be {\"$secret\":\"…\"}"));
                    }
                }
                *password = json!({ MARK: SHOWN });
            }
        }
        for (key, value) in doc.iter_mut() {
            stray(value, key, key == "cameras", faults);
        }
        secrets
    }
}

fn secret_in(value: &Value) -> Option<&str> {
    let map = value.as_object().filter(|m| m.len() == 1)?;
    let text = map.get(MARK)?.as_str()?;
    (1..=MAX_LEN).contains(&text.len()).then_some(text)
}

fn fault(section: &str, key: &str, problem: &str) -> Fault {
    Fault {
        key: format!("{section}.{key}"),
        value: String::new(),
        problem: problem.into(),
        code: "secret",
        pointer: pointer(section, key),
    }
}

/// Blanks and faults every other secret, so that none is stored in the clear by mistake.
fn stray(value: &mut Value, at: &str, camera_list: bool, faults: &mut Vec<Fault>) {
    match value {
        Value::Object(map) => {
            if map.contains_key(MARK) {
                faults.push(fault(at, MARK, "a secret cannot stand here"));
                map.insert(MARK.into(), SHOWN.into());
                return;
            }
            for (key, value) in map.iter_mut() {
                let key: String = key.chars().take(64).collect();
                stray(value, &format!("{at}.{key}"), false, faults);
            }
        }
        Value::Array(list) => {
            for (i, value) in list.iter_mut().enumerate() {
                // The password of a camera has been dealt with.
                let held = match value {
                    Value::Object(map) if camera_list => map.remove("password"),
                    _ => None,
                };
                stray(value, &format!("{at}[{i}]"), false, faults);
                if let (Some(held), Value::Object(map)) = (held, value) {
                    map.insert("password".into(), held);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(doc: Value) -> (Value, Secrets, Vec<String>) {
        let Value::Object(mut doc) = doc else {
            panic!("an object")
        };
        let mut faults = Vec::new();
        let secrets = Secrets::take(&mut doc, &mut faults);
        let places = faults.into_iter().map(|f| f.pointer).collect();
        (doc.into(), secrets, places)
    }

    #[test]
    fn a_password_is_taken_out_and_found_again_by_its_camera() {
        let (doc, secrets, faults) =
            take(json!({"cameras":[{"id":"a"},{"id":"b","password":{"$secret":"canary"}}]}));
        assert_eq!(faults, [""; 0]);
        assert_eq!(secrets.of("b").unwrap().expose(), "canary");
        assert!(secrets.of("a").is_none());
        assert!(!doc.to_string().contains("canary") && !format!("{secrets:?}").contains("canary"));
        let (again, none, faults) = take(doc.clone());
        assert!(none.is_empty() && faults.is_empty());
        assert_eq!(again, doc);
        let file = serde_json::to_string(&secrets.exposed()).unwrap();
        assert_eq!(serde_json::from_str::<Secrets>(&file).unwrap(), secrets);
    }

    #[test]
    fn a_secret_elsewhere_or_in_the_clear_is_a_fault_and_is_blanked() {
        for (doc, place) in [
            (
                json!({"cameras":[{"id":"a","password":"canary"}]}),
                "/cameras/0/password",
            ),
            (
                json!({"cameras":[{"id":"a","password":{"$secret":""}}]}),
                "/cameras/0/password",
            ),
            (
                json!({"cameras":[{"id":"a","password":{"$secret":"canary","x":1}}]}),
                "/cameras/0/password",
            ),
            (
                json!({"cameras":[{"id":"a","name":{"$secret":"canary"}}]}),
                "/cameras/0/name/$secret",
            ),
            (
                json!({"upload":{"hosts":[{"$secret":"canary"}]}}),
                "/upload/hosts/0/$secret",
            ),
            (json!({"$secret":{"$secret":"canary"}}), "/$secret/$secret"),
        ] {
            let (doc, secrets, faults) = take(doc);
            assert!(secrets.is_empty());
            assert_eq!(faults, [place]);
            assert!(!doc.to_string().contains("canary"), "{doc}");
        }
    }
}
