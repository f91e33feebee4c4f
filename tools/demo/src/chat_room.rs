//! The demo's chat room: every message goes to every user, and no user waits for another.
//!
//! Each user has one bounded queue. A user with a full queue is removed, so that a slow reader does
//! not delay the others. The room knows no sockets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The users of the chat and their queues.
#[derive(Debug, Default)]
pub struct ChatRoom {
    users: Mutex<Users>,
}

impl ChatRoom {
    /// Adds a user. The new user receives its id, and every user receives the new user count.
    /// Returns `None` if the room is full.
    pub fn join(self: &Arc<Self>) -> Option<User> {
        let mut users = self.users();
        if users.queues.len() >= USERS_MAX {
            return None;
        }
        users.last_id += 1;
        let id = users.last_id;
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let count = users.queues.len() + 1;
        // Cannot fail: the queue is new and empty.
        let _ = queue.try_send(json!({ "user": id, "users": count }).to_string().into());
        users.broadcast(&json!({ "users": count }).to_string());
        users.queues.insert(id, queue);
        drop(users);
        Some(User { id, messages, room: Arc::clone(self) })
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        // A panic cannot leave the map inconsistent between two of its operations.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One user's membership; dropping it leaves the room.
#[derive(Debug)]
pub struct User {
    id: u64,
    messages: mpsc::Receiver<Utf8Bytes>,
    room: Arc<ChatRoom>,
}

impl User {
    /// Sends `text` to all users, including this one.
    pub fn send(&self, text: &str) {
        let message = json!({ "from": self.id, "text": text }).to_string();
        self.room.users().broadcast(&message);
    }

    /// Waits for the next message for this user. Returns `None` if the user was removed because
    /// its queue was full.
    pub async fn recv(&mut self) -> Option<Utf8Bytes> {
        self.messages.recv().await
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut users = self.room.users();
        users.queues.remove(&self.id);
        let count = users.queues.len();
        users.broadcast(&json!({ "users": count }).to_string());
    }
}

#[derive(Debug, Default)]
struct Users {
    last_id: u64,
    queues: BTreeMap<u64, mpsc::Sender<Utf8Bytes>>,
}

impl Users {
    /// Queues `text` for all users and removes users with a full queue.
    fn broadcast(&mut self, text: &str) {
        let text = Utf8Bytes::from(text);
        self.queues.retain(|_, queue| queue.try_send(text.clone()).is_ok());
    }
}

/// Maximum number of users in the room.
const USERS_MAX: usize = 64;

/// Maximum number of messages queued for one user.
const QUEUE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    async fn recv(user: &mut User) -> serde_json::Value {
        serde_json::from_str(&user.recv().await.expect("still in the room")).expect("JSON")
    }

    #[tokio::test]
    async fn messages_and_user_count_reach_every_user() {
        let room = Arc::new(ChatRoom::default());
        let mut first = room.join().expect("space");
        assert_eq!(recv(&mut first).await, json!({ "user": 1, "users": 1 }));
        let mut second = room.join().expect("space");
        assert_eq!(recv(&mut first).await, json!({ "users": 2 }));
        assert_eq!(recv(&mut second).await, json!({ "user": 2, "users": 2 }));

        second.send("\"<b>hi</b>\"");
        let message = json!({ "from": 2, "text": "\"<b>hi</b>\"" });
        assert_eq!(recv(&mut first).await, message);
        assert_eq!(recv(&mut second).await, message);

        drop(second);
        assert_eq!(recv(&mut first).await, json!({ "users": 1 }));
    }

    #[tokio::test]
    async fn a_slow_user_is_removed_without_delaying_others() {
        let room = Arc::new(ChatRoom::default());
        let mut slow = room.join().expect("space");
        let mut quick = room.join().expect("space");
        recv(&mut quick).await;
        for count in 0..QUEUE_MAX * 2 {
            quick.send(&count.to_string());
            assert_eq!(recv(&mut quick).await["text"], count.to_string());
        }
        let mut queued = 0;
        while slow.recv().await.is_some() {
            queued += 1;
        }
        assert_eq!(queued, QUEUE_MAX);
    }

    #[test]
    fn a_full_room_rejects_until_a_user_leaves() {
        let room = Arc::new(ChatRoom::default());
        let mut users: Vec<User> = (0..USERS_MAX).map(|_| room.join().expect("space")).collect();
        assert!(room.join().is_none());
        users.pop();
        assert!(room.join().is_some());
    }
}
