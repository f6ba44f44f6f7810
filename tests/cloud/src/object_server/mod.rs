//! A real S3-compatible server (s3s-fs) for tests and the demo: TLS on loopback, one pair of keys, files in
//! a directory. It checks signatures and their expiry; every request first passes the fault layer.
//!
//! What differs from Amazon's: `ListParts` names no entity tags and knows no end of an upload, a PUT with a
//! wrong hash is refused after it was written, and nobody checks who may do what. Not for production.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::task::JoinHandle;

use crate::faults::cut::{Cut, CutAcceptor};
use crate::faults::storage::{StorageFaults, What};
use crate::secret::{SecretError, hex, random, random_base64url};
use crate::server::{ServerError, Tls, tls_config};
use crate::storage::Settings;

/// How long requests may take to finish at the end.
const GRACE: Duration = Duration::from_secs(2);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ObjectServerError {
    /// The socket or the certificate is not usable.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The directory is not usable.
    #[error("cannot keep objects in {0}")]
    Directory(PathBuf, #[source] std::io::Error),
    /// s3s-fs does not take the directory.
    #[error("cannot keep objects: {0}")]
    Files(String),
    /// No keys could be made.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// A running server; it ends when it is dropped.
pub struct ObjectServer {
    /// Where it listens.
    pub address: SocketAddr,
    directory: PathBuf,
    access_key: String,
    secret_key: String,
    faults: StorageFaults,
    handle: Handle<SocketAddr>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl std::fmt::Debug for ObjectServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectServer")
            .field("address", &self.address)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Served {
    service: S3Service,
    faults: StorageFaults,
}

impl ObjectServer {
    /// Serves the objects of a directory, which is made when it is not there; its keys are those of the last time.
    /// Port 0 picks one.
    ///
    /// # Errors
    /// When the socket, the certificate or the directory is not usable.
    pub fn start(
        directory: &Path,
        listen: SocketAddr,
        tls: &Tls,
    ) -> Result<Self, ObjectServerError> {
        let unusable = |error| ObjectServerError::Directory(directory.to_owned(), error);
        std::fs::create_dir_all(directory).map_err(unusable)?;
        // Relative names would be taken from wherever the process is later.
        let directory = directory.canonicalize().map_err(unusable)?;
        let (access_key, secret_key) = keys(&directory)?;
        let directory = directory.join("objects");
        std::fs::create_dir_all(&directory).map_err(unusable)?;
        let files = s3s_fs::FileSystem::new(&directory)
            .map_err(|error| ObjectServerError::Files(format!("{error:?}")))?;
        let mut builder = S3ServiceBuilder::new(files);
        let auth = s3s::auth::SimpleAuth::from_single(access_key.clone(), secret_key.clone());
        builder.set_auth(auth);
        let faults = StorageFaults::default();
        let served = Served {
            service: builder.build(),
            faults: faults.clone(),
        };
        let router: Router = Router::new().fallback(serve).with_state(served);

        let unusable = |error| ServerError::Listen(listen, error);
        let listener = TcpListener::bind(listen).map_err(unusable)?;
        listener.set_nonblocking(true).map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        let config = RustlsConfig::from_config(Arc::new(tls_config(tls)?));
        let handle = Handle::new();
        let server = axum_server::from_tcp(listener)
            .map_err(unusable)?
            .handle(handle.clone())
            .acceptor(RustlsAcceptor::new(config).acceptor(CutAcceptor));
        let serving = tokio::spawn(server.serve(router.into_make_service()));
        Ok(Self {
            address,
            directory,
            access_key,
            secret_key,
            faults,
            handle,
            serving,
        })
    }

    /// What a cloud needs to use it, under this host name of the certificate.
    pub fn settings(&self, host: &str, ca_pem: &str) -> Settings {
        let endpoint = format!("https://{host}:{}", self.address.port());
        let mut settings = Settings::new(endpoint, &self.access_key, &self.secret_key);
        settings.ca_pem = Some(ca_pem.to_owned());
        settings
    }

    /// Where the objects are: `<bucket>/<key>`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The bytes of an object as they lie on the disk; none when there is none.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(&self, bucket: &str, key: &str) -> std::io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.directory.join(bucket).join(key)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The fault rules, and what was seen.
    pub fn faults(&self) -> &StorageFaults {
        &self.faults
    }

    /// Lets requests finish (2 s).
    pub async fn stop(mut self) {
        self.handle.graceful_shutdown(Some(GRACE));
        if let Ok(Err(error)) = (&mut self.serving).await {
            tracing::warn!(%error, "object server ended with an error");
        }
    }
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        self.handle.shutdown();
        self.serving.abort();
    }
}

/// The keys of a directory, made at the first time.
fn keys(directory: &Path) -> Result<(String, String), ObjectServerError> {
    let path = directory.join("keys");
    let unusable = |error| ObjectServerError::Directory(path.clone(), error);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let pair = text.trim().split_once('\n');
            let pair = pair.map(|(access, secret)| (access.to_owned(), secret.to_owned()));
            pair.ok_or_else(|| unusable(std::io::ErrorKind::InvalidData.into()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let access = format!("AK{}", hex(&random::<9>()?).to_uppercase());
            let secret = random_base64url::<30>()?;
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(unusable)?;
            writeln!(file, "{access}\n{secret}").map_err(unusable)?;
            Ok((access, secret))
        }
        Err(error) => Err(unusable(error)),
    }
}

async fn serve(
    State(served): State<Served>,
    Extension(cut): Extension<Cut>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let noted = served.faults.begin(&parts);
    let body = match noted.instead(body, &cut).await {
        Ok(body) => body,
        Err(response) => {
            if !cut.is_cut() {
                noted.answered(response.status());
            }
            return response;
        }
    };
    let request = Request::from_parts(parts, s3s::Body::http_body_unsync(body));
    let response = match served.service.call(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => {
            tracing::warn!(?error, "object server failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    };
    if noted.fault == Some(What::CutAnswer) {
        cut.cut();
    }
    if !cut.is_cut() {
        noted.answered(response.status());
    }
    response
}
