//! Many attempts, what went wrong in them, and the figures that say how many there were.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Attempts at once. More than the cores, since most of a run's time is waiting for the disk and the server.
const WIDTH: usize = 4;

/// Calls `attempt` with every index below `count`, `WIDTH` at a time, and collects what went wrong.
pub fn in_parallel(count: usize, attempt: impl Fn(usize) -> Result<(), String> + Sync) -> Vec<String> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WIDTH {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        return;
                    }
                    if let Err(message) = attempt(i) {
                        wrong.lock().expect("nothing panics while it holds the list").push(message);
                    }
                }
            });
        }
    });
    wrong.into_inner().expect("nothing panics while it holds the list")
}

/// A failed assertion as text, so that the matrix goes on and reports every point.
pub fn caught(point: &str, body: impl FnOnce()) -> Result<(), String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        format!("{point}: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic"))
    })
}

/// A line of figures that an ordinary run of the tests shows too, because what is written here is not captured.
pub fn tell(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes a line");
}
