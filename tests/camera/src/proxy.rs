//! A TCP proxy with a lever: it stands before a real camera and stalls, resets, or vanishes when it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

#[derive(Debug, Default)]
struct State {
    stalled: bool,
    open: bool,
    pairs: Vec<(TcpStream, TcpStream)>,
    listening: bool,
}

/// Forwards connections to `upstream` until told otherwise. Dropping it resets everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    upstream: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Proxy {
    /// Listens on a port of its own choice.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(upstream: SocketAddr) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let proxy = Proxy {
            address: listener.local_addr()?,
            upstream,
            shared: Arc::default(),
        };
        proxy.serve(listener);
        Ok(proxy)
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops forwarding; connections stay open and accept what fits into the kernel's buffers.
    pub fn stall(&self) {
        self.with(|s| s.stalled = true);
    }

    /// Forwards again, what was held back first.
    pub fn resume(&self) {
        self.with(|s| s.stalled = false);
    }

    /// Cuts all connections; new ones are accepted.
    pub fn reset(&self) {
        self.with(|s| {
            for (a, b) in s.pairs.drain(..) {
                let _ = (a.shutdown(Shutdown::Both), b.shutdown(Shutdown::Both));
            }
        });
    }

    /// Refuses new connections and cuts the present ones.
    pub fn close_listener(&self) {
        self.with(|s| s.open = false);
        // Wakes the accepting thread, which sees that it is closed and lets go of the port.
        let _ = TcpStream::connect(self.address);
        let mut state = self.lock();
        while state.listening {
            state = self
                .shared
                .1
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        self.reset();
    }

    /// Accepts connections again on the same port.
    ///
    /// # Errors
    /// The operating system's.
    pub fn reopen(&self) -> std::io::Result<()> {
        self.serve(TcpListener::bind(self.address)?);
        Ok(())
    }

    /// How many connections are being forwarded.
    pub fn connections(&self) -> usize {
        self.lock().pairs.len()
    }

    fn serve(&self, listener: TcpListener) {
        self.with(|s| (s.open, s.listening) = (true, true));
        let (shared, upstream) = (Arc::clone(&self.shared), self.upstream);
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
                if !state.open {
                    break;
                }
                let Ok(client) = client else { continue };
                let Ok(server) = TcpStream::connect(upstream) else {
                    continue;
                };
                let clones = (client.try_clone(), server.try_clone());
                if let (Ok(a), Ok(b)) = clones {
                    state.pairs.push((a, b));
                }
                drop(state);
                for (from, to) in [(&client, &server), (&server, &client)] {
                    if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                        let shared = Arc::clone(&shared);
                        thread::spawn(move || pump(from, to, &shared));
                    }
                }
            }
            drop(listener);
            let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.listening = false;
            shared.1.notify_all();
        });
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.shared.1.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.resume();
        self.close_listener();
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, shared: &(Mutex<State>, Condvar)) {
    let mut buffer = [0u8; 16 * 1024];
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => n,
        };
        let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        while state.stalled {
            state = shared.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for s in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut to = s.try_clone().unwrap();
                    let _ = std::io::copy(&mut &s, &mut to);
                });
            }
        });
        address
    }

    fn exchange(s: &mut TcpStream) -> std::io::Result<()> {
        s.write_all(b"x")?;
        s.read_exact(&mut [0u8])
    }

    #[test]
    fn it_stalls_resets_and_comes_back() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut s = TcpStream::connect(proxy.address()).unwrap();
        exchange(&mut s).unwrap();
        proxy.stall();
        s.set_read_timeout(Some(std::time::Duration::from_millis(50)))
            .unwrap();
        assert!(exchange(&mut s).is_err());
        proxy.resume();
        s.set_read_timeout(None).unwrap();
        s.read_exact(&mut [0u8]).unwrap();
        proxy.reset();
        assert!(exchange(&mut s).is_err());
        proxy.close_listener();
        assert!(TcpStream::connect(proxy.address()).is_err());
        proxy.reopen().unwrap();
        exchange(&mut TcpStream::connect(proxy.address()).unwrap()).unwrap();
    }
}
