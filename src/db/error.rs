//! What a caller of the database can do about a failure.

use crate::model::Retry;

/// A failed database job.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// The disk is full or a limit is reached: room has to be made, then try again.
    #[error("the database has no room: {0}")]
    Full(String),
    /// The medium answers with errors or is read-only.
    #[error("the database cannot be written: {0}")]
    Io(String),
    /// The file is damaged: restart, it will be put aside and salvaged.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// The job itself is wrong (a constraint refused it); trying again changes nothing.
    #[error("the database refused the change: {0}")]
    Refused(String),
    /// The database task has ended.
    #[error("the database is closed")]
    Closed,
}

impl DbError {
    /// The retry class.
    pub fn retry(&self) -> Retry {
        match self {
            DbError::Full(_) | DbError::Io(_) => Retry::Later,
            DbError::Refused(_) => Retry::Never,
            DbError::Corrupt(_) | DbError::Closed => Retry::Fatal,
        }
    }
}

impl From<rusqlite::Error> for DbError {
    fn from(e: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as C;
        let text = e.to_string();
        match e.sqlite_error_code() {
            Some(C::DiskFull) => DbError::Full(text),
            Some(C::DatabaseCorrupt | C::NotADatabase) => DbError::Corrupt(text),
            Some(
                C::SystemIoFailure
                | C::ReadOnly
                | C::CannotOpen
                | C::DatabaseBusy
                | C::DatabaseLocked,
            ) => DbError::Io(text),
            _ => DbError::Refused(text),
        }
    }
}
