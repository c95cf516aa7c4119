//! Many watches of the same objects, and how long a write takes to reach the last of them.

use super::load::{config_map, now};
use super::target::Target;
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use http::Method;
use http_body_util::BodyExt as _;
use kinglet::client::{Client, Content};
use kinglet::stdx::http::{Body, HttpService as _};

const WATCHED: &str = "/api/v1/namespaces/default/secrets";

/// Watches of one connection: fewer than any server lets one have.
const WATCHES_EACH: usize = 50;

/// The milliseconds from each write's request to its last delivery, and the processor time of one
/// delivery, in microseconds.
pub fn measure(target: &Target, watchers: usize, writes: usize) -> (Vec<f64>, f64) {
    let client = Client::new(target.connection(), "bench");
    let connections: Vec<_> =
        (0..watchers.div_ceil(WATCHES_EACH)).map(|_| target.connection()).collect();
    let (times, cpu) = target.with_cpu(|| {
        target.run(async || {
            let opened = (0..watchers).map(async |index| {
                let path = format!("{WATCHED}?watch=true&resourceVersion=0");
                let request = http::Request::get(path).body(Bytes::new()).unwrap();
                let response = connections[index / WATCHES_EACH].call(request).await?;
                assert_eq!(response.status(), 200);
                Ok::<_, std::io::Error>(response.into_body())
            });
            let mut watches = try_join_all(opened).await.unwrap();
            let mut times = Vec::new();
            for write in 0..writes {
                let name = format!("watched-{write}");
                let mut object = config_map(&name);
                object["kind"] = "Secret".into();
                object["data"]["payload"] = "eA==".into();
                let asked = now();
                let write = client.request(Method::POST, WATCHED, Some(Content::json(&object)));
                let seen = join_all(watches.iter_mut().map(|watch| until_named(watch, &name)));
                let (written, _) = tokio::join!(write, seen);
                written.unwrap();
                times.push(asked.elapsed().as_secs_f64() * 1000.0);
            }
            times
        })
    });
    (times, cpu * 1e6 / (watchers * writes) as f64)
}

/// Reads a watch until it tells of an object. An event is one frame of the body, or less: its name
/// is near its beginning.
async fn until_named(watch: &mut Body, name: &str) {
    let wanted = format!("\"{name}\"");
    loop {
        let frame = watch.frame().await.unwrap().unwrap();
        let data = frame.into_data().unwrap_or_default();
        if String::from_utf8_lossy(&data).contains(&wanted) {
            return;
        }
    }
}
