//! Records of verified extension files, so that the next process does not read them again.
//!
//! A record holds the digest and the identity of a verified file. It is trusted only if no user other
//! than its reader and root can have written it: a user who cannot change the extension file cannot
//! forge its record either. A file that is written or replaced gets another change time, which no
//! program can set, and is read again.

use std::{
    env, fmt,
    fs::{self, File, Metadata},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use uuid::Uuid;

/// Minimum age of a file's last change for its times to identify its contents: file systems count time
/// in steps of up to two seconds, so a file that has just changed may change again within the same step.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Maximum number of bytes to read from a record.
const LONGEST_RECORD: u64 = 1024;

/// Identity of a file and its contents, from its metadata. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: i128,
    /// Last change of contents or attributes. Only the kernel sets it.
    changed: i128,
}

impl FileIdentity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns whether every later change of the file changes its identity.
    fn is_settled(&self, now: SystemTime) -> bool {
        let settled = now.checked_sub(SETTLED_AFTER);
        let since_1970 = settled.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        since_1970.is_some_and(|at| i128::try_from(at.as_nanos()).is_ok_and(|at| self.changed < at))
    }
}

impl fmt::Display for FileIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, inode, size, modified, changed } = self;
        write!(f, "device={device} inode={inode} size={size} mtime={modified} ctime={changed}")
    }
}

/// Record that one extension file has one digest.
pub(super) struct VerificationRecord {
    identity: FileIdentity,
    text: String,
    /// Possible paths of the record, in the order of preference.
    places: Vec<PathBuf>,
}

impl VerificationRecord {
    /// Describes the record, which is next to the file or, if its folder is another user's, in this
    /// user's cache.
    pub(super) fn of(
        file: &Path,
        identity: FileIdentity,
        digest: &str,
        cache: Option<&Path>,
    ) -> Self {
        let mut beside = file.as_os_str().to_owned();
        beside.push(".verified");
        let FileIdentity { device, inode, .. } = identity;
        let cached = cache.map(|cache| cache.join(format!("verified-{device:x}-{inode:x}")));
        let places = [PathBuf::from(beside)].into_iter().chain(cached).collect();
        Self { identity, text: format!("sha256={digest} {identity}\n"), places }
    }

    /// Returns whether a trusted record of the file with the digest exists.
    pub(super) fn exists(&self) -> bool {
        let is_recorded = |place| read_trusted(place).is_ok_and(|found| found == self.text);
        self.places.iter().any(|place| is_recorded(place))
    }

    /// Writes the record to the first possible path. Without a record the file is only read again.
    pub(super) fn write(&self, now: SystemTime) {
        if !self.identity.is_settled(now) {
            return;
        }
        for place in &self.places {
            match self.write_to(place) {
                Ok(()) => return,
                Err(error) => tracing::debug!(
                    %error,
                    path = %place.display(),
                    "extension verification not recorded"
                ),
            }
        }
    }

    fn write_to(&self, place: &Path) -> io::Result<()> {
        let folder = place.parent().ok_or(io::ErrorKind::NotFound)?;
        if self.places.first().is_some_and(|beside| beside == place) {
            if fs::metadata(folder)?.uid() != user() {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
        } else {
            fs::create_dir_all(folder)?;
        }
        let mut unfinished = place.as_os_str().to_owned();
        unfinished.push(format!(".{}", Uuid::new_v4().simple()));
        let written = write_new(Path::new(&unfinished), &self.text)
            .and_then(|()| fs::rename(&unfinished, place));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // Other users may read it: a record that root wrote is valid for all users.
    let mut file = File::options().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())
}

fn read_trusted(path: &Path) -> io::Result<String> {
    let is_trusted = |metadata: &Metadata| is_trusted(metadata, user());
    // Checked before opening: the path may be a link, or a pipe without a writer.
    if !is_trusted(&fs::symlink_metadata(path)?) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let file = File::open(path)?;
    if !is_trusted(&file.metadata()?) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut text = String::new();
    file.take(LONGEST_RECORD).read_to_string(&mut text)?;
    Ok(text)
}

/// Returns whether only the user or root can have written a file.
fn is_trusted(metadata: &Metadata, user: u32) -> bool {
    metadata.is_file() && [user, 0].contains(&metadata.uid()) && metadata.mode() & 0o022 == 0
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns this user's cache folder for Ducktide, which need not exist.
pub(super) fn user_cache() -> Option<PathBuf> {
    let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(cache.join("ducktide"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const DIGEST: &str = "0123";

    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_mins(1)
    }

    /// Folder with one file in place of an extension.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("extension"), "contents").unwrap();
            Self(folder)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn record(&self) -> VerificationRecord {
            let file = self.path("extension");
            let identity = FileIdentity::of(&file.metadata().unwrap());
            VerificationRecord::of(&file, identity, DIGEST, Some(&self.path("cache")))
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.path()).unwrap();
            let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
            let mut names: Vec<_> =
                entries.map(|entry| name(entry).into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_record_is_valid_for_the_next_process_and_its_digest_only() {
        let folder = Folder::new();
        assert!(!folder.record().exists());

        folder.record().write(later());

        assert!(folder.record().exists());
        assert_eq!(folder.names(), ["extension", "extension.verified"]);
        let (file, identity) = (folder.path("extension"), folder.record().identity);
        assert!(!VerificationRecord::of(&file, identity, "4567", None).exists());
    }

    #[test]
    fn a_record_is_in_the_users_cache_if_it_cannot_be_next_to_the_file() {
        let folder = Folder::new();
        fs::create_dir(folder.path("extension.verified")).unwrap();

        folder.record().write(later());

        assert!(folder.record().exists());
        assert_eq!(folder.names(), ["cache", "extension", "extension.verified"]);
    }

    #[test]
    fn a_record_that_cannot_be_written_is_no_error() {
        let folder = Folder::new();
        fs::create_dir(folder.path("extension.verified")).unwrap();
        fs::write(folder.path("cache"), "not a folder").unwrap();

        folder.record().write(later());

        assert!(!folder.record().exists());
        assert_eq!(folder.names(), ["cache", "extension", "extension.verified"]);
    }

    #[test]
    fn a_record_is_invalid_after_a_change_despite_the_old_modification_time() {
        let folder = Folder::new();
        folder.record().write(later());
        let file = folder.path("extension");
        let before = file.metadata().unwrap();
        let modified = before.modified().unwrap();

        // Until the file system's clock advances a step, as for any recorded file.
        while FileIdentity::of(&file.metadata().unwrap()).changed
            == FileIdentity::of(&before).changed
        {
            fs::write(&file, "CONTENTS").unwrap();
            File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
        }

        let after = file.metadata().unwrap();
        assert_eq!((after.modified().unwrap(), after.len()), (modified, before.len()));
        assert!(!folder.record().exists());
    }

    #[test]
    fn a_file_that_has_just_changed_is_not_recorded() {
        let folder = Folder::new();

        folder.record().write(SystemTime::now());

        assert_eq!(folder.names(), ["extension"]);
    }

    #[test]
    fn a_record_that_others_may_write_is_ignored() {
        let folder = Folder::new();
        folder.record().write(later());
        let place = folder.path("extension.verified");

        for mode in [0o622, 0o620, 0o602] {
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
            assert!(!folder.record().exists(), "{mode:o}");
        }
        fs::set_permissions(&place, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(folder.record().exists());
    }

    #[test]
    fn a_record_of_another_user_or_behind_a_link_is_ignored() {
        let folder = Folder::new();
        folder.record().write(later());
        let place = folder.path("extension.verified");
        let metadata = place.metadata().unwrap();
        assert!(is_trusted(&metadata, metadata.uid()));
        // All users trust the files of root.
        assert_eq!(is_trusted(&metadata, metadata.uid() + 1), metadata.uid() == 0);

        fs::rename(&place, folder.path("elsewhere")).unwrap();
        symlink(folder.path("elsewhere"), &place).unwrap();

        assert!(!folder.record().exists());
    }
}
