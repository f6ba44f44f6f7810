//! Runs what needs the cloud while the device has keys: begins it when they come, ends it when they go, and anew when they
//! are others. Everything else of the agent goes on meanwhile; records wait in the outbox.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cloud::Client;

/// The way to the cloud with the keys that the device has now; nothing while it has no owner. A rotated key reaches the
/// client itself.
pub type Clients = watch::Receiver<Option<Client>>;

/// Runs `work` with the client that there is, until `stop`. Where the keys go, its token is cancelled and it gets
/// `farewell`, then it is dropped wherever it is. `idle` is told when there are no keys.
pub async fn while_claimed<W: Future<Output = ()>>(
    mut clients: Clients,
    stop: CancellationToken,
    farewell: Duration,
    mut work: impl FnMut(Client, CancellationToken) -> W,
    idle: impl Fn(),
) {
    while !stop.is_cancelled() {
        let client = clients.borrow_and_update().clone();
        if let Some(client) = client {
            let ends = stop.child_token();
            let running = work(client, ends.clone());
            tokio::pin!(running);
            tokio::select! {
                biased;
                () = &mut running => {}
                Ok(()) = clients.changed() => {
                    ends.cancel();
                    // What is not said by then is not said.
                    let _ = tokio::time::timeout(farewell, running).await;
                    continue;
                }
            }
        } else {
            idle();
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            Ok(()) = clients.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::cloud::client::Transport as _;
    use crate::cloud::{Credentials, tls};
    use crate::time::Wall;

    fn client(edge_id: &str) -> Client {
        let text = format!(
            r#"{{"v":1,"edge_id":"{edge_id}","edge_key":"ek_1","api_base":"https://cloud.example",
                "edge_secret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}"#
        );
        let keys = Credentials::parse(&text).unwrap();
        let tls = tls::client_config(None, Arc::new(|| Wall(0))).unwrap();
        Client::new(keys, tls, Duration::from_secs(1)).unwrap()
    }

    #[tokio::test]
    async fn work_follows_the_keys_and_ends_with_the_agent() {
        let (keys, clients) = watch::channel(None);
        let (told, mut tells) = watch::channel(Vec::<String>::new());
        let idle = Arc::new(AtomicUsize::new(0));
        let stop = CancellationToken::new();
        let work = move |client: Client, stop: CancellationToken| {
            let told = told.clone();
            async move {
                told.send_modify(|t| t.push(format!("{} begins", client.edge_id())));
                stop.cancelled().await;
                told.send_modify(|t| t.push(format!("{} ends", client.edge_id())));
            }
        };
        let count = Arc::clone(&idle);
        let task = while_claimed(
            clients,
            stop.clone(),
            Duration::from_secs(5),
            work,
            move || {
                count.fetch_add(1, SeqCst);
            },
        );
        let steps = async {
            let mut until = async |last: &str| {
                let seen = tells
                    .wait_for(|t| t.last().is_some_and(|l| l == last))
                    .await;
                seen.unwrap().len()
            };
            keys.send_replace(Some(client("e-a")));
            until("e-a begins").await;
            keys.send_replace(Some(client("e-b")));
            assert_eq!(until("e-b begins").await, 3);
            keys.send_replace(None);
            until("e-b ends").await;
            keys.send_replace(Some(client("e-c")));
            until("e-c begins").await;
            stop.cancel();
            assert_eq!(until("e-c ends").await, 6);
        };
        tokio::join!(task, steps);
        assert!(idle.load(SeqCst) >= 1);
    }

    #[tokio::test]
    async fn what_does_not_end_is_dropped() {
        let (keys, clients) = watch::channel(Some(client("e-a")));
        let begun = Arc::new(Mutex::new(Vec::new()));
        let (stop, seen) = (CancellationToken::new(), Arc::clone(&begun));
        let ends = stop.clone();
        let work = move |client: Client, _: CancellationToken| {
            seen.lock().unwrap().push(client.edge_id().to_owned());
            let last = client.edge_id() == "e-b";
            let stop = ends.clone();
            async move {
                if last {
                    stop.cancel();
                } else {
                    std::future::pending().await
                }
            }
        };
        let task = while_claimed(clients, stop, Duration::ZERO, work, || {});
        tokio::join!(task, async {
            tokio::task::yield_now().await;
            keys.send_replace(Some(client("e-b")));
        });
        assert_eq!(*begun.lock().unwrap(), ["e-a", "e-b"]);
    }
}
