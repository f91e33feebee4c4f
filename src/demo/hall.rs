//! The demo's chat: everyone hears everyone, nobody waits for anybody.
//!
//! Owns who is in and one bounded queue for each. A member whose queue is full is let go, so that
//! a slow reader costs the others nothing. Knows no socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Everyone who is in the chat.
#[derive(Debug, Default)]
pub struct Hall {
    members: Mutex<Members>,
}

impl Hall {
    /// A seat for a newcomer, who is told its number, as all are told how many are here;
    /// `None`: the hall is full.
    pub fn enter(self: &Arc<Self>) -> Option<Seat> {
        let mut members = self.members();
        if members.queues.len() >= MEMBERS_MAX {
            return None;
        }
        members.last += 1;
        let number = members.last;
        let (sender, heard) = mpsc::channel(QUEUE_MAX);
        let here = members.queues.len() + 1;
        // The queue is new and empty: this cannot fail.
        let _ = sender.try_send(json!({ "you": number, "here": here }).to_string().into());
        members.tell(&json!({ "here": here }).to_string());
        members.queues.insert(number, sender);
        drop(members);
        Some(Seat { number, heard, hall: Arc::clone(self) })
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        // A map is whole between any two of its operations.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One member's place; dropping it leaves the hall.
#[derive(Debug)]
pub struct Seat {
    number: u64,
    heard: mpsc::Receiver<Utf8Bytes>,
    hall: Arc<Hall>,
}

impl Seat {
    /// Says `text` to all, the speaker included.
    pub fn say(&self, text: &str) {
        let said = json!({ "from": self.number, "said": text }).to_string();
        self.hall.members().tell(&said);
    }

    /// The next thing to pass on; `None`: this member was too slow and is out.
    pub async fn hear(&mut self) -> Option<Utf8Bytes> {
        self.heard.recv().await
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut members = self.hall.members();
        members.queues.remove(&self.number);
        let here = members.queues.len();
        members.tell(&json!({ "here": here }).to_string());
    }
}

#[derive(Debug, Default)]
struct Members {
    last: u64,
    queues: BTreeMap<u64, mpsc::Sender<Utf8Bytes>>,
}

impl Members {
    /// Queues `text` for all; whoever has no room left is out.
    fn tell(&mut self, text: &str) {
        let text = Utf8Bytes::from(text);
        self.queues.retain(|_, queue| queue.try_send(text.clone()).is_ok());
    }
}

/// Most members at one time.
const MEMBERS_MAX: usize = 64;

/// Texts that may wait for one member.
const QUEUE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    async fn heard(seat: &mut Seat) -> serde_json::Value {
        serde_json::from_str(&seat.hear().await.expect("still in")).expect("JSON")
    }

    #[tokio::test]
    async fn everyone_hears_everyone_and_who_is_here() {
        let hall = Arc::new(Hall::default());
        let mut first = hall.enter().expect("room");
        assert_eq!(heard(&mut first).await, json!({ "you": 1, "here": 1 }));
        let mut second = hall.enter().expect("room");
        assert_eq!(heard(&mut first).await, json!({ "here": 2 }));
        assert_eq!(heard(&mut second).await, json!({ "you": 2, "here": 2 }));

        second.say("\"<b>hi</b>\"");
        let said = json!({ "from": 2, "said": "\"<b>hi</b>\"" });
        assert_eq!(heard(&mut first).await, said);
        assert_eq!(heard(&mut second).await, said);

        drop(second);
        assert_eq!(heard(&mut first).await, json!({ "here": 1 }));
    }

    #[tokio::test]
    async fn a_slow_member_is_let_go_and_the_others_hear_all() {
        let hall = Arc::new(Hall::default());
        let mut slow = hall.enter().expect("room");
        let mut quick = hall.enter().expect("room");
        heard(&mut quick).await;
        for count in 0..QUEUE_MAX * 2 {
            quick.say(&count.to_string());
            assert_eq!(heard(&mut quick).await["said"], count.to_string());
        }
        let mut queued = 0;
        while slow.hear().await.is_some() {
            queued += 1;
        }
        assert_eq!(queued, QUEUE_MAX);
    }

    #[test]
    fn a_full_hall_turns_newcomers_away_until_somebody_leaves() {
        let hall = Arc::new(Hall::default());
        let mut seats: Vec<Seat> = (0..MEMBERS_MAX).map(|_| hall.enter().expect("room")).collect();
        assert!(hall.enter().is_none());
        seats.pop();
        assert!(hall.enter().is_some());
    }
}
