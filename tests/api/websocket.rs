//! What browsers do: watches as messages of a WebSocket, and a token among its protocols.

use super::support::DEADLINE;
use super::tls::serve;
use futures_util::StreamExt as _;
use http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

const WATCH: &str = "/api/v1/namespaces/default/configmaps?watch=true";

#[tokio::test]
async fn a_watch_is_told_in_messages() {
    let served = serve().await;
    let stream = served.connect(Some(&served.admin()), "http/1.1").await;
    let request = format!("wss://{}{WATCH}", served.address).into_client_request().unwrap();
    let (mut socket, _) = client_async(request, stream).await.unwrap();
    for name in ["one", "two"] {
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
        served.api.post("/api/v1/namespaces/default/configmaps", &map).await.ok();
        let event = next(&mut socket).await;
        assert_eq!(
            (&event["type"], &event["object"]["metadata"]["name"]),
            (&json!("ADDED"), &json!(name))
        );
    }
    socket.close(None).await.unwrap();
}

async fn next<S>(socket: &mut WebSocketStream<S>) -> Value
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    match timeout(DEADLINE, socket.next()).await.unwrap().unwrap().unwrap() {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_among_the_protocols_is_verified() {
    let served = serve().await;
    let stream = served.connect(None, "http/1.1").await;
    let mut request = format!("wss://{}{WATCH}", served.address).into_client_request().unwrap();
    let wrong = "base64url.bearer.authorization.k8s.io.YWJj, base64.binary.k8s.io";
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(wrong));
    match client_async(request, stream).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 401),
        other => panic!("{other:?}"),
    }
}
