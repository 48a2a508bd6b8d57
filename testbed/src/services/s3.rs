//! Object store with the protocol of S3: versitygw, which stores objects as files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use rustix::{fs::XattrFlags, process::Signal};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{
    backend::{Backend, Service},
    bucket_store::BucketStore,
    port,
    process::{Process, data_folder},
};
use crate::{guarded_child::Launch, http, workspace};

/// Started object store.
#[derive(Debug)]
pub struct S3 {
    port: u16,
    buckets: PathBuf,
    versions: PathBuf,
    backend: Box<dyn Backend>,
}

/// Role of a program, with a policy in `deploy/s3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Consumers: put, get and list.
    Consumer,
    /// Compactor and replay: also delete.
    Maintenance,
    /// Queries: get and list.
    Reader,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Maintenance => "maintenance",
            Self::Reader => "reader",
        }
    }
}

/// Attributes in which versitygw keeps the policy of a bucket, whether it has versions, and its object lock.
const POLICY: &str = "user.policy";
const VERSIONING: &str = "user.versioning";
const OBJECT_LOCK: &str = "user.bucket-lock";

/// Credentials of the owner; all roles have the same secret.
pub(crate) const ACCESS_KEY_ID: &str = "ducktide";
pub(crate) const SECRET_ACCESS_KEY: &str = "ducktide-testbed";

/// Region of all buckets.
pub(crate) const REGION: &str = "us-east-1";

impl S3 {
    /// Starts an empty store and waits until it answers. Its log is `s3.log` in the folder.
    pub fn start(logs: &Path) -> Result<Self> {
        let port = port::free()?;
        let data = data_folder("s3")?;
        let folder = |name: &str| {
            let folder = data.path().join(name);
            fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
            anyhow::Ok(folder)
        };
        let (buckets, versions) = (folder("buckets")?, folder("versions")?);
        write_accounts(&data.path().join("accounts"))?;
        let backend =
            Box::new(start_process(port, [&buckets, &versions], logs.join("s3.log"), data)?);
        let mut s3 = Self { port, buckets, versions, backend };
        s3.await_ready().context("start the object store")?;
        Ok(s3)
    }

    /// Returns the folder with the objects of a bucket: each is a file with the path of its key.
    #[must_use]
    pub fn folder(&self, bucket: &str) -> PathBuf {
        self.buckets.join(bucket)
    }

    /// Returns the number of unfinished multipart uploads of a bucket.
    #[must_use]
    pub fn unfinished_uploads(&self, bucket: &str) -> usize {
        // One folder for each object, in it one for each upload.
        let folders = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
        let objects = folders(self.folder(bucket).join(".sgwtmp/multipart"));
        objects.map(|object| folders(object.path()).count()).sum()
    }

    /// Permits each role what its policy in `deploy/s3` permits, below a prefix of a bucket, and nothing else.
    pub fn apply_policies(&self, bucket: &str, prefix: &str) -> Result<()> {
        let mut statements = Vec::new();
        for role in [Role::Consumer, Role::Maintenance, Role::Reader] {
            let file = workspace::root().join(format!("deploy/s3/{}-policy.json", role.name()));
            let text =
                fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            let text = text.replace("BUCKET", bucket).replace("PREFIX", prefix);
            let mut policy: Value = serde_json::from_str(&text).context("parse a policy")?;
            let own = policy["Statement"].as_array_mut().context("a policy has statements")?;
            for statement in own {
                let statement = statement.as_object_mut().context("a statement is an object")?;
                // The policy of a role has no principal; that of a bucket needs one, and different IDs.
                statement.remove("Sid");
                statement.insert("Principal".to_owned(), json!({ "AWS": [role.name()] }));
                statements.push(Value::Object(std::mem::take(statement)));
            }
        }
        let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        self.set_attribute(bucket, POLICY, policy.as_bytes())
    }

    /// Lets a bucket keep each version of its objects, locked for a day.
    pub fn lock_versions(&self, bucket: &str) -> Result<()> {
        let lock = json!({
            "Enabled": true,
            "DefaultRetention": { "Days": 1, "Mode": "GOVERNANCE", "Years": null },
            "CreatedAt": Timestamp::now().to_string(),
        });
        self.set_attribute(bucket, VERSIONING, &[1])?;
        self.set_attribute(bucket, OBJECT_LOCK, lock.to_string().as_bytes())
    }

    /// Returns the number of versions of a bucket's objects that are not the latest.
    #[must_use]
    pub fn older_versions(&self, bucket: &str) -> usize {
        files_below(&self.versions.join(bucket))
    }

    fn set_attribute(&self, bucket: &str, name: &str, value: &[u8]) -> Result<()> {
        rustix::fs::setxattr(self.folder(bucket), name, value, XattrFlags::empty())
            .with_context(|| format!("set `{name}` of the bucket `{bucket}`"))
    }

    /// Returns the environment variables with which programs find the store in a role.
    #[must_use]
    pub fn settings_in_role(&self, role: Role) -> Vec<(&'static str, String)> {
        settings_of(role.name(), self.port)
    }

    /// Lets the store outlive this process. Returns the shell command that ends it.
    #[must_use]
    pub fn leave_running(self) -> String {
        self.backend.leave_running()
    }
}

impl BucketStore for S3 {
    fn port(&self) -> u16 {
        self.port
    }

    fn create_bucket(&self, name: &str) -> Result<String> {
        let folder = self.folder(name);
        fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(format!("s3://{name}"))
    }

    fn settings_at(&self, port: u16) -> Vec<(&'static str, String)> {
        settings_of(ACCESS_KEY_ID, port)
    }

    fn duckdb_setup(&self) -> Result<String> {
        Ok(format!(
            "LOAD '{}'; CREATE SECRET (TYPE s3, KEY_ID '{ACCESS_KEY_ID}', SECRET '{SECRET_ACCESS_KEY}', \
             REGION '{REGION}', ENDPOINT '127.0.0.1:{}', USE_SSL false, URL_STYLE 'path');",
            workspace::extension("httpfs")?.display(),
            self.port
        ))
    }
}

fn settings_of(user: &str, port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", user.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
    ]
}

impl Service for S3 {
    fn backend(&mut self) -> &mut dyn Backend {
        &mut *self.backend
    }

    fn check_ready(&self) -> Result<()> {
        http::get(self.port, HEALTH).map(|_| ())
    }
}

/// Path that answers without credentials.
const HEALTH: &str = "/health";

fn start_process(
    port: u16,
    [buckets, versions]: [&Path; 2],
    log: PathBuf,
    data: TempDir,
) -> Result<Process> {
    let address = format!("127.0.0.1:{port}");
    let mut launch = Launch::new(workspace::downloaded("tools/versitygw")?);
    let credentials = [("ROOT_ACCESS_KEY", ACCESS_KEY_ID), ("ROOT_SECRET_KEY", SECRET_ACCESS_KEY)];
    launch.environment.extend(credentials.map(|(name, value)| (name.into(), value.into())));
    let launch =
        launch.args(["--port", &address, "--region", REGION, "--health", HEALTH, "--quiet"]);
    let launch = launch.args(["--iam-dir".as_ref(), data.path().join("accounts").as_os_str()]);
    let launch = launch.args(["posix".as_ref(), "--versioning-dir".as_ref(), versions.as_os_str()]);
    Process::start(launch.args([buckets]), Signal::TERM, log, data)
}

fn files_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}

/// Writes versitygw's file of accounts.
fn write_accounts(folder: &Path) -> Result<()> {
    let account = |role: Role| {
        let account = json!({ "access": role.name(), "secret": SECRET_ACCESS_KEY, "role": "user" });
        (role.name().to_owned(), account)
    };
    let accounts = [Role::Consumer, Role::Maintenance, Role::Reader].map(account);
    let accounts: Map<String, Value> = accounts.into_iter().collect();
    fs::create_dir(folder)
        .and_then(|()| {
            let text = json!({ "accessAccounts": accounts }).to_string();
            fs::write(folder.join("users.json"), text)
        })
        .with_context(|| format!("write the accounts to {}", folder.display()))
}
