//! Names of the address rule (`wire::address`), resolved once, checked, and connected to as checked.
//!
//! [`Vetted`] is a resolver for reqwest: what it hands out is what the connection goes to, so between check and connection
//! no name is asked again. [`resolve`] is the same for whoever connects otherwise.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::model::Network;
use crate::wire::address::{Denied, MAX_ADDRESSES, vet};

/// A resolver that takes longer has no answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Resolves a name that [`judge`](crate::wire::address::judge) let pass, and checks every address of it.
///
/// # Errors
/// [`Denied::Unresolved`] (also after 10 s), [`Denied::Private`].
pub async fn resolve(
    host: &str,
    port: u16,
    allowed: &[Network],
) -> Result<Vec<SocketAddr>, Denied> {
    let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host, port))).await;
    let found = found
        .map_err(|_| Denied::Unresolved)?
        .map_err(|_| Denied::Unresolved)?;
    let found: Vec<IpAddr> = found.take(MAX_ADDRESSES + 1).map(|a| a.ip()).collect();
    let vetted = vet(&found, allowed)?;
    Ok(vetted
        .into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect())
}

/// The resolver of a client that talks to nobody else.
#[derive(Debug, Clone)]
pub(super) struct Vetted(pub(super) Arc<[Network]>);

impl Resolve for Vetted {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.0);
        Box::pin(async move {
            let found = resolve(name.as_str(), 0, &allowed).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_of_this_machine_counts_only_where_the_file_allows_it() {
        assert_eq!(resolve("localhost", 443, &[]).await, Err(Denied::Private));
        let allowed = ["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let found = resolve("localhost", 443, &allowed).await.unwrap();
        assert!(
            found
                .iter()
                .all(|a| a.ip().is_loopback() && a.port() == 443)
        );
        assert_eq!(
            resolve("none.invalid", 443, &allowed).await,
            Err(Denied::Unresolved)
        );
    }

    /// Not one packet goes to an address that is denied.
    #[tokio::test]
    async fn a_client_does_not_even_knock_at_a_denied_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let ask = |allowed: &[Network]| {
            let tls =
                crate::cloud::tls::client_config(None, Arc::new(|| crate::time::Wall(0))).unwrap();
            let client = reqwest::Client::builder()
                .tls_backend_preconfigured(tls.usual)
                .no_proxy()
                .dns_resolver(Arc::new(Vetted(allowed.into())))
                .timeout(Duration::from_millis(500))
                .build()
                .unwrap();
            async move {
                client
                    .get(format!("https://localhost:{port}/"))
                    .send()
                    .await
            }
        };
        let error = ask(&[]).await.unwrap_err();
        assert!(
            super::super::client::chain(&error).contains("not public"),
            "{error:?}"
        );
        assert!(listener.accept().is_err(), "a connection arrived");
        let _ = ask(&["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()]).await;
        assert!(
            listener.accept().is_ok(),
            "with leave, it would have arrived"
        );
    }
}
