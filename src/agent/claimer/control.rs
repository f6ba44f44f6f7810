//! The door for people at this machine: a Unix socket in the state directory, 0600, so that whoever may open it may
//! claim and unclaim the device. One line of JSON asks, lines of JSON answer; the first says whether it is done, for a
//! claim each further one how it stands, until it is claimed or the window is closed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{ClaimStatus, Handle, Refused};
use crate::agent::wipe::Wipe;
use crate::wire::claim::ClaimCode;

/// File name of the socket in the state directory.
pub const SOCKET_NAME: &str = "control.sock";
const MAX_LINE: u64 = 4096;
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers that are under way when the agent ends.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// People at one machine; one more waits.
const CONNECTIONS: usize = 8;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Ask {
    /// Open a window, or follow the one that is open.
    Claim { code: Option<String> },
    /// Remove the keys, or everything.
    Unclaim { wipe: Wipe },
}

/// Serves until `stop`.
///
/// # Errors
/// The socket cannot be made.
pub async fn serve(dir: &Path, handle: Handle, stop: CancellationToken) -> std::io::Result<()> {
    let path = dir.join(SOCKET_NAME);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let mut people = JoinSet::new();
    loop {
        let room = people.len() < CONNECTIONS;
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = people.join_next() => {}
            accepted = listener.accept(), if room => if let Ok((stream, _)) = accepted {
                people.spawn(talk(stream, handle.clone()));
            },
        }
    }
    let _ = std::fs::remove_file(&path);
    // Whoever asked for what ends the agent is told that it is done.
    let answered = async { while people.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_ANSWERS, answered).await;
    Ok(())
}

async fn talk(stream: UnixStream, handle: Handle) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(MAX_LINE));
    let asked = tokio::time::timeout(IO_TIMEOUT, reader.read_line(&mut line)).await;
    if asked.is_err() {
        return Ok(());
    }
    let ask = serde_json::from_str::<Ask>(&line);
    let done = match &ask {
        Err(_) => Err(Refused::new("malformed", "the request is not understood")),
        Ok(Ask::Unclaim {
            wipe: Wipe::Records,
        }) => Err(Refused::new("malformed", "wipe must be credentials or all")),
        Ok(Ask::Unclaim { wipe }) => handle.unclaim(*wipe).await,
        Ok(Ask::Claim { code }) => claim(&handle, code.as_deref()).await,
    };
    let follows = done.is_ok() && matches!(ask, Ok(Ask::Claim { .. }));
    send(
        &mut write,
        &serde_json::json!({ "ok": done.is_ok(), "refused": done.err() }),
    )
    .await?;
    if follows {
        follow(&handle, &mut write).await?;
    }
    write.shutdown().await
}

/// Sends each state until the claim is over.
async fn follow(handle: &Handle, write: &mut OwnedWriteHalf) -> std::io::Result<()> {
    let mut status = handle.status.clone();
    loop {
        let now = status.borrow_and_update().clone();
        send(write, &now).await?;
        let over = matches!(now.state.as_str(), "claimed" | "unclaimed");
        if over || status.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Opens a window; with a window open and no code, that one is followed.
async fn claim(handle: &Handle, code: Option<&str>) -> Result<(), Refused> {
    let code = code
        .map(ClaimCode::parse)
        .transpose()
        .map_err(|e| Refused::new("code", e))?;
    match handle.open(code).await {
        Err(e) if e.code == "open" || e.code == "confirming" => Ok(()),
        other => other,
    }
}

async fn send<T: Serialize>(
    write: &mut (impl tokio::io::AsyncWrite + Unpin),
    value: &T,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    tokio::time::timeout(IO_TIMEOUT, write.write_all(&line))
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

/// An answer that goes on.
pub struct Following(Lines<BufReader<OwnedReadHalf>>);

impl Following {
    /// The next state; `None` at the end.
    ///
    /// # Errors
    /// The agent went away, or sent nonsense.
    pub async fn next(&mut self) -> std::io::Result<Option<ClaimStatus>> {
        let line = self.0.next_line().await?;
        line.map(|l| serde_json::from_str(&l).map_err(std::io::Error::other))
            .transpose()
    }
}

#[derive(Deserialize)]
struct First {
    refused: Option<Refused>,
}

/// Asks a running agent. `None`: none runs with this state directory.
///
/// # Errors
/// The agent cannot be talked to; inside, what it refuses.
pub async fn ask(dir: &Path, ask: &Ask) -> std::io::Result<Option<Result<Following, Refused>>> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let stream = match UnixStream::connect(dir.join(SOCKET_NAME)).await {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), NotFound | ConnectionRefused) => return Ok(None),
        Err(e) => return Err(e),
    };
    let (read, mut write) = stream.into_split();
    send(&mut write, ask).await?;
    let mut lines = BufReader::new(read).lines();
    // The half that writes may go: everything is asked.
    let first = lines.next_line().await?.unwrap_or_default();
    let first: First = serde_json::from_str(&first).map_err(std::io::Error::other)?;
    Ok(Some(match first.refused {
        Some(refused) => Err(refused),
        None => Ok(Following(lines)),
    }))
}
