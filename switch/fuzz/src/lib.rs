//! A whole switch, real store and HSM behind it: whatever a peer sends, every request that can be
//! read has one answer that can be read, nothing else has one, and the switch goes on.

use std::sync::Arc;

use iso_specs::{Spec, decode};
use tests::switch_under_test::{SwitchUnderTest, TestClock};
use tests::terminal::Fields;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

const PAN: &str = "4761340000000019";

/// The switch, and what it runs on.
pub struct Link {
    runtime: Runtime,
    switch: SwitchUnderTest,
    spec: Arc<Spec>,
    echo: Vec<u8>,
    _directory: tempfile::TempDir,
}

impl Link {
    /// A switch with the demo's first card and one link.
    pub fn open(dialect: &str) -> Link {
        let directory = tempfile::tempdir().expect("a directory");
        let config = format!(
            "hsm.master_key_file = \"demo\"\nadmin.listen = \"127.0.0.1:0\"\n\
             log.transactions = false\nlimits.in_flight_per_connection_max = 2\n\
             [store]\nduplicate_index_mb_max = 16\nsnapshot_mb = 64\nretention_gb = 1\n\
             [[links]]\nname = \"link\"\nnetwork = \"net\"\nlisten = \"127.0.0.1:0\"\n\
             dialect = {dialect:?}\nzpk = \"demo-zpk\"\n\
             [[products]]\nname = \"debit\"\nbins = [\"476134\"]\ncurrency = 978\n\
             pin_retry_limit = \"none\"\n"
        );
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let switch = runtime.block_on(async {
            let switch = SwitchUnderTest::start(&config, directory.path(), TestClock::default());
            switch.add_card("card", PAN, "debit", ("2912", 1)).await;
            switch.set_pin("card", "4071").await;
            switch.activate("card").await;
            switch
        });
        let spec = Arc::clone(&switch.config.links[0].dialect);
        let mut echo = Fields::new("0800");
        echo.set(7, b"1121120000").set(11, b"000001").set(70, b"301");
        let echo = echo.frame(&spec);
        Link { runtime, switch, spec, echo, _directory: directory }
    }

    /// Sends a stream in pieces as long as its first byte says, and reads all answers.
    pub fn check(&self, data: &[u8]) {
        let [piece, stream @ ..] = data else { return };
        let pieces: Vec<&[u8]> = stream.chunks(16 * usize::from(*piece) + 1).collect();
        let count = self.answers(&pieces);
        assert_eq!(count, self.requests(stream), "answers to the requests that can be read");
        assert_eq!(self.answers(&[&self.echo]), 1, "it goes on");
    }

    /// How many answers come; each must be one.
    fn answers(&self, pieces: &[&[u8]]) -> usize {
        let answers = self.runtime.block_on(async {
            let (mut peer, served) = self.switch.connect(0);
            let (mut reader, mut writer) = tokio::io::split(&mut peer);
            let mut answers = Vec::new();
            let send = async {
                for piece in pieces {
                    // The switch may have closed the link before the end.
                    let _ = writer.write_all(piece).await;
                    tokio::task::yield_now().await;
                }
                let _ = writer.shutdown().await;
            };
            let (_, read) = tokio::join!(send, reader.read_to_end(&mut answers));
            read.expect("the end of the stream");
            served.await.expect("no panic");
            answers
        });
        let each = frames(&answers).map(|answer| {
            let decoded = decode(&self.spec, answer.expect("a whole answer")).expect("an answer");
            assert_eq!(decoded.fault, None);
            assert!(!decoded.message.mti().is_request() && decoded.message.has(39));
        });
        each.count()
    }

    /// How many requests a stream has before the link cannot be read any further.
    fn requests(&self, stream: &[u8]) -> usize {
        let readable = frames(stream).map_while(|frame| match frame? {
            [] => Some(false),
            frame if frame.len() > self.switch.config.limits.frame_bytes_max => None,
            frame => Some(decode(&self.spec, frame).ok()?.message.mti().is_request()),
        });
        readable.filter(|is_request| *is_request).count()
    }
}

/// Frames behind a length of two bytes; the last one may be cut.
fn frames(mut stream: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        let (length, rest) = stream.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let frame = rest.get(..length);
        stream = rest.get(length..).unwrap_or_default();
        Some(frame)
    })
}
