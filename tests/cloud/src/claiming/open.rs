//! `POST /edge/v1/claims`: a box opens a window. Nobody knows it yet; everything it says is text to show to people.

use std::net::IpAddr;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::limits::{self, Guesser};
use super::{after, approve, code::Code, codes, network, seal};
use crate::db::{self, DbError};
use crate::http::App;
use crate::problem::Problem;
use crate::secret::{hex, random_base64url, sha256_hex};
use axum::http::StatusCode;

/// Longest text that a box may say of itself.
const MAX_TEXT: usize = 64;

/// The message, version 1; members that are not known are for later versions.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    v: u32,
    kem_pk: String,
    #[serde(default)]
    mac: Option<String>,
    #[serde(default)]
    serial: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    agent: Option<String>,
    methods: Vec<String>,
    #[serde(default)]
    claim_code: Option<String>,
}

/// The message with every bound checked.
struct Checked {
    kem_pk: [u8; seal::KEM_PK_LEN],
    mac: Option<String>,
    serial: Option<String>,
    model: Option<String>,
    agent: Option<String>,
    methods: Vec<String>,
}

impl Wanted {
    fn check(&self) -> Result<Checked, Problem> {
        let malformed = |what: &str| Problem::malformed(what);
        if self.v != 1 {
            return Err(malformed("v must be 1"));
        }
        let kem_pk = BASE64_URL_SAFE_NO_PAD
            .decode(&self.kem_pk)
            .ok()
            .and_then(|bytes| <[u8; seal::KEM_PK_LEN]>::try_from(bytes).ok())
            .ok_or_else(|| malformed("kem_pk must be base64url of 32 bytes"))?;
        // Found out now rather than when somebody has bound it.
        seal::seal(&kem_pk, b"", b"").map_err(|_| malformed("nothing can be sealed to kem_pk"))?;
        let mut methods = self.methods.clone();
        methods.sort_unstable();
        methods.dedup();
        if methods.is_empty()
            || !methods
                .iter()
                .all(|m| matches!(m.as_str(), "B" | "K" | "U" | "Q"))
        {
            return Err(malformed("methods must be some of B, K, U, Q"));
        }
        Ok(Checked {
            kem_pk,
            mac: text("mac", self.mac.as_deref())?.filter(|mac| is_mac(mac)),
            serial: text("serial", self.serial.as_deref())?,
            model: text("model", self.model.as_deref())?,
            agent: text("agent", self.agent.as_deref())?,
            methods,
        })
    }
}

/// None for what is empty; nothing that a terminal would obey.
fn text(name: &str, text: Option<&str>) -> Result<Option<String>, Problem> {
    match text.map(str::trim).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) if text.chars().count() <= MAX_TEXT && !text.chars().any(char::is_control) => {
            Ok(Some(text.to_owned()))
        }
        Some(_) => Err(Problem::malformed(format!(
            "{name} must be at most {MAX_TEXT} printable characters"
        ))),
    }
}

fn is_mac(text: &str) -> bool {
    text.len() == 17
        && text.split(':').count() == 6
        && text
            .split(':')
            .all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Opens a window; with a right claim code it is bound at once.
///
/// # Errors
/// 400 for a message that is not understood, 429 for too many, 403 for a wrong code, a full licence or a box that
/// is somebody else's.
pub async fn open(
    app: &App,
    ip: IpAddr,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<Value, Problem> {
    let checked = wanted.check()?;
    let place = network(ip);
    let limits = &app.claiming.limits;
    limits::take_window(&app.db, limits, &place, now).await?;

    let (id, user_code) = (
        Uuid::now_v7(),
        Code::random().map_err(|_| Problem::unavailable())?,
    );
    let token = random_base64url::<32>().map_err(|_| Problem::unavailable())?;
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    end_earlier(&tx, &checked.kem_pk).await?;
    insert(app, &tx, &checked, id, &token, &user_code, ip, &place, now).await?;
    if let Some(code) = &wanted.claim_code {
        let name = checked
            .serial
            .or(checked.mac)
            .unwrap_or_else(|| place.clone());
        let guesser = Guesser {
            network: place,
            name,
        };
        limits::may_guess(&tx, limits, &guesser, now).await?;
        let Some(found) = codes::find(app, &tx, code, now).await? else {
            // The window is not opened, but the attempt counts.
            tx.rollback().await.map_err(DbError::from)?;
            let tx = client.transaction().await.map_err(DbError::from)?;
            limits::count_wrong(&tx, limits, &guesser, now).await?;
            tx.commit().await.map_err(DbError::from)?;
            return Err(wrong_code());
        };
        approve::bind_by_code(&tx, id, &found, now).await?;
    }
    tx.commit().await.map_err(DbError::from)?;
    tracing::info!(claim = %id, "claim window opened");
    Ok(json!({
        "claim_id": id,
        "claim_token": token,
        "user_code": user_code.expose(),
        "verification_uri": format!("https://{}/claim", app.authority),
        "expires_in": app.claiming.window_s,
        "interval": app.claiming.interval_s,
    }))
}

/// The same for a code that never was, that was used and that is too old.
pub(super) fn wrong_code() -> Problem {
    let detail = "the code is not valid: it is mistyped, was used, or is too old";
    Problem::new(StatusCode::FORBIDDEN, "wrong-code", detail)
}

/// The same process asking again, because the answer was lost: its earlier windows end.
async fn end_earlier(tx: &Transaction<'_>, kem_pk: &[u8]) -> Result<(), DbError> {
    db::set_local(tx, "app.claim_kem", &hex(kem_pk)).await?;
    tx.execute(
        "delete from device_claiming_queue where kem_pk = $1",
        &[&kem_pk],
    )
    .await?;
    db::set_local(tx, "app.claim_kem", "").await
}

#[expect(clippy::too_many_arguments, reason = "one column each")]
async fn insert(
    app: &App,
    tx: &Transaction<'_>,
    wanted: &Checked,
    id: Uuid,
    token: &str,
    user_code: &Code,
    ip: IpAddr,
    place: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    db::set_local(tx, "app.claim_id", &id.to_string()).await?;
    let statement = tx
        .prepare_cached(
            "insert into device_claiming_queue (claim_id, token_hash, kem_pk, mac_address, serial_number, model, agent,
                    methods, ip_address, network, user_code_hash, state, created_at, expires_at, interval_s)
             values ($1, $2, $3, $4::text::macaddr, $5, $6, $7, $8, $9, $10::text::inet, $11, 'open', $12, $13, $14)",
        )
        .await?;
    tx.execute(
        &statement,
        &[
            &id,
            &sha256_hex(token.as_bytes()),
            &wanted.kem_pk.as_slice(),
            &wanted.mac,
            &wanted.serial,
            &wanted.model,
            &wanted.agent,
            &wanted.methods,
            &ip.to_canonical(),
            &place,
            &app.wrapping_key.hash_code("user", user_code.expose()),
            &now,
            &after(now, app.claiming.window_s),
            &app.claiming.interval_s,
        ],
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_box_says_is_bounded() {
        let right = json!({ "v": 1, "kem_pk": "OUjPrgrdG2lddg5ZB3GV2mxWUGsCcyl5SrArygKKiFw", "methods": ["U", "B", "B"],
                            "mac": "b8:27:eb:00:00:01", "serial": " 1 ", "model": "", "later": true });
        let check = |change: Value| {
            let mut message = right.clone();
            message
                .as_object_mut()
                .unwrap()
                .extend(change.as_object().unwrap().clone());
            serde_json::from_value::<Wanted>(message)
                .map_err(|_| ())
                .and_then(|w| w.check().map_err(|_| ()))
        };
        let checked = check(json!({})).unwrap();
        assert_eq!(
            (checked.serial.as_deref(), checked.model),
            (Some("1"), None)
        );
        assert_eq!(checked.methods, ["B", "U"]);
        assert!(check(json!({ "mac": "anything" })).unwrap().mac.is_none());
        for wrong in [
            json!({ "v": 2 }),
            json!({ "kem_pk": "AAAA" }),
            json!({ "kem_pk": "A".repeat(43) }),
            json!({ "kem_pk": 7 }),
            json!({ "methods": [] }),
            json!({ "methods": ["X"] }),
            json!({ "methods": "U" }),
            json!({ "serial": "x".repeat(65) }),
            json!({ "model": "\u{1b}[2J" }),
            json!({ "claim_code": 7 }),
        ] {
            assert!(check(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
