//! The tunnel over every kind of stream. Frames are built and taken apart by hand here, so that
//! the codec is not held against itself; time is paused, so that an hour costs nothing.

mod clocks;
mod ends;
mod flow;
mod laws;
mod rig;
mod wire;

/// One test per kind of stream from one body.
macro_rules! over_all {
    ($($name:ident),* $(,)?) => {
        mod over_script {
            use $crate::tunnel::tests::rig::Over;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(Over::Script).await;
            })*
        }

        mod over_plain {
            use $crate::tunnel::tests::rig::Over;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(Over::Plain).await;
            })*
        }

        mod over_tls {
            use $crate::tunnel::tests::rig::Over;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(Over::Tls).await;
            })*
        }

        mod over_lean {
            use $crate::tunnel::tests::rig::Over;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(Over::Lean).await;
            })*
        }
    };
}
use over_all;
