//! PostgreSQL.

use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use postgres::{Client, Config, NoTls};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    backend::{Backend, BackendKind, External, Service},
    container::{Container, Image},
    port,
    process::{Process, change_owner, data_folder, prepare},
};
use crate::{blocking, guarded_child::Launch, wait};

/// Started database server. Its only user `postgres` needs no password.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    backend: Box<dyn Backend>,
}

pub(super) const USER: &str = "postgres";

/// Every worker, test and reader has several connections.
const SETTINGS: &[&str] = &["-c", "max_connections=300"];

impl Postgres {
    /// Returns the database server that another process started on this port of 127.0.0.1.
    pub(super) fn at(port: u16) -> Self {
        Self { port, backend: Box::new(External) }
    }

    /// Starts an empty server and waits until it executes a query. Its log is `postgres.log` in the
    /// folder.
    pub fn start(logs: &Path) -> Result<Self> {
        let port = port::free()?;
        let log = logs.join("postgres.log");
        let backend: Box<dyn Backend> = match BackendKind::from_env()? {
            BackendKind::Process => Box::new(start_process(port, log)?),
            BackendKind::Container => Box::new(start_container(port, log)?),
        };
        let mut postgres = Self { port, backend };
        postgres.await_ready().context("start PostgreSQL")?;
        Ok(postgres)
    }

    /// Starts a standby of this server, which replicates it asynchronously. Its log is `postgres.log` in
    /// the folder.
    pub fn start_standby(&self, logs: &Path) -> Result<Self> {
        let (port, log) = (port::free()?, logs.join("postgres.log"));
        let (folder, user) = new_data_folder()?;
        let launch =
            Launch { user, folder: Some("/".into()), ..Launch::new(program("pg_basebackup")?) };
        let source = ["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", USER];
        let launch =
            launch.args(source).args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        prepare(launch.args(["-D".as_ref(), data(&folder).as_path()]), &folder, &log)?;
        let mut standby = Self { port, backend: Box::new(start_server(port, log, folder, user)?) };
        standby.await_ready().context("start the standby of PostgreSQL")?;
        Ok(standby)
    }

    /// Ends the replication of a standby. What the primary commits afterwards is missing.
    pub fn stop_replication(&self) -> Result<()> {
        self.execute("ALTER SYSTEM SET primary_conninfo = ''")?;
        self.execute("SELECT pg_reload_conf()")?;
        wait::until("the replication ends", Duration::from_mins(1), || {
            let receivers = "SELECT 1 / (SELECT count(*) = 0 FROM pg_stat_wal_receiver)::int";
            Ok(self.execute(receivers).is_ok())
        })
    }

    /// Makes a standby the primary, and waits until it accepts writes.
    pub fn promote(&self) -> Result<()> {
        self.execute("SELECT pg_promote()")
    }

    /// Creates an empty database and returns its URL.
    pub fn create_database(&self, name: &str) -> Result<String> {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        ensure!(
            !name.is_empty() && name.len() < 64 && name.chars().all(is_allowed),
            "name a database with lower-case letters, digits and underscores name=`{name}`"
        );
        let statement = format!("CREATE DATABASE \"{name}\"");
        self.execute(&statement).with_context(|| format!("create database `{name}`"))?;
        Ok(self.url(name))
    }

    /// Creates a superuser that logs in with a password, unlike all other users.
    pub fn create_user_with_password(&self, name: &str, password: &str) -> Result<()> {
        let rules = format!("('host all {name} all scram-sha-256'), ('host all all all trust')");
        self.execute(&format!(
            "SET password_encryption = 'scram-sha-256'; CREATE ROLE {name} LOGIN SUPERUSER PASSWORD '{password}'"
        ))?;
        self.execute(&format!(
            "DO $$ BEGIN EXECUTE format('COPY (VALUES {quoted}) TO %L', current_setting('hba_file')); END $$",
            quoted = rules.replace('\'', "''"),
        ))?;
        self.execute("SELECT pg_reload_conf()")
    }

    /// Changes the password of a user, and ends its connections.
    pub fn change_password(&self, name: &str, password: &str) -> Result<()> {
        self.execute(&format!(
            "SET password_encryption = 'scram-sha-256'; ALTER ROLE {name} PASSWORD '{password}'"
        ))?;
        self.execute(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'"
        ))
    }

    /// Returns the URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Returns the port on this machine.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Lets the server outlive this process. Returns the shell command that ends it.
    #[must_use]
    pub fn leave_running(self) -> String {
        self.backend.leave_running()
    }

    fn execute(&self, statement: &str) -> Result<()> {
        blocking::on_own_thread(|| {
            let mut client = self.connect().context("connect to PostgreSQL")?;
            client.batch_execute(statement).context("execute statement")
        })
    }

    fn connect(&self) -> Result<Client, postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(USER).dbname("postgres");
        config.connect_timeout(Duration::from_secs(5)).connect(NoTls)
    }
}

impl Service for Postgres {
    fn backend(&mut self) -> &mut dyn Backend {
        &mut *self.backend
    }

    fn check_ready(&self) -> Result<()> {
        self.execute("SELECT 1")
    }
}

fn start_process(port: u16, log: PathBuf) -> Result<Process> {
    let (folder, user) = new_data_folder()?;
    let initdb = ["-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"];
    let launch = Launch { user, folder: Some("/".into()), ..Launch::new(program("initdb")?) };
    prepare(launch.args(initdb).args(["-D".as_ref(), data(&folder).as_path()]), &folder, &log)?;
    start_server(port, log, folder, user)
}

/// User and group ID of a server.
type User = (u32, u32);

/// Creates a folder that belongs to the server's user.
fn new_data_folder() -> Result<(TempDir, Option<User>)> {
    let (folder, user) = (data_folder("postgres")?, unprivileged_user()?);
    if let Some(user) = user {
        change_owner(folder.path(), user)?;
    }
    Ok((folder, user))
}

/// Returns the folder of the server's data.
fn data(folder: &TempDir) -> PathBuf {
    folder.path().join("data")
}

fn start_server(port: u16, log: PathBuf, folder: TempDir, user: Option<User>) -> Result<Process> {
    let port = port.to_string();
    let arguments =
        ["-p", &port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="];
    let launch = Launch { user, folder: Some("/".into()), ..Launch::new(program("postgres")?) };
    let launch =
        launch.args(["-D".as_ref(), data(&folder).as_path()]).args(arguments).args(SETTINGS);
    // SIGQUIT ends the server and its children immediately, SIGINT after a rollback.
    let launch = Launch { end_signal: Signal::QUIT, ..launch };
    Process::start(launch, Signal::INT, log, folder)
}

/// Returns the path of a program of the server: from PATH, or of the newest version in Debian's
/// folder.
fn program(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join(name));
    let mut debian: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
        .collect();
    debian.sort();
    let debian = debian.into_iter().rev().map(|(_, folder)| folder.join("bin").join(name));
    on_path
        .chain(debian)
        .find(|path| path.is_file())
        .with_context(|| format!("find PostgreSQL's `{name}`: run `cargo xtask setup`"))
}

/// User and group ID without permissions, on all Linux distributions.
const UNPRIVILEGED: User = (65_534, 65_534);

/// Returns the user of the server if this process runs as root, which the server refuses: the user
/// of Debian's package, or one without permissions.
pub(super) fn unprivileged_user() -> Result<Option<User>> {
    let own = fs::metadata("/proc/self").context("find the current user")?.uid();
    if own != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    Ok(Some(user_in(&users, "postgres").unwrap_or(UNPRIVILEGED)))
}

fn user_in(users: &str, name: &str) -> Option<User> {
    let mut fields = users.lines().map(|line| line.split(':'));
    let mut user = fields.find_map(|mut user| (user.next() == Some(name)).then_some(user))?;
    user.next();
    Some((user.next()?.parse().ok()?, user.next()?.parse().ok()?))
}

fn start_container(port: u16, log: PathBuf) -> Result<Container> {
    let environment = vec![
        ("POSTGRES_USER".to_owned(), USER.to_owned()),
        ("POSTGRES_HOST_AUTH_METHOD".to_owned(), "trust".to_owned()),
    ];
    let image = Image { name: "postgres", tag: "15", port: 5432, environment, command: SETTINGS };
    Container::start("postgres", image, port, log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_full_name() {
        let users = "root:x:0:0::/:/bin/sh\npostgres2:x:7:8::/:\npostgres:x:101:104:,,,:/:\n";
        assert_eq!(user_in(users, "postgres"), Some((101, 104)));
        assert_eq!(user_in(users, "root2"), None);
    }
}
