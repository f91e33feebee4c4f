//! Sends invalid frames from either side, and checks how the tunnel ends.

use tokio::io::AsyncWriteExt;

use super::{Side, TestBed, close_after_violation, read_to_end, wire};

/// The reason in the record, the close code for the sender, and frames that cause it.
pub type InvalidFrames = (&'static str, u16, Vec<Vec<u8>>);

/// Sends each frame on its own tunnel of a new test bed, between valid data and more bytes. Expects
/// the data and an answer to be delivered, both sides to be closed, and one record with the reason.
pub async fn check_invalid_frames(side: Side, cases: Vec<InvalidFrames>) {
    let bed = TestBed::with("").await;
    let cases = cases
        .into_iter()
        .flat_map(|(end, code, frames)| frames.into_iter().map(move |frame| (end, code, frame)));
    for (session, (end, code, frame)) in (1..).zip(cases) {
        let (mut sender, mut receiver) = bed.open_for(side).await;
        let before = side.frame(0x80 | wire::TEXT, b"valid");
        let sent = [&before[..], &frame, b"and more"].concat();
        sender.write_all(&sent).await.unwrap();
        let to_backend = side == Side::Backend;
        assert_eq!(wire::read(&mut receiver).await.unwrap().payload, b"valid");
        let (received, close) = close_after_violation(side, &mut sender, &mut receiver).await;
        assert_eq!((received.code(), received.masked), (code, to_backend), "{end}: {frame:?}");
        // RFC 6455 7.1.7
        assert_eq!(read_to_end(&mut sender).await, b"", "{end}: {frame:?}");
        let other = if to_backend { 1013 } else { 1001 };
        assert_eq!((close.code(), close.masked), (other, !to_backend), "{end}: {frame:?}");
        drop((sender, receiver));
        let record = bed.tunnel_end(session).await;
        assert_eq!((&record["end"], &record["by"]), (&end.into(), &side.as_str().into()));
        assert_eq!(record["stage"], "tunnel");
        let messages = if to_backend { "down_messages" } else { "up_messages" };
        assert_eq!(record[messages], 1);
        let (client, backend) = side.client_first(code, other);
        assert_eq!(
            (&record["close_client"], &record["close_backend"]),
            (&client.into(), &backend.into())
        );
    }
}
