use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::sleep;

use super::*;
use crate::config::settings::Settings;
use crate::net::network::{NetFuture, TargetAddr};
use crate::net::socket::Socket;
use crate::upstream::backend_name::tests::{ScriptedAnswer, ScriptedNet};
use crate::upstream::pool::Backend;

const SECOND: Duration = Duration::from_secs(1);
const A: &str = "192.0.2.1:1";
const B: &str = "192.0.2.2:1";
const C: &str = "192.0.2.3:1";

/// A proxy with the name `app.internal:1` in the pools of two routes, and its lookups.
struct NamedProxy {
    state: Arc<ProxyState>,
    lookups: NameLookups,
    tasks: JoinSet<()>,
}

fn config(more: &str) -> String {
    let route = |name| {
        format!(
            "[[route]]\nname = \"{name}\"\nhost = \"{name}.example\"\norigins = [\"*\"]\npool = \"p\"\n"
        )
    };
    format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n{}{}\
         [[pool]]\nname = \"p\"\nresolve = \"1s\"\n{more}",
        route("a"),
        route("b")
    )
}

const ONE: &str = "backends = [{ address = \"app.internal:1\", max_tunnels = 5 }]\n";

fn snapshot(text: &str, previous: Option<&Snapshot>) -> Snapshot {
    let settings = Settings::parse(text, "proxy.toml").unwrap();
    let ticketer = crate::tls::terminate::ticketer().unwrap();
    Snapshot::build(settings, previous, &ticketer, 1000).map_err(|errors| errors.len()).unwrap()
}

impl NamedProxy {
    async fn start(text: &str, net: impl Net + 'static) -> Self {
        let ticketer = crate::tls::terminate::ticketer().unwrap();
        let state = ProxyState::new(Arc::new(net), snapshot(text, None), ticketer, 1000);
        first_lookups(&state.net, &state.snapshot(), None).await;
        Self { state: Arc::new(state), lookups: NameLookups::default(), tasks: JoinSet::new() }
    }

    /// Lets a tenth of an interval pass.
    async fn step(&mut self) {
        self.lookups.start(&self.state, &self.state.snapshot(), SECOND / 10, &mut self.tasks);
        sleep(SECOND / 10).await;
    }

    /// Waits for the next answer.
    async fn pass(&mut self) {
        let snapshot = self.state.snapshot();
        let name = &snapshot.route_list[0].pool.names[0].name;
        let count = || name.lookups[0].get() + name.lookups[1].get();
        let before = count();
        while count() == before {
            self.step().await;
        }
        assert_eq!(count(), before + 1);
    }

    fn reload(&self, text: &str) {
        let after = snapshot(text, Some(&self.state.snapshot()));
        self.state.swap(after);
    }

    fn backends(&self, route: usize) -> Vec<Arc<Backend>> {
        self.state.snapshot().route_list[route].pool.backends().to_vec()
    }

    fn ids(&self) -> Vec<String> {
        let [a, b] = [0, 1].map(|route| self.backends(route));
        assert!(a.iter().map(|of| &of.id).eq(b.iter().map(|of| &of.id)), "{a:?} {b:?}");
        a.iter().map(|backend| backend.id.to_string()).collect()
    }

    fn backend(&self, id: &str) -> Arc<Backend> {
        self.backends(0).into_iter().find(|backend| *backend.id == *id).unwrap()
    }
}

// Requirements: BM21.
#[tokio::test(start_paused = true)]
async fn backends_are_the_addresses_of_the_last_answer() {
    let one = "app.internal:1";
    let script: [(ScriptedAnswer<'_>, &[&str]); 10] = [
        (Err("no such name"), &[one]),
        (Ok(&[B, A]), &[A, B]),
        (Ok(&[A, B]), &[A, B]),
        (Ok(&[C, A, B]), &[A, B, C]),
        (Ok(&[]), &[A, B, C]),
        (Err("no answer"), &[A, B, C]),
        (Ok(&[C]), &[one]),
        (Ok(&["[::1]:1", C]), &[one]),
        (Err("no answer"), &[one]),
        (Ok(&[C, B]), &[B, C]),
    ];
    let answers: Vec<_> = script.iter().map(|(answer, _)| *answer).collect();
    let mut proxy = NamedProxy::start(&config(ONE), ScriptedNet::new(&answers)).await;
    for (answer, expected) in script {
        assert_eq!(proxy.ids(), expected, "{answer:?}");
        proxy.pass().await;
    }
    assert_eq!(proxy.state.snapshot().generation, 1, "this is no reload");
}

#[tokio::test(start_paused = true)]
async fn backend_that_stays_keeps_its_state() {
    let net = ScriptedNet::new(&[Ok(&[A]), Ok(&[A, B]), Ok(&[C, A]), Ok(&[A])]);
    let mut proxy = NamedProxy::start(&config(ONE), net).await;
    // The tunnels at an address count for it, whether or not it is the only one.
    let only = proxy.backend("app.internal:1");
    let queue = proxy.state.snapshot().route_list[0].pool.state().queue.clone();
    let places = [(); 3].map(|()| only.load.tunnels.enter(Some(5), &queue));
    proxy.pass().await;
    let first = proxy.backend(A);
    assert_eq!((first.load.tunnels.get(), proxy.backend(B).load.tunnels.get()), (3, 0));
    first.admin_override.set_weight(NonZeroU32::new(7));
    let now = Instant::now();
    first.health.record_failure(now, now);
    let gone = proxy.backend(B);
    proxy.pass().await;
    assert_eq!(proxy.ids(), [A, C]);
    assert!(Arc::ptr_eq(&first, &proxy.backend(A)), "nothing of it has changed");
    drop((gone, only));
    let has_series = |proxy: &NamedProxy, id: &str| {
        proxy.state.metrics.backends().iter().any(|counts| *counts.id == *id)
    };
    assert!(has_series(&proxy, C));
    // A reload keeps the backends, and what is known of them.
    proxy.reload(&config(&format!("{ONE}slow_start = \"1m\"\n")));
    assert_eq!(proxy.ids(), [A, C]);
    let reloaded = proxy.backend(A);
    assert!(Arc::ptr_eq(&first.health, &reloaded.health));
    assert_eq!((reloaded.effective_weight().get(), reloaded.load.tunnels.get()), (7, 3));
    drop((first, reloaded));
    proxy.pass().await;
    assert_eq!(proxy.ids(), ["app.internal:1"]);
    assert_eq!(proxy.backend("app.internal:1").load.tunnels.get(), 3);
    assert!(!has_series(&proxy, C), "the metrics of an address that is gone end with its tunnels");
    drop(places);
}

#[tokio::test(start_paused = true)]
async fn flapping_family_keeps_the_count_of_tunnels() {
    const V6: &str = "[2001:db8::1]:1";
    let script: [(ScriptedAnswer<'_>, &str); 7] = [
        (Ok(&[V6, A]), "app.internal:1"),
        (Ok(&[A]), "app.internal:1"),
        (Ok(&[V6, A]), "app.internal:1"),
        (Ok(&[V6, A, B]), A),
        (Ok(&[A, B]), A),
        (Ok(&[A]), "app.internal:1"),
        (Ok(&[A, V6]), "app.internal:1"),
    ];
    let answers: Vec<_> = script.iter().map(|(answer, _)| *answer).collect();
    let mut proxy = NamedProxy::start(&config(ONE), ScriptedNet::new(&answers)).await;
    let queue = proxy.state.snapshot().route_list[0].pool.state().queue.clone();
    let only = proxy.backend("app.internal:1");
    let _places = [(); 3].map(|()| only.load.tunnels.enter(Some(5), &queue));
    drop(only);
    for (answer, id) in script {
        assert_eq!(proxy.backend(id).load.tunnels.get(), 3, "{answer:?}");
        proxy.reload(&config(ONE));
        assert_eq!(proxy.backend(id).load.tunnels.get(), 3, "{answer:?} after a reload");
        proxy.pass().await;
    }
}

/// What an operator set for an address holds when it comes back, and is not that of another one.
#[tokio::test(start_paused = true)]
async fn address_that_is_missing_for_a_time_stays_drained() {
    let net = ScriptedNet::new(&[Ok(&[A, B]), Ok(&[B, C]), Ok(&[B]), Ok(&[A]), Ok(&[A, C])]);
    let mut proxy = NamedProxy::start(&config(ONE), net).await;
    let set = |proxy: &NamedProxy, id: &str| {
        proxy.state.snapshot().route_list[0].pool.admin_override(id).map(|(_, set)| set)
    };
    set(&proxy, A).unwrap().drain.set(true);
    set(&proxy, B).unwrap().set_weight(NonZeroU32::new(7));
    proxy.pass().await;
    assert_eq!(proxy.ids(), [B, C]);
    let kept = |proxy: &NamedProxy| {
        let kept = proxy.state.snapshot().route_list[0].pool.names[0].addresses.kept();
        kept.iter().map(|kept| kept.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(kept(&proxy), [A]);
    assert!(set(&proxy, C).is_some_and(|set| !set.is_set()));
    proxy.reload(&config(ONE));
    proxy.pass().await;
    // The only address of the name.
    let only = proxy.backend("app.internal:1");
    assert!(!only.is_draining() && only.effective_weight().get() == 7);
    assert_eq!(kept(&proxy), [A]);
    proxy.pass().await;
    assert!(proxy.backend("app.internal:1").is_draining());
    assert_eq!(kept(&proxy), [B]);
    proxy.pass().await;
    assert_eq!(proxy.ids(), [A, C]);
    assert!(proxy.backend(A).is_draining() && !proxy.backend(C).is_draining());
    // Another configured weight ends that of the operator, also of an address that is missing.
    proxy.reload(&config("backends = [{ address = \"app.internal:1\", weight = 3 }]\n"));
    assert!(proxy.backend(A).is_draining() && set(&proxy, B).is_none_or(|set| !set.is_set()));
    set(&proxy, A).unwrap().drain.set(false);
    assert!(!proxy.backend(A).is_draining());
}

#[tokio::test(start_paused = true)]
async fn drained_name_drains_later_addresses() {
    let net = ScriptedNet::new(&[Ok(&[A]), Ok(&[A, B]), Ok(&[C, A])]);
    let mut proxy = NamedProxy::start(&config(ONE), net).await;
    let (_, drained) =
        proxy.state.snapshot().route_list[0].pool.admin_override("app.internal:1").unwrap();
    drained.drain.set(true);
    assert!(proxy.backend("app.internal:1").is_draining());
    for _ in 0..2 {
        proxy.pass().await;
        proxy.reload(&config(ONE));
        assert!(proxy.backends(0).iter().all(|backend| backend.is_draining()));
        assert!(!proxy.backends(1).iter().any(|backend| backend.is_draining()), "another route");
    }
    drained.drain.set(false);
    assert!(!proxy.backends(0).iter().any(|backend| backend.is_draining()));
}

#[tokio::test(start_paused = true)]
async fn listed_address_and_own_id_are_not_expanded() {
    let backends = format!(
        "backends = [\"{B}\", \"app.internal:1\", {{ address = \"own.internal:1\", id = \"own\" }}]\n"
    );
    let proxy = NamedProxy::start(&config(&backends), ScriptedNet::new(&[Ok(&[A, B])])).await;
    assert_eq!(proxy.ids(), [B, A, "own"]);
    let off = backends + "on_backend_loss = \"keep\"\n";
    proxy.reload(&config(&off).replace("\"1s\"", "\"off\""));
    assert_eq!(proxy.ids(), [B, "app.internal:1", "own"]);
    assert!(names(&proxy.state.snapshot()).is_empty());
}

/// A resolver that never answers, and counts the lookups.
#[derive(Debug, Default)]
struct SilentResolver(Arc<AtomicUsize>);

impl Net for SilentResolver {
    fn connect<'a>(&'a self, _: &'a TargetAddr) -> NetFuture<'a, Socket> {
        Box::pin(std::future::pending())
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> NetFuture<'a, Vec<std::net::SocketAddr>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::pending())
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

#[tokio::test(start_paused = true)]
async fn silent_resolver_delays_start_and_has_one_lookup() {
    let (net, started) = (SilentResolver::default(), Instant::now());
    let count = net.0.clone();
    let mut proxy = NamedProxy::start(&config(ONE), net).await;
    assert_eq!(started.elapsed(), FIRST_LOOKUPS_TIMEOUT);
    for _ in 0..200 {
        proxy.step().await;
    }
    // That of the start, and one that is still waited for.
    assert_eq!(count.load(Ordering::Relaxed), 2);
    let snapshot = proxy.state.snapshot();
    let name = &snapshot.route_list[0].pool.names[0].name;
    assert_eq!(name.failure().as_deref(), Some("the name does not resolve: no answer in time"));
    assert_eq!(proxy.ids(), ["app.internal:1"]);
}

#[tokio::test(start_paused = true)]
async fn pools_without_names_have_no_lookup() {
    let (net, started) = (SilentResolver::default(), Instant::now());
    let count = net.0.clone();
    let plain = config(&format!("backends = [\"{A}\", \"unix:/run/app.sock\"]\n"));
    let mut proxy = NamedProxy::start(&plain.replace("resolve = \"1s\"\n", ""), net).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    proxy.step().await;
    assert_eq!((count.load(Ordering::Relaxed), proxy.tasks.len()), (0, 0));
}
