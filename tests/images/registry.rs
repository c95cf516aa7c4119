//! Pulls from Debian's docker-registry: plain, with TLS, with passwords, with tokens, and in place
//! of another registry.

use crate::rig::{Recorder, Rig};
use crate::server::{Access, Authority, Registry, Server, TlsFiles, TokenIssuer, TunnelProxy};
use crate::support::{BuiltImage, Compression, ImageBuilder, LayerBuilder, busybox, index};
use kinglet::runtime::PullError;
use kinglet::runtime::images::{DefaultEndpoint, Images, ImagesConfig, Phase, Progress, Proxy};
use kinglet::stdx::{Clock, chain};
use std::path::Path;

fn image(text: &str) -> BuiltImage {
    ImageBuilder::new()
        .layer(LayerBuilder::new().file("lower", 0o644, b"lower"), Compression::Gzip)
        .layer(LayerBuilder::new().file("text", 0o644, text.as_bytes()), Compression::Zstd)
        .build()
}

/// A registry for everyone, with its storage, from which others can serve as well.
async fn pushed(images: &[(&str, &[&BuiltImage])]) -> (tempfile::TempDir, Registry) {
    let storage = tempfile::tempdir().unwrap();
    let registry = Registry::start(storage.path(), &Access::Everyone, None).await;
    for (name, images) in images {
        registry.push(name, images).await;
    }
    (storage, registry)
}

fn htpasswd(directory: &Path) -> std::path::PathBuf {
    let file = directory.join("htpasswd");
    #[expect(clippy::disallowed_methods, reason = "the file is the registry's own format")]
    let status = std::process::Command::new("htpasswd")
        .args(["-Bbc", file.to_str().unwrap(), "user", "secret"])
        .stderr(std::process::Stdio::null())
        .status()
        .expect("Debian's apache2-utils is installed");
    assert!(status.success());
    file
}

fn shown(result: Result<kinglet::runtime::ImageStatus, PullError>) -> String {
    match result {
        Ok(status) => status.id.0,
        Err(error) => chain(&error),
    }
}

#[tokio::test]
async fn by_tag_and_by_digest() {
    let image = busybox();
    let (_storage, registry) = pushed(&[("test/busybox:1", &[&image])]).await;
    let name = format!("127.0.0.1:{}/test/busybox", registry.port);
    let at_digest = format!("{name}@{}", image.manifest.digest);
    let rig = Rig::new().await;
    let recorder = Recorder::default();
    let progress = recorder.progress();
    let status = rig.images.pull(&format!("{name}:1"), &[], &progress).await.unwrap();
    assert_eq!(status.id.0, image.id());
    assert_eq!(status.tags, [format!("{name}:1")]);
    assert_eq!(status.digests, std::slice::from_ref(&at_digest));
    assert_eq!((rig.layers(), rig.blobs(), recorder.count(Phase::Done)), (1, 2, 1));
    rig.assert_tidy().await;
    let mounted = rig.mounted(&status.id.0, "c").await;
    assert!(mounted.read("etc/passwd").starts_with("root:x:0:0"));
    assert_eq!(rig.pull(&format!("{name}:1")).await.unwrap(), status);

    let rig = Rig::new().await;
    let status = rig.pull(&at_digest).await.unwrap();
    assert_eq!((status.tags.len(), status.digests), (0, vec![at_digest.clone()]));
    assert!(rig.images.resolve(&at_digest).is_some());
}

#[tokio::test]
async fn an_index_with_several_platforms_and_dockers_types() {
    let ours = image("ours").clone();
    let docker = ImageBuilder::new()
        .docker_types()
        .layer(LayerBuilder::new().file("text", 0o644, b"docker"), Compression::None)
        .build();
    let theirs = ImageBuilder::new()
        .architecture("s390x")
        .layer(LayerBuilder::new().file("text", 0o644, b"theirs"), Compression::Gzip)
        .build();
    let (_storage, registry) = pushed(&[
        ("test/multi:1", &[&theirs, &ours]),
        ("test/docker:1", &[&docker]),
        ("test/foreign:1", &[&theirs, &theirs]),
    ])
    .await;
    let name = |name: &str| format!("127.0.0.1:{}/test/{name}", registry.port);
    let rig = Rig::new().await;
    let status = rig.pull(&name("multi:1")).await.unwrap();
    assert_eq!(status.id.0, ours.id());
    let several = index(&[&theirs, &ours]);
    assert_eq!(status.digests, [format!("{}@{}", name("multi"), several.digest)]);
    assert_eq!(shown(rig.pull(&name("docker:1")).await), docker.id());
    let found = shown(rig.pull(&name("foreign:1")).await);
    assert!(
        found.starts_with(&format!("{} has no image for linux/", name("foreign:1"))),
        "{found}"
    );
    let found = shown(rig.pull(&name("multi:2")).await);
    assert_eq!(found, format!("{} was not found in its registry", name("multi:2")));
    let found = shown(rig.pull(&name("nothing")).await);
    assert_eq!(found, format!("{}:latest was not found in its registry", name("nothing")));
}

#[tokio::test]
async fn tls_with_an_authority_of_our_own() {
    let image = image("tls");
    let (storage, plain) = pushed(&[("test/app:1", &[&image])]).await;
    let authority = Authority::new();
    let (ca, certificate, key) =
        (authority.file("ca.pem"), authority.file("server.pem"), authority.file("server.key"));
    let files = TlsFiles { certificate: &certificate, key: &key, clients: None };
    let strict = TlsFiles { clients: Some(&ca), ..files };
    let server = Registry::start(storage.path(), &Access::Everyone, Some(files)).await;
    let strict = Registry::start(storage.path(), &Access::Everyone, Some(strict)).await;
    drop(plain);
    let port = server.port;
    let reference = format!("localhost:{port}/test/app:1");
    let with =
        |tls: String, port: u16| format!("configs: {{'localhost:{port}': {{tls: {{{tls}}}}}}}");
    let trusting = format!("ca_file: {}", ca.display());

    let rig = Rig::with(&with(trusting.clone(), port)).await;
    assert_eq!(shown(rig.pull(&reference).await), image.id());
    let rig = Rig::with(&with("insecure_skip_verify: true".to_owned(), port)).await;
    assert_eq!(shown(rig.pull(&reference).await), image.id());

    let other = Authority::new();
    let other = with(format!("ca_file: {}", other.file("ca.pem").display()), port);
    let found = shown(Rig::with(&other).await.pull(&reference).await);
    assert!(
        found.starts_with(&format!("registry localhost:{port} cannot be reached: ")),
        "{found}"
    );
    assert!(found.contains("invalid peer certificate: "), "{found}");
    let missing = with("ca_file: /nowhere.pem".to_owned(), port);
    let found = shown(Rig::with(&missing).await.pull(&reference).await);
    assert!(found.ends_with("/nowhere.pem: No such file or directory (os error 2)"), "{found}");

    let port = strict.port;
    let reference = format!("localhost:{port}/test/app:1");
    let found = shown(Rig::with(&with(trusting.clone(), port)).await.pull(&reference).await);
    assert!(found.contains("received fatal alert: "), "{found}");
    let (certificate, key) = (authority.file("client.pem"), authority.file("client.key"));
    let client =
        format!("{trusting}, cert_file: {}, key_file: {}", certificate.display(), key.display());
    let rig = Rig::with(&with(client, port)).await;
    assert_eq!(shown(rig.pull(&reference).await), image.id());
}

#[tokio::test]
async fn passwords() {
    let image = image("password");
    let (storage, plain) = pushed(&[("test/app:1", &[&image])]).await;
    let file = htpasswd(storage.path());
    let registry = Registry::start(storage.path(), &Access::Password(&file), None).await;
    drop(plain);
    let host = format!("127.0.0.1:{}", registry.port);
    let reference = format!("{host}/test/app:1");
    let nobody = format!(
        "registry {host} gives test/app to nobody without credentials, or does not have it"
    );
    let refused = format!("registry {host} refused the credentials for test/app");
    for (logins, expected) in [
        (&[("user", "secret")][..], image.id()),
        (&[("user", "wrong"), ("other", "x"), ("user", "secret")], image.id()),
        (&[("user", "wrong")], refused.clone()),
        (&[], nobody.clone()),
    ] {
        let rig = Rig::new().await;
        assert_eq!(shown(rig.pull_as(&reference, logins).await), expected, "{logins:?}");
        if expected != image.id() {
            rig.assert_empty().await;
        }
    }
    let auth = |auth: &str| format!("configs: {{'{host}': {{auth: {{{auth}}}}}}}");
    for (auth, expected) in [
        (auth("username: user, password: secret"), image.id()),
        (auth("auth: dXNlcjpzZWNyZXQ="), image.id()),
        (auth("username: user, password: wrong"), refused),
    ] {
        assert_eq!(shown(Rig::with(&auth).await.pull(&reference).await), expected, "{auth}");
    }
}

#[tokio::test]
async fn tokens() {
    let image = image("token");
    let names: [(&str, &[&BuiltImage]); 2] =
        [("private/app:1", &[&image]), ("public/app:1", &[&image])];
    let (storage, plain) = pushed(&names).await;
    let issuer = TokenIssuer::new();
    let certificate = issuer.certificate_file.clone();
    let tokens = Server::start(move |seen| issuer.answer(seen)).await;
    let realm = format!("http://{}/token", tokens.address);
    let access = Access::Token { realm: &realm, certificate: &certificate };
    let registry = Registry::start(storage.path(), &access, None).await;
    drop(plain);
    let host = format!("127.0.0.1:{}", registry.port);
    let private = format!("{host}/private/app:1");
    for (reference, logins, expected) in [
        (&format!("{host}/public/app:1"), &[][..], image.id()),
        (&format!("{host}/public/app:1"), &[("user", "wrong")], image.id()),
        (&private, &[("user", "secret")], image.id()),
        (&private, &[("user", "wrong"), ("user", "secret")], image.id()),
        (
            &private,
            &[("user", "wrong")],
            format!("registry {host} refused the credentials for private/app"),
        ),
        (
            &private,
            &[],
            format!(
                "registry {host} gives private/app to nobody without credentials, or does not have it"
            ),
        ),
    ] {
        let rig = Rig::new().await;
        assert_eq!(shown(rig.pull_as(reference, logins).await), expected, "{reference} {logins:?}");
    }
    let asked = tokens.seen();
    let asked = &asked[0].path;
    assert_eq!(asked, "/token?service=test-service&scope=repository:public/app:pull");
}

#[tokio::test]
async fn no_password_goes_where_everybody_can_read_it() {
    let image = image("token");
    let (storage, plain) = pushed(&[("private/app:1", &[&image])]).await;
    let issuer = TokenIssuer::new();
    let certificate = issuer.certificate_file.clone();
    let tokens = Server::start(move |seen| issuer.answer(seen)).await;
    let realm = format!("http://{}/token", tokens.address);
    let access = Access::Token { realm: &realm, certificate: &certificate };
    let authority = Authority::new();
    let (ca, own, key) =
        (authority.file("ca.pem"), authority.file("server.pem"), authority.file("server.key"));
    let files = TlsFiles { certificate: &own, key: &key, clients: None };
    let registry = Registry::start(storage.path(), &access, Some(files)).await;
    drop(plain);
    let host = format!("localhost:{}", registry.port);
    let rig =
        Rig::with(&format!("configs: {{'{host}': {{tls: {{ca_file: {}}}}}}}", ca.display())).await;
    let found = shown(rig.pull_as(&format!("{host}/private/app:1"), &[("user", "secret")]).await);
    assert!(found.ends_with("is not https, and would see a password"), "{found}");
    assert!(tokens.seen().is_empty());
}

#[tokio::test]
async fn mirrors_and_rewrites() {
    let image = image("mirrored");
    let (_storage, registry) = pushed(&[("hub/app:1", &[&image]), ("x/y:1", &[&image])]).await;
    let rig = Rig::with(&format!(
        "mirrors:\n  docker.io:\n    endpoint: ['http://127.0.0.1:{port}']\n    rewrite: {{'^library/(.*)': 'hub/$1'}}\n  '*':\n    endpoint: ['127.0.0.1:1', 'http://127.0.0.1:{port}/v2']\n",
        port = registry.port
    ))
    .await;
    let status = rig.pull("app:1").await.unwrap();
    assert_eq!(status.tags, ["docker.io/library/app:1"], "it keeps the name it was asked for by");
    let status = rig.pull("any.example/x/y:1").await.unwrap();
    assert_eq!(status.tags.len(), 2);
    // All mirrors and the registry itself fail: the registry's own failure is told.
    let found = shown(rig.pull("127.0.0.1:1/x/y:2").await);
    assert!(found.starts_with("registry 127.0.0.1:1 cannot be reached: "), "{found}");
    assert!(found.contains("Connection refused"), "{found}");
}

#[tokio::test]
async fn through_a_proxy() {
    let image = image("proxied");
    let (storage, plain) = pushed(&[("test/app:1", &[&image])]).await;
    let authority = Authority::new();
    let (ca, certificate, key) =
        (authority.file("ca.pem"), authority.file("server.pem"), authority.file("server.key"));
    let files = TlsFiles { certificate: &certificate, key: &key, clients: None };
    let registry = Registry::start(storage.path(), &Access::Everyone, Some(files)).await;
    drop(plain);
    let proxy = TunnelProxy::start(registry.port).await;
    let directory = tempfile::tempdir().unwrap();
    let registries = directory.path().join("registries.yaml");
    let port = registry.port;
    let tls = format!("configs: {{'localhost:{port}': {{tls: {{ca_file: {}}}}}}}", ca.display());
    std::fs::write(&registries, tls).unwrap();
    let open = |data_dir: &str, except: &str| {
        Images::open(ImagesConfig {
            data_dir: directory.path().join(data_dir),
            registries_file: registries.clone(),
            default_endpoint: DefaultEndpoint::Fallback,
            proxy: Proxy::through(&format!("http://user:pw@{}", proxy.address), except),
            clock: Clock::system(),
        })
    };
    let reference = format!("localhost:{port}/test/app:1");
    let images = open("a", "example.com").await.unwrap();
    images.pull(&reference, &[], &Progress::none()).await.unwrap();
    let tunnels = proxy.tunnels.lock().unwrap().clone();
    assert!(!tunnels.is_empty() && tunnels.iter().all(|to| *to == format!("localhost:{port}")));
    let images = open("b", "localhost").await.unwrap();
    images.pull(&reference, &[], &Progress::none()).await.unwrap();
    assert_eq!(proxy.tunnels.lock().unwrap().len(), tunnels.len());
}
