//! Reads what the scripts have written as those read it for whom it is.

use super::host::Host;
use std::os::unix::fs::PermissionsExt as _;

/// In octal.
pub fn mode(host: &Host, name: &str) -> String {
    let facts = std::fs::metadata(host.path(name)).unwrap();
    format!("{:o}", facts.permissions().mode() & 0o7777)
}

/// The command line of a unit, by the rules of systemd.service(5): words are quoted as in C, `%%` is a
/// percent sign and `$$` a dollar sign.
pub fn unit_words(unit: &str) -> Vec<String> {
    let lines: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix("ExecStart=")).collect();
    let [line] = lines[..] else { panic!("{unit}") };
    let mut words = Vec::new();
    let mut letters = line.chars().peekable();
    while letters.peek().is_some() {
        let mut word = String::new();
        let is_quoted = letters.next_if_eq(&'"').is_some();
        loop {
            match letters.next() {
                None | Some(' ') if !is_quoted => break,
                Some('"') if is_quoted => {
                    assert!(matches!(letters.next(), None | Some(' ')), "{line}");
                    break;
                }
                Some('\\') => word.push(letters.next().unwrap()),
                Some(letter @ ('%' | '$')) => {
                    assert_eq!(letters.next(), Some(letter), "{line}");
                    word.push(letter);
                }
                Some(letter) => word.push(letter),
                None => panic!("{line}"),
            }
        }
        words.push(word);
    }
    words
}
