//! Where a camera's video comes from: its address or device, login and format.

use url::Url;

use super::parse::{MAX_TEXT, ReadSecret};
use super::table::{Kind, Section};
use super::{RtspTransport, SourceConfig, V4l2Format};
use crate::model::Secret;

/// The main stream and, where there is one, the stream for detection.
pub(crate) type Streams = (SourceConfig, Option<SourceConfig>);

/// Exactly one of `url`, `device`, `file`, `test` says where the video comes from.
pub(super) fn source(
    s: &mut Section<'_>,
    read_secret: ReadSecret<'_>,
) -> (Option<SourceConfig>, Option<SourceConfig>) {
    let given: Vec<&str> = ["url", "device", "file", "test"]
        .into_iter()
        .filter(|k| !s.is_absent(k))
        .collect();
    if given.len() != 1 {
        let value = given.join(", ");
        let code = if given.is_empty() {
            "missing"
        } else {
            "conflict"
        };
        s.fault(
            "url",
            value,
            code,
            "give exactly one of url (RTSP), device (V4L2), file, test = true",
        );
    }
    let password = password(s, read_secret);
    let user = s.string("user", MAX_TEXT);
    let transport = s
        .one_of(
            "transport",
            &[
                ("tcp", RtspTransport::Tcp),
                ("udp", RtspTransport::Udp),
                ("auto", RtspTransport::Auto),
            ],
        )
        .unwrap_or(RtspTransport::Tcp);
    let ca_file = s.path_buf("ca_file");
    let verify_tls = s.boolean("verify_tls").unwrap_or(true);
    let rtsp = |s: &mut Section<'_>, key: &'static str| {
        let (url, in_url) = s.read(key, &[Kind::Text], |v| {
            rtsp_url(v.as_str().ok_or("must be a text in quotes")?)
        })?;
        let (url_user, url_password) = in_url.unzip();
        Some(SourceConfig::Rtsp {
            url,
            user: user.clone().or(url_user),
            password: password.clone().or(url_password.flatten()),
            transport,
            ca_file: ca_file.clone(),
            verify_tls,
        })
    };
    let url = rtsp(s, "url");
    let sub = rtsp(s, "sub_url");
    let (width, height) = (s.integer("width", 64, 7680), s.integer("height", 64, 4320));
    let fps = s.integer("fps", 1, 120);
    let bitrate_kbps = s.integer("bitrate_kbps", 64, 50_000).unwrap_or(2000);
    let format = s.one_of(
        "format",
        &[
            ("yuyv", V4l2Format::Yuyv),
            ("nv12", V4l2Format::Nv12),
            ("mjpeg", V4l2Format::Mjpeg),
            ("h264", V4l2Format::H264),
        ],
    );
    let device = s.path_buf("device").map(|device| SourceConfig::V4l2 {
        device,
        width,
        height,
        fps,
        format,
        bitrate_kbps,
    });
    let repeat = s.boolean("repeat").unwrap_or(false);
    let file = s
        .path_buf("file")
        .map(|path| SourceConfig::File { path, repeat });
    let test = s
        .boolean("test")
        .filter(|t| *t)
        .map(|_| SourceConfig::Test {
            width: width.unwrap_or(1280),
            height: height.unwrap_or(720),
            fps: fps.unwrap_or(15),
            bitrate_kbps,
        });
    if sub.is_some() && url.is_none() {
        s.fault("sub_url", "", "conflict", "needs url (RTSP) beside it");
    }
    (url.or(device).or(file).or(test), sub)
}

fn password(s: &mut Section<'_>, read_secret: ReadSecret<'_>) -> Option<Secret> {
    let inline = match s.take("password") {
        Some(toml::Value::String(p)) => Some(Secret::new(p)),
        Some(_) => {
            s.fault("password", "***", "type", "must be a text in quotes");
            None
        }
        None => None,
    };
    let Some(file) = s.path_buf("password_file") else {
        return inline;
    };
    if inline.is_some() {
        s.fault(
            "password_file",
            file.display().to_string(),
            "conflict",
            "give either password or password_file",
        );
    }
    match read_secret(&file) {
        Ok(secret) => Some(secret),
        Err(e) => {
            s.fault(
                "password_file",
                file.display().to_string(),
                "unreadable",
                format!("cannot be read: {e}"),
            );
            None
        }
    }
    .or(inline)
}

type UserAndPassword = (String, Option<Secret>);

/// Checks an RTSP address and takes user and password out of it.
fn rtsp_url(text: &str) -> Result<(Url, Option<UserAndPassword>), String> {
    if text.len() > MAX_TEXT {
        return Err(format!("must be at most {MAX_TEXT} characters"));
    }
    let mut url: Url = text
        .parse()
        .map_err(|e| format!("is not an address: {e}"))?;
    if !matches!(url.scheme(), "rtsp" | "rtsps") || url.host_str().is_none_or(str::is_empty) {
        return Err("must be an address such as rtsp://192.168.1.20:554/stream1".into());
    }
    let decode = |s: &str| {
        percent_decode(s).ok_or("has a user or password that is not percent-encoded UTF-8")
    };
    let login = if url.username().is_empty() && url.password().is_none() {
        None
    } else {
        Some((
            decode(url.username())?,
            url.password().map(decode).transpose()?.map(Secret::new),
        ))
    };
    // Both calls succeed where there is a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok((url, login))
}

fn percent_decode(s: &str) -> Option<String> {
    let mut out = Vec::with_capacity(s.len());
    let mut bytes = s.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}
