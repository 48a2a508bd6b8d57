//! `PgBouncer`, a connection pooler in front of PostgreSQL.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{
    backend::{Backend, Service},
    port,
    postgres::{Postgres, USER, unprivileged_user},
    process::{Process, change_owner, data_folder},
};
use crate::{blocking, guarded_child::Launch};

/// When a session gives its server connection back to the pool.
#[derive(Debug, Clone, Copy)]
pub enum PoolMode {
    /// At its end.
    Session,
    /// At the end of each transaction.
    Transaction,
}

/// Started pooler of a database server.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    backend: Box<dyn Backend>,
}

impl PgBouncer {
    /// Starts a pooler and waits until it executes a query. Its log is `pgbouncer.log` in the folder.
    pub fn start(logs: &Path, postgres: &Postgres, mode: PoolMode) -> Result<Self> {
        let port = port::free()?;
        let folder = data_folder("pgbouncer")?;
        let user = unprivileged_user()?;
        let users = folder.path().join("users.txt");
        let mode = match mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
        };
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             pool_mode = {mode}\nignore_startup_parameters = extra_float_digits,options\n",
            postgres.port(),
            users.display()
        );
        let file = folder.path().join("pgbouncer.ini");
        for (path, text) in [(&users, format!("\"{USER}\" \"\"\n")), (&file, settings)] {
            fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        }
        if let Some(user) = user {
            change_owner(folder.path(), user)?;
        }
        let launch = Launch { user, folder: Some("/".into()), ..Launch::new(program()) };
        let process =
            Process::start(launch.args([&file]), Signal::INT, logs.join("pgbouncer.log"), folder)?;
        let mut pooler = Self { port, backend: Box::new(process) };
        pooler.await_ready().context("start PgBouncer")?;
        Ok(pooler)
    }

    /// Returns the URL of a database of the server.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }
}

/// Returns the program: Debian's folder for daemons is not on the path of all users.
fn program() -> PathBuf {
    let debian = PathBuf::from("/usr/sbin/pgbouncer");
    if debian.is_file() { debian } else { "pgbouncer".into() }
}

impl Service for PgBouncer {
    fn backend(&mut self) -> &mut dyn Backend {
        &mut *self.backend
    }

    fn check_ready(&self) -> Result<()> {
        blocking::on_own_thread(|| {
            let mut client = postgres::Client::connect(&self.url("postgres"), postgres::NoTls)
                .context("connect to PgBouncer")?;
            client.simple_query("SELECT 1").map(drop).context("query through PgBouncer")
        })
    }
}
