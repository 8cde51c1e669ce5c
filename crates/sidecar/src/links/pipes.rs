//! Pipes for bulk transfers: what is spliced through one never enters our memory.
//!
//! Only connections that just filled a whole buffer take a pipe, and give it back at the first pause; so a few serve
//! thousands of connections. A pipe that may still hold bytes is closed, never handed on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Pipes at once, lent or waiting: bulk transfers beyond are copied, which is slower and still right.
const PIPES_MAX: usize = 64;
/// Octets of a pipe: four full reads, so that a fast sender costs few calls.
const PIPE_BYTES: usize = 256 * 1024;

/// The pipes that are not in use, and how many there are.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    waiting: Mutex<Vec<Pipe>>,
    count: AtomicUsize,
}

/// Both ends of a pipe, neither of which ever blocks.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe in use. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    pipes: &'a Pipes,
    pipe: Option<Pipe>,
}

impl Pipes {
    /// An empty pipe, unless too many are in use.
    pub(super) fn lend(&self) -> Option<Lent<'_>> {
        if let Some(pipe) = self.waiting().pop() {
            return Some(Lent { pipes: self, pipe: Some(pipe) });
        }
        if self.count.fetch_add(1, Ordering::Relaxed) >= PIPES_MAX {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        // From here on the count is the lent one's to give back.
        let mut lent = Lent { pipes: self, pipe: None };
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // Refused when the user's pages are used up; a smaller pipe is only slower.
        fcntl_setpipe_size(&write, PIPE_BYTES).ok();
        lent.pipe = Some(Pipe { read, write });
        Some(lent)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Pipe>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent<'_> {
    /// Moves what `from` has into the pipe, without waiting. 0: it has ended.
    pub(super) fn fill(&self, from: impl AsFd) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Err(io::ErrorKind::BrokenPipe.into()) };
        transfer(from, &pipe.write, PIPE_BYTES)
    }

    /// Moves up to `bytes` from the pipe into `to`, without waiting.
    pub(super) fn empty(&self, to: impl AsFd, bytes: usize) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Err(io::ErrorKind::BrokenPipe.into()) };
        transfer(&pipe.read, to, bytes)
    }

    /// Gives the pipe back; it must be empty.
    pub(super) fn give_back(mut self) {
        if let Some(pipe) = self.pipe.take() {
            self.pipes.waiting().push(pipe);
            // It still counts: `drop` must not take it off.
            self.pipes.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.pipes.count.fetch_sub(1, Ordering::Relaxed);
    }
}

fn transfer(from: impl AsFd, to: impl AsFd, bytes: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(rustix::io::retry_on_intr(|| splice(&from, None, &to, None, bytes, flags))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_used_again_and_never_more_than_the_bound() {
        let pipes = Pipes::default();
        pipes.lend().unwrap().give_back();
        let lent: Vec<Lent<'_>> = std::iter::from_fn(|| pipes.lend()).take(PIPES_MAX + 1).collect();
        assert_eq!((lent.len(), pipes.waiting().len()), (PIPES_MAX, 0));
        lent.into_iter().for_each(Lent::give_back);
        assert_eq!((pipes.count.load(Ordering::Relaxed), pipes.waiting().len()), (PIPES_MAX, PIPES_MAX));
        drop(pipes.lend().unwrap());
        assert_eq!((pipes.count.load(Ordering::Relaxed), pipes.waiting().len()), (PIPES_MAX - 1, PIPES_MAX - 1));
    }
}
