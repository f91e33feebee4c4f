//! The tunnel over every kind of stream. Frames are built and parsed by hand here, independently of
//! the code under test. Time is paused, so that long waits take no time.

mod busy;
mod closing;
mod frames;
mod polled_tunnel;
mod properties;
mod relaying;
mod test_tunnel;
mod timeouts;

/// Defines one test per kind of stream for each function.
macro_rules! over_all_streams {
    ($($name:ident),* $(,)?) => {
        mod over_script {
            use $crate::tunnel::tests::test_tunnel::StreamKind;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(StreamKind::Scripted).await;
            })*
        }

        mod over_plain {
            use $crate::tunnel::tests::test_tunnel::StreamKind;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(StreamKind::Plain).await;
            })*
        }

        mod over_tokio_tls {
            use $crate::tunnel::tests::test_tunnel::StreamKind;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(StreamKind::TokioTls).await;
            })*
        }

        mod over_http2 {
            use $crate::tunnel::tests::test_tunnel::StreamKind;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(StreamKind::Http2).await;
            })*
        }

        mod over_unbuffered_tls {
            use $crate::tunnel::tests::test_tunnel::StreamKind;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(StreamKind::UnbufferedTls).await;
            })*
        }
    };
}
use over_all_streams;
