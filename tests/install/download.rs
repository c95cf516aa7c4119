//! Fetching from a web server, by curl and by busybox's wget.

use super::host::{Host, Init};
use super::text::mode;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

/// Serves the files of a directory on this machine's loopback until the tests end; below `/short`
/// executables break off in the middle. Returns its URL.
fn serve(directory: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that goes away is what some tests are about.
            answer(stream.unwrap(), &directory).ok();
        }
    });
    url
}

fn answer(mut stream: TcpStream, directory: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap()?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = first.split(' ').nth(1).unwrap();
    let (path, is_short) = match path.strip_prefix("/short") {
        Some(path) => (path, path.contains("kinglet-")),
        None => (path, false),
    };
    let Ok(body) = std::fs::read(directory.join(path.trim_start_matches('/'))) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    };
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(if is_short { &body[..body.len() / 2] } else { &body })
}

#[test]
fn releases_are_fetched_from_a_web_server() {
    for (init, shell) in [(Init::Systemd, "dash"), (Init::None, "busybox sh")] {
        let host = Host::new(init, shell);
        host.release("1");
        let url = serve(host.path("release"));
        let with =
            |path: &'static str| (url.clone() + path, ("INSTALL_KINGLET_SKIP_ENABLE", "true"));
        let before = host.files();
        let (short, skip) = with("/short");
        host.install(&[("INSTALL_KINGLET_URL", &short), skip], &[])
            .refused("nothing was installed");
        let (none, skip) = with("/none");
        host.install(&[("INSTALL_KINGLET_URL", &none), skip], &[]).refused("could not be fetched");
        assert_eq!(host.files(), before);
        let (there, skip) = with("/");
        host.install(&[("INSTALL_KINGLET_URL", &there), skip], &[]).ok();
        assert_eq!(mode(&host, "local/bin/kinglet"), "755");
        // What is there already is not fetched twice.
        let said = host.install(&[("INSTALL_KINGLET_URL", &there), skip], &[]).ok();
        assert!(said.contains("already") && !said.contains("fetching"), "{said}");
    }
}
