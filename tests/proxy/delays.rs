//! A side that comes too fast and is made to wait: what the operator is told of it, and that
//! nobody is waited for who has left meanwhile.

use std::time::Duration;

use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::{Plain, Secure, Side, Stage, farewell, soon, wire};

#[tokio::test]
async fn what_is_made_to_wait_is_told_everywhere() {
    for side in Side::BOTH {
        let (name, other) = (side.slug(), other_side(side).slug());
        let stage = Stage::with(&format!(
            "[limits]\nmessages_from_{name} = {{ rate = \"20/s\", burst = 2, action = \"delay\" }}\n\
             bytes_from_{name} = \"1MiB/s\"\n"
        ))
        .await;
        let (mut speaker, mut hearer) = stage.open_for(side).await;
        let sent = side.frame(0x81, b"tiny").repeat(12);
        speaker.write_all(&sent).await.unwrap();
        let mut got = vec![0; sent.len()];
        soon("what waits", hearer.read_exact(&mut got)).await.unwrap();

        // While the tunnel lives. Ten messages waited, each about 50 ms.
        let status = stage.proxy.status("the delay", |status| status["delayed"] != json!([])).await;
        let expected = json!([{
            "side": name, "reason": "message_rate", "count": 1,
            "routes": [{ "route": "all", "count": 1 }], "routes_in_all": 1,
        }]);
        assert_eq!(status["delayed"], expected);
        for of in [&status, &status["busiest"][0], &status["pools"][0]] {
            let waited = &of["delayed_seconds"];
            assert!(waited[name].as_f64().unwrap() > 0.0, "{side:?} {waited}");
            assert_eq!(waited[other], 0.0, "{side:?}");
        }
        let (client, backend) = match side {
            Side::Client => (speaker, hearer),
            Side::Backend => (hearer, speaker),
        };
        farewell(client, backend).await;

        let record = stage.end_of(1).await;
        let waited = record[format!("delayed_{name}_ms")].as_u64().unwrap();
        assert!((400..=700).contains(&waited), "{side:?} {waited}");
        assert_eq!(record[format!("delayed_{name}_by")], json!(["message_rate"]));
        for absent in ["ms", "by"].map(|field| format!("delayed_{other}_{field}")) {
            assert!(record.get(&absent).is_none(), "{record}");
        }
        let message = format!("delaying a {name} that comes too fast");
        let told = stage.proxy.records();
        let told: Vec<_> = told.iter().filter(|line| line["message"] == *message).collect();
        let [line] = told[..] else { panic!("{side:?} {told:?}") };
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

        let scrape = stage.proxy.scrape().await;
        let of = [("route", "all"), ("side", name)];
        let tunnels = "tidegate_tunnels_delayed_total";
        assert_eq!(scrape.value(tunnels, &[&of[..], &[("reason", "message_rate")]].concat()), 1.0);
        assert_eq!(scrape.sum(tunnels, &[]), 1.0, "no other");
        let seconds = "tidegate_delayed_seconds_total";
        assert_eq!(scrape.value(seconds, &of), waited as f64 / 1000.0);
        assert_eq!(scrape.sum(seconds, &[]), scrape.value(seconds, &of));
    }
}

/// How a process that is gone leaves its connection.
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
async fn who_left_while_made_to_wait_is_found_gone() {
    for leaves in [Leaves::Reset, Leaves::Fin] {
        for other in [Other::Echoes, Other::Silent] {
            for side in Side::BOTH {
                let stage = slow(side, other).await;
                let (speaker, hearer) = stage.open_for(side).await;
                let last = |speaker: Plain| speaker.into_inner();
                is_found_gone(&stage, side, (speaker, last), hearer, (leaves, other)).await;
            }
            let stage = slow(Side::Client, other).await;
            let (client, backend) = stage.open_secure().await;
            let last = |client: Secure| client.into_inner().into_inner().0;
            is_found_gone(&stage, Side::Client, (client, last), backend, (leaves, other)).await;
        }
    }
}

/// A side that may send five messages a second, and is pinged if the other one says nothing.
async fn slow(side: Side, other: Other) -> Stage {
    let interval = if other == Other::Echoes { "off" } else { "300ms" };
    let beat = match side {
        Side::Client => format!("interval = \"{interval}\"\npatience = \"300ms\""),
        Side::Backend => format!(
            "interval = \"off\"\nbackend_interval = \"{interval}\"\n\
             backend_patience = \"300ms\""
        ),
    };
    Stage::with(&format!(
        "[limits]\nmessages_from_{} = {{ rate = \"5/s\", burst = 1, action = \"delay\" }}\n\
         [heartbeat]\n{beat}\n",
        side.slug()
    ))
    .await
}

/// Minutes' worth of messages, and nobody left who sent them.
async fn is_found_gone<S: AsyncWrite + Unpin>(
    stage: &Stage,
    side: Side,
    (mut speaker, last): (S, impl Fn(S) -> TcpStream),
    mut hearer: Plain,
    (leaves, other): (Leaves, Other),
) {
    speaker.write_all(&side.frame(0x81, b"tiny").repeat(2000)).await.unwrap();
    speaker.flush().await.unwrap();
    assert_eq!(wire::read(&mut hearer).await.unwrap().payload, b"tiny");
    let speaker = last(speaker);
    if let Leaves::Reset = leaves {
        SockRef::from(&speaker).set_linger(Some(Duration::ZERO)).unwrap();
    }
    // With nothing unread in it, so that without that it sends a FIN and no reset.
    drop(speaker);
    let left = Instant::now();
    // A Close is answered, or the record would wait for that.
    soon("the end of the tunnel", async {
        while let Some(frame) = wire::read_past_pings(&mut hearer).await {
            let back = other_side(side).frame(frame.first, &frame.payload);
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
    let record = stage.end_of(1).await;
    let what = format!("{side:?} {leaves:?}, {other:?}: {record}");
    let gone = format!("{}_gone", side.slug());
    assert_eq!([&record["end"], &record["by"]], [&gone, side.slug()], "{what}");
    assert!(left.elapsed() < Duration::from_secs(2), "{:?}: {what}", left.elapsed());
}

fn other_side(side: Side) -> Side {
    match side {
        Side::Client => Side::Backend,
        Side::Backend => Side::Client,
    }
}
