use std::io;

use super::*;
use crate::net::network::{NetFuture, SystemNet, TargetAddr};
use crate::net::socket::Socket;

/// The addresses of a name, or why there are none.
pub(crate) type ScriptedAnswer<'a> = Result<&'a [&'a str], &'static str>;

/// A resolver that gives the next of these answers, and the last one from then on.
#[derive(Debug)]
pub(crate) struct ScriptedNet(Mutex<Vec<Result<Vec<SocketAddr>, &'static str>>>);

impl ScriptedNet {
    /// Each answer is a list of addresses, or a failure with this text.
    pub(crate) fn new(answers: &[ScriptedAnswer<'_>]) -> Self {
        let answer = |answer: &ScriptedAnswer<'_>| match answer {
            Ok(addresses) => Ok(addresses.iter().map(|text| text.parse().unwrap()).collect()),
            Err(text) => Err(*text),
        };
        Self(Mutex::new(answers.iter().rev().map(answer).collect()))
    }
}

impl Net for ScriptedNet {
    fn connect<'a>(&'a self, _: &'a TargetAddr) -> NetFuture<'a, Socket> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> NetFuture<'a, Vec<SocketAddr>> {
        let mut answers = self.0.lock().unwrap();
        let next = if answers.len() > 1 { answers.pop() } else { answers.last().cloned() };
        Box::pin(async { next.unwrap().map_err(io::Error::other) })
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        SystemNet.fill_random(bytes);
    }
}

fn name() -> BackendName {
    BackendName::new(BackendAddress::parse("app.internal:1").unwrap())
}

fn moved(added: &[&str], removed: &[&str]) -> Option<NameChange> {
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Some(NameChange::Moved { added: parse(added), removed: parse(removed) })
}

// Requirements: BM21.
#[tokio::test]
async fn each_change_is_reported_once() {
    let failing = |text: &str| Some(NameChange::Failing(text.to_owned()));
    let [a, b, c] = ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1"];
    let script: [(ScriptedAnswer<'_>, Option<NameChange>, usize); 11] = [
        (Err("no such name"), failing("no such name"), 0),
        (Err("no answer"), None, 0),
        (Ok(&[a, b]), Some(NameChange::Recovered), 2),
        (Ok(&[b, a]), None, 2),
        (Ok(&[b, b, c, a]), moved(&[c], &[]), 3),
        (Ok(&[]), failing("the answer has no address"), 3),
        (Err("no answer"), None, 3),
        (Ok(&[c, a, b]), Some(NameChange::Recovered), 3),
        (Ok(&[a]), moved(&[], &[b, c]), 1),
        (Err("no answer"), failing("no answer"), 1),
        (Ok(&[b]), moved(&[b], &[a]), 1),
    ];
    let answers: Vec<_> = script.iter().map(|(answer, ..)| *answer).collect();
    let (net, name) = (ScriptedNet::new(&answers), name());
    for (answer, change, addresses) in script {
        let looked_up = name.look_up(&net).await;
        assert_eq!(name.record(looked_up.map_err(|error| error.to_string())), change, "{answer:?}");
        assert_eq!(name.answer().len(), addresses, "{answer:?}");
        assert_eq!(name.failure().is_some(), answer.map_or(true, <[_]>::is_empty), "{answer:?}");
    }
    assert_eq!([0, 1].map(|outcome| name.lookups[outcome].get()), [6, 5]);
}

#[test]
fn name_lives_as_long_as_it_is_used() {
    let names = BackendNames::default();
    let [a, b] = ["a.internal:1", "b.internal:1"].map(|text| BackendAddress::parse(text).unwrap());
    let first = names.get(&a);
    assert!(Arc::ptr_eq(&first, &names.get(&a)));
    drop(names.get(&b));
    drop(first);
    names.get(&b);
    assert_eq!(names.0.lock().unwrap().len(), 1);
}
