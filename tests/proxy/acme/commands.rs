//! `tidegate ctl certs`, `ctl renew`, `check`, and the metrics.

use std::time::Duration;

use super::ca::{Fault, Problem, Step};
use super::{AcmeBed, NAME, ctl, listed, logged, nth_failure, renew, try_ctl};
use crate::support::{Proxy, Record, get, within_timeout};

#[tokio::test]
async fn certs_lists_names_sources_and_times() {
    let bed = AcmeBed::new().await;
    let files = "[[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\n\
                 [[route]]\nhost = \"localhost\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:1\"]\n";
    let proxy = bed.start(files).await;
    bed.wait_until_served(&proxy, 1).await;
    let listed = ctl(&proxy, &["certs"]).await;
    let line = |name: &str| listed.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(line("localhost").contains("chain.pem"), "{listed}");
    assert!(line(NAME).contains("acme") && line(NAME).contains("89d23h"), "{listed}");
    let json: serde_json::Value =
        serde_json::from_str(&ctl(&proxy, &["certs", "--json"]).await).unwrap();
    let rows = json["ok"]["certificates"].as_array().unwrap();
    let row = rows.iter().find(|row| row["names"] == serde_json::json!([NAME])).unwrap();
    let left = |key: &str| row[key].as_f64().unwrap() - json["ok"]["now"].as_f64().unwrap();
    // A third of the 90 days is left at the renewal, and up to 3 days more.
    let at = left("next_order") / 86_400.0;
    assert!((56.9..60.1).contains(&at), "{row}");
    assert_eq!((left("not_after") / 86_400.0).round(), 90.0, "{row}");
}

#[tokio::test]
async fn renew_rejects_what_it_cannot_renew() {
    let bed = AcmeBed::new().await;
    let files = "[[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\n\
                 [[route]]\nhost = \"localhost\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:1\"]\n";
    let proxy = bed.start(files).await;
    bed.wait_until_served(&proxy, 1).await;
    for name in ["localhost", "unknown.example"] {
        let output = try_ctl(&proxy, &["renew", name]).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(name), "{error}");
    }
    assert_eq!(bed.ca.count(Step::NewOrder), 1);
}

/// When the next order is made as `ctl certs` and the metric say, in seconds since 1970.
async fn next_order(proxy: &Proxy) -> [u64; 2] {
    let json: serde_json::Value =
        serde_json::from_str(&ctl(proxy, &["certs", "--json"]).await).unwrap();
    let listed = json["ok"]["certificates"][0]["next_order"].as_u64().unwrap();
    let (_, metrics) = get(proxy.admin().await, "/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    let start = "tidegate_acme_next_order_timestamp_seconds{";
    let metric = metrics.lines().find(|line| line.starts_with(start)).unwrap();
    [listed, metric.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64]
}

/// Whether the log has a failed order whose next attempt is at this moment of its day.
fn is_logged(proxy: &Proxy, at: u64) -> bool {
    let (hours, minutes, seconds) = (at / 3600 % 24, at / 60 % 60, at % 60);
    let time = format!("T{hours:02}:{minutes:02}:{seconds:02}Z");
    let has_time =
        |record: &Record| record["next_attempt"].as_str()?.ends_with(&time).then_some(());
    proxy.records().iter().any(|record| has_time(record).is_some())
}

#[tokio::test]
async fn failed_renewal_is_retried_when_log_list_and_metric_say() {
    let bed = AcmeBed::new().await;
    // The first retry follows after 10 s or so, and the renewal without a command after the end of the test.
    bed.ca.set(|settings| settings.lifetime = Duration::from_secs(600));
    let proxy = bed.start_and_issue().await;
    let problem = Problem::new(403, "caa", "not for you");
    bed.ca.fail_always(Step::NewOrder, Some(Fault::Problem(problem)));
    renew(&proxy).await;
    nth_failure(&proxy, 1, "the order that was asked for").await;
    within_timeout("log, list and metric to agree", async {
        loop {
            let [listed, metric] = next_order(&proxy).await;
            if listed == metric && is_logged(&proxy, listed) {
                return;
            }
        }
    })
    .await;
    let asked = bed.ca.count(Step::NewOrder);
    bed.ca.reached(Step::NewOrder, asked + 1).await;
    bed.ca.fail_always(Step::NewOrder, None);
    bed.wait_until_served(&proxy, 2).await;
    assert_eq!(bed.state_file()["is_requested"], false);
}

#[tokio::test]
async fn metrics_and_status_show_failures() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start_and_issue().await;
    let words = "CAA record for a.example prevents issuance";
    bed.ca.fail_next(Step::NewOrder, Fault::Problem(Problem::new(403, "caa", words)));
    renew(&proxy).await;
    logged(&proxy, words).await;
    listed(&proxy, words).await;
    let (_, body) = get(proxy.admin().await, "/status.json").await;
    assert!(String::from_utf8(body).unwrap().contains(words));
    let status = ctl(&proxy, &["status"]).await;
    assert!(status.contains(words), "{status}");
    let (_, metrics) = get(proxy.admin().await, "/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    for line in [
        "tidegate_acme_orders_total{outcome=\"failed\"} 1",
        "tidegate_acme_orders_total{outcome=\"issued\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn check_tells_what_would_be_ordered() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start_and_issue().await;
    let more =
        "[[route]]\nhost = \"new.example\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:1\"]\n";
    proxy.rewrite(&bed.config(more));
    let output = std::process::Command::new("timeout")
        .args(["20", crate::support::TIDEGATE, "check", "--config", "proxy.toml"])
        .current_dir(proxy.folder())
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("new.example"), "{text}");
    // The check itself orders nothing.
    assert_eq!(bed.ca.count(Step::NewOrder), 1);
}

#[tokio::test]
async fn reload_orders_for_a_new_route() {
    let bed = AcmeBed::new().await;
    let proxy: Proxy = bed.start_and_issue().await;
    let more =
        "[[route]]\nhost = \"new.example\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:1\"]\n";
    proxy.rewrite(&bed.config(more));
    proxy.reload().await;
    bed.ca.issues(2).await;
    let names: Vec<_> = bed.ca.issued()[1].names.iter().cloned().collect();
    assert_eq!(names, ["new.example"]);
    crate::support::within_timeout("the new name to be served", async {
        while bed.connect(&proxy, "new.example", &[]).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(bed.served(&proxy).await.as_ref(), Some(&bed.ca.issued()[0].leaf));
}
