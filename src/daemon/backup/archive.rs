//! The file of a backup: a tar of the head and the members, compressed with zstd.
//!
//! Start at [`write()`] and [`read()`]. A backup is read strictly: the members that the head names, in
//! its order and with its sums, and nothing else.

use super::head::{BadBackup, HEAD, HEAD_BYTES_MAX, Head, Member};
use crate::stdx::hex;
use crate::storage::sqlite::Halt;
use aws_lc_rs::digest;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use tar::{Archive, Builder, Entries, Entry, EntryType, Header};

/// What zstd itself does by default: JSON becomes a tenth of what it was, at the speed of a disk.
const LEVEL: i32 = 3;

/// The largest window of zstd that is believed, as a power of two: this much memory reading takes.
const WINDOW_LOG_MAX: u32 = 24;

/// What every file of zstd begins with.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Behind the last member come at least two empty blocks, and no more than fill a record of tar.
const PADDING_BYTES_MAX: u64 = 64 << 10;

const BUFFER_BYTES: usize = 128 << 10;

/// Where the bytes of a member come from.
#[derive(Debug)]
pub(super) enum Source {
    Bytes(Vec<u8>),
    File(File),
}

/// The SHA-256 of all that is read, in hexadecimal digits, and how much that was.
pub(super) fn sum(from: impl Read, halt: &Halt) -> io::Result<(u64, String)> {
    let mut sum = Summed::new(io::sink(), halt);
    io::copy(&mut io::BufReader::with_capacity(BUFFER_BYTES, from), &mut sum)?;
    Ok(sum.finish())
}

/// Passes on what is written to it, and adds it up.
struct Summed<'a, W> {
    to: W,
    bytes: u64,
    context: digest::Context,
    halt: &'a Halt,
}

impl<'a, W> Summed<'a, W> {
    fn new(to: W, halt: &'a Halt) -> Self {
        Self { to, bytes: 0, context: digest::Context::new(&digest::SHA256), halt }
    }

    fn finish(self) -> (u64, String) {
        let hash = self.context.finish();
        (self.bytes, hex(hash.as_ref()))
    }
}

impl<W: Write> Write for Summed<'_, W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // `io::copy` would go on after an interruption.
        self.halt.check().map_err(io::Error::other)?;
        let count = self.to.write(data)?;
        self.context.update(&data[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Writes a backup, and returns when it is on the disk.
///
/// # Errors
/// Where a source is not as the head says, or `to` cannot be written.
pub(super) fn write(to: &File, head: &Head, sources: Vec<Source>, halt: &Halt) -> io::Result<()> {
    let mut zstd = zstd::Encoder::new(to, LEVEL)?;
    zstd.include_checksum(true)?;
    let mut archive = Builder::new(zstd);
    let seconds = head.taken.as_second().max(0).unsigned_abs();
    let text = head.to_json();
    let mut header = header(text.len() as u64, 0o600, seconds);
    archive.append_data(&mut header, HEAD, text.as_slice())?;
    for (member, source) in head.members.iter().zip(sources) {
        let mut header = self::header(member.bytes, member.mode, seconds);
        match source {
            Source::Bytes(bytes) => {
                archive.append_data(&mut header, &member.path, bytes.as_slice())?;
            }
            Source::File(file) => {
                let file = Halted { from: file, halt };
                archive.append_data(&mut header, &member.path, file)?;
            }
        }
    }
    archive.into_inner()?.finish()?;
    to.sync_all()
}

fn header(bytes: u64, mode: u32, seconds: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes);
    header.set_mode(mode);
    header.set_mtime(seconds);
    header
}

/// Ends when it is told to.
struct Halted<'a> {
    from: File,
    halt: &'a Halt,
}

impl Read for Halted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.halt.check().map_err(io::Error::other)?;
        self.from.read(buffer)
    }
}

/// Reads what a backup says about itself.
///
/// # Errors
/// Where it says nothing that this version understands.
pub(super) fn read_head(path: &Path) -> Result<Head, BadBackup> {
    let mut archive = open(path)?;
    head_of(&mut archive.entries().map_err(judge)?)
}

/// Reads a whole backup, and gives the contents of each member to what `place` says.
///
/// # Errors
/// Where anything is not as its head says, or what `place` says does not take it.
pub(super) fn read<W: Write>(
    path: &Path,
    halt: &Halt,
    mut place: impl FnMut(&Member) -> io::Result<W>,
) -> Result<Head, BadBackup> {
    let mut archive = open(path)?;
    let mut entries = archive.entries().map_err(judge)?;
    let head = head_of(&mut entries)?;
    for member in &head.members {
        let entry = entries.next().transpose().map_err(judge)?;
        let entry = entry.ok_or_else(|| damaged(format!("{:?} is missing", member.path)))?;
        let to = place(member).map_err(BadBackup::Read)?;
        take(entry, member, Summed::new(to, halt))?;
    }
    if entries.next().is_some() {
        return Err(damaged("there is more in it than its head says".to_owned()));
    }
    read_end(archive.into_inner())?;
    Ok(head)
}

type Decoder = zstd::Decoder<'static, BufReader<File>>;

fn open(path: &Path) -> Result<Archive<Decoder>, BadBackup> {
    let mut file = File::open(path).map_err(BadBackup::Read)?;
    if !file.metadata().map_err(BadBackup::Read)?.is_file() {
        return Err(BadBackup::Foreign);
    }
    let mut begin = [0; MAGIC.len()];
    match file.read_exact(&mut begin) {
        Ok(()) if begin == MAGIC => {}
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            return Err(BadBackup::Read(error));
        }
        _ => return Err(BadBackup::Foreign),
    }
    io::Seek::rewind(&mut file).map_err(BadBackup::Read)?;
    let file = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut decoder = zstd::Decoder::with_buffer(file).map_err(judge)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(judge)?;
    Ok(Archive::new(decoder))
}

fn head_of(entries: &mut Entries<'_, Decoder>) -> Result<Head, BadBackup> {
    let entry = match entries.next() {
        Some(Ok(entry)) => entry,
        Some(Err(error)) => return Err(judge(error)),
        None => return Err(BadBackup::Foreign),
    };
    if entry.path_bytes().as_ref() != HEAD.as_bytes() {
        return Err(BadBackup::Foreign);
    }
    if entry.size() > HEAD_BYTES_MAX {
        return Err(damaged(format!("{HEAD} has {} bytes", entry.size())));
    }
    let mut text = Vec::new();
    let mut entry = entry.take(HEAD_BYTES_MAX);
    entry.read_to_end(&mut text).map_err(judge)?;
    Head::parse(&text)
}

fn take<W: Write>(
    mut entry: Entry<'_, Decoder>,
    member: &Member,
    mut to: Summed<'_, W>,
) -> Result<(), BadBackup> {
    let is_as_said = entry.path_bytes().as_ref() == member.path.as_bytes()
        && entry.header().entry_type() == EntryType::Regular
        && entry.size() == member.bytes;
    if !is_as_said {
        return Err(damaged(format!("{:?} is not where its head says", member.path)));
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = entry.read(&mut buffer).map_err(judge)?;
        if count == 0 {
            break;
        }
        to.write_all(&buffer[..count]).map_err(BadBackup::Read)?;
    }
    to.flush().map_err(BadBackup::Read)?;
    match to.finish() {
        (bytes, sha256) if bytes == member.bytes && sha256 == member.sha256 => Ok(()),
        _ => Err(damaged(format!("{:?} is not as it was saved", member.path))),
    }
}

/// What is behind the members: nothing, up to the checksum of zstd.
fn read_end(mut rest: Decoder) -> Result<(), BadBackup> {
    let mut padding = Vec::new();
    let mut limited = (&mut rest).take(PADDING_BYTES_MAX + 1);
    limited.read_to_end(&mut padding).map_err(judge)?;
    if padding.len() as u64 > PADDING_BYTES_MAX || padding.iter().any(|byte| *byte != 0) {
        return Err(damaged("there is something behind its end".to_owned()));
    }
    Ok(())
}

fn damaged(detail: String) -> BadBackup {
    BadBackup::Damaged(detail)
}

/// Whether the disk is at fault, or what is on it.
fn judge(error: io::Error) -> BadBackup {
    match error.raw_os_error() {
        Some(_) => BadBackup::Read(error),
        None => BadBackup::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::STORE;
    use super::super::head::tests::head;
    use super::*;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    fn contents(path: &str) -> Vec<u8> {
        // What cannot be compressed, so that each byte of the file matters.
        let mut state = crate::stdx::fnv1a_32(path.bytes());
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u8::try_from(state >> 24).unwrap()
        };
        (0..3_000).map(|_| byte()).collect()
    }

    /// A head that tells the truth about such contents.
    fn sound() -> (Head, Vec<Source>) {
        let mut head = head(&["tls/server-ca.crt", STORE, "cred/passwd"]);
        let mut sources = Vec::new();
        for member in &mut head.members {
            let bytes = contents(&member.path);
            (member.bytes, member.sha256) = sum(bytes.as_slice(), &Halt::default()).unwrap();
            sources.push(Source::Bytes(bytes));
        }
        (head, sources)
    }

    struct Written {
        _directory: tempfile::TempDir,
        path: PathBuf,
    }

    fn written(head: &Head, sources: Vec<Source>) -> Written {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tar.zst");
        write(&File::create(&path).unwrap(), head, sources, &Halt::default()).unwrap();
        Written { _directory: directory, path }
    }

    fn read_all(path: &Path) -> Result<Head, BadBackup> {
        read(path, &Halt::default(), |_| Ok(io::sink()))
    }

    #[track_caller]
    fn check_refused(path: &Path, expected: &str) {
        let error = read_all(path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_was_written_is_read() {
        let (head, sources) = sound();
        let file = written(&head, sources);
        assert_eq!(read_head(&file.path).unwrap(), head);
        let mut files: BTreeMap<String, tempfile::NamedTempFile> = BTreeMap::new();
        let read = read(&file.path, &Halt::default(), |member| {
            let file = tempfile::NamedTempFile::new()?;
            let writer = file.reopen()?;
            files.insert(member.path.clone(), file);
            Ok(writer)
        });
        assert_eq!(read.unwrap(), head);
        assert_eq!(files.len(), 3);
        for (path, file) in files {
            assert_eq!(std::fs::read(file.path()).unwrap(), contents(&path), "{path}");
        }
    }

    #[test]
    fn damage_at_any_place_is_found() {
        let (head, sources) = sound();
        let file = written(&head, sources);
        let whole = std::fs::read(&file.path).unwrap();
        for at in (0..whole.len()).step_by(13).chain([whole.len() - 1]) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&file.path, &bytes).unwrap();
            let found = read_all(&file.path);
            assert!(found.is_err(), "byte {at} of {}", whole.len());
        }
        for length in (0..whole.len()).step_by(17).chain([whole.len() - 1]) {
            std::fs::write(&file.path, &whole[..length]).unwrap();
            read_all(&file.path).unwrap_err();
        }
        let longer = [&whole[..], b"more"].concat();
        std::fs::write(&file.path, longer).unwrap();
        read_all(&file.path).unwrap_err();
        let twice = [&whole[..], &whole[..]].concat();
        std::fs::write(&file.path, twice).unwrap();
        check_refused(&file.path, "damaged");
    }

    #[test]
    fn members_that_are_not_as_the_head_says_are_refused() {
        for index in 0..3 {
            let (head, mut sources) = sound();
            let mut bytes = contents(&head.members[index].path);
            bytes[1_000] ^= 1;
            sources[index] = Source::Bytes(bytes);
            let expected = format!("{:?} is not as it was saved", head.members[index].path);
            check_refused(&written(&head, sources).path, &expected);
        }
        let (mut head, mut sources) = sound();
        sources.truncate(2);
        check_refused(&written(&head, sources).path, "\"cred/passwd\" is missing");
        let (_, sources) = sound();
        head.members.truncate(2);
        let file = written_with_more(&head, sources);
        check_refused(&file.path, "more in it than its head says");
    }

    /// A file with a member that the head does not name.
    fn written_with_more(head: &Head, sources: Vec<Source>) -> Written {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tar.zst");
        let zstd = zstd::Encoder::new(File::create(&path).unwrap(), LEVEL).unwrap();
        let mut archive = Builder::new(zstd);
        let mut add = |path: &str, bytes: &[u8]| {
            let mut header = header(bytes.len() as u64, 0o600, 0);
            archive.append_data(&mut header, path, bytes).unwrap();
        };
        add(HEAD, &head.to_json());
        for (index, source) in sources.into_iter().enumerate() {
            let path = head.members.get(index).map_or("tls/more", |member| member.path.as_str());
            let Source::Bytes(bytes) = source else { unreachable!() };
            add(path, &bytes);
        }
        archive.into_inner().unwrap().finish().unwrap();
        Written { _directory: directory, path }
    }

    #[test]
    fn files_of_others_are_told_from_damaged_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tar.zst");
        for other in [&b""[..], b"PK", b"SQLite format 3\0", &[0; 4_096]] {
            std::fs::write(&path, other).unwrap();
            check_refused(&path, "no backup that kinglet has made");
        }
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, LEVEL).unwrap();
        std::fs::write(&path, zstd(&[0; 2_048])).unwrap();
        check_refused(&path, "no backup that kinglet has made");
        let mut archive = Builder::new(Vec::new());
        let mut header = header(2, 0o600, 0);
        archive.append_data(&mut header, "etc/passwd", &b"no"[..]).unwrap();
        std::fs::write(&path, zstd(&archive.into_inner().unwrap())).unwrap();
        check_refused(&path, "no backup that kinglet has made");
        check_refused(directory.path(), "no backup that kinglet has made");
        assert!(matches!(read_head(Path::new("/nowhere")), Err(BadBackup::Read(_))));
    }

    #[test]
    fn whoever_is_told_to_end_does() {
        let (head, sources) = sound();
        let file = written(&head, sources);
        let halt = Halt::default();
        halt.ask();
        assert!(read(&file.path, &halt, |_| Ok(io::sink())).is_err());
        assert!(sum(&b"x"[..], &halt).is_err());
    }
}
