//! The body of an answer: whole, in small pieces, or cut.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Bytes, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::Closed;

/// Between the last bytes of a cut body and its end, so that they are sent.
const BEFORE_CUT: Duration = Duration::from_millis(10);

/// How many pieces a body comes in that takes its time.
const PIECES: usize = 10;

/// A body.
pub(super) struct Body {
    left: Bytes,
    /// What its length is said to be; a cut one never gets there.
    promised: u64,
    piece: usize,
    pause: Duration,
    pausing: Option<Pin<Box<Sleep>>>,
    is_cut: bool,
}

impl Body {
    /// All of it, within about `spread`; only half of it when it is cut.
    pub(super) fn new(bytes: Bytes, spread: Duration, is_cut: bool) -> Self {
        let promised = bytes.len() as u64;
        let left = if is_cut { bytes.slice(..bytes.len() / 2) } else { bytes };
        let pieces = if spread.is_zero() { 1 } else { PIECES };
        let piece = left.len().div_ceil(pieces).max(1);
        Body { left, promised, piece, pause: spread / PIECES as u32, pausing: None, is_cut }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Closed;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Closed>>> {
        if let Some(pausing) = &mut self.pausing {
            std::task::ready!(pausing.as_mut().poll(context));
            self.pausing = None;
        }
        if self.left.is_empty() {
            return Poll::Ready(self.is_cut.then_some(Err(Closed)));
        }
        let piece = self.piece.min(self.left.len());
        let piece = self.left.split_to(piece);
        let pause = if self.left.is_empty() && self.is_cut { BEFORE_CUT } else { self.pause };
        if !pause.is_zero() {
            self.pausing = Some(Box::pin(sleep(pause)));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && !self.is_cut
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised)
    }
}
