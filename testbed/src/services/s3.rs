//! Object store with the protocol of S3: versitygw, which stores objects as files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    backend::{Backend, Service},
    port,
    process::{Process, data_folder},
};
use crate::{guarded_child::Launch, http, workspace};

/// Started object store.
#[derive(Debug)]
pub struct S3 {
    port: u16,
    buckets: PathBuf,
    backend: Box<dyn Backend>,
}

/// Credentials of the only user.
const ACCESS_KEY_ID: &str = "ducktide";
const SECRET_ACCESS_KEY: &str = "ducktide-testbed";

/// Region of all buckets.
const REGION: &str = "us-east-1";

impl S3 {
    /// Starts an empty store and waits until it answers. Its log is `s3.log` in the folder.
    pub fn start(logs: &Path) -> Result<Self> {
        let port = port::free()?;
        let data = data_folder("s3")?;
        let buckets = data.path().join("buckets");
        fs::create_dir(&buckets).context("create the folder of the buckets")?;
        let backend = Box::new(start_process(port, &buckets, logs.join("s3.log"), data)?);
        let mut s3 = Self { port, buckets, backend };
        s3.await_ready().context("start the object store")?;
        Ok(s3)
    }

    /// Creates an empty bucket and returns its URL.
    pub fn create_bucket(&self, name: &str) -> Result<String> {
        let folder = self.folder(name);
        fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(format!("s3://{name}"))
    }

    /// Returns the folder with the objects of a bucket: each is a file with the path of its key.
    #[must_use]
    pub fn folder(&self, bucket: &str) -> PathBuf {
        self.buckets.join(bucket)
    }

    /// Returns the environment variables with which programs find the store.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    /// Returns the statements with which DuckDB's command line reads the store.
    pub fn duckdb_setup(&self) -> Result<String> {
        Ok(format!(
            "LOAD '{}'; CREATE SECRET (TYPE s3, KEY_ID '{ACCESS_KEY_ID}', SECRET '{SECRET_ACCESS_KEY}', \
             REGION '{REGION}', ENDPOINT '127.0.0.1:{}', USE_SSL false, URL_STYLE 'path');",
            workspace::extension("httpfs")?.display(),
            self.port
        ))
    }

    /// Lets the store outlive this process. Returns the shell command that ends it.
    #[must_use]
    pub fn leave_running(self) -> String {
        self.backend.leave_running()
    }
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

fn start_process(port: u16, buckets: &Path, log: PathBuf, data: TempDir) -> Result<Process> {
    let address = format!("127.0.0.1:{port}");
    let mut launch = Launch::new(workspace::downloaded("tools/versitygw")?);
    let credentials = [("ROOT_ACCESS_KEY", ACCESS_KEY_ID), ("ROOT_SECRET_KEY", SECRET_ACCESS_KEY)];
    launch.environment.extend(credentials.map(|(name, value)| (name.into(), value.into())));
    let launch =
        launch.args(["--port", &address, "--region", REGION, "--health", HEALTH, "--quiet"]);
    Process::start(launch.args(["posix"]).args([buckets]), Signal::TERM, log, data)
}
