//! The one row of the twin.

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use uuid::Uuid;

use super::DbError;
use crate::model::BootId;
use crate::time::{Mono, Wall};
use crate::twin::state::{Deadline, Document, State, Status};

const SAVE: &str =
    "insert or replace into twin (id, edge_id, desired, status, reasons, judge, version, document,
        fallback_version, fallback_document, until_boot, until_ns, until_us, carried)
    values (1, :edge_id, :desired, :status, :reasons, :judge, :version, :document,
        :fallback_version, :fallback_document, :until_boot, :until_ns, :until_us, :carried)";

/// What is remembered; the default where nothing is.
///
/// # Errors
/// [`DbError`]; [`DbError::Refused`] where the row makes no sense.
pub fn load(conn: &Connection) -> Result<State, DbError> {
    let state = conn
        .prepare_cached("select * from twin where id = 1")?
        .query_row([], |row| Ok(read(row)))
        .optional()?;
    state.unwrap_or_else(|| Ok(State::default()))
}

fn read(row: &Row<'_>) -> Result<State, DbError> {
    let senseless = |what: &str| DbError::Refused(format!("twin.{what} makes no sense"));
    let version =
        |name: &str| -> Result<u64, DbError> { Ok(row.get::<_, i64>(name)?.cast_unsigned()) };
    let document = Document {
        version: version("version")?,
        text: row.get("document")?,
    };
    let provisional = match row.get::<_, Option<Uuid>>("until_boot")? {
        None => None,
        Some(boot) => Some((
            Document {
                version: version("fallback_version")?,
                text: row.get("fallback_document")?,
            },
            Deadline {
                boot: BootId(boot),
                until: Mono(version("until_ns")?),
                until_wall: Wall(row.get("until_us")?),
                carried: row.get("carried")?,
            },
        )),
    };
    let status: String = row.get("status")?;
    let reasons: String = row.get("reasons")?;
    Ok(State {
        edge_id: row.get("edge_id")?,
        desired: version("desired")?,
        status: Status::from_word(&status).ok_or_else(|| senseless("status"))?,
        reasons: serde_json::from_str(&reasons).map_err(|_| senseless("reasons"))?,
        judge: row.get("judge")?,
        applied: document,
        provisional,
    })
}

/// Remembers.
///
/// # Errors
/// [`DbError`].
pub fn save(conn: &Connection, state: &State) -> Result<(), DbError> {
    let reasons = serde_json::to_string(&state.reasons).unwrap_or_else(|_| "[]".into());
    let fallback = state.provisional.as_ref().map(|(d, _)| d);
    let deadline = state.provisional.as_ref().map(|(_, d)| d);
    conn.prepare_cached(SAVE)?.execute(named_params! {
        ":edge_id": state.edge_id,
        ":desired": state.desired.cast_signed(),
        ":status": state.status.word(),
        ":reasons": reasons,
        ":judge": state.judge,
        ":version": state.applied.version.cast_signed(),
        ":document": state.applied.text,
        ":fallback_version": fallback.map(|d| d.version.cast_signed()),
        ":fallback_document": fallback.and_then(|d| d.text.as_ref()),
        ":until_boot": deadline.map(|d| d.boot.0),
        ":until_ns": deadline.map(|d| d.until.0.cast_signed()),
        ":until_us": deadline.map(|d| d.until_wall.0),
        ":carried": deadline.is_some_and(|d| d.carried),
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::schema;
    use crate::twin::Reason;

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = schema::open_writer(&dir.path().join("x.db")).unwrap();
        schema::migrate(&mut conn).unwrap();
        assert_eq!(load(&conn).unwrap(), State::default());
        let doc = |version, text: Option<&str>| Document {
            version,
            text: text.map(str::to_owned),
        };
        let deadline = Deadline {
            boot: BootId(Uuid::from_u128(7)),
            until: Mono(12),
            until_wall: Wall(34),
            carried: true,
        };
        let plain = State::default().accepted(doc(3, Some("{}")), None, "0.1.0");
        let provisional = plain
            .clone()
            .accepted(doc(1 << 53, Some("{}")), Some(deadline), "0.1.0");
        let first = State::default().accepted(doc(2, Some("{}")), Some(deadline), "0.1.0");
        let reasons = vec![Reason::of_document("range", "é")];
        let plain = State {
            edge_id: "e-1".into(),
            ..plain
        };
        let rejected = plain.clone().rejected(4, reasons, "0.2.0");
        let reverted = provisional.clone().reverted();
        for state in [plain, provisional, first, rejected, reverted] {
            save(&conn, &state).unwrap();
            assert_eq!(load(&conn).unwrap(), state);
        }
        let rows: i64 = conn
            .query_row("select count(*) from twin", [], |r| r.get(0))
            .unwrap();
        assert_eq!(rows, 1);
    }
}
