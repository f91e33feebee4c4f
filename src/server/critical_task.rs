//! Tasks that the process cannot run without. They never end on their own; if one does, the process
//! exits, so that the service manager restarts it.

use std::fmt;

use tokio::task::{JoinError, JoinHandle};

/// A critical task has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("critical task ended: {task} ({cause})")]
pub struct TaskExited {
    task: String,
    cause: String,
}

impl TaskExited {
    /// Describes how the task ended.
    pub fn of(task: impl fmt::Display, ended: Result<(), JoinError>) -> Self {
        let cause = match ended.map_err(JoinError::try_into_panic) {
            Ok(()) => "returned".to_owned(),
            Err(Ok(payload)) => {
                let text = payload.downcast_ref::<String>().map(String::as_str);
                let message = text.or(payload.downcast_ref::<&str>().copied());
                format!("panicked: {}", message.unwrap_or("no message"))
            }
            Err(Err(error)) => error.to_string(),
        };
        Self { task: task.to_string(), cause }
    }
}

/// Aborts a task and waits until its resources are released.
pub async fn abort_and_wait(task: JoinHandle<()>) {
    task.abort();
    // The only possible result is the cancellation.
    let _ = task.await;
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;

    #[tokio::test]
    async fn error_includes_the_panic_message() {
        let panicked = Handle::current().spawn(async { panic!("index {}", 7) }).await;
        let text = TaskExited::of("a task", panicked).to_string();
        assert!(text.contains("a task") && text.contains("index 7"), "{text}");
        let ended = Handle::current().spawn(async {}).await;
        assert!(TaskExited::of("a task", ended).to_string().contains("returned"));
    }
}
