//! Checks that every storage passes: a local directory and each kind of object store.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::{FileRange, Storage, StoredFile};

/// Size of a file of several parts, bytes.
const LARGE: usize = 20_000_003;

/// Number of files of a listing with more than one page.
const MANY: usize = 1_050;

/// Runs all checks below an empty data path. Panics at the first difference.
pub fn run(root: &Path) {
    let storage = Storage::of(root).expect("the storage of the data path");
    small_files(&storage, &root.join("small"));
    written_files(&storage, &root.join("main/events"));
    listings(&storage, &root.join("listed"));
    removals(&storage, &root.join("removed"));
}

fn small_files(storage: &Storage, root: &Path) {
    let path = root.join(".claim");
    assert_eq!(storage.read(&path).expect("read a missing file"), None);
    assert!(!storage.exists(&path).expect("look for a missing file"));
    assert_eq!(storage.size(&path).expect_err("a missing file").kind(), ErrorKind::NotFound);

    assert!(storage.create(&path, b"first").expect("create a file"));
    assert!(!storage.create(&path, b"second").expect("create a file that exists"));
    assert_eq!(storage.read(&path).expect("read").as_deref(), Some(&b"first"[..]));

    storage.replace(&path, b"third").expect("replace a file");
    assert_eq!(storage.read(&path).expect("read").as_deref(), Some(&b"third"[..]));
    assert_eq!(names(storage, root), [".claim"], "no temporary file remains");

    storage.try_to_write(root).expect("write to a directory");
    storage.check_access(root).expect("put, get and list");
}

fn written_files(storage: &Storage, directory: &Path) {
    let directory = directory.join("event_date=2026-11-01");
    storage.create_directory(&directory, None).expect("create a directory");
    let content: Vec<u8> = (0..LARGE).map(|at| u8::try_from(at % 251).expect("a byte")).collect();
    for (name, length) in [("empty", 0), ("small", 100), ("large", LARGE)] {
        let path = directory.join(name);
        let mut file = storage.create_file(&path).expect("create a file");
        content[..length].chunks(300_007).for_each(|bytes| {
            file.write_all(bytes).expect("write");
        });
        assert_eq!(file.written(), length as u64);
        file.finish().expect("finish a file");
        let last = length.saturating_sub(8);
        assert!(file.last_bytes().ends_with(&content[last..length]));
        storage.make_durable([path.as_path()]).expect("make a file durable");
        assert_eq!(storage.size(&path).expect("size"), length as u64);
    }
    let ranges = [0..100, 9_000_000..9_000_010, LARGE as u64 - 4..LARGE as u64];
    let ranges = ranges.map(|bytes| FileRange { path: directory.join("large"), bytes });
    let readers = storage.open_ranges(&ranges).expect("open ranges");
    for (range, reader) in ranges.iter().zip(readers) {
        let at = |position| usize::try_from(position).expect("a position in memory");
        let mut found = vec![0; at(range.bytes.end - range.bytes.start)];
        reader.read_exact_at(&mut found, range.bytes.start).expect("read a range");
        assert_eq!(found, content[at(range.bytes.start)..at(range.bytes.end)]);
    }
    let missing = FileRange { path: directory.join("missing"), bytes: 0..10 };
    let error = storage.open_ranges(&[missing]).expect_err("a missing file");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    for length in [10, LARGE] {
        let path = directory.join("abandoned");
        let mut file = storage.create_file(&path).expect("create a file");
        file.write_all(&content[..length]).expect("write");
        file.abandon(&path).expect("abandon a file");
        assert!(!storage.exists(&path).expect("look for an abandoned file"));
    }
}

fn listings(storage: &Storage, root: &Path) {
    assert_eq!(names(storage, root), Vec::<String>::new(), "a missing directory");
    for file in ["a", "x=1/b", "x=1/y=2/c", "backup/d", "x=1/backup/e"] {
        write(storage, &root.join(file), file);
    }
    write(storage, &root.with_file_name("listed-2").join("f"), "a directory with the same prefix");

    let found = list(storage, root, &|name| name.contains('='));
    let paths: Vec<_> = found.keys().map(|path| path.strip_prefix(root).expect("below")).collect();
    assert_eq!(paths, ["a", "x=1/b", "x=1/y=2/c"].map(Path::new));
    let file = &found[&root.join("x=1/b")];
    assert_eq!(file.bytes, 5);
    let age = SystemTime::now().duration_since(file.modified).unwrap_or_default();
    assert!(age < Duration::from_mins(5), "last written {age:?} ago");

    let mut taken = 0;
    let stopped = storage.list(root, &|_| true, &mut |_| {
        taken += 1;
        ControlFlow::Break(())
    });
    stopped.expect("list");
    assert_eq!(taken, 1);

    let (a, missing) = (root.join("a"), root.join("z"));
    let sizes = storage.sizes(root, &[&a, &missing, &a]).expect("sizes");
    assert_eq!(sizes, [Ok(1), Err(ErrorKind::NotFound), Ok(1)]);
}

fn removals(storage: &Storage, root: &Path) {
    for number in 0..MANY {
        write(storage, &root.join(format!("f{number}")), "x");
    }
    let found: Vec<StoredFile> = list(storage, root, &|_| true).into_values().collect();
    assert_eq!(found.len(), MANY);
    let mut removed = 0;
    storage.remove_files(&found[1..], &mut |_| removed += 1).expect("remove files");
    assert_eq!(removed, MANY - 1);
    assert_eq!(names(storage, root).len(), 1);
    storage.remove_files(&found[1..], &mut |_| ()).expect("remove missing files");
    storage.remove_existing(&[&found[0].path, &found[1].path]).expect("remove files");
    assert!(!storage.exists(&found[0].path).expect("look for a removed file"));
    write(storage, &root.join("last"), "x");
    storage.remove(&root.join("last")).expect("remove a file");
    assert_eq!(names(storage, root), Vec::<String>::new());
}

fn write(storage: &Storage, path: &Path, content: &str) {
    let directory = path.parent().expect("a directory");
    storage.create_directory(directory, None).expect("create a directory");
    let mut file = storage.create_file(path).expect("create a file");
    file.write_all(content.as_bytes()).expect("write");
    file.finish().expect("finish a file");
}

fn list(
    storage: &Storage,
    root: &Path,
    descends: &dyn Fn(&str) -> bool,
) -> BTreeMap<PathBuf, StoredFile> {
    let mut found = BTreeMap::new();
    let listed = storage.list(root, descends, &mut |file| {
        found.insert(file.path.clone(), file);
        ControlFlow::Continue(())
    });
    listed.expect("list");
    found
}

fn names(storage: &Storage, root: &Path) -> Vec<String> {
    let found = list(storage, root, &|_| true).into_keys();
    found.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
}
