//! Links of pages that come through a proxy, so that they lead through it again (upstream
//! `Transport`, apimachinery pkg/util/proxy/transport.go, v1.35). Pure.
//!
//! What programs on the page ask for is theirs to find.

/// Which attributes of which elements are links: upstream `atomsToAttrs`.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// In these, a `<` begins nothing but their end.
const RAW: &[&str] = &["script", "style", "textarea", "title", "xmp", "iframe", "noscript"];

/// What is behind a proxy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    /// Its address and port, as in URLs.
    pub(super) host: &'a str,
    /// The path of the proxy, without the last slash.
    pub(super) prefix: &'a str,
}

impl Site<'_> {
    /// The same through the proxy; `None` where it is good as it is: it leads elsewhere, or is told
    /// from where the page is.
    pub(super) fn through(self, url: &str) -> Option<String> {
        let after_scheme = ["http://", "https://", "//"].iter().find_map(|it| url.strip_prefix(it));
        let path = match after_scheme {
            Some(rest) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (host, path) = rest.split_at(end);
                if host != self.host || !path.starts_with('/') {
                    return None;
                }
                path
            }
            None if url.starts_with('/') => url,
            None => return None,
        };
        if path.starts_with(self.prefix) {
            return (path != url).then(|| path.to_owned());
        }
        Some(format!("{}{path}", self.prefix))
    }

    /// A page with all its links leading through the proxy.
    pub(super) fn page(self, html: &[u8]) -> Vec<u8> {
        let mut reader = Reader { html, at: 0 };
        let mut page = Vec::with_capacity(html.len() + html.len() / 8);
        while let Some(markup) = reader.next_markup(&mut page) {
            match markup {
                Markup::Comment => reader.copy_through(b"-->", &mut page),
                Markup::Tag => self.tag(&mut reader, &mut page),
            }
        }
        page
    }

    fn tag(self, reader: &mut Reader<'_>, page: &mut Vec<u8>) {
        page.push(b'<');
        reader.at += 1;
        let name = reader.take_while(|byte| !is_space(byte) && byte != b'>' && byte != b'/');
        page.extend_from_slice(name);
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let links = LINKS.iter().find(|(element, _)| *element == name).map_or(&[][..], |it| it.1);
        loop {
            page.extend_from_slice(reader.take_while(|byte| is_space(byte) || byte == b'/'));
            match reader.peek() {
                None => return,
                Some(b'>') => break,
                Some(_) => self.attribute(links, reader, page),
            }
        }
        page.push(b'>');
        reader.at += 1;
        if RAW.contains(&name.as_str()) {
            reader.copy_to_end_of(&name, page);
        }
    }

    fn attribute(self, links: &[&str], reader: &mut Reader<'_>, page: &mut Vec<u8>) {
        let first = reader.at;
        reader.at += 1;
        reader.take_while(|byte| !is_space(byte) && !matches!(byte, b'=' | b'>' | b'/'));
        let name = &reader.html[first..reader.at];
        page.extend_from_slice(name);
        let after_name = reader.at;
        let spaces = reader.take_while(is_space);
        if reader.peek() != Some(b'=') {
            reader.at = after_name;
            return;
        }
        reader.at += 1;
        page.extend_from_slice(spaces);
        page.push(b'=');
        page.extend_from_slice(reader.take_while(is_space));
        let quote = reader.peek().filter(|byte| matches!(byte, b'"' | b'\''));
        if let Some(quote) = quote {
            page.push(quote);
            reader.at += 1;
        }
        let value = match quote {
            Some(quote) => reader.take_while(|byte| byte != quote),
            None => reader.take_while(|byte| !is_space(byte) && byte != b'>'),
        };
        let is_link = links.iter().any(|link| name.eq_ignore_ascii_case(link.as_bytes()));
        let text = std::str::from_utf8(value).ok().filter(|_| is_link);
        match text.and_then(|text| self.through(text)) {
            Some(link) => page.extend_from_slice(link.as_bytes()),
            None => page.extend_from_slice(value),
        }
        if let (Some(quote), Some(_)) = (quote, reader.peek()) {
            page.push(quote);
            reader.at += 1;
        }
    }
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace()
}

/// What a `<` begins.
enum Markup {
    Comment,
    Tag,
}

struct Reader<'a> {
    html: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.html.get(self.at).copied()
    }

    fn take_while(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.html[self.at..];
        let count = rest.iter().position(|byte| !is_part(*byte)).unwrap_or(rest.len());
        self.at += count;
        &rest[..count]
    }

    /// Copies all before the next comment or tag that begins an element.
    fn next_markup(&mut self, page: &mut Vec<u8>) -> Option<Markup> {
        loop {
            page.extend_from_slice(self.take_while(|byte| byte != b'<'));
            let rest = &self.html[self.at..];
            if rest.starts_with(b"<!--") {
                return Some(Markup::Comment);
            }
            if rest.get(1).is_some_and(u8::is_ascii_alphabetic) {
                return Some(Markup::Tag);
            }
            page.push(self.peek()?);
            self.at += 1;
        }
    }

    fn copy_through(&mut self, end: &[u8], page: &mut Vec<u8>) {
        let rest = &self.html[self.at..];
        let found = rest.windows(end.len()).position(|window| window == end);
        let count = found.map_or(rest.len(), |found| found + end.len());
        page.extend_from_slice(&rest[..count]);
        self.at += count;
    }

    fn copy_to_end_of(&mut self, element: &str, page: &mut Vec<u8>) {
        let end = format!("</{element}");
        let rest = &self.html[self.at..];
        let mut windows = rest.windows(end.len());
        let found = windows.position(|window| window.eq_ignore_ascii_case(end.as_bytes()));
        let count = found.unwrap_or(rest.len());
        page.extend_from_slice(&rest[..count]);
        self.at += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: Site<'_> = Site { host: "10.0.0.1:8080", prefix: "/api/pods/web/proxy" };

    #[test]
    fn links_lead_through_the_proxy() {
        let check = |url: &str, expected: Option<&str>| {
            assert_eq!(SITE.through(url).as_deref(), expected, "{url}");
        };
        check("/a?b=/c#d", Some("/api/pods/web/proxy/a?b=/c#d"));
        check("/", Some("/api/pods/web/proxy/"));
        check("http://10.0.0.1:8080/a", Some("/api/pods/web/proxy/a"));
        check("//10.0.0.1:8080/a", Some("/api/pods/web/proxy/a"));
        check("http://10.0.0.1:8080/api/pods/web/proxy/a", Some("/api/pods/web/proxy/a"));
        check("/api/pods/web/proxy/a", None);
        check("http://example.com/a", None);
        check("a/b", None);
        check("#top", None);
        check("mailto:somebody", None);
    }

    #[test]
    fn pages_are_kept_but_for_their_links() {
        let check = |page: &str, expected: &str| {
            let written = SITE.page(page.as_bytes());
            let expected = expected.replace('^', SITE.prefix);
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        };
        check(r#"<a href="/rewriteme">test</a>"#, r#"<a href="^/rewriteme">test</a>"#);
        check("<A class=x HREF = '/a' b>1 < 2 & 3</A>", "<A class=x HREF = '^/a' b>1 < 2 & 3</A>");
        check("<img src=/a.png><link href=/b/>", "<img src=^/a.png><link href=^/b/>");
        check("<p href=\"/no\"><!-- <a href='/no'> -->", "<p href=\"/no\"><!-- <a href='/no'> -->");
        check(
            "<script src='/x'>if (a<b) '<a href=\"/no\">'</script><br/>",
            "<script src='^/x'>if (a<b) '<a href=\"/no\">'</script><br/>",
        );
        for broken in
            ["<a href=\"/unfinished", "<", "<a", "<a href", "<a href=", "<!-- x", "<script>"]
        {
            let written = String::from_utf8(SITE.page(broken.as_bytes())).unwrap();
            assert_eq!(written.replace(SITE.prefix, ""), broken);
        }
    }
}
