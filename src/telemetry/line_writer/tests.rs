//! Batches, failed writes and full queues.

use super::*;

#[derive(Clone, Debug, Default)]
struct TestSink(Arc<Mutex<WrittenLines>>);

#[derive(Debug, Default)]
struct WrittenLines {
    /// Bytes that the target still takes; `None` if it is unlimited.
    room: Option<usize>,
    reports_fail: bool,
    batches: Vec<Vec<u8>>,
    reports: Vec<(u64, Option<String>)>,
}

impl LineSink for TestSink {
    const BATCH_BYTES: usize = 8;

    fn write(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        let mut written = self.0.lock().unwrap();
        let fits = written.room.map_or(lines.len(), |room| room.min(lines.len()));
        written.batches.push(lines[..fits].to_vec());
        if fits == lines.len() {
            return Ok(());
        }
        Err(WriteError { written: fits, source: io::ErrorKind::StorageFull.into() })
    }

    fn report_lost(&mut self, lost: u64, error: Option<&io::Error>) -> io::Result<()> {
        let mut written = self.0.lock().unwrap();
        if written.reports_fail {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        written.reports.push((lost, error.map(io::Error::to_string)));
        Ok(())
    }
}

fn writer(sink: &TestSink) -> WriterThread<TestSink> {
    let queue = Arc::new(LineQueue::new(LogTarget::AccessFile, TestSink::BATCH_BYTES));
    WriterThread { sink: sink.clone(), queue, reported: None, error: None }
}

fn feed(writer: &mut WriterThread<TestSink>, lines: &[&str]) {
    for line in lines {
        writer.queue.push(line.as_bytes());
    }
    writer.queue.close();
    writer.run();
}

#[test]
fn lines_are_written_in_batches() {
    let sink = TestSink::default();
    feed(&mut writer(&sink), &["1\n", "2\n", "345\n", "6\n", "longer than a batch\n", "7\n"]);
    let expected = ["1\n2\n345\n", "6\n", "longer than a batch\n", "7\n"];
    assert_eq!(sink.0.lock().unwrap().batches, expected.map(|batch| batch.as_bytes().to_vec()));
}

#[test]
fn failed_lines_are_counted_and_reported() {
    let sink = TestSink::default();
    sink.0.lock().unwrap().room = Some(0);
    let before = lines_lost(LogTarget::AccessFile);
    feed(&mut writer(&sink), &["1\n", "2345678\n", "3\n", "4\n", "5\n"]);
    assert!(lines_lost(LogTarget::AccessFile) >= before + 5);
    let loss = line_loss(LogTarget::AccessFile).unwrap();
    assert!(loss.first <= loss.last, "{loss:?}");
    assert!(loss.error.is_some(), "{loss:?}");
    let written = sink.0.lock().unwrap();
    // The first loss is reported at once, the others together when the thread ends.
    let error = Some("no storage space".to_owned());
    assert_eq!(written.reports, [(1, error.clone()), (4, error)]);
}

/// What is too long for the rest of a disk may be followed by what is not.
#[test]
fn lines_after_a_failed_one_are_tried() {
    let sink = TestSink::default();
    sink.0.lock().unwrap().room = Some(3);
    let mut writer = writer(&sink);
    feed(&mut writer, &["1\n", "234\n", "5\n"]);
    let written = sink.0.lock().unwrap();
    assert_eq!(written.batches, [b"1\n2".to_vec(), b"5\n".to_vec()]);
    assert_eq!(written.reports.iter().map(|(lost, _)| lost).sum::<u64>(), 1);
}

#[test]
fn part_of_a_line_is_known() {
    let lines = b"12\n345\n6\n";
    for (written, partial, rest) in [
        (0, 0, "345\n6\n"),
        (2, 2, "345\n6\n"),
        (3, 0, "6\n"),
        (5, 2, "6\n"),
        (7, 0, ""),
        (8, 1, ""),
    ] {
        let error = WriteError { written, source: io::ErrorKind::StorageFull.into() };
        assert_eq!(error.partial_bytes(lines), partial, "{written}");
        assert_eq!(error.rest(lines), rest.as_bytes(), "{written}");
    }
}

#[test]
fn failed_reports_are_repeated() {
    let sink = TestSink::default();
    sink.0.lock().unwrap().room = Some(0);
    sink.0.lock().unwrap().reports_fail = true;
    let mut writer = writer(&sink);
    feed(&mut writer, &["1\n", "2\n", "3\n"]);
    assert!(sink.0.lock().unwrap().reports.is_empty());
    sink.0.lock().unwrap().reports_fail = false;
    writer.report_lost();
    assert_eq!(sink.0.lock().unwrap().reports[0].0, 3);
}

#[test]
fn sending_to_a_full_queue_does_not_block() {
    let sink = TestSink::default();
    let held = sink.0.lock().unwrap();
    let (lines, started) = LineSender::start("test", LogTarget::AccessFile, sink.clone());
    started.unwrap();
    let line = [&[b'x'; 1023][..], b"\n"].concat();
    let fit = QUEUE_BYTES_MAX / line.len();
    for _ in 0..fit + 100 {
        lines.send(&line);
    }
    assert_eq!(lines.0.0.lock().unreported, 100);
    drop(held);
    lines.flush();
    let written = sink.0.lock().unwrap();
    assert_eq!(written.batches.len(), fit);
    assert_eq!(written.reports, [(100, None)]);
}
