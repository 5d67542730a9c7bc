//! A connection on which one request waits for its answer before the next one leaves.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::frame;

/// How long connecting or an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Bytes asked for at once.
const READ_BYTES: usize = 4 << 10;

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// Nobody is there.
    #[error("{address}: {source}; is the switch running?")]
    Connect { address: SocketAddr, source: io::Error },
    /// The switch closed the connection.
    #[error("the connection closed")]
    Closed,
    /// Nothing came in time.
    #[error("nothing within {} seconds", ANSWER_WITHIN.as_secs())]
    Silent,
    /// The message is longer than a frame can be.
    #[error("a request that is too long for a frame")]
    TooLong,
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The connection. After an error it is opened anew, so that a late answer meets no other request.
pub(crate) struct Link {
    address: SocketAddr,
    stream: Option<TcpStream>,
    input: Vec<u8>,
}

impl Link {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Result<Link, LinkError> {
        Ok(Link { address, stream: Some(open(address)?), input: Vec::new() })
    }

    /// Sends a message and waits for the next one to come.
    pub(crate) fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>, LinkError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => open(self.address)?,
        };
        self.input.clear();
        let mut output = Vec::new();
        if !frame::append(message, &mut output) {
            return Err(LinkError::TooLong);
        }
        stream.write_all(&output)?;
        let answer = receive(&mut stream, &mut self.input)?;
        self.stream = Some(stream);
        Ok(answer)
    }
}

fn open(address: SocketAddr) -> Result<TcpStream, LinkError> {
    let failed = |source| LinkError::Connect { address, source };
    let stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN).map_err(failed)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn receive(stream: &mut TcpStream, input: &mut Vec<u8>) -> Result<Vec<u8>, LinkError> {
    let mut bytes = [0; READ_BYTES];
    loop {
        while let Some((message, rest)) = frame::split_first(input) {
            let (message, rest) = (message.to_vec(), rest.to_vec());
            *input = rest;
            // An empty frame is a keep-alive.
            if !message.is_empty() {
                return Ok(message);
            }
        }
        let count = match stream.read(&mut bytes) {
            Ok(0) => return Err(LinkError::Closed),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(LinkError::Silent);
            }
            Err(error) => return Err(error.into()),
        };
        input.extend_from_slice(bytes.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn answers_come_past_keep_alives_and_a_closed_link_is_opened_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 5];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(b"\0\0\0\x03abc").unwrap();
            stream.read_exact(&mut request).unwrap();
            drop(stream);
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut request).unwrap();
            stream.write_all(b"\0\x01z").unwrap();
            request
        });
        let mut link = Link::connect(address).unwrap();
        assert_eq!(link.exchange(b"one").unwrap(), b"abc");
        assert!(matches!(link.exchange(b"two").unwrap_err(), LinkError::Closed));
        assert_eq!(link.exchange(b"six").unwrap(), b"z");
        assert_eq!(&server.join().unwrap(), b"\0\x03six");
    }
}
