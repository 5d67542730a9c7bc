//! A whole switch, real store and HSM behind it: whatever a peer sends, every answer is a frame
//! that can be read, there are no more answers than frames, and the switch goes on.

use std::sync::Arc;

use iso_specs::{Spec, decode};
use tests::switch_under_test::{SwitchUnderTest, TestClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

const PAN: &str = "4761340000000019";

/// The switch, and what it runs on.
pub struct Link {
    runtime: Runtime,
    switch: SwitchUnderTest,
    spec: Arc<Spec>,
    _directory: tempfile::TempDir,
}

impl Link {
    /// A switch with the demo's first card and one link.
    pub fn open(dialect: &str) -> Link {
        let directory = tempfile::tempdir().expect("a directory");
        let config = format!(
            "hsm.master_key_file = \"demo\"\nadmin.listen = \"127.0.0.1:0\"\n\
             log.transactions = false\n\
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
        Link { runtime, switch, spec, _directory: directory }
    }

    /// Sends a stream and reads all answers.
    pub fn check(&self, stream: &[u8]) {
        let answers = self.runtime.block_on(async {
            let (mut peer, served) = self.switch.connect(0);
            let (mut reader, mut writer) = tokio::io::split(&mut peer);
            let mut answers = Vec::new();
            let send = async {
                // The switch may have closed the link before the end.
                let _ = writer.write_all(stream).await;
                let _ = writer.shutdown().await;
            };
            let (_, read) = tokio::join!(send, reader.read_to_end(&mut answers));
            read.expect("the end of the stream");
            served.await.expect("no panic");
            answers
        });
        let sent = frames(stream).count();
        let mut count = 0;
        for answer in frames(&answers) {
            let decoded = decode(&self.spec, answer.expect("a whole answer")).expect("an answer");
            assert_eq!(decoded.fault, None);
            assert!(!decoded.message.mti().is_request() && decoded.message.has(39));
            count += 1;
        }
        assert!(count <= sent, "{count} answers to {sent} frames");
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
