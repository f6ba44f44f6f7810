//! What may stand in a twin, and its compilation from parts. Pure.

use serde_json::{Map, Value, json};

use crate::admin::AdminError;

/// Sections that an operator sets as a whole; `cameras` and `policies` have rows of their own.
pub const SECTIONS: [&str; 7] = [
    "recording",
    "motion",
    "upload",
    "stream",
    "cloud",
    "network",
    "local_api",
];
/// The owner's word on the reset by the button, the one setting that is no section.
pub const PHYSICAL_RESET: &str = "physical_reset";
/// Most bytes of a document.
pub const MAX_BYTES: usize = 128 * 1024;
/// Most levels of a section.
const MAX_DEPTH: usize = 12;
/// What stands for a secret wherever it is shown.
pub const HIDDEN: &str = "***";
/// Modules that need no licence.
const FREE_MODULES: [&str; 1] = ["motion"];

/// One camera's part.
#[derive(Debug, Clone)]
pub struct Camera {
    /// Its id.
    pub camera_id: String,
    /// Everything but id and password.
    pub desired: Value,
    /// Whether it has a password.
    pub has_password: bool,
}

/// One policy's part.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// Camera ids; empty for all.
    pub cameras: Vec<String>,
    /// Wanted modules.
    pub modules: Vec<String>,
    /// Module → 0 to 1.
    pub thresholds: Value,
    /// What the cloud does.
    pub actions: Vec<String>,
    /// Switches of modules.
    pub feature_flags: Value,
}

fn refused<T>(what: impl Into<String>) -> Result<T, AdminError> {
    Err(AdminError::Refused(what.into()))
}

/// Merges a patch (RFC 7396) into settings: only known sections, each an object, and [`PHYSICAL_RESET`].
///
/// # Errors
/// `Refused` with the place.
pub fn patch(settings: &Value, patch: &Value) -> Result<Value, AdminError> {
    let Some(wanted) = patch.as_object() else {
        return refused("settings must be an object of sections");
    };
    for (section, value) in wanted {
        if section == PHYSICAL_RESET {
            if !matches!(value.as_str(), Some("enabled" | "disabled")) && !value.is_null() {
                return refused("physical_reset must be \"enabled\" or \"disabled\"");
            }
            continue;
        }
        if !SECTIONS.contains(&section.as_str()) {
            let known = SECTIONS.join(", ");
            return refused(format!("{section:?} is none of {known}, {PHYSICAL_RESET}"));
        }
        if !value.is_object() && !value.is_null() {
            return refused(format!("{section} must be an object, or null to remove it"));
        }
        check_plain(value, section, 1)?;
    }
    let mut merged = settings.clone();
    merge(&mut merged, patch);
    Ok(merged)
}

/// RFC 7396: members replace members, null removes.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    if let Value::Object(target) = target {
        for (name, value) in patch {
            if value.is_null() {
                target.remove(name);
            } else {
                merge(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

/// Neither secrets nor zero characters nor endless depth.
fn check_plain(value: &Value, at: &str, depth: usize) -> Result<(), AdminError> {
    if depth > MAX_DEPTH {
        return refused(format!("{at} is nested too deep"));
    }
    match value {
        Value::String(text) if text.contains('\0') => refused(format!("{at} has a zero character")),
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| check_plain(item, at, depth + 1)),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            if name.contains('\0') || name == "$secret" {
                return refused(format!("{at}: only a camera's password is a secret"));
            }
            check_plain(value, &format!("{at}/{name}"), depth + 1)
        }),
        _ => Ok(()),
    }
}

/// What a wish says about a camera's password.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// Nothing, or that it stays.
    Keep,
    /// None any more.
    Remove,
    /// This one.
    Set(String),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keep => "Keep",
            Self::Remove => "Remove",
            Self::Set(_) => "Set(***)",
        })
    }
}

/// Splits a wanted camera into what may be stored and shown, and the password. `password` may be a
/// string, `{"$secret": …}` (where `***` keeps it), or null.
///
/// # Errors
/// `Refused` for a login inside a URL, and for what no device takes.
pub fn camera(camera_id: &str, wanted: &Value) -> Result<(Value, Password), AdminError> {
    let is_id = (1..=32).contains(&camera_id.len())
        && camera_id
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !is_id {
        return refused("a camera's id must be 1 to 32 of a-z, 0-9 and -");
    }
    let Some(members) = wanted.as_object() else {
        return refused("a camera must be an object");
    };
    let mut members = members.clone();
    if members
        .remove("id")
        .is_some_and(|id| id.as_str() != Some(camera_id))
    {
        return refused("id must be the id in the path");
    }
    let password = match members.remove("password") {
        None => Password::Keep,
        Some(Value::Null) => Password::Remove,
        Some(Value::String(text)) => Password::Set(text),
        Some(Value::Object(secret)) => match (secret.len(), secret.get("$secret")) {
            (1, Some(Value::String(text))) if text == HIDDEN => Password::Keep,
            (1, Some(Value::String(text))) => Password::Set(text.clone()),
            _ => return refused("password must be {\"$secret\": …}"),
        },
        Some(_) => return refused("password must be {\"$secret\": …}"),
    };
    if let Password::Set(text) = &password
        && (text.is_empty() || text.len() > 1024 || text.contains('\0'))
    {
        return refused("password must have 1 to 1024 bytes");
    }
    for name in ["url", "sub_url"] {
        let has_login = members
            .get(name)
            .and_then(Value::as_str)
            .and_then(|url| url.split_once("://"))
            .is_some_and(|(_, rest)| rest.split('/').next().unwrap_or(rest).contains('@'));
        if has_login {
            return refused(format!(
                "{name} must not hold a login: give user and password"
            ));
        }
    }
    let desired = Value::Object(members);
    check_plain(&desired, camera_id, 1)?;
    Ok((desired, password))
}

/// The settings, with the hosts of this cloud's storage where an operator named none: without them in the
/// signed twin no device uploads anything.
pub fn with_upload_hosts(mut settings: Value, hosts: &[String]) -> Value {
    if !hosts.is_empty() && settings["upload"].get("hosts").is_none() {
        settings["upload"]["hosts"] = json!(hosts);
    }
    settings
}

/// The document, with secrets hidden. `cameras: None` leaves them to the device's own file.
pub fn compile(
    settings: &Value,
    cameras: Option<&[Camera]>,
    policies: &[Policy],
    licensed: &[String],
) -> Value {
    let mut doc = Map::new();
    for section in SECTIONS.into_iter().chain([PHYSICAL_RESET]) {
        if let Some(value) = settings.get(section) {
            doc.insert(section.to_owned(), value.clone());
        }
    }
    if let Some(cameras) = cameras {
        doc.insert("cameras".into(), cameras.iter().map(one_camera).collect());
    }
    let policies: Vec<Value> = policies
        .iter()
        .filter_map(|policy| one_policy(policy, licensed))
        .collect();
    if !policies.is_empty() {
        doc.insert("policies".into(), policies.into());
    }
    Value::Object(doc)
}

fn one_camera(camera: &Camera) -> Value {
    let mut members = camera.desired.as_object().cloned().unwrap_or_default();
    members.insert("id".into(), camera.camera_id.clone().into());
    if camera.has_password {
        members.insert("password".into(), json!({ "$secret": HIDDEN }));
    }
    Value::Object(members)
}

/// None when the licence leaves nothing of it.
fn one_policy(policy: &Policy, licensed: &[String]) -> Option<Value> {
    let granted =
        |module: &str| FREE_MODULES.contains(&module) || licensed.iter().any(|have| have == module);
    let modules: Vec<&String> = policy.modules.iter().filter(|m| granted(m)).collect();
    if modules.is_empty() {
        return None;
    }
    let thresholds: Map<String, Value> = policy
        .thresholds
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(module, _)| granted(module))
        .map(|(module, value)| (module.clone(), value.clone()))
        .collect();
    let mut compiled = json!({
        "id": policy.id, "name": policy.name, "modules": modules, "thresholds": thresholds,
        "actions": policy.actions, "feature_flags": policy.feature_flags,
    });
    if !policy.cameras.is_empty() {
        compiled["cameras"] = json!(policy.cameras);
    }
    Some(compiled)
}

/// Puts the secrets of cameras into a document, just before it is signed.
pub fn reveal(doc: &mut Value, secret_of: impl Fn(&str) -> Option<String>) {
    let cameras = doc.get_mut("cameras").and_then(Value::as_array_mut);
    for camera in cameras.into_iter().flatten() {
        let secret = camera["id"].as_str().and_then(&secret_of);
        if let (Some(secret), true) = (secret, camera.get("password").is_some()) {
            camera["password"] = json!({ "$secret": secret });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_is_that_of_rfc_7396() {
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (
                json!({"a":"foo"}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, &patch);
            assert_eq!(merged, result, "{target} {patch}");
        }
    }

    #[test]
    fn the_storage_is_named_where_nobody_named_another() {
        let hosts = ["media.example.com".to_owned()];
        for (settings, hosts, result) in [
            (json!({}), &hosts[..0], json!({})),
            (
                json!({}),
                &hosts[..],
                json!({ "upload": { "hosts": ["media.example.com"] } }),
            ),
            (
                json!({ "upload": { "policy": "all" } }),
                &hosts[..],
                json!({ "upload": { "policy": "all", "hosts": ["media.example.com"] } }),
            ),
            (
                json!({ "upload": { "hosts": [] } }),
                &hosts[..],
                json!({ "upload": { "hosts": [] } }),
            ),
        ] {
            assert_eq!(with_upload_hosts(settings, hosts), result);
        }
    }

    #[test]
    fn the_reset_by_the_button_is_one_of_two_words() {
        let set = |value: Value| patch(&json!({}), &json!({ PHYSICAL_RESET: value }));
        let settings = set(json!("disabled")).unwrap();
        let doc = compile(&settings, None, &[], &[]);
        assert_eq!(doc, json!({ "physical_reset": "disabled" }));
        assert_eq!(set(json!(null)).unwrap(), json!({}));
        for wrong in [json!(false), json!("never"), json!({})] {
            assert!(set(wrong).is_err());
        }
    }

    #[test]
    fn the_licence_cuts_modules_and_a_policy_without_any_is_gone() {
        let policy = Policy {
            id: "1".into(),
            name: "shop".into(),
            cameras: vec![],
            modules: vec!["market".into()],
            thresholds: json!({ "market": 0.9 }),
            actions: vec![],
            feature_flags: json!({}),
        };
        let with = |licensed: &[String]| {
            compile(&json!({}), None, std::slice::from_ref(&policy), licensed)
        };
        assert_eq!(with(&[]), json!({}));
        assert_eq!(
            with(&["market".into()])["policies"][0]["thresholds"],
            json!({ "market": 0.9 })
        );
    }
}
