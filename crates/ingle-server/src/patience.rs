//! Whoever does not read what they asked for is not waited for without end.
//!
//! What a client does not take stays here: in the buffers of the connection, and then, because a body whose connection is
//! full is not asked for more, in the memory of the answer. So a connection to which nothing could be written for some time
//! is broken, which ends what is computed for it.

use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A connection that fails when its other end takes nothing for a time.
pub(crate) struct Patient<S> {
    stream: S,
    limit: Duration,
    /// When it is over, while there is something to write that is not taken.
    end: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<S> Patient<S> {
    /// With `limit` as the longest that nothing is taken. Runs in a runtime.
    pub(crate) fn new(stream: S, limit: Duration) -> Patient<S> {
        Patient { stream, limit, end: Box::pin(tokio::time::sleep(limit)), waiting: false }
    }

    /// What `written` comes to: what could not be written may wait until the limit.
    fn judge<T>(&mut self, written: Poll<Result<T>>, context: &mut Context) -> Poll<Result<T>> {
        if written.is_ready() {
            self.waiting = false;
            return written;
        }
        if !self.waiting {
            self.waiting = true;
            self.end.as_mut().reset(Instant::now() + self.limit);
        }
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(Error::new(
                ErrorKind::TimedOut,
                "the client takes nothing of what it asked for",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, into: &mut ReadBuf) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        parts: &[std::io::IoSlice],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        let written = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(written, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        let written = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(written, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn as_long_as_something_is_taken_now_and_then_nothing_breaks() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (near, mut far) = tokio::io::duplex(10);
            let mut near = Patient::new(near, Duration::from_secs(60));
            let writing = tokio::spawn(async move {
                let started = Instant::now();
                near.write_all(&[1; 30]).await.unwrap();
                let refused = near.write_all(&[2; 30]).await.unwrap_err();
                let wanted = Duration::from_secs(3 * 59 + 60);
                assert_eq!((refused.kind(), started.elapsed()), (ErrorKind::TimedOut, wanted));
            });
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(59)).await;
                far.read_exact(&mut [0; 10]).await.unwrap();
            }
            writing.await.unwrap();
        });
    }
}
