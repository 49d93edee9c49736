//! Bodies: of requests, which must not stall, and of answers, whose end is the end of their request.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use cairn_io::time::{self, Duration, Sleep};
use hyper::body::{Frame, Incoming, SizeHint};
use pin_project_lite::pin_project;

use super::Underway;
use super::stream::Phase;

/// The client took too long for the next piece of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client sent nothing of its body for {} seconds", .0.as_secs())]
pub struct Stalled(pub Duration);

/// The body of a request. A piece that doesn't come in time is an error.
#[derive(Debug)]
pub struct Body {
    inner: Incoming,
    within: Duration,
    waiting: Option<Sleep>,
}

impl Body {
    pub(super) fn new(inner: Incoming, within: Duration) -> Self {
        Self { inner, within, waiting: None }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_ready() {
            self.waiting = None;
            return polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)));
        }
        let within = self.within;
        let waiting = self.waiting.get_or_insert_with(|| time::sleep(within));
        Pin::new(waiting).poll(cx).map(|()| Some(Err(Stalled(within).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

pin_project! {
    /// The body of an answer. When it is dropped, all of it is handed to hyper or the connection is gone.
    pub struct Answer<B> {
        #[pin]
        inner: B,
        phase: Rc<Phase>,
        underway: Underway,
    }

    impl<B> PinnedDrop for Answer<B> {
        fn drop(this: Pin<&mut Self>) {
            this.phase.end();
        }
    }
}

impl<B> Answer<B> {
    pub fn new(inner: B, phase: Rc<Phase>, underway: Underway) -> Self {
        Self { inner, phase, underway }
    }
}

impl<B: hyper::body::Body> hyper::body::Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
