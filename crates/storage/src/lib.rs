//! Files of a lake's data path, in a local directory or in object storage.
//!
//! [`Storage`] has one set of operations for both. A path is the absolute path of a local file, or the URL
//! of an object, such as `s3://bucket/lake/main/events/f.parquet`. No other code distinguishes them, nor the
//! kinds of object storage: S3, Azure Blob Storage and Google Cloud Storage.
//!
//! | operation | local directory | object storage |
//! |---|---|---|
//! | [`FileWriter`] | writes directly to the file | uploads parts while the file fills |
//! | [`FileWriter::finish`] | leaves the file in the page cache | completes the upload: the file is durable |
//! | [`make_durable`](Storage::make_durable) | syncs file and directories | nothing |
//! | [`create`](Storage::create) | hard link | PUT if no object has the key |
//! | [`list`](Storage::list) | reads directories, follows no links | pages of 1,000 keys |
//! | [`remove_files`](Storage::remove_files) | one by one, if unchanged | 1,000 keys in a request (Azure 256, Google 1) |
//!
//! The name of a data file holds a UUID, so that no key is ever used for other content: an upload whose
//! answer was lost can be repeated.

pub mod conformance;

mod file_reader;
mod file_writer;
mod local;
mod remote;
mod storage;
mod url;

pub use file_reader::{FileRange, FileReader};
pub use file_writer::FileWriter;
pub use remote::limit_requests;
pub use remote::{AmbientCredentials, DuckDbSecret, HiddenValue, SecretOption};
pub use storage::{ListError, Storage, StoredFile};
pub use url::{absolute, is_absolute, normalize};
