//! `echo`: a server that does as little as one can. Every complete frame of a read goes back in
//! one write. What a switch adds to it is the switch's own cost.
//!
//! It has the shape of the switch: each thread has a runtime of its own, and the connections are
//! dealt to the threads.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream as BlockingStream};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

use crate::frame;

/// Room made for a read, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Serves until the process ends. Prints `listening ADDRESS` first.
pub(crate) fn serve(address: SocketAddr, threads: u16) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    writeln!(io::stdout(), "listening {}", listener.local_addr()?)?;
    accept(&listener, threads)
}

fn accept(listener: &TcpListener, threads: u16) -> io::Result<()> {
    let threads = (0..threads.max(1)).map(|_| start_thread()).collect::<io::Result<Vec<_>>>()?;
    for thread in threads.iter().cycle() {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        thread.send(stream).map_err(|_| io::Error::other("a thread has ended"))?;
    }
    Ok(())
}

fn start_thread() -> io::Result<UnboundedSender<BlockingStream>> {
    let (sender, streams) = unbounded_channel();
    let runtime = Builder::new_current_thread().enable_io().build()?;
    std::thread::Builder::new()
        .name("echo".to_owned())
        .spawn(move || LocalSet::new().block_on(&runtime, echo_all(streams)))?;
    Ok(sender)
}

async fn echo_all(mut streams: UnboundedReceiver<BlockingStream>) {
    while let Some(stream) = streams.recv().await {
        tokio::task::spawn_local(async {
            // A connection that breaks ends alone.
            let _ = echo(stream).await;
        });
    }
}

async fn echo(stream: BlockingStream) -> io::Result<()> {
    let mut stream = TcpStream::from_std(stream)?;
    let mut bytes = Vec::new();
    loop {
        bytes.reserve(READ_BYTES);
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let complete = frame::complete_bytes(&bytes);
        stream.write_all(bytes.get(..complete).unwrap_or_default()).await?;
        bytes.drain(..complete);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn complete_frames_come_back_and_a_part_waits_for_its_rest() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || accept(&listener, 2));
        let mut streams = [(); 3].map(|()| BlockingStream::connect(address).unwrap());
        for stream in &mut streams {
            let mut bytes = [0; 10];
            stream.write_all(b"\x00\x03one\x00\x03t").unwrap();
            stream.read_exact(&mut bytes[..5]).unwrap();
            stream.write_all(b"wo").unwrap();
            stream.read_exact(&mut bytes[5..]).unwrap();
            assert_eq!(&bytes, b"\x00\x03one\x00\x03two");
        }
    }
}
