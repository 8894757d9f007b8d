//! The gateway's side of the wire to an engine: HTTP/1.1 over a Unix socket or over TCP, one request at a time, read by the task
//! that asked. Connections over TCP are kept and used again. Dropped before its end, an answer closes its connection, and the
//! engine stops soon after.

mod body;

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use self::body::Framing;

/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// What is read at once, in bytes.
const READ_BYTES: usize = 8 << 10;
/// Connections that are kept for later.
const IDLE_MAX: usize = 256;

/// Where an engine answers.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(Arc<Pool>),
}

/// Connections to one server that nobody uses just now.
#[derive(Debug)]
pub(crate) struct Pool {
    address: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
}

impl Pool {
    pub(crate) fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self { address, idle: Mutex::default() })
    }

    /// A kept connection of which the other side has not said that it is over, else a new one.
    async fn connect(&self) -> io::Result<TcpStream> {
        loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(kept) = kept else { break };
            // Nothing is to be read on a connection at rest: what is there, an end or a word, means that it is over.
            if matches!(kept.try_read(&mut [0; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                return Ok(kept);
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn keep(&self, stream: TcpStream) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(stream);
        }
    }
}

/// A connection to an engine on which nothing was asked.
#[derive(Debug)]
pub(crate) enum Wire {
    Unix(UnixStream),
    Tcp(TcpStream, Arc<Pool>),
}

impl Wire {
    pub(crate) async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            Address::Tcp(pool) => Ok(Self::Tcp(pool.connect().await?, Arc::clone(pool))),
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.write_all(bytes).await,
            Self::Tcp(stream, _) => stream.write_all(bytes).await,
        }
    }

    async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        into.reserve(READ_BYTES);
        match self {
            Self::Unix(stream) => stream.read_buf(into).await,
            Self::Tcp(stream, _) => stream.read_buf(into).await,
        }
    }

    /// What has arrived already, without waiting.
    fn try_read(&self, into: &mut BytesMut) -> io::Result<usize> {
        into.reserve(READ_BYTES);
        match self {
            Self::Unix(stream) => stream.try_read_buf(into),
            Self::Tcp(stream, _) => stream.try_read_buf(into),
        }
    }

    /// Asks, and answers when the head of the answer is there.
    pub(crate) async fn ask(mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let host = match &self {
            Self::Unix(_) => "replica".to_owned(),
            Self::Tcp(_, pool) => pool.address.to_string(),
        };
        let mut request = Vec::with_capacity(body.len() + 192);
        request.extend_from_slice(
            format!(
                "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            )
            .as_bytes(),
        );
        request.extend_from_slice(body);
        self.write_all(&request).await?;
        let mut raw = BytesMut::new();
        loop {
            if let Some((head, length)) = body::head(&raw)? {
                let rest = raw.split_off(length);
                return Ok(Answer {
                    wire: self,
                    status: head.status,
                    framing: head.framing,
                    keeps: head.keeps,
                    raw: rest,
                    data: BytesMut::new(),
                });
            }
            if raw.len() > HEAD_BYTES_MAX || self.read(&mut raw).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// An answer under way.
#[derive(Debug)]
pub(crate) struct Answer {
    wire: Wire,
    pub(crate) status: u16,
    framing: Framing,
    /// Whether the connection outlives this answer.
    keeps: bool,
    /// As it came.
    raw: BytesMut,
    /// The body, as far as it came and was not taken.
    pub(crate) data: BytesMut,
}

impl Answer {
    /// Waits for more of the body; false at its end. An end that comes too soon is an error.
    pub(crate) async fn more(&mut self) -> io::Result<bool> {
        let before = self.data.len();
        loop {
            self.framing.decode(&mut self.raw, &mut self.data)?;
            if self.data.len() > before {
                return Ok(true);
            }
            if self.framing.is_over() {
                return Ok(false);
            }
            if self.wire.read(&mut self.raw).await? == 0 {
                return self.framing.closed().map(|()| false);
            }
        }
    }

    /// The whole body, if it is no longer than that.
    pub(crate) async fn whole(&mut self, bytes_max: usize) -> io::Result<Bytes> {
        while self.more().await? {
            if self.data.len() > bytes_max {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
        }
        Ok(self.data.split().freeze())
    }

    /// Keeps the connection for the next who asks, if the answer is over and nothing else came.
    pub(crate) fn release(mut self) {
        if !self.framing.is_over() {
            // Its end may have come in the meantime.
            let _ = self.wire.try_read(&mut self.raw);
            let _ = self.framing.decode(&mut self.raw, &mut self.data);
        }
        if let Wire::Tcp(stream, pool) = self.wire
            && self.keeps
            && self.framing.is_over()
            && self.raw.is_empty()
        {
            pool.keep(stream);
        }
    }
}
