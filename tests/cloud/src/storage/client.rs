//! The cloud's own requests to the storage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use instant_xml::FromXml;
use jiff::Timestamp;
use reqwest::{Method, Response};
use ring::digest::{Context, SHA256};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rusty_s3::S3Action;
use rusty_s3::actions::CreateMultipartUpload;
use url::Url;

use super::{Storage, StorageError};
use crate::secret::hex;

/// Life of an address that the cloud uses itself.
const OWN_LIFE: Duration = Duration::from_secs(900);
/// Longest time of a request that moves no object.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Longest silence while an object is read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer of XML.
const MAX_XML: usize = 2 * 1024 * 1024;

/// A part as the storage lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Bytes.
    pub size: u64,
    /// Its entity tag, where the storage says it.
    pub etag: Option<String>,
}

/// An object that was read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// Bytes.
    pub size: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

/// The members of a list of parts that every service sends; some leave the others out.
#[derive(FromXml)]
#[xml(
    rename = "ListPartsResult",
    ns("http://s3.amazonaws.com/doc/2006-03-01/")
)]
struct ListedParts {
    parts: Vec<ListedPart>,
}

#[derive(FromXml)]
#[xml(rename = "Part", ns("http://s3.amazonaws.com/doc/2006-03-01/"))]
struct ListedPart {
    #[xml(rename = "PartNumber")]
    number: u16,
    #[xml(rename = "Size")]
    size: u64,
    #[xml(rename = "ETag")]
    etag: Option<String>,
}

/// A client that trusts the system's authorities and one more, follows nobody, and ends in bounded time where its
/// requests say when.
///
/// # Errors
/// `Settings` for a certificate that is none.
pub fn http(ca_pem: Option<&str>) -> Result<reqwest::Client, StorageError> {
    let wrong = |what: &str| StorageError::Settings(what.to_owned());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // One that rustls does not take is one that nobody's storage has.
        let _added = roots.add(certificate);
    }
    for certificate in CertificateDer::pem_slice_iter(ca_pem.unwrap_or_default().as_bytes()) {
        let certificate = certificate.map_err(|_| wrong("the authority is not PEM"))?;
        roots
            .add(certificate)
            .map_err(|_| wrong("the authority is not usable"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| wrong("TLS is not usable"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(READ_TIMEOUT)
        .build()
        .map_err(StorageError::Network)
}

impl Storage {
    /// Makes the bucket when it is not there.
    ///
    /// # Errors
    /// When the storage refuses for another reason than that it is there.
    pub async fn ensure_bucket(&self) -> Result<(), StorageError> {
        let look = self.own.head_bucket(Some(&self.credentials));
        if self
            .ask(Method::HEAD, &self.sign(&look), None)
            .await
            .is_ok()
        {
            return Ok(());
        }
        let make = self.own.create_bucket(&self.credentials);
        match self.ask(Method::PUT, &self.sign(&make), None).await {
            Err(StorageError::Refused { code, .. })
                if code == "BucketAlreadyOwnedByYou" || code == "BucketAlreadyExists" =>
            {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Begins a multipart upload; returns the storage's id of it.
    ///
    /// # Errors
    /// When the storage refuses or does not answer.
    pub async fn begin(&self, key: &str, content_type: &str) -> Result<String, StorageError> {
        let mut action = self
            .own
            .create_multipart_upload(Some(&self.credentials), key);
        action.headers_mut().insert("content-type", content_type);
        let url = self.sign(&action);
        let request = self
            .http
            .post(url)
            .header("content-type", content_type)
            .timeout(TIMEOUT);
        let text = text(checked(request.send().await).await?).await?;
        let begun = CreateMultipartUpload::parse_response(&text);
        Ok(begun
            .map_err(|_| StorageError::Answer)?
            .upload_id()
            .to_owned())
    }

    /// The parts that the storage has; none when it no longer knows the upload.
    ///
    /// # Errors
    /// When the storage refuses or does not answer.
    pub async fn parts(
        &self,
        key: &str,
        upload_id: &str,
    ) -> Result<Option<BTreeMap<u16, Part>>, StorageError> {
        // At most 1,000 in one answer; `upload::plan` never makes more.
        let action = self.own.list_parts(Some(&self.credentials), key, upload_id);
        let text = match self.ask(Method::GET, &self.sign(&action), None).await {
            Ok(response) => text(response).await?,
            Err(StorageError::Refused { status: 404, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let listed: ListedParts = instant_xml::from_str(&text).map_err(|_| StorageError::Answer)?;
        let part = |part: ListedPart| {
            let (size, etag) = (part.size, part.etag.filter(|etag| !etag.is_empty()));
            (part.number, Part { size, etag })
        };
        Ok(Some(listed.parts.into_iter().map(part).collect()))
    }

    /// Makes the object of its parts; `etags` in their order, from part 1.
    ///
    /// # Errors
    /// When the storage refuses or does not answer: the object may be there all the same.
    pub async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        etags: &[String],
    ) -> Result<(), StorageError> {
        let action = self.own.complete_multipart_upload(
            Some(&self.credentials),
            key,
            upload_id,
            etags.iter().map(String::as_str),
        );
        let url = self.sign(&action);
        let body = action.body();
        let text = text(self.ask(Method::POST, &url, Some(body)).await?).await?;
        // S3 may answer 200 and then say why not.
        match error_code(&text) {
            Some(code) => Err(StorageError::Refused { status: 200, code }),
            None => Ok(()),
        }
    }

    /// Gives a multipart upload up; one that is gone is given up.
    ///
    /// # Errors
    /// When the storage does not answer.
    pub async fn abort(&self, key: &str, upload_id: &str) -> Result<(), StorageError> {
        let action = self
            .own
            .abort_multipart_upload(Some(&self.credentials), key, upload_id);
        match self.ask(Method::DELETE, &self.sign(&action), None).await {
            Ok(_)
            | Err(StorageError::Refused {
                status: 403 | 404, ..
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The size of an object; none when there is none.
    ///
    /// # Errors
    /// When the storage refuses or does not answer.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, StorageError> {
        let action = self.own.head_object(Some(&self.credentials), key);
        let response = match self.ask(Method::HEAD, &self.sign(&action), None).await {
            Ok(response) => response,
            Err(StorageError::Refused { status: 404, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = response
            .headers()
            .get(reqwest::header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        length.map(Some).ok_or(StorageError::Answer)
    }

    /// Reads an object of at most `limit` bytes and hashes it; none when there is none.
    ///
    /// # Errors
    /// When the storage refuses, falls silent, or gives more.
    pub async fn hash(&self, key: &str, limit: u64) -> Result<Option<Hashed>, StorageError> {
        let action = self.own.get_object(Some(&self.credentials), key);
        let answer = checked(self.http.get(self.sign(&action)).send().await).await;
        let mut response = match answer {
            Ok(response) => response,
            Err(StorageError::Refused { status: 404, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (mut size, mut context) = (0_u64, Context::new(&SHA256));
        while let Some(chunk) = response.chunk().await.map_err(StorageError::Network)? {
            size = size.saturating_add(chunk.len() as u64);
            if size > limit {
                return Err(StorageError::Answer);
            }
            context.update(&chunk);
        }
        let sha256 = hex(context.finish().as_ref());
        Ok(Some(Hashed { size, sha256 }))
    }

    /// Deletes an object; one that is not there is deleted.
    ///
    /// # Errors
    /// When the storage refuses or does not answer.
    pub async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let action = self.own.delete_object(Some(&self.credentials), key);
        match self.ask(Method::DELETE, &self.sign(&action), None).await {
            Ok(_) | Err(StorageError::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// By the machine's clock, not the cloud's: tests set that one wrong on purpose.
    fn sign<'a>(&self, action: &impl S3Action<'a>) -> Url {
        action.sign_with_time(OWN_LIFE, &Timestamp::now())
    }

    async fn ask(
        &self,
        method: Method,
        url: &Url,
        body: Option<String>,
    ) -> Result<Response, StorageError> {
        let mut request = self.http.request(method, url.clone()).timeout(TIMEOUT);
        if let Some(body) = body {
            request = request.body(body);
        }
        checked(request.send().await).await
    }
}

/// An answer that is a success.
async fn checked(sent: reqwest::Result<Response>) -> Result<Response, StorageError> {
    let response = sent.map_err(|error| StorageError::Network(error.without_url()))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let code = text(response).await.ok().and_then(|text| error_code(&text));
    Err(StorageError::Refused {
        status: status.as_u16(),
        code: code.unwrap_or_default(),
    })
}

async fn text(mut response: Response) -> Result<String, StorageError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(StorageError::Network)? {
        if bytes.len() + chunk.len() > MAX_XML {
            return Err(StorageError::Answer);
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| StorageError::Answer)
}

/// The word of an `<Error>`, at most 64 characters; services disagree about its name space.
fn error_code(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("<Error")?;
    let (_, rest) = rest.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_word = code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    is_word.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_parts_is_read_whatever_a_service_leaves_out() {
        let text = r#"<?xml version="1.0"?><ListPartsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
            <Bucket>b</Bucket><Part><LastModified>2026-11-21T02:00:00Z</LastModified><PartNumber>2</PartNumber>
            <Size>5</Size></Part><Part><ETag>"e1"</ETag><PartNumber>1</PartNumber><Size>7</Size></Part></ListPartsResult>"#;
        let listed: ListedParts = instant_xml::from_str(text).unwrap();
        let seen: Vec<_> = listed
            .parts
            .iter()
            .map(|part| (part.number, part.size, part.etag.as_deref()))
            .collect();
        assert_eq!(seen, [(2, 5, None), (1, 7, Some("\"e1\""))]);
    }

    #[test]
    fn the_word_of_an_error_is_found_and_nothing_else() {
        let error = "<?xml?><Error><Code>NoSuchUpload</Code><Message>x</Message></Error>";
        assert_eq!(error_code(error).as_deref(), Some("NoSuchUpload"));
        for none in ["", "<ok/>", "<Error/>", "<Error><Code>a b</Code></Error>"] {
            assert_eq!(error_code(none), None, "{none}");
        }
    }
}
