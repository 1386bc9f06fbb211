//! A TCP proxy in front of the server that breaks what passes through it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What happens to what the server sends.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The first connection on which the server has sent so many bytes ends after them.
    CutAfter(u64),
    /// The first connection on which the server has sent so many bytes stays open, and nothing passes any more, in either
    /// direction.
    StallAfter(u64),
    /// Wherever the server sends the first bytes, the second arrive, which are as many. They must come in one piece, as
    /// short answers do.
    Rewrite(&'static [u8], &'static [u8]),
}

/// Forwards to the server on this port for as long as the process lives. A connection breaks once; bytes are rewritten
/// whenever they come.
pub struct Proxy {
    pub port: u16,
    happened: Arc<AtomicBool>,
}

impl Proxy {
    pub fn start(server: u16, fault: Fault) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let happened = Arc::new(AtomicBool::new(false));
        let shared = happened.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                connect(client, upstream, fault, &shared);
            }
        });
        Proxy { port, happened }
    }

    /// Whether a connection got as far as the fault.
    pub fn fault_happened(&self) -> bool {
        self.happened.load(Ordering::SeqCst)
    }
}

fn connect(client: TcpStream, upstream: TcpStream, fault: Fault, happened: &Arc<AtomicBool>) {
    let clone = |stream: &TcpStream| stream.try_clone().expect("a socket can be duplicated");
    let (to_client, to_server) = (clone(&client), clone(&upstream));
    let stalled = Arc::new(AtomicBool::new(false));
    let (stall, happened) = (stalled.clone(), happened.clone());
    std::thread::spawn(move || forward(client, to_server, |_| !stall.load(Ordering::SeqCst)));
    std::thread::spawn(move || {
        let mut sent = 0;
        let cut = (to_client.try_clone(), upstream.try_clone());
        let passes = |piece: &mut [u8]| {
            sent += piece.len() as u64;
            match fault {
                Fault::Rewrite(from, to) => {
                    let places: Vec<usize> = (0..piece.len()).filter(|&at| piece[at..].starts_with(from)).collect();
                    for at in places {
                        piece[at..at + to.len()].copy_from_slice(to);
                        happened.store(true, Ordering::SeqCst);
                    }
                    true
                }
                Fault::CutAfter(limit) if sent >= limit && !happened.swap(true, Ordering::SeqCst) => {
                    if let (Ok(client), Ok(upstream)) = &cut {
                        let _ = client.shutdown(Shutdown::Both);
                        let _ = upstream.shutdown(Shutdown::Both);
                    }
                    false
                }
                Fault::StallAfter(limit) if sent >= limit && !happened.swap(true, Ordering::SeqCst) => {
                    stalled.store(true, Ordering::SeqCst);
                    false
                }
                _ => !stalled.load(Ordering::SeqCst),
            }
        };
        forward(upstream, to_client, passes);
    });
}

/// Copies until the end, or until a piece may not pass. What may not pass is dropped, and so is all that follows.
fn forward(mut from: TcpStream, mut to: TcpStream, mut passes: impl FnMut(&mut [u8]) -> bool) {
    let mut buffer = vec![0; 16 * 1024];
    let mut open = true;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        open = open && passes(&mut buffer[..read]);
        if open && to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    if open {
        let _ = to.shutdown(Shutdown::Write);
    }
}
