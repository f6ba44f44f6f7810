//! Cutting a connection: a TCP stream that a handler can break.
//!
//! HTTP has no way to say "no answer", so each accepted connection carries a switch. Once it is thrown,
//! every write fails and nothing more leaves, whatever the HTTP layer wants to send.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Bytes;
use axum::extract::Extension;
use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower_layer::Layer;

/// The switch of a connection; a request finds it in its extensions.
#[derive(Debug, Clone, Default)]
pub struct Cut(Arc<AtomicBool>);

impl Cut {
    /// Breaks the connection.
    pub fn cut(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is broken.
    pub fn is_cut(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Gives each connection its switch and sets `TCP_NODELAY`.
#[derive(Debug, Clone, Copy, Default)]
pub struct CutAcceptor;

impl<S> Accept<TcpStream, S> for CutAcceptor {
    type Stream = CutStream;
    type Service = <Extension<Cut> as Layer<S>>::Service;
    type Future = std::future::Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let cut = Cut::default();
        let service = Extension(cut.clone()).layer(service);
        let accepted = stream
            .set_nodelay(true)
            .map(|()| (CutStream { stream, cut }, service));
        std::future::ready(accepted)
    }
}

/// A stream with a switch.
#[derive(Debug)]
pub struct CutStream {
    stream: TcpStream,
    cut: Cut,
}

impl CutStream {
    fn check(&self) -> io::Result<()> {
        if self.cut.is_cut() {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }
}

impl AsyncRead for CutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A body that says it is `promised` bytes long, gives fewer and breaks off.
#[derive(Debug)]
pub struct Short {
    bytes: Option<Bytes>,
    promised: u64,
}

impl Short {
    /// Gives `bytes` of `promised`.
    pub fn new(bytes: Bytes, promised: usize) -> Self {
        Self {
            bytes: Some(bytes),
            promised: promised as u64,
        }
    }
}

impl http_body::Body for Short {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(match self.bytes.take() {
            Some(bytes) => Ok(http_body::Frame::data(bytes)),
            None => Err(io::ErrorKind::ConnectionReset.into()),
        }))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.promised)
    }
}
