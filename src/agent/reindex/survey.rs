//! Compares rows and files both ways; changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::db::query::{self, FileRow};
use crate::db::retention::FileId;
use crate::db::{Connection, DbError};
use crate::recording::audit::{Files, Finding, Says, compare};
use crate::spool::{FileKind, Spool, SpoolError};

/// A file by camera and id.
pub type Key = (String, FileId);

/// What was compared.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Where rows and files disagree.
    pub findings: Vec<(Key, Finding)>,
    /// Rows whose files should be there.
    pub rows: usize,
    /// Clips and pictures that are there.
    pub files: usize,
    /// Names that the agent does not give; never touched.
    pub foreign: Vec<PathBuf>,
}

/// Compares both ways. Files are listed before rows are read: a row is older than its file.
///
/// # Errors
/// What disk or database say, in words.
pub fn survey(
    conn: impl FnOnce() -> Result<Option<Connection>, DbError>,
    spool: &Spool,
    agent_runs: bool,
) -> Result<Survey, String> {
    let found = match spool.check_mount().and_then(|()| spool.scan()) {
        Ok(found) => found,
        Err(SpoolError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Vec::new()
        }
        Err(e) => return Err(e.to_string()),
    };
    let mut survey = Survey::default();
    let mut files: BTreeMap<Key, Files> = BTreeMap::new();
    for file in found {
        let (Some(camera), Some(id)) = (file.camera, file.id) else {
            if file.kind == FileKind::Foreign {
                survey.foreign.push(file.path);
            }
            continue;
        };
        let id = match file.kind {
            FileKind::Picture => FileId::Picture(id.0),
            _ => FileId::Clip(id.0),
        };
        let files = files.entry((camera.to_string(), id)).or_default();
        match file.kind {
            FileKind::Part => files.part = Some(file.bytes),
            _ => files.closed = Some(file.bytes),
        }
    }
    survey.files = files.len();
    let rows = match conn().map_err(|e| e.to_string())? {
        Some(conn) => query::all_files(&conn).map_err(|e| e.to_string())?,
        None => Vec::new(),
    };
    let rows: BTreeMap<Key, Says> = rows.into_iter().map(says).collect();
    let there = |s: &&Says| matches!(s, Says::There(_) | Says::Growing);
    survey.rows = rows.values().filter(there).count();
    survey.findings = compare(&rows, &files, agent_runs);
    Ok(survey)
}

fn says(row: FileRow) -> (Key, Says) {
    let says = match row.state.as_str() {
        "recording" => Says::Growing,
        "kept" => Says::There(row.size_bytes.unwrap_or(0)),
        "deleted" => Says::Deleted,
        _ => Says::Lost,
    };
    ((row.camera, row.id), says)
}
