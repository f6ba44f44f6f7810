//! A box without credentials, and the person in front of it. It opens what the cloud seals with a foreign HPKE.

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use hpke::aead::AesGcm128;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, Serializable};
use ring::digest;
use sentrycam_cloud::credentials::Credentials;
use sentrycam_cloud::secret::{Secret, random};
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::device::{Answer, Device, client_from};

type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;

/// A box with its key in memory.
pub struct Blank {
    pub base: String,
    ca_pem: String,
    client: reqwest::Client,
    private: PrivateKey,
    pub public: [u8; 32],
    pub serial: String,
}

/// A window that it has opened.
#[derive(Clone)]
pub struct Window {
    pub id: Uuid,
    pub token: String,
    pub user_code: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub status: u16,
    pub body: Value,
    pub bytes: Vec<u8>,
    pub retry_after: Option<String>,
}

impl Said {
    /// Code of a problem, or empty.
    pub fn code(&self) -> &str {
        let kind = self.body["type"].as_str().unwrap_or_default();
        kind.strip_prefix("urn:sentrycam:problem:")
            .unwrap_or_default()
    }

    pub fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or_default()
    }
}

pub async fn said(request: reqwest::RequestBuilder) -> Said {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get("retry-after")
        .map(|v| v.to_str().unwrap().to_owned());
    let bytes = response.bytes().await.unwrap().to_vec();
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    Said {
        status,
        body,
        bytes,
        retry_after,
    }
}

impl Blank {
    pub fn new(cloud: &Cloud, serial: &str) -> Self {
        Self::at(cloud, serial, "127.0.0.1")
    }

    /// In another network.
    pub fn at(cloud: &Cloud, serial: &str, address: &str) -> Self {
        let (private, public) = X25519HkdfSha256::derive_keypair(&random::<32>().unwrap());
        Self {
            base: cloud.api_base(),
            ca_pem: cloud.ca_pem().to_owned(),
            client: client_from(cloud.ca_pem(), address),
            private,
            public: public.to_bytes().as_slice().try_into().unwrap(),
            serial: serial.to_owned(),
        }
    }

    pub fn message(&self) -> Value {
        json!({
            "v": 1, "kem_pk": BASE64_URL_SAFE_NO_PAD.encode(self.public), "mac": "b8:27:eb:00:00:01",
            "serial": self.serial, "model": "rpi4", "agent": "1.4.2", "methods": ["B", "K", "U"], "claim_code": null,
        })
    }

    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Said {
        let request = self
            .client
            .post(format!("{}{path}", self.base))
            .bearer_auth(token);
        said(
            request
                .header("content-type", "application/json")
                .body(body.to_string()),
        )
        .await
    }

    pub async fn open_with(&self, message: &Value) -> Said {
        self.post("/edge/v1/claims", "", message).await
    }

    pub async fn open(&self) -> Window {
        Window::of(&self.open_with(&self.message()).await)
    }

    pub async fn open_with_code(&self, code: &str) -> Said {
        let mut message = self.message();
        message["claim_code"] = json!(code);
        self.open_with(&message).await
    }

    pub async fn poll(&self, window: &Window) -> Said {
        let path = format!("/edge/v1/claims/{}/poll", window.id);
        self.post(&path, &window.token, &json!({})).await
    }

    pub async fn count(&self, window: &Window, challenge: &Value, count: u8) -> Said {
        let path = format!("/edge/v1/claims/{}/challenge", window.id);
        self.post(
            &path,
            &window.token,
            &json!({ "challenge_id": challenge, "count": count }),
        )
        .await
    }

    /// Opens a sealed message with this info.
    pub fn unseal(&self, info: &[u8], sealed: &Value) -> Option<Value> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(sealed.as_str()?).ok()?;
        let (enc, text) = sealed.split_at_checked(32)?;
        let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(enc).ok()?;
        let plain = hpke::single_shot_open::<AesGcm128, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.private,
            &enc,
            info,
            text,
            b"",
        );
        serde_json::from_slice(&plain.ok()?).ok()
    }

    pub fn info(&self, label: &str, claim: Option<Uuid>) -> Vec<u8> {
        let mut info = label.as_bytes().to_vec();
        info.push(0);
        info.extend(claim.iter().flat_map(|id| *id.as_bytes()));
        info.extend(digest::digest(&digest::SHA256, &self.public).as_ref());
        info
    }

    /// What a poll's 200 holds.
    pub fn opened(&self, window: &Window, said: &Said) -> Value {
        assert_eq!(said.status, 200, "{said:?}");
        let info = self.info("sentrycam/claim/v1", Some(window.id));
        self.unseal(&info, &said.body["sealed"])
            .expect("it does not open")
    }

    /// The device that these credentials make.
    pub fn device(&self, plain: &Value) -> Device {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let secret = BASE64_STANDARD.decode(text(&plain["edge_secret"])).unwrap();
        Device::trusting(
            &self.ca_pem,
            Credentials {
                edge_id: text(&plain["edge_id"]),
                edge_key: text(&plain["edge_key"]),
                edge_secret: Secret::new(secret.try_into().unwrap()),
                api_base: text(&plain["api_base"]),
                tenant_id: text(&plain["tenant"]["id"]).parse().unwrap(),
                tenant_name: text(&plain["tenant"]["name"]),
                device_name: text(&plain["device_name"]),
            },
        )
    }

    /// Polls until bound, opens, confirms.
    pub async fn finish(&self, window: &Window) -> Device {
        let device = self.device(&self.opened(window, &self.poll(window).await));
        let confirmed = confirm(&device, window).await;
        assert_eq!(
            confirmed.status,
            200,
            "{}",
            String::from_utf8_lossy(&confirmed.body)
        );
        assert!(confirmed.is_signed(&device.credentials));
        device
    }
}

pub async fn confirm(device: &Device, window: &Window) -> Answer {
    confirm_at(device, window, 0).await
}

/// Signed at another time.
pub async fn confirm_at(device: &Device, window: &Window, skew_s: i64) -> Answer {
    let target = format!("/edge/v1/claims/{}/confirm", window.id);
    let mut request = device.request("POST", &target, Vec::new());
    request.created += skew_s;
    device.send(request).await
}

impl Window {
    pub fn of(said: &Said) -> Self {
        assert_eq!(said.status, 201, "{said:?}");
        Self {
            id: said.body["claim_id"].as_str().unwrap().parse().unwrap(),
            token: said.body["claim_token"].as_str().unwrap().to_owned(),
            user_code: said.body["user_code"].as_str().unwrap().to_owned(),
        }
    }
}

/// A person with a key of an organization.
pub struct Person {
    base: String,
    client: reqwest::Client,
    key: String,
}

impl Person {
    pub async fn new(cloud: &Cloud) -> Self {
        Self::at(
            cloud,
            cloud.create_api_key("admin").await.unwrap(),
            "127.0.0.1",
        )
    }

    pub fn at(cloud: &Cloud, key: String, address: &str) -> Self {
        Self {
            base: cloud.api_base(),
            client: client_from(cloud.ca_pem(), address),
            key,
        }
    }

    /// Of a second organization.
    pub async fn of(cloud: &Cloud, organization: Uuid) -> Self {
        let db = cloud.owner();
        let made = cloud.on_cloud(async move {
            sentrycam_cloud::admin::create_api_key(&db, organization, "test", "admin").await
        });
        Self::at(cloud, made.await.unwrap().unwrap(), "127.0.0.1")
    }

    pub async fn get(&self, path: &str) -> Said {
        said(
            self.client
                .get(format!("{}/admin/v1/{path}", self.base))
                .bearer_auth(&self.key),
        )
        .await
    }

    pub async fn delete(&self, path: &str) -> Said {
        let url = format!("{}/admin/v1/{path}", self.base);
        said(self.client.delete(url).bearer_auth(&self.key)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Said {
        let request = self
            .client
            .post(format!("{}/admin/v1/{path}", self.base))
            .bearer_auth(&self.key);
        said(request.body(body.to_string())).await
    }

    pub async fn bind(&self, user_code: &str) -> Said {
        self.post(
            "claims/bind",
            json!({ "user_code": user_code, "device_name": "porch" }),
        )
        .await
    }

    pub async fn want(&self, window: &Window) -> Said {
        self.post(
            &format!("claims/{}/bind", window.id),
            json!({ "device_name": "porch" }),
        )
        .await
    }
}
