//! A device of our own, so that requests can be wrong in every way. Not the agent's code: it signs by
//! the letter of section 3.1.

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use ring::{digest, hmac};
use sentrycam_cloud::credentials::Credentials;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// A device with its connection.
#[derive(Clone)]
pub struct Device {
    pub credentials: Credentials,
    client: reqwest::Client,
    pub epoch: Uuid,
}

/// What differs from a right request.
#[derive(Clone)]
pub struct Wrong {
    pub method: &'static str,
    pub target: String,
    pub body: Vec<u8>,
    pub created: i64,
    pub nonce: String,
    pub keyid: String,
    pub secret: Vec<u8>,
    pub authority: String,
    pub digest: Option<String>,
    pub gzip: bool,
    pub idempotency_key: Option<String>,
    pub tag: &'static str,
    pub alg: &'static str,
    pub label: &'static str,
    pub leave_out: Option<&'static str>,
    pub content_type: &'static str,
    /// Headers put on after signing.
    pub extra: Vec<(&'static str, String)>,
}

impl Wrong {
    /// For another attempt: with another nonce.
    pub fn again(mut self) -> Self {
        self.nonce = BASE64_URL_SAFE_NO_PAD.encode(Uuid::now_v7().as_bytes());
        self
    }
}

/// An answer with everything that matters.
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
    request_signature: String,
    method: &'static str,
    path: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The code of a problem.
    pub fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        problem["type"]
            .as_str()
            .unwrap()
            .strip_prefix("urn:sentrycam:problem:")
            .unwrap()
            .to_owned()
    }

    pub fn statuses(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        let answer = self.json();
        let results = answer["results"].as_array().unwrap();
        results
            .iter()
            .map(|result| result["status"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Whether the answer is signed for this very request (3.3).
    pub fn is_signed(&self, credentials: &Credentials) -> bool {
        let Some(params) = self.header("signature-input").strip_prefix("sig1=") else {
            return false;
        };
        let digest = digest::digest(&digest::SHA256, &self.body);
        if self.header("content-digest") != format!("sha-256=:{}:", BASE64_STANDARD.encode(digest))
        {
            return false;
        }
        let base = format!(
            "\"@status\": {}\n\"content-type\": {}\n\"content-digest\": {}\n\"date\": {}\n\
             \"@method\";req: {}\n\"@path\";req: {}\n\"signature\";req;key=\"sig1\": {}\n\
             \"@signature-params\": {params}",
            self.status,
            self.header("content-type"),
            self.header("content-digest"),
            self.header("date"),
            self.method,
            self.path,
            self.request_signature,
        );
        let mac = self
            .header("signature")
            .strip_prefix("sig1=:")
            .unwrap()
            .trim_end_matches(':');
        let key = hmac::Key::new(hmac::HMAC_SHA256, credentials.edge_secret.expose());
        hmac::verify(&key, base.as_bytes(), &BASE64_STANDARD.decode(mac).unwrap()).is_ok()
            && params.contains("tag=\"sentrycam-resp\"")
    }
}

impl Device {
    pub async fn new(cloud: &Cloud, name: &str) -> Self {
        Self::with(cloud, cloud.create_device(name).await.unwrap())
    }

    pub fn with(cloud: &Cloud, credentials: Credentials) -> Self {
        Self::trusting(cloud.ca_pem(), credentials)
    }

    pub fn trusting(ca_pem: &str, credentials: Credentials) -> Self {
        let client = client_trusting(ca_pem);
        Self {
            credentials,
            client,
            epoch: Uuid::now_v7(),
        }
    }

    /// A right request, to be made wrong.
    pub fn request(&self, method: &'static str, target: &str, body: Vec<u8>) -> Wrong {
        let authority = self
            .credentials
            .api_base
            .strip_prefix("https://")
            .unwrap()
            .to_owned();
        Wrong {
            method,
            target: target.to_owned(),
            body,
            created: jiff::Timestamp::now().as_second(),
            nonce: BASE64_URL_SAFE_NO_PAD.encode(Uuid::now_v7().as_bytes()),
            keyid: self.credentials.edge_key.clone(),
            secret: self.credentials.edge_secret.expose().to_vec(),
            authority,
            digest: None,
            gzip: false,
            idempotency_key: None,
            tag: "sentrycam-req",
            alg: "hmac-sha256",
            label: "sig1",
            leave_out: None,
            content_type: "application/cloudevents-batch+json",
            extra: Vec::new(),
        }
    }

    pub fn batch(&self, records: &[Value]) -> Wrong {
        self.request(
            "POST",
            "/edge/v1/events",
            serde_json::to_vec(records).unwrap(),
        )
    }

    pub async fn send(&self, wrong: Wrong) -> Answer {
        self.try_send(wrong).await.unwrap()
    }

    pub async fn events(&self, records: &[Value]) -> Answer {
        self.send(self.batch(records)).await
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send(self.request("GET", target, Vec::new())).await
    }

    pub async fn try_send(&self, wrong: Wrong) -> reqwest::Result<Answer> {
        let (path, query) = wrong.target.split_once('?').unwrap_or((&wrong.target, ""));
        let digest = wrong.digest.clone().unwrap_or_else(|| {
            let digest = digest::digest(&digest::SHA256, &wrong.body);
            format!("sha-256=:{}:", BASE64_STANDARD.encode(digest))
        });
        let key = wrong
            .idempotency_key
            .as_ref()
            .map(|key| format!("\"{key}\""));
        let mut components = vec![
            ("@method", wrong.method.to_owned()),
            ("@authority", wrong.authority.clone()),
            ("@path", path.to_owned()),
            ("@query", format!("?{query}")),
        ];
        let mut headers = Vec::new();
        if !wrong.body.is_empty() {
            headers.push(("content-type", wrong.content_type.to_owned()));
            headers.push(("content-digest", digest));
        }
        if wrong.gzip {
            headers.push(("content-encoding", "gzip".to_owned()));
        }
        if let Some(key) = key {
            headers.push(("idempotency-key", key));
        }
        components.extend(headers.clone());
        components.retain(|(name, _)| Some(*name) != wrong.leave_out);
        let names: Vec<String> = components
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        let params = format!(
            "({});created={};nonce=\"{}\";alg=\"{}\";keyid=\"{}\";tag=\"{}\"",
            names.join(" "),
            wrong.created,
            wrong.nonce,
            wrong.alg,
            wrong.keyid,
            wrong.tag
        );
        let mut base: String = components
            .iter()
            .map(|(name, value)| format!("\"{name}\": {value}\n"))
            .collect();
        base.push_str(&format!("\"@signature-params\": {params}"));
        let mac = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, &wrong.secret),
            base.as_bytes(),
        );
        let signature = format!(":{}:", BASE64_STANDARD.encode(mac));

        let url = format!("{}{}", self.credentials.api_base, wrong.target);
        let mut request = self
            .client
            .request(wrong.method.parse().unwrap(), url)
            .header("signature-input", format!("{}={params}", wrong.label))
            .header("signature", format!("{}={signature}", wrong.label))
            .body(wrong.body.clone());
        for (name, value) in headers.into_iter().chain(wrong.extra.clone()) {
            request = request.header(name, value);
        }
        let response = request.send().await?;
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?.to_vec(),
            request_signature: signature,
            method: wrong.method,
            path: path.to_owned(),
        })
    }

    /// A record of this device.
    pub fn record(&self, kind: &str, sequence: u64, data: Value) -> Value {
        json!({
            "specversion": "1.0",
            "id": Uuid::now_v7(),
            "source": format!("urn:sentrycam:edge:{}", self.credentials.edge_id),
            "type": format!("io.sentrycam.{kind}.v1"),
            "subject": "cam-1",
            "time": jiff::Timestamp::now().to_string(),
            "timequality": "synced",
            "sequence": format!("{sequence:020}"),
            "epoch": self.epoch,
            "bootid": "019af5d8-0000-7000-8000-0000000000bb",
            "severity": "info",
            "datacontenttype": "application/json",
            "data": data,
        })
    }
}

/// An HTTPS client that trusts this cloud only.
pub fn client(cloud: &Cloud) -> reqwest::Client {
    client_trusting(cloud.ca_pem())
}

fn client_trusting(ca_pem: &str) -> reqwest::Client {
    client_from(ca_pem, "127.0.0.1")
}

/// The same from another address of the loopback network.
pub fn client_from(ca_pem: &str, address: &str) -> reqwest::Client {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .local_address(address.parse::<std::net::IpAddr>().unwrap())
        .build()
        .unwrap()
}
