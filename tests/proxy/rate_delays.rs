//! A side that sends too fast is delayed: the operator sees it, and a disconnect is noticed
//! meanwhile.

use std::time::Duration;

use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::{
    PlainStream, Side, TestBed, TlsClientStream, close_normally, wire, within_timeout,
};

#[tokio::test]
async fn delays_appear_in_log_record_and_metrics() {
    for side in Side::BOTH {
        let (name, other) = (side.as_str(), side.other().as_str());
        let bed = TestBed::with(&format!(
            "[limits]\nmessages_from_{name} = {{ rate = \"20/s\", burst = 2, action = \"delay\" }}\n\
             bytes_from_{name} = \"1MiB/s\"\n"
        ))
        .await;
        let (mut speaker, mut hearer) = bed.open_for(side).await;
        let sent = side.frame(0x81, b"tiny").repeat(22);
        let begun = Instant::now();
        speaker.write_all(&sent).await.unwrap();
        let mut got = vec![0; sent.len()];
        within_timeout("delayed messages", hearer.read_exact(&mut got)).await.unwrap();
        let took = begun.elapsed().as_millis() as u64;

        // While the tunnel is open. Twenty messages were delayed by about 50 ms each, by less on a busy
        // machine, where the proxy resumes late.
        let status = bed.proxy.status("the delay", |status| status["delayed"] != json!([])).await;
        let expected = json!([{
            "side": name, "limit": "message_rate", "count": 1,
            "routes": [{ "route": "all", "count": 1 }], "routes_total": 1,
        }]);
        assert_eq!(status["delayed"], expected);
        for of in [&status, &status["busiest"][0], &status["pools"][0]] {
            let waited = &of["delayed_seconds"];
            assert!(waited[name].as_f64().unwrap() > 0.0, "{side:?} {waited}");
            assert_eq!(waited[other], 0.0, "{side:?}");
        }
        let (client, backend) = side.client_first(speaker, hearer);
        close_normally(client, backend).await;

        let record = bed.tunnel_end(1).await;
        let waited = record[format!("delayed_{name}_ms")].as_u64().unwrap();
        assert!((400..=took).contains(&waited), "{side:?} {waited} of {took}");
        assert_eq!(record[format!("delayed_{name}_by")], json!(["message_rate"]));
        for absent in ["ms", "by"].map(|field| format!("delayed_{other}_{field}")) {
            assert!(record.get(&absent).is_none(), "{record}");
        }
        let message = format!("rate limit exceeded, delaying reads from the {name}");
        let records = bed.proxy.records();
        let lines: Vec<_> = records.iter().filter(|line| line["message"] == *message).collect();
        let [line] = lines[..] else { panic!("{side:?} {lines:?}") };
        for (key, value) in [
            ("level", json!("INFO")),
            ("session", json!(1)),
            ("client_key", json!("127.0.0.1")),
            ("route", json!("all")),
            ("rule", json!("message_rate")),
            ("key", json!(format!("limits.messages_from_{name}"))),
            ("value", json!("20/s, burst 2")),
        ] {
            assert_eq!(line[key], value, "{key} in {line}");
        }

        let scrape = bed.proxy.scrape().await;
        let of = [("route", "all"), ("side", name)];
        let tunnels = "tidegate_tunnels_delayed_total";
        assert_eq!(scrape.value(tunnels, &[&of[..], &[("limit", "message_rate")]].concat()), 1.0);
        assert_eq!(scrape.sum(tunnels, &[]), 1.0, "no other");
        let seconds = "tidegate_delayed_seconds_total";
        assert_eq!(scrape.value(seconds, &of), waited as f64 / 1000.0);
        assert_eq!(scrape.sum(seconds, &[]), scrape.value(seconds, &of));
    }
}

/// How the connection of an exited process ends.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    Reset,
    Fin,
}

/// What the other side does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Echoes,
    Silent,
}

#[tokio::test]
async fn disconnect_is_noticed_while_delayed() {
    for leaves in [Leaves::Reset, Leaves::Fin] {
        for other in [Other::Echoes, Other::Silent] {
            for side in Side::BOTH {
                let bed = bed_with_message_rate(side, other).await;
                let (speaker, hearer) = bed.open_for(side).await;
                let last = |speaker: PlainStream| speaker.into_inner();
                assert_disconnect_is_recorded(&bed, side, (speaker, last), hearer, (leaves, other))
                    .await;
            }
            let bed = bed_with_message_rate(Side::Client, other).await;
            let (client, backend) = bed.open_secure().await;
            let last = |client: TlsClientStream| client.into_inner().into_inner().0;
            assert_disconnect_is_recorded(
                &bed,
                Side::Client,
                (client, last),
                backend,
                (leaves, other),
            )
            .await;
        }
    }
}

/// A side that may send five messages per second, and is pinged if the other one is silent.
async fn bed_with_message_rate(side: Side, other: Other) -> TestBed {
    let interval = if other == Other::Echoes { "off" } else { "300ms" };
    let beat = match side {
        Side::Client => format!("interval = \"{interval}\"\ntimeout = \"300ms\""),
        Side::Backend => format!(
            "interval = \"off\"\nbackend_interval = \"{interval}\"\n\
             backend_timeout = \"300ms\""
        ),
    };
    TestBed::with(&format!(
        "[limits]\nmessages_from_{} = {{ rate = \"5/s\", burst = 1, action = \"delay\" }}\n\
         [heartbeat]\n{beat}\n",
        side.as_str()
    ))
    .await
}

/// Messages for minutes at this rate, from a side that has disconnected: the record comes long
/// before they would have been relayed.
async fn assert_disconnect_is_recorded<S: AsyncWrite + Unpin>(
    bed: &TestBed,
    side: Side,
    (mut speaker, last): (S, impl Fn(S) -> TcpStream),
    mut hearer: PlainStream,
    (leaves, other): (Leaves, Other),
) {
    speaker.write_all(&side.frame(0x81, b"tiny").repeat(2000)).await.unwrap();
    speaker.flush().await.unwrap();
    assert_eq!(wire::read(&mut hearer).await.unwrap().payload, b"tiny");
    let speaker = last(speaker);
    if let Leaves::Reset = leaves {
        SockRef::from(&speaker).set_linger(Some(Duration::ZERO)).unwrap();
    }
    // With nothing unread, so that the socket sends a FIN, not a reset.
    drop(speaker);
    // Answers the Close, or the record would wait for it.
    within_timeout("the end of the tunnel", async {
        while let Some(frame) = wire::read_past_pings(&mut hearer).await {
            let back = side.other().frame(frame.first, &frame.payload);
            let closes = frame.opcode() == wire::CLOSE;
            if closes || other == Other::Echoes {
                hearer.write_all(&back).await.unwrap();
            }
            if closes {
                break;
            }
        }
    })
    .await;
    drop(hearer);
    let record = bed.tunnel_end(1).await;
    let what = format!("{side:?} {leaves:?}, {other:?}: {record}");
    let gone = format!("{}_disconnected", side.as_str());
    assert_eq!([&record["end"], &record["by"]], [&gone, side.as_str()], "{what}");
}
