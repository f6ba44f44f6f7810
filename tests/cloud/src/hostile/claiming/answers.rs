//! Answers to the requests of a claim and of a rotation.

use super::texts::{Object, WRONG, quoted};
use super::{Asked, ClaimForge, HostileAnswer, Must, base64url, waiting};

pub(super) const JSON: &str = "application/json";
pub(super) const PROBLEM: &str = "application/problem+json";

/// Statuses at which a right body means nothing; those of the right answer are left out by the caller.
const STATUSES: [u16; 24] = [
    200, 201, 202, 203, 204, 205, 206, 226, 300, 301, 302, 303, 304, 307, 308, 401, 402, 404, 405,
    407, 418, 421, 451, 599,
];

pub(super) struct List {
    pub(super) all: Vec<HostileAnswer>,
    pub(super) asked: Asked,
}

fn word(asked: Asked) -> &'static str {
    match asked {
        Asked::Open => "open",
        Asked::Poll => "poll",
        Asked::Challenge => "challenge",
        Asked::Confirm => "confirm",
        Asked::Rotate => "rotate",
    }
}

impl List {
    pub(super) fn push(
        &mut self,
        must: Must,
        name: String,
        status: u16,
        content_type: &'static str,
        body: impl Into<Vec<u8>>,
    ) {
        self.all.push(HostileAnswer {
            name: format!("{}/{name}", word(self.asked)),
            asked: self.asked,
            must,
            status,
            content_type,
            headers: Vec::new(),
            body: body.into(),
        });
    }

    pub(super) fn refuse(
        &mut self,
        name: String,
        status: u16,
        content_type: &'static str,
        body: impl Into<Vec<u8>>,
    ) {
        self.push(Must::Refuse, name, status, content_type, body);
    }

    /// A right body at other statuses, as a page, and in every broken form.
    pub(super) fn around(&mut self, right: &[u16], good: &Object, unread: &[&str]) {
        for status in STATUSES.iter().filter(|status| !right.contains(status)) {
            self.refuse(format!("status/{status}"), *status, JSON, good.text());
        }
        let status = right.first().copied().unwrap_or(200);
        for (name, bytes) in good.forms() {
            let may = name == "form/deep"
                || unread
                    .iter()
                    .any(|member| name.starts_with(&format!("twice/{member}-")));
            let must = if may { Must::Bound } else { Must::Refuse };
            self.push(must, name, status, JSON, bytes);
        }
        for status in [200, 302, 403, 502, 511] {
            let page = "<html><head><title>Welcome</title></head><body>Sign in</body></html>";
            self.refuse(format!("page/{status}"), status, "text/html", page);
        }
        // A status alone never wipes anything.
        for status in [401, 403, 404, 410, 426, 500, 503] {
            self.refuse(format!("bare/{status}"), status, JSON, "");
        }
    }

    pub(super) fn wrong(
        &mut self,
        status: u16,
        content_type: &'static str,
        object: &Object,
        members: &[&str],
    ) {
        for member in members {
            for (at, value) in WRONG.iter().enumerate() {
                let text = object.with(member, value);
                self.refuse(format!("{member}/wrong-{at}"), status, content_type, text);
            }
        }
    }
}

pub(super) fn opened() -> Object {
    Object(vec![
        ("claim_id", quoted("019af5d8-7a00-7000-8000-0000000000c1")),
        ("claim_token", quoted(&base64url(&[7; 32]))),
        ("user_code", quoted("WDJBMJHT")),
        ("verification_uri", quoted("https://app.example.com/claim")),
        ("expires_in", "600".into()),
        ("interval", "5".into()),
    ])
}

pub(super) fn problem(code: &str, more: &[(&'static str, String)]) -> Object {
    let mut members = vec![
        ("type", quoted(&format!("urn:sentrycam:problem:{code}"))),
        ("title", quoted("Bad Request")),
        ("status", "400".into()),
        (
            "detail",
            quoted("press the button as often as the person was told"),
        ),
        ("error", quoted(code)),
    ];
    members.extend(more.iter().cloned());
    Object(members)
}

pub(super) fn challenge() -> Object {
    let id = quoted("019af5d8-7a00-7000-8000-0000000000c2");
    problem(
        "challenge",
        &[("challenge_id", id), ("window_s", "20".into())],
    )
}

pub(super) fn sealed(blob: &[u8]) -> Object {
    Object(vec![
        ("sealed", quoted(&base64url(blob))),
        ("confirm_by", quoted("2026-11-21T02:20:00.000Z")),
    ])
}

fn confirmed() -> Object {
    Object(vec![
        ("edge_id", quoted("e-0001")),
        ("status", quoted("claimed")),
    ])
}

/// What a cloud would say.
pub fn good(forge: &ClaimForge, asked: Asked) -> HostileAnswer {
    let (status, body) = match asked {
        Asked::Open => (201, opened().text()),
        Asked::Poll => (200, sealed(&forge.good_blob()).text()),
        Asked::Challenge => (200, "{\"status\":\"bound\"}".to_owned()),
        // It is the signature that makes it right, and nobody but the cloud can make that.
        Asked::Confirm => (200, confirmed().text()),
        Asked::Rotate => {
            let blob = quoted(&base64url(&forge.good_rotated_blob()));
            (200, format!("{{\"sealed\":{blob}}}"))
        }
    };
    HostileAnswer {
        name: format!("{}/good", word(asked)),
        asked,
        must: Must::Bound,
        status,
        content_type: JSON,
        headers: vec![("signature", "sig1=:the cloud's own:".to_owned())],
        body: body.into_bytes(),
    }
}

/// All of them.
pub fn all(forge: &ClaimForge) -> Vec<HostileAnswer> {
    let mut list = List {
        all: Vec::new(),
        asked: Asked::Open,
    };
    waiting::open(&mut list);
    waiting::poll(&mut list, forge);
    list.asked = Asked::Challenge;
    let counted = Object(vec![("status", quoted("bound"))]);
    list.around(
        &[200, 201, 202, 203, 204, 205, 206, 226],
        &counted,
        &["status"],
    );
    told(&mut list);
    confirm(&mut list);
    rotate(&mut list, forge);
    list.all
}

/// Refusals whose words are tricks: they end the window or not, but what is shown stays printable.
pub(super) fn told(list: &mut List) {
    let long = "x".repeat(20_000);
    let words = [
        "\\u001b[2J\\u001b]0;x\\u0007",
        "a\\r\\nb",
        "\\u202egpj.exe",
        "\\u0000",
        "%s%n",
        long.as_str(),
    ];
    for (at, value) in words.iter().enumerate() {
        let text = problem("access_denied", &[]).with("detail", &quoted(value));
        list.refuse(format!("detail/{at}"), 400, PROBLEM, text);
        let text = problem(value, &[]).text();
        list.refuse(format!("code/{at}"), 400, PROBLEM, text);
    }
    for code in [
        "unclaimed",
        "suspended",
        "agent-too-old",
        "unknown-key",
        "success",
        "200",
    ] {
        for status in [400, 401, 403, 410] {
            let text = problem(code, &[]).text();
            list.refuse(format!("says/{code}-{status}"), status, PROBLEM, text);
        }
    }
}

/// A success that is not signed, or not by the cloud for this request, activates nothing.
fn confirm(list: &mut List) {
    list.asked = Asked::Confirm;
    let good = confirmed();
    list.around(&[], &good, &[]);
    let base = "(\"@status\" \"content-type\" \"content-digest\" \"date\" \"@method\";req \"@path\";req \"signature\";req;key=\"sig1\")";
    let params = |key: &str, tag: &str, alg: &str| {
        format!("sig1={base};created=1795226400;alg=\"{alg}\";keyid=\"{key}\";tag=\"{tag}\"")
    };
    let mac = format!("sig1=:{}:", super::base64(&[7; 32]));
    let right = ("ek_0001", "sentrycam-resp", "hmac-sha256");
    for (name, input, signature) in [
        ("other-mac", params(right.0, right.1, right.2), mac.clone()),
        (
            "other-key",
            params("ek_other", right.1, right.2),
            mac.clone(),
        ),
        (
            "other-tag",
            params(right.0, "sentrycam-req", right.2),
            mac.clone(),
        ),
        ("alg-none", params(right.0, right.1, "none"), mac.clone()),
        (
            "no-alg",
            format!("sig1={base};created=1795226400;keyid=\"ek_0001\""),
            mac.clone(),
        ),
        (
            "nothing-covered",
            "sig1=();created=1795226400;keyid=\"ek_0001\"".into(),
            mac.clone(),
        ),
        (
            "no-mac",
            params(right.0, right.1, right.2),
            "sig1=::".into(),
        ),
        (
            "short-mac",
            params(right.0, right.1, right.2),
            "sig1=:AAAA:".into(),
        ),
        (
            "two-labels",
            format!("{}, sig2={base}", params(right.0, right.1, right.2)),
            format!("{mac}, sig2=:AAAA:"),
        ),
        ("not-a-field", "yes".into(), "yes".into()),
        ("no-input", String::new(), mac.clone()),
        (
            "no-signature",
            params(right.0, right.1, right.2),
            String::new(),
        ),
    ] {
        let mut one = HostileAnswer {
            name: format!("confirm/signature/{name}"),
            asked: Asked::Confirm,
            must: Must::Refuse,
            status: 200,
            content_type: JSON,
            headers: vec![("date", "Sat, 21 Nov 2026 02:00:00 GMT".to_owned())],
            body: good.text().into_bytes(),
        };
        let fields = [("signature-input", input), ("signature", signature)];
        one.headers
            .extend(fields.into_iter().filter(|(_, value)| !value.is_empty()));
        list.all.push(one);
    }
}

fn rotate(list: &mut List, forge: &ClaimForge) {
    list.asked = Asked::Rotate;
    let blob = base64url(&forge.good_rotated_blob());
    // Unsigned, each of them: a right one counts no more than a wrong one.
    let good = Object(vec![("sealed", quoted(&blob))]);
    list.wrong(200, JSON, &good, &["sealed"]);
    let claim = base64url(&forge.good_blob());
    for (at, value) in ["AAEC", "!", &claim, &blob[..blob.len() / 2]]
        .iter()
        .enumerate()
    {
        let text = good.with("sealed", &quoted(value));
        list.refuse(format!("sealed/particular-{at}"), 200, JSON, text);
    }
    list.refuse("unsigned".into(), 200, JSON, good.text());
    list.around(&[200], &good, &[]);
    // What cannot be taken unsigned at all is to be refused in every form.
    for one in list.all.iter_mut().filter(|one| one.asked == Asked::Rotate) {
        one.must = Must::Refuse;
    }
}
