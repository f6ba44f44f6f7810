//! Wakes the publisher when a transaction anywhere (this server, another, the command line) commits
//! something to publish: PostgreSQL's LISTEN on a connection of its own.

use std::future::poll_fn;
use std::time::Duration;

use tokio_postgres::{AsyncMessage, NoTls};

use super::Wake;
use crate::command::issue::CHANNEL;

/// Pause before listening again; the publisher's own period bridges it.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens for ever.
pub async fn run(database: String, wake: Wake) {
    loop {
        if let Err(error) = listen(&database, &wake).await {
            tracing::debug!(%error, "not listening to the database");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn listen(database: &str, wake: &Wake) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = tokio_postgres::connect(database, NoTls).await?;
    let heard = async {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(_) = message? {
                wake.now();
            }
        }
        Ok(())
    };
    let listening = async {
        client.batch_execute(&format!("listen {CHANNEL}")).await?;
        // What was committed before that.
        wake.now();
        std::future::pending().await
    };
    tokio::select! {
        ended = heard => ended,
        failed = listening => failed,
    }
}
