//! The tasks without which the process only looks as if it served. None of them ends by itself; if
//! one does, the process ends too, so that whoever supervises it starts another.

use std::fmt;

use tokio::task::{JoinError, JoinHandle};

/// One of them has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{task} has ended ({why}); the process cannot do without it")]
pub struct TaskExited {
    task: String,
    why: String,
}

impl TaskExited {
    /// What became of the task, in words.
    pub fn of(task: impl fmt::Display, ended: Result<(), JoinError>) -> Self {
        let why = match ended.map_err(JoinError::try_into_panic) {
            Ok(()) => "by itself".to_owned(),
            Err(Ok(payload)) => {
                let text = payload.downcast_ref::<String>().map(String::as_str);
                let words = text.or(payload.downcast_ref::<&str>().copied());
                format!("it panicked: {}", words.unwrap_or("no words"))
            }
            Err(Err(error)) => error.to_string(),
        };
        Self { task: task.to_string(), why }
    }
}

/// Ends a task, and waits until what it held is let go of.
pub async fn end(task: JoinHandle<()>) {
    task.abort();
    // Cancelled, as it was told.
    let _ = task.await;
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;

    #[tokio::test]
    async fn what_a_panic_said_is_told() {
        let words = |fallen: TaskExited| fallen.to_string();
        let panicked = Handle::current().spawn(async { panic!("at {}", "the disco") }).await;
        let told = words(TaskExited::of("a task", panicked));
        assert!(told.contains("a task") && told.contains("at the disco"), "{told}");
        let ended = Handle::current().spawn(async {}).await;
        assert!(words(TaskExited::of("a task", ended)).contains("by itself"));
    }
}
