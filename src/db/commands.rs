//! The inbox: a row a command. A row is on disk before the command is acknowledged, and each change of its state is
//! written together with the record that tells the cloud of it.

use rusqlite::{Connection, OptionalExtension, named_params, params};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{DbError, Run};
use crate::command::limits::{MAX_ROWS, REMEMBERED_S};
use crate::command::{Facts, Opened, State, Way};
use crate::model::CommandId;
use crate::time::{Mono, Wall};

const INSERT: &str = "insert into commands (id, n, type, args, once_key, way, issued_s, expires_s, state, rev, code,
        detail, boot, received_ns, received_s, ended_boot, ended_ns)
    values (:id, :n, :type, :args, :key, :way, :iat, :exp, :state, 1, :code, :detail, :boot, :ns, :s,
        case when :state = 'rejected' then :boot end, case when :state = 'rejected' then :ns end)";
const OPEN: &str = "select id, n, type, args, expires_s, state, rev, started_boot from commands
    where state in ('acknowledged', 'in_progress') order by state desc, n, received_ns limit 64";
/// A stream's key is not kept longer than it is needed.
const MOVE: &str = "update commands set state = :state,
        args = case when :ends and type = 'stream.start' then '{}' else args end,
        rev = rev + 1, code = :code, detail = :detail, result = :result,
        started_boot = case when :state = 'in_progress' then :boot else started_boot end,
        started_ns = case when :state = 'in_progress' then :ns else started_ns end,
        ended_boot = case when :ends then :boot end, ended_ns = case when :ends then :ns end
    where id = :id and state = :from returning rev";

/// What the store knows that decides about a command; `key` is what it asks for once only. Forgets first what may be
/// forgotten, where the time is known.
pub fn facts(
    conn: &Connection,
    id: CommandId,
    key: Option<&str>,
    trusted: Option<Wall>,
    now: Wall,
) -> Result<Facts, DbError> {
    let count = |sql: &str, p: &[&dyn rusqlite::ToSql]| {
        conn.prepare_cached(sql)?
            .query_row(p, |r| r.get::<_, i64>(0))
            .map(|n| usize::try_from(n).unwrap_or(0))
    };
    let mut rows = count("select count(*) from commands", &[])?;
    if let Some(trusted) = trusted
        && rows >= MAX_ROWS / 2
    {
        rows -= forget(conn, trusted)?.min(rows);
    }
    let hour_ago = now.unix_seconds().saturating_sub(3600);
    Ok(Facts {
        known: count("select count(*) from commands where id = ?1", &[&id.0])? > 0,
        asked_before: match key {
            Some(key) => count("select count(*) from commands where once_key = ?1", &[&key])? > 0,
            None => false,
        },
        open: count(
            "select count(*) from commands where state in ('acknowledged', 'in_progress')",
            &[],
        )?,
        reboots: count(
            "select count(*) from commands where type = 'reboot' and state <> 'rejected' and received_s > ?1",
            &[&hour_ago],
        )?,
        rows,
    })
}

/// Deletes what has ended and expired more than a day ago; returns how many rows that were.
pub fn forget(conn: &Connection, trusted: Wall) -> Result<usize, DbError> {
    let before = trusted.unix_seconds().saturating_sub(REMEMBERED_S);
    let gone = conn
        .prepare_cached(
            "delete from commands where expires_s < ?1 and state not in ('acknowledged', 'in_progress')",
        )?
        .execute(params![before])?;
    Ok(gone)
}

/// What a new row says besides its document.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// How it came.
    pub way: Way,
    /// Best idea of the time.
    pub wall: Wall,
    /// On this boot's scale.
    pub at: Mono,
    /// What it asks for once only; nothing for a rejected one.
    pub once_key: Option<String>,
    /// Why it is rejected: code and words. Nothing for an accepted one.
    pub rejected: Option<(&'static str, String)>,
}

/// Writes the row of a command that was not known, `acknowledged` or `rejected`, with rev 1.
pub fn insert(conn: &Connection, run: &Run, o: &Opened, a: &Arrival) -> Result<(), DbError> {
    let (word, args) = match (&o.asked, &a.rejected) {
        (Ok(asked), None) => (asked.word.as_str(), asked.args.to_string()),
        // What was rejected is not kept: it may be anything.
        (Ok(asked), Some(_)) if crate::command::Kind::from_word(&asked.word).is_some() => {
            (asked.word.as_str(), "{}".to_owned())
        }
        _ => ("", "{}".to_owned()),
    };
    let state = if a.rejected.is_some() {
        State::Rejected
    } else {
        State::Acknowledged
    };
    conn.prepare_cached(INSERT)?.execute(named_params! {
        ":id": o.id.0, ":n": i64::try_from(o.n).unwrap_or(i64::MAX), ":type": word, ":args": args,
        ":key": a.once_key, ":way": a.way.as_str(), ":iat": o.iat, ":exp": o.exp, ":state": state.as_str(),
        ":code": a.rejected.as_ref().map(|r| r.0), ":detail": a.rejected.as_ref().map(|r| r.1.as_str()),
        ":boot": run.boot, ":ns": a.at.0 as i64, ":s": a.wall.unix_seconds(),
    })?;
    Ok(())
}

/// A command that waits or runs.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenRow {
    /// Its identity.
    pub id: CommandId,
    /// The cloud's count.
    pub n: u64,
    /// Its type.
    pub word: String,
    /// Its arguments.
    pub args: Value,
    /// Seconds since 1970.
    pub exp: i64,
    /// `acknowledged` or `in_progress`.
    pub state: State,
    /// Of its state.
    pub rev: u32,
    /// Row of the boot in which it was begun.
    pub started_boot: Option<i64>,
}

/// Commands that run, then those that wait, in the cloud's order; as many as may be open.
pub fn open_rows(conn: &Connection) -> Result<Vec<OpenRow>, DbError> {
    let mut stmt = conn.prepare_cached(OPEN)?;
    let rows = stmt.query_map([], |r| {
        Ok(OpenRow {
            id: CommandId(r.get(0)?),
            n: r.get::<_, i64>(1)?.unsigned_abs(),
            word: r.get(2)?,
            args: serde_json::from_str(&r.get::<_, String>(3)?).unwrap_or_default(),
            exp: r.get(4)?,
            state: State::from_word(&r.get::<_, String>(5)?).unwrap_or(State::InProgress),
            rev: r.get(6)?,
            started_boot: r.get(7)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What a state says besides its word.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// Why, as a word.
    pub code: Option<&'static str>,
    /// Why, for people.
    pub detail: Option<String>,
    /// What came of it.
    pub result: Option<Value>,
}

/// Changes a state and returns its `rev`; `None`: the row is not in `from` any more, nothing was changed.
///
/// # Errors
/// [`DbError::Refused`] where `to` cannot follow `from`.
pub fn advance(
    conn: &Connection,
    run: &Run,
    id: CommandId,
    (from, to): (State, State),
    said: &Said,
    at: Mono,
) -> Result<Option<u32>, DbError> {
    if !from.may_become(to) {
        return Err(DbError::Refused(format!(
            "a command cannot become {} after {}",
            to.as_str(),
            from.as_str()
        )));
    }
    let rev = conn
        .prepare_cached(MOVE)?
        .query_row(
            named_params! {
                ":id": id.0, ":from": from.as_str(), ":state": to.as_str(), ":code": said.code, ":detail": said.detail,
                ":result": said.result.as_ref().map(Value::to_string), ":boot": run.boot, ":ns": at.0 as i64,
                ":ends": to.is_terminal(),
            },
            |r| r.get(0),
        )
        .optional()?;
    Ok(rev)
}

/// A greater `rev` for a word about a command that runs; `None`: it does not run.
pub fn touch(conn: &Connection, id: CommandId) -> Result<Option<u32>, DbError> {
    let rev = conn
        .prepare_cached(
            "update commands set rev = rev + 1 where id = ?1 and state = 'in_progress' returning rev",
        )?
        .query_row(params![id.0], |r| r.get(0))
        .optional()?;
    Ok(rev)
}

/// What an `unclaim` wiped, or began to wipe, while `key` was the device's key.
pub fn left_with(conn: &Connection, key: &str) -> Result<Option<String>, DbError> {
    let wipe = conn
        .query_row(
            "select result ->> '$.wipe' from commands
             where type = 'unclaim' and state = 'succeeded' and result ->> '$.key' = ?1",
            params![key],
            |r| r.get(0),
        )
        .optional()?;
    Ok(wipe)
}

/// A command for people and programs.
#[derive(Debug, Clone, Serialize)]
pub struct CommandLine {
    /// Its identity.
    pub id: Uuid,
    /// The cloud's count.
    pub n: i64,
    /// Its type; empty where it was rejected before that was known.
    pub r#type: String,
    /// `mqtt` or `poll`.
    pub way: String,
    /// Its state.
    pub state: String,
    /// Of the state.
    pub rev: u32,
    /// Why, as a word.
    pub code: Option<String>,
    /// Why, for people.
    pub detail: Option<String>,
    /// What came of it.
    pub result: Option<Value>,
    /// RFC 3339.
    pub received_at: String,
    /// RFC 3339.
    pub expires_at: String,
    /// Seconds from its start to its end, where both were in one boot.
    pub took_s: Option<f64>,
}

/// Commands, newest first.
pub fn list(conn: &Connection, limit: u32) -> Result<Vec<CommandLine>, DbError> {
    let mut stmt = conn.prepare(
        "select id, n, type, way, state, rev, code, detail, result, received_s, expires_s,
                case when started_boot = ended_boot then (ended_ns - started_ns) / 1e9 end
         from commands order by boot desc, received_ns desc limit ?1",
    )?;
    let time = |s: i64| Wall::from_unix_seconds(s).rfc3339();
    let rows = stmt.query_map(params![limit], |r| {
        Ok(CommandLine {
            id: r.get(0)?,
            n: r.get(1)?,
            r#type: r.get(2)?,
            way: r.get(3)?,
            state: r.get(4)?,
            rev: r.get(5)?,
            code: r.get(6)?,
            detail: r.get(7)?,
            result: r
                .get::<_, Option<String>>(8)?
                .and_then(|text| serde_json::from_str(&text).ok()),
            received_at: time(r.get(9)?),
            expires_at: time(r.get(10)?),
            took_s: r.get(11)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::open::testing;
    use super::*;
    use crate::command::document::Asked;
    use serde_json::json;

    const NOW: i64 = 1_795_226_400;

    fn opened(n: u64, exp: i64) -> Opened {
        Opened {
            id: CommandId(Uuid::from_u128(u128::from(n))),
            n,
            iat: exp - 300,
            exp,
            asked: Ok(Asked {
                word: "reboot".into(),
                args: json!({ "delay_s": 1 }),
            }),
        }
    }

    fn arrival() -> Arrival {
        Arrival {
            way: Way::Poll,
            wall: Wall::from_unix_seconds(NOW),
            at: Mono(5),
            once_key: None,
            rejected: None,
        }
    }

    #[test]
    fn a_row_goes_through_its_states_once() {
        let (_dir, conn, run) = testing::store();
        let o = opened(7, NOW + 300);
        insert(&conn, &run, &o, &arrival()).unwrap();
        assert!(insert(&conn, &run, &o, &arrival()).is_err());
        let row = open_rows(&conn).unwrap().remove(0);
        assert_eq!((row.state, row.rev, row.n), (State::Acknowledged, 1, 7));
        assert_eq!(row.args, json!({ "delay_s": 1 }));
        let go =
            |from, to| advance(&conn, &run, o.id, (from, to), &Said::default(), Mono(9)).unwrap();
        assert_eq!(go(State::Acknowledged, State::InProgress), Some(2));
        assert_eq!(go(State::Acknowledged, State::InProgress), None);
        assert_eq!(go(State::InProgress, State::Succeeded), Some(3));
        assert_eq!(go(State::InProgress, State::Failed), None);
        let back = advance(
            &conn,
            &run,
            o.id,
            (State::Succeeded, State::InProgress),
            &Said::default(),
            Mono(9),
        );
        assert!(matches!(back, Err(DbError::Refused(_))));
        let line = list(&conn, 9).unwrap().remove(0);
        assert_eq!(
            (line.state.as_str(), line.rev, line.took_s),
            ("succeeded", 3, Some(0.0))
        );
        assert!(open_rows(&conn).unwrap().is_empty());
    }

    #[test]
    fn open_ones_come_in_the_clouds_order() {
        let (_dir, conn, run) = testing::store();
        for n in [9, 3, 5] {
            insert(&conn, &run, &opened(n, NOW + 300), &arrival()).unwrap();
        }
        let order: Vec<u64> = open_rows(&conn).unwrap().iter().map(|r| r.n).collect();
        assert_eq!(order, [3, 5, 9]);
        let facts = facts(
            &conn,
            CommandId(Uuid::from_u128(9)),
            None,
            None,
            Wall::from_unix_seconds(NOW + 3599),
        )
        .unwrap();
        assert_eq!(
            (facts.known, facts.open, facts.reboots, facts.rows),
            (true, 3, 3, 3)
        );
    }

    #[test]
    fn only_what_has_ended_and_expired_a_day_ago_is_forgotten() {
        let (_dir, conn, run) = testing::store();
        let rejected = Arrival {
            rejected: Some(("args", "x".into())),
            ..arrival()
        };
        insert(&conn, &run, &opened(1, NOW), &rejected).unwrap();
        insert(&conn, &run, &opened(2, NOW + 9), &rejected).unwrap();
        insert(&conn, &run, &opened(3, NOW), &arrival()).unwrap();
        let day = Wall::from_unix_seconds(NOW + REMEMBERED_S);
        assert_eq!(forget(&conn, day).unwrap(), 0);
        let later = Wall::from_unix_seconds(NOW + REMEMBERED_S + 1);
        assert_eq!(forget(&conn, later).unwrap(), 1);
        let left: Vec<i64> = list(&conn, 9).unwrap().iter().map(|l| l.n).collect();
        assert!(left.contains(&2) && left.contains(&3));
    }
}
