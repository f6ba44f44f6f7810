//! Do rows and files agree, and what is to be done where they do not. Neither is ever right by itself: what plays is
//! kept, what does not is said to be lost.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a row says of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// It is being written, or a crash cut that short.
    Growing,
    /// It is there, with this length.
    There(u64),
    /// It is not there: lost.
    Lost,
    /// It is not there: deleted, or about to be.
    Deleted,
}

/// What is found on the disk under an id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Files {
    /// Length of the closed file.
    pub closed: Option<u64>,
    /// Length of the one that was not finished.
    pub part: Option<u64>,
}

/// Where they disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// A row says that a file is there; it is not.
    RowWithoutFile,
    /// The file is not as long as its row says.
    OtherLength,
    /// A file that no row knows.
    FileWithoutRow,
    /// A row says that it is lost; it is there.
    FoundAgain,
    /// It was deleted, and its bytes are still there.
    NotYetRemoved,
    /// A rest that was never finished, beside a row that does not wait for it.
    StrayPart,
    /// A clip was left open by a crash: the agent's next start saves what is in it.
    LeftOpen,
}

impl Finding {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Finding::RowWithoutFile => "row without a file",
            Finding::OtherLength => "file is not as long as its row says",
            Finding::FileWithoutRow => "file without a row",
            Finding::FoundAgain => "row says lost, the file is there",
            Finding::NotYetRemoved => "deleted, but its file is still there",
            Finding::StrayPart => "unfinished rest of a clip",
            Finding::LeftOpen => "left open by a crash; the agent's next start saves it",
        }
    }

    /// Something is wrong; what the next start puts in order by itself is not.
    pub fn is_fault(self) -> bool {
        !matches!(self, Finding::LeftOpen | Finding::NotYetRemoved)
    }
}

/// Compares both ways; `agent_runs`: what grows then belongs to it.
pub fn compare<K: Ord + Clone>(
    rows: &BTreeMap<K, Says>,
    files: &BTreeMap<K, Files>,
    agent_runs: bool,
) -> Vec<(K, Finding)> {
    let none = Files::default();
    let mut found = Vec::new();
    for (key, says) in rows {
        let files = files.get(key).unwrap_or(&none);
        let finding = match (says, files.closed) {
            (Says::Growing, _) => (!agent_runs).then_some(Finding::LeftOpen),
            (Says::There(length), Some(there)) if *length == there => {
                files.part.map(|_| Finding::StrayPart)
            }
            (Says::There(_), Some(_)) => Some(Finding::OtherLength),
            // A rest of it may still be saved.
            (Says::There(_), None) => Some(Finding::RowWithoutFile),
            (Says::Lost, None) if files.part.is_none() => None,
            (Says::Lost, _) => Some(Finding::FoundAgain),
            (Says::Deleted, closed) => {
                (closed.is_some() || files.part.is_some()).then_some(Finding::NotYetRemoved)
            }
        };
        found.extend(finding.map(|f| (key.clone(), f)));
    }
    for key in files.keys().filter(|key| !rows.contains_key(key)) {
        found.push((key.clone(), Finding::FileWithoutRow));
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(closed: Option<u64>, part: Option<u64>) -> Files {
        Files { closed, part }
    }

    #[test]
    fn every_pair_of_row_and_file_has_one_answer() {
        use Finding::*;
        let (there, part) = (file(Some(5), None), file(None, Some(3)));
        for (says, files, finding) in [
            (Some(Says::There(5)), there, None),
            (Some(Says::There(5)), file(Some(4), None), Some(OtherLength)),
            (
                Some(Says::There(5)),
                file(Some(5), Some(1)),
                Some(StrayPart),
            ),
            (Some(Says::There(5)), file(None, None), Some(RowWithoutFile)),
            (Some(Says::There(5)), part, Some(RowWithoutFile)),
            (Some(Says::Growing), part, Some(LeftOpen)),
            (Some(Says::Growing), file(None, None), Some(LeftOpen)),
            (Some(Says::Lost), file(None, None), None),
            (Some(Says::Lost), there, Some(FoundAgain)),
            (Some(Says::Lost), part, Some(FoundAgain)),
            (Some(Says::Deleted), file(None, None), None),
            (Some(Says::Deleted), there, Some(NotYetRemoved)),
            (None, there, Some(FileWithoutRow)),
            (None, part, Some(FileWithoutRow)),
        ] {
            let rows: BTreeMap<u8, Says> = says.map(|s| (1, s)).into_iter().collect();
            let empty = files == Files::default();
            let files: BTreeMap<u8, Files> = (!empty).then_some((1, files)).into_iter().collect();
            let found = compare(&rows, &files, false);
            assert_eq!(
                found,
                finding.map(|f| (1, f)).into_iter().collect::<Vec<_>>(),
                "{says:?} {files:?}"
            );
        }
    }

    #[test]
    fn what_a_running_agent_writes_is_no_finding() {
        let rows = [(1, Says::Growing)].into();
        assert_eq!(compare(&rows, &[(1, file(None, Some(9)))].into(), true), []);
    }
}
