//! Plain RTSP over TCP without a pipeline: the session's own thread reads the connection, `retina` makes access units
//! of it, and the [`Flow`] hands them on. It costs a third of what `rtspsrc` costs and no further thread.
//!
//! ```text
//!  DESCRIBE ─▶ choose ─▶ SETUP ─▶ PLAY ─▶ frame … frame ─▶ end ─▶ TEARDOWN (≤ 0.2 s)
//!      └──────────┴─────────┴───────┴─────────┴─▶ not understood: Elsewhere, and rtspsrc has a try
//! ```
//!
//! Guarantees: every answer comes within [`ANSWER`] or the session fails; what the camera sends is read as it comes and
//! never waits for the channel; asked to stop, it is over within [`TEARDOWN`]. Neither user nor password is ever part
//! of a URL, and no text of retina's leaves uncleaned.

use std::sync::Arc;
use std::time::Duration;

use retina::client::{
    Credentials, Demuxed, Described, InitialSequenceNumberPolicy, InitialTimestampPolicy,
    PlayOptions, Session, SessionGroup, SessionIdPolicy, SessionOptions, SetupOptions,
    TeardownPolicy, UnassignedChannelDataPolicy, UnknownRtcpSsrcPolicy,
};
use retina::codec::FrameFormat;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::flow::{Flow, Wake};
use super::retina_frames::{Reader, summary};
use super::source_rtsp::{Branch, Choice, USER_AGENT, bare};
use crate::config::{RtspTransport, SourceConfig};
use crate::model::{DownReason, Secret};
use crate::time::Pts;

/// Each answer comes within this time.
const ANSWER: Duration = Duration::from_secs(10);

/// TEARDOWN is given this long.
const TEARDOWN: Duration = Duration::from_millis(200);

/// How a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// For good; `None` where it was asked for.
    Over(Option<DownReason>),
    /// retina does not understand this camera, and why.
    Elsewhere(String),
}

/// A camera that this source reads.
pub(super) struct Camera<'a> {
    url: &'a url::Url,
    user: Option<&'a str>,
    password: Option<&'a Secret>,
    audio: bool,
}

impl<'a> Camera<'a> {
    /// `None` where it is `rtspsrc`'s: UDP (retina has no reorder buffer), TLS (it has none), no RTSP at all.
    pub(super) fn of(source: &'a SourceConfig, audio: bool) -> Option<Camera<'a>> {
        match source {
            SourceConfig::Rtsp {
                url,
                user,
                password,
                transport: RtspTransport::Tcp,
                ..
            } if url.scheme() == "rtsp" => Some(Camera {
                url,
                user: user.as_deref(),
                password: password.as_ref(),
                audio,
            }),
            _ => None,
        }
    }

    /// Reads the camera until its end. Blocks: for the session's own thread. `now` is running time.
    pub(super) fn run(
        &self,
        flow: &Flow,
        inbox: &mut UnboundedReceiver<Wake>,
        now: &dyn Fn() -> Pts,
    ) -> End {
        // Blocking threads resolve names and go.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(1)
            .thread_keep_alive(Duration::from_secs(1))
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(e) => {
                let text = format!("no reactor for the capture: {e}");
                return End::Over(Some(DownReason::Failed(text)));
            }
        };
        let group = Arc::new(SessionGroup::default());
        let end = runtime.block_on(async {
            let end = tokio::select! {
                biased;
                end = asked(inbox) => end,
                end = self.play(flow, &group, now) => end,
            };
            if matches!(end, End::Over(_)) {
                flow.close();
            }
            // The session is dropped by now, which sends TEARDOWN; nobody depends on its answer.
            let _ = timeout(TEARDOWN, group.await_teardown()).await;
            end
        });
        runtime.shutdown_background();
        end
    }

    async fn play(&self, flow: &Flow, group: &Arc<SessionGroup>, now: &dyn Fn() -> Pts) -> End {
        let (demuxed, choice) = match self.open(flow, group).await {
            Ok(opened) => opened,
            Err(end) => return end,
        };
        let declared = demuxed.streams().get(choice.video);
        let fps = declared.and_then(|s| s.framerate());
        Reader::new(flow, now, choice, fps)
            .read(demuxed, self.password)
            .await
    }

    /// Everything up to PLAY's answer.
    async fn open(&self, flow: &Flow, group: &Arc<SessionGroup>) -> Result<(Demuxed, Chosen), End> {
        let credentials = self.user.map(|user| Credentials {
            username: user.to_owned(),
            password: self
                .password
                .map(Secret::expose)
                .unwrap_or_default()
                .to_owned(),
        });
        let options = SessionOptions::default()
            .creds(credentials)
            .user_agent(USER_AGENT.to_owned())
            .session_group(Arc::clone(group))
            .teardown(TeardownPolicy::Auto)
            .session_id(SessionIdPolicy::UseFirst)
            // Some cameras send streams that were never set up.
            .unassigned_channel_data(UnassignedChannelDataPolicy::Ignore);
        let mut session = self
            .answer(true, Session::describe(bare(self.url), options))
            .await?;
        let chosen = self.choose(flow, &session)?;
        for stream in std::iter::once(chosen.video).chain(chosen.audio) {
            let options = SetupOptions::default().frame_format(FrameFormat::MP4);
            self.answer(false, session.setup(stream, options)).await?;
        }
        // What RTP-Info says is wrong as often as right, and not needed.
        let options = PlayOptions::default()
            .initial_timestamp(InitialTimestampPolicy::Ignore)
            .initial_seq(InitialSequenceNumberPolicy::Ignore)
            .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::ProcessPackets);
        let playing = self.answer(false, session.play(options)).await?;
        let demuxed = playing.demuxed().map_err(|e| self.failed(&e, false))?;
        if chosen.audio.is_some() {
            flow.expect_audio();
        }
        Ok((demuxed, chosen))
    }

    fn choose(&self, flow: &Flow, session: &Session<Described>) -> Result<Chosen, End> {
        let mut choice = Choice::default();
        let mut latm = false;
        for (number, stream) in (0u32..).zip(session.streams()) {
            let encoding = stream.encoding_name().to_ascii_uppercase();
            let taken = choice.take(number, stream.media(), &encoding, self.audio);
            latm |= taken && Branch::of(stream.media(), &encoding) == Some(Branch::AacLatm);
            flow.offered(stream.media(), &encoding);
        }
        let index = |n: Option<u32>| n.and_then(|n| usize::try_from(n).ok());
        let Some(video) = index(choice.video) else {
            return Err(if flow.nothing_to_record() {
                End::Over(Some(DownReason::Unsupported(flow.nothing_text())))
            } else {
                End::Elsewhere("no stream is understood".into())
            });
        };
        if latm {
            return Err(End::Elsewhere("audio as LATM".into()));
        }
        if several_parameter_sets(session.sdp()) {
            return Err(End::Elsewhere("several parameter sets at a time".into()));
        }
        Ok(Chosen {
            video,
            audio: index(choice.audio),
        })
    }

    async fn answer<T>(
        &self,
        describe: bool,
        request: impl Future<Output = Result<T, retina::Error>>,
    ) -> Result<T, End> {
        match timeout(ANSWER, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(self.failed(&e, describe)),
            Err(_) => {
                let text = format!("the camera did not answer within {} s", ANSWER.as_secs());
                Err(End::Over(Some(DownReason::Failed(text))))
            }
        }
    }

    /// Why there is no session.
    fn failed(&self, e: &retina::Error, describe: bool) -> End {
        let text = summary(e, self.password);
        End::Over(Some(match e.status_code() {
            // The camera agreed, but not in retina's words, or sends us somewhere else.
            Some(200..=399) => return End::Elsewhere(text),
            // DESCRIBE was let in: a stale nonce rather than a wrong password, or a request that is not to the
            // camera's liking. 453 says that it serves as many as it can.
            Some(400..=452 | 454..=499) if !describe => return End::Elsewhere(text),
            Some(401 | 403) => DownReason::Unauthorized,
            Some(404) => DownReason::NotFound(text),
            None if text.starts_with("Unable to connect") => DownReason::Unreachable(text),
            _ => DownReason::Failed(text),
        }))
    }
}

/// Indices of the streams that were chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen {
    pub(super) video: usize,
    pub(super) audio: Option<usize>,
}

/// Waits for the owner.
async fn asked(inbox: &mut UnboundedReceiver<Wake>) -> End {
    loop {
        match inbox.recv().await {
            Some(Wake::Stop) | None => return End::Over(None),
            Some(Wake::Down(reason) | Wake::Busy(reason)) => return End::Over(Some(reason)),
            Some(Wake::Ready | Wake::SegmentDone) => {}
        }
    }
}

/// True where the session description holds more than one SPS and one PPS of H.264.
fn several_parameter_sets(sdp: &[u8]) -> bool {
    let key = b"sprop-parameter-sets=";
    sdp.windows(key.len())
        .position(|w| w == key)
        .map(|at| &sdp[at + key.len()..])
        .is_some_and(|sets| {
            sets.iter()
                .take_while(|b| !b.is_ascii_whitespace() && **b != b';')
                .filter(|b| **b == b',')
                .count()
                > 1
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_rtsp_over_tcp_is_read_here() {
        let source = |url: &str, transport| SourceConfig::Rtsp {
            url: url.parse().unwrap(),
            user: None,
            password: None,
            transport,
            ca_file: None,
            verify_tls: true,
        };
        let here = |url, transport| Camera::of(&source(url, transport), false).is_some();
        assert!(here("rtsp://h/x", RtspTransport::Tcp));
        assert!(!here("rtsps://h/x", RtspTransport::Tcp));
        assert!(!here("rtsp://h/x", RtspTransport::Udp));
        assert!(!here("rtsp://h/x", RtspTransport::Auto));
    }

    #[test]
    fn cameras_with_several_parameter_sets_are_seen() {
        let sdp = |sets: &str| {
            format!(
                "a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets};x=a,b,c\r\na=y:1,2,3\r\n"
            )
        };
        assert!(!several_parameter_sets(sdp("Z0I=,aM4=").as_bytes()));
        assert!(several_parameter_sets(sdp("Z0I=,aM4=,aM5=").as_bytes()));
        assert!(!several_parameter_sets(b"v=0\r\n"));
    }
}
