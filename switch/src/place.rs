//! Places that keys and PINs are entrusted to: the data directory, what is in it, the master key
//! file. A place is trusted only by its owner: it belongs to the user who runs this or to root,
//! nobody else can change what stands there, and what stands there is what it is taken for.
//!
//! On the way to a place (every directory above it, links resolved one by one) a directory that
//! everybody can write into is refused: anybody could put another place there. In one with the
//! sticky bit, such as `/tmp`, nobody can rename what is another's, so there it is enough that the
//! next step is ours. One that a group can write into, or that is somebody else's, gives a doubt,
//! which is told at start: a umask of 002 makes such directories everywhere.

use std::ffi::OsString;
use std::fs::{self, File, FileType, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

const WRITE_BY_GROUP: u32 = 0o020;
const WRITE_BY_ALL: u32 = 0o002;
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

/// Links that are followed on one way, as the kernel does.
const LINKS_MAX: usize = 40;

/// A way to a place, from the root of the file system.
struct Way {
    /// Where it ends: no step of it is a link.
    end: PathBuf,
    doubts: Vec<String>,
}

/// Makes the data directory with mode 0700, and its parents, unless it is there; a link to it is
/// followed if it is ours. It, and the way to it, must be trusted before anything is made.
///
/// # Errors
/// If they are not, or it cannot be made; the text names the path and what to do.
pub fn make_data_directory(path: &Path) -> io::Result<()> {
    match check_data_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        checked => return checked,
    }
    make_private(path)?;
    check_data_directory(path)
}

/// Whether the data directory, and the way to it, can be trusted.
///
/// # Errors
/// If not, or if there is none (`NotFound`); the text names the path and what to do.
pub fn check_data_directory(path: &Path) -> io::Result<()> {
    check_directory(&walk(path)?.end)
}

/// Makes a directory inside the data directory, with mode 0700, unless it is there. It is no link.
///
/// # Errors
/// If it cannot be trusted or made; the text names the path and what to do.
pub fn make_inner_directory(path: &Path) -> io::Result<()> {
    match check_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        checked => return checked,
    }
    make_private(path)?;
    check_directory(path)
}

/// Whether directories of the store, if they are there, hold files and such directories only: no
/// link, pipe, socket or device that would stand in for a file, and nothing that others can
/// exchange or write.
///
/// # Errors
/// For the first that does not; the text names the path and what to do.
pub fn check_tree(directory: &Path) -> io::Result<()> {
    match check_directory(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        checked => checked?,
    }
    for entry in fs::read_dir(directory).map_err(|error| at(directory, &error))? {
        let path = entry.map_err(|error| at(directory, &error))?.path();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => check_tree(&path)?,
            Ok(found) => check_regular(found.file_type())
                .and_then(|()| check_own(&found))
                .map_err(|error| at(&path, &error))?,
            // A running switch takes files away that it needs no more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&path, &error)),
        }
    }
    Ok(())
}

/// Who besides the owner could put another thing into the place of this one, in words; empty if
/// nobody can. What cannot be trusted at all is refused where it is opened.
#[must_use]
pub fn doubts(path: &Path) -> Vec<String> {
    walk(path).map(|way| way.doubts).unwrap_or_default()
}

/// Whether the way to a file can be trusted; the file itself is not looked at.
///
/// # Errors
/// If not; the text names the path and what to do.
pub fn check_way(file: &Path) -> io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let way = walk(parent.unwrap_or(Path::new(".")))?;
    check_step(&way.end, &mut Vec::new()).map(|_| ())
}

/// Opens a regular file to read. A link is not followed, and a pipe does not keep us waiting.
///
/// # Errors
/// If it is something else, or as of the operating system; the text does not name the path.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open(path, OFlags::RDONLY | OFlags::NOFOLLOW)
}

/// The same, to read and write.
///
/// # Errors
/// If it is something else, or as of the operating system; the text does not name the path.
pub fn open_regular_to_write(path: &Path) -> io::Result<File> {
    open(path, OFlags::RDWR | OFlags::NOFOLLOW)
}

/// Opens a file to write at its end, and makes it with mode 0600 if it is not there. A link is
/// not followed.
///
/// # Errors
/// If it is no regular file, or as of the operating system; the text does not name the path.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    open(path, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW)
}

/// Opens a regular file to read that nobody but its owner, who is trusted, can write.
///
/// # Errors
/// If it is not, or as of the operating system; the text does not name the path.
pub fn open_own(path: &Path) -> io::Result<File> {
    let file = open_regular(path)?;
    check_own(&file.metadata()?)?;
    Ok(file)
}

/// The same, that nobody but its owner can read either.
///
/// # Errors
/// If others can, or as [`open_own`].
pub fn open_secret(path: &Path) -> io::Result<File> {
    let file = open_own(path)?;
    match file.metadata()?.mode() & 0o077 {
        0 => Ok(file),
        _ => {
            let mode = mode(&file.metadata()?);
            Err(refused(format!("the mode is {mode:04o}; a file with a key must have mode 0600")))
        }
    }
}

/// Whether a file belongs to somebody who is trusted, and nobody else can write it.
fn check_own(found: &Metadata) -> io::Result<()> {
    check_owner(found)?;
    match found.mode() & (WRITE_BY_GROUP | WRITE_BY_ALL) {
        0 => Ok(()),
        _ => Err(refused(format!("others can write it (mode {:04o}); chmod 0600", mode(found)))),
    }
}

/// Reads a configuration or the like: its owner may be anybody, and it may be reached by a link,
/// but it is a regular file.
///
/// # Errors
/// If it is not, or as of the operating system; the text does not name the path.
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path, OFlags::RDONLY)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Whether there is a socket of ours; nothing is said of who listens on it.
///
/// # Errors
/// If it is something else or somebody else's, or not there (`NotFound`); the text names the path.
pub fn check_socket(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path).map_err(|error| at(path, &error))?;
    match found.file_type().is_socket() {
        true => check_owner(&found).map_err(|error| at(path, &error)),
        false => Err(at(path, &refused(format!("it is {}, no socket", name(found.file_type()))))),
    }
}

/// Whether the process at the other end of a socket is one of ours, or root's. The kernel tells
/// who it was when it began to listen.
///
/// # Errors
/// If it is not.
pub fn check_peer(socket: impl AsFd) -> io::Result<()> {
    match socket_peercred(socket)?.uid.as_raw() {
        uid if is_trusted(uid) => Ok(()),
        uid => Err(refused(format!("a process of uid {uid} listens there; nothing was sent"))),
    }
}

/// Writes and syncs a file whole under a temporary name, with mode 0600, then renames it. What
/// stands under that name, left behind or put there, is not written into.
///
/// # Errors
/// As of the operating system.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Makes created, renamed and removed names in a directory durable.
///
/// # Errors
/// As of the operating system.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Follows a path step by step, and trusts each directory that it goes through. The last step may
/// be anything but a link.
fn walk(path: &Path) -> io::Result<Way> {
    let mut rest = Vec::new();
    push_steps(&mut rest, &std::path::absolute(path)?);
    let (mut end, mut doubts, mut links) = (PathBuf::from("/"), Vec::new(), 0);
    while let Some(step) = rest.pop() {
        let is_shared = check_step(&end, &mut doubts)?;
        if step == ".." {
            end.pop();
            continue;
        }
        let next = end.join(&step);
        let found = fs::symlink_metadata(&next).map_err(|error| at(&next, &error))?;
        if is_shared || found.is_symlink() {
            check_owner(&found).map_err(|error| at(&next, &error))?;
        }
        if !found.is_symlink() {
            end = next;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(at(path, &refused("too many symbolic links".to_owned())));
        }
        let target = fs::read_link(&next).map_err(|error| at(&next, &error))?;
        if target.is_absolute() {
            end = PathBuf::from("/");
        }
        push_steps(&mut rest, &target);
    }
    Ok(Way { end, doubts })
}

/// Puts the steps of a path before those that are left, the next one last.
fn push_steps(rest: &mut Vec<OsString>, path: &Path) {
    let steps = path.components().rev().filter_map(|component| match component {
        Component::Normal(step) => Some(step.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    rest.extend(steps);
}

/// Judges a directory on a way; whether others may put things there that are theirs.
fn check_step(directory: &Path, doubts: &mut Vec<String>) -> io::Result<bool> {
    let found = fs::symlink_metadata(directory).map_err(|error| at(directory, &error))?;
    let path = directory.display();
    if !found.is_dir() {
        return Err(at(directory, &refused("it is not a directory".to_owned())));
    }
    let (by_group, by_all) = (found.mode() & WRITE_BY_GROUP != 0, found.mode() & WRITE_BY_ALL != 0);
    let is_sticky = found.mode() & STICKY != 0;
    if by_all && !is_sticky {
        let text = format!("everybody can exchange what is in it; chmod o-w {path}");
        return Err(at(directory, &refused(text)));
    }
    let mut doubt = |text: String| {
        if !doubts.contains(&text) {
            doubts.push(text);
        }
    };
    if by_group && !is_sticky {
        let gid = found.gid();
        doubt(format!("{path}: group {gid} can exchange what is in it; chmod g-w {path}"));
    }
    if !is_trusted(found.uid()) {
        doubt(format!("{path}: it belongs to uid {}, who can exchange what is in it", found.uid()));
    }
    Ok(by_group || by_all)
}

fn check_directory(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path).map_err(|error| at(path, &error))?;
    if !found.is_dir() {
        let text = format!("it is {}, not a directory", name(found.file_type()));
        return Err(at(path, &refused(text)));
    }
    check_owner(&found).map_err(|error| at(path, &error))?;
    match found.mode() & (WRITE_BY_GROUP | WRITE_BY_ALL) {
        0 => Ok(()),
        _ => {
            let (mode, shown) = (mode(&found), path.display());
            let text = format!("others can write into it (mode {mode:04o}); chmod 700 {shown}");
            Err(at(path, &refused(text)))
        }
    }
}

fn check_owner(found: &Metadata) -> io::Result<()> {
    let (owner, own) = (found.uid(), geteuid().as_raw());
    if is_trusted(owner) {
        return Ok(());
    }
    Err(refused(format!(
        "it belongs to uid {owner}, but this runs as uid {own}: run it as that user, or, if what \
         is there can be trusted, chown {own}"
    )))
}

fn is_trusted(uid: u32) -> bool {
    uid == ROOT || uid == geteuid().as_raw()
}

/// Without `NONBLOCK`, opening a pipe would wait for somebody to come to its other end.
fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR);
    let file = File::from(opened.map_err(|error| match error {
        Errno::LOOP => refused("it is a symbolic link, which is not followed here".to_owned()),
        // A pipe that nobody reads, a socket, or a device without a driver.
        Errno::NXIO => refused("it is not a regular file".to_owned()),
        error => error.into(),
    })?);
    check_regular(file.metadata()?.file_type())?;
    Ok(file)
}

fn check_regular(found: FileType) -> io::Result<()> {
    match found.is_file() {
        true => Ok(()),
        false => Err(refused(format!("it is {}, not a regular file", name(found)))),
    }
}

fn name(found: FileType) -> &'static str {
    match found {
        found if found.is_symlink() => "a symbolic link",
        found if found.is_dir() => "a directory",
        found if found.is_file() => "a regular file",
        found if found.is_fifo() => "a pipe",
        found if found.is_socket() => "a socket",
        _ => "a device",
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    made.and_then(|()| sync_directory(parent.unwrap_or(Path::new("."))))
        .map_err(|error| at(path, &error))
}

fn mode(found: &Metadata) -> u32 {
    found.mode() & 0o7777
}

fn refused(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// The same error, with the path in its text.
pub(crate) fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn said<T>(result: io::Result<T>) -> String {
        result.map(|_| ()).unwrap_err().to_string()
    }

    /// A directory of ours below one whose mode the test sets.
    fn inside(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let data = outer.path().join("data");
        fs::create_dir(&data).unwrap();
        chmod(&data, 0o700);
        chmod(outer.path(), mode);
        (outer, data)
    }

    #[test]
    fn a_directory_that_others_can_write_into_is_refused() {
        let (_outer, data) = inside(0o700);
        for (mode, trusted) in [(0o700, true), (0o755, true), (0o770, false), (0o1702, false)] {
            chmod(&data, mode);
            assert_eq!(check_data_directory(&data).is_ok(), trusted, "{mode:o}");
            assert_eq!(make_inner_directory(&data).is_ok(), trusted, "{mode:o}");
        }
        let text = said(check_data_directory(&data));
        assert!(text.contains("mode 1702") && text.contains("chmod 700 /"), "{text}");
    }

    #[test]
    fn what_is_above_it_is_refused_or_doubted() {
        for (mode, trusted, doubted) in [
            (0o755, true, false),
            (0o775, true, true),
            (0o1775, true, false),
            (0o777, false, false),
            (0o1777, true, false),
        ] {
            let (outer, data) = inside(mode);
            assert_eq!(make_data_directory(&data).is_ok(), trusted, "{mode:o}");
            assert_eq!(check_way(&outer.path().join("file")).is_ok(), trusted, "{mode:o}");
            let outer = outer.path().display().to_string();
            let is_doubted = doubts(&data).iter().any(|doubt| doubt.starts_with(&outer));
            assert_eq!(is_doubted, doubted, "{mode:o}");
            // Nothing is made where it could not be trusted.
            let new = data.with_file_name("new").join("data");
            assert_eq!(make_data_directory(&new).is_ok(), trusted, "{mode:o}");
            assert_eq!(new.exists(), trusted);
        }
    }

    #[test]
    fn a_link_is_followed_to_the_data_directory_and_its_whole_way_is_trusted() {
        let (outer, data) = inside(0o755);
        let elsewhere = tempfile::tempdir().unwrap();
        let link = elsewhere.path().join("link");
        symlink(&data, &link).unwrap();
        make_data_directory(&link).unwrap();
        assert!(said(make_inner_directory(&link)).contains("symbolic link"));
        let relative = elsewhere.path().join("relative");
        symlink("./link/../data", &relative).unwrap();
        make_data_directory(&relative).unwrap();
        chmod(outer.path(), 0o777);
        assert!(said(make_data_directory(&link)).contains("everybody"));
        let round = elsewhere.path().join("round");
        symlink(&round, &round).unwrap();
        assert!(said(make_data_directory(&round)).contains("too many"));
    }

    #[test]
    fn only_regular_files_are_opened_and_nobody_waits() {
        let (_outer, data) = inside(0o755);
        let of = |name: &str| data.join(name);
        fs::write(of("file"), "text").unwrap();
        symlink(of("file"), of("link")).unwrap();
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, of("pipe"), pipe, Mode::RWXU, 0).unwrap();
        let _listener = UnixListener::bind(of("socket")).unwrap();
        let open: [fn(&Path) -> io::Result<File>; 4] =
            [open_regular, open_regular_to_write, open_to_append, open_own];
        for open in open {
            assert!(open(&of("file")).is_ok());
            assert!(said(open(&of("link"))).contains("symbolic link"));
            for other in ["pipe", "socket"] {
                assert!(said(open(&of(other))).contains("not a regular file"), "{other}");
            }
            assert!(open(&data).is_err());
        }
        assert_eq!(read_text(&of("link")).unwrap(), "text");
        assert!(said(read_text(&of("pipe"))).contains("a pipe"));
        chmod(&of("file"), 0o620);
        assert!(said(open_own(&of("file"))).contains("mode 0620"));
    }

    #[test]
    fn a_tree_holds_files_and_directories_only() {
        let (_outer, data) = inside(0o755);
        check_tree(&data.join("none")).unwrap();
        let inner = data.join("inner");
        fs::create_dir(&inner).unwrap();
        chmod(&inner, 0o700);
        fs::write(inner.join("file"), "").unwrap();
        check_tree(&data).unwrap();
        symlink("file", inner.join("link")).unwrap();
        assert!(said(check_tree(&data)).contains("inner/link: it is a symbolic link"));
        fs::remove_file(inner.join("link")).unwrap();
        chmod(&inner, 0o777);
        assert!(said(check_tree(&data)).contains("chmod 700"));
    }

    #[test]
    fn a_socket_of_ours_and_its_listener_are_trusted() {
        let (_outer, data) = inside(0o755);
        let path = data.join("control.sock");
        assert_eq!(check_socket(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let _listener = UnixListener::bind(&path).unwrap();
        check_socket(&path).unwrap();
        check_peer(UnixStream::connect(&path).unwrap()).unwrap();
        symlink(&path, data.join("link")).unwrap();
        assert!(said(check_socket(&data.join("link"))).contains("symbolic link"));
    }
}
