//! One switch per data directory, whatever happens to the files in it: the directory itself is
//! locked, since a restore replaces files, and what is open is compared with what is there.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::types::{Failed, OpenError};

/// A lock on a directory, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Locks a directory that exists.
    ///
    /// # Errors
    /// [`OpenError::InUse`] if another process has it.
    pub(super) fn take(directory: &Path) -> Result<Lock, OpenError> {
        let failed = |error| Failed::new(directory, error);
        let file = File::open(directory).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(directory.display().to_string())),
            Err(TryLockError::Error(error)) => Err(failed(error).into()),
        }
    }

    /// Lets another process have it.
    pub(super) fn give_back(&self) -> std::io::Result<()> {
        self.file.unlock()
    }
}

/// A file or directory that is open, under the name it was opened with.
#[derive(Debug)]
pub(super) struct Opened {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Opened {
    pub(super) fn new(path: &Path, file: &File) -> Result<Opened, Failed> {
        let found = file.metadata().map_err(|error| Failed::new(path, error))?;
        Ok(Opened { path: path.to_owned(), identity: identity(&found) })
    }

    pub(super) fn directory(path: &Path) -> Result<Opened, Failed> {
        Opened::new(path, &File::open(path).map_err(|error| Failed::new(path, error))?)
    }

    /// Refuses if another one has its name now, or none.
    pub(super) fn check(&self) -> Result<(), Failed> {
        match fs::metadata(&self.path) {
            Ok(found) if identity(&found) != self.identity => {
                Err(Failed::new(&self.path, "it was replaced while it was in use"))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Failed::new(&self.path, "it is gone while it was in use"))
            }
            // Where the system cannot say, the next look may.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
