//! The rest of a request's body that nobody read, read and thrown away.
//!
//! A server that answers early (a refused upload) and closes the connection while the client still sends makes the client
//! see a broken pipe instead of the answer. So the body is *lent* to whoever handles the request; what comes back unread
//! is drained, within bounds, before the answer leaves (RFC 9112, section 9.6, on why).

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::Request;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

/// The most bytes that are read for nothing. A client that wants to send more than this learns less.
const BYTES_MAX: usize = 64 << 20;
/// The longest that a client is waited for.
const TIME_MAX: Duration = Duration::from_secs(10);

/// A body that goes back to its owner when it is dropped.
#[derive(Debug)]
pub struct Lent<B> {
    body: Option<B>,
    owner: Arc<Mutex<Option<B>>>,
}

/// Where a lent body comes back to.
#[derive(Debug)]
pub struct Unread<B> {
    owner: Arc<Mutex<Option<B>>>,
    asks_first: bool,
}

/// Lends a request's body to its handler.
pub fn lend<B>(request: Request<B>) -> (Request<Lent<B>>, Unread<B>) {
    let asks_first = request.headers().contains_key(http::header::EXPECT);
    let owner = Arc::new(Mutex::new(None));
    let unread = Unread { owner: Arc::clone(&owner), asks_first };
    (request.map(|body| Lent { body: Some(body), owner }), unread)
}

impl<B: Body + Unpin> Body for Lent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B> Drop for Lent<B> {
    fn drop(&mut self) {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
    }
}

impl<B: Body + Unpin> Unread<B> {
    /// Reads what the handler left, 64 MiB and ten seconds at most. A body that is still being read is left alone; an
    /// error of the client ends the reading, as there is nobody left to answer.
    pub async fn drain(self) {
        // A client that asks first (`Expect: 100-continue`) sends nothing that would have to be drained.
        if self.asks_first {
            return;
        }
        let body = self.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = body else { return };
        let read = async {
            let mut left = BYTES_MAX;
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, bytes::Buf::remaining);
                let Some(less) = left.checked_sub(length) else { return };
                left = less;
            }
        };
        // Too slow is like too long: the connection closes with the answer sent.
        let _ = tokio::time::timeout(TIME_MAX, read).await;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn what_was_not_read_comes_back_and_what_was_does_not() {
        let (lent, unread) = lend(Request::new(Full::new(Bytes::from_static(b"unread"))));
        assert_eq!(lent.body().size_hint().exact(), Some(6));
        drop(lent);
        assert!(unread.owner.lock().unwrap().as_ref().is_some_and(|body| !body.is_end_stream()));
        unread.drain().await;

        let (lent, unread) = lend(Request::new(Full::new(Bytes::from_static(b"read"))));
        assert_eq!(lent.into_body().collect().await.unwrap().to_bytes(), "read");
        assert!(unread.owner.lock().unwrap().as_ref().is_none_or(Body::is_end_stream));
        unread.drain().await;
    }

    #[tokio::test]
    async fn a_body_that_is_still_read_is_left_alone() {
        let (lent, unread) = lend(Request::new(Full::new(Bytes::from_static(b"mine"))));
        unread.drain().await;
        assert_eq!(lent.into_body().collect().await.unwrap().to_bytes(), "mine");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_falls_silent_is_not_waited_for_for_ever() {
        let (_sender, body) = http_body_util::channel::Channel::<Bytes>::new(1);
        let (lent, unread) = lend(Request::new(body));
        drop(lent);
        unread.drain().await;
    }
}
