//! Completion of the given parameters as in libpq: environment variables, a service file, a password
//! file and defaults.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::error::PostgresSettingsError;
use super::keywords::SECRETS;
use super::parse;

type Settings = BTreeMap<String, String>;
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Environment variables of libpq, with their parameters.
const VARIABLES: [(&str, &str); 27] = [
    ("PGAPPNAME", "application_name"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGCLIENTENCODING", "client_encoding"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGDATABASE", "dbname"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGGSSLIB", "gsslib"),
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGKRBSRVNAME", "krbsrvname"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
    ("PGOPTIONS", "options"),
    ("PGPASSFILE", "passfile"),
    ("PGPASSWORD", "password"),
    ("PGPORT", "port"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLCERTMODE", "sslcertmode"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLSNI", "sslsni"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGUSER", "user"),
];

/// Directories of PostgreSQL servers' sockets, in the order of preference.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Complete parameters for both connections.
#[derive(Clone, PartialEq, Eq)]
pub struct Resolved {
    settings: Settings,
    /// Home directory of the user, with the default certificates of libpq.
    home: Option<PathBuf>,
    /// True if the password is from a password file.
    has_password_of_file: bool,
}

impl Resolved {
    pub(super) fn of(
        given: &Settings,
        environment: Environment<'_>,
    ) -> Result<Self, PostgresSettingsError> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let home = variable("HOME").map(PathBuf::from);
        let mut settings = given.clone();
        let mut add = |key: &str, value: String| {
            settings.entry(key.to_owned()).or_insert(value);
        };
        let service = given.get("service").cloned().or_else(|| variable("PGSERVICE"));
        if let Some(service) = service {
            let file = given.get("servicefile").cloned();
            for (key, value) in read_service(&service, file, home.as_deref(), &variable)? {
                add(&key, value);
            }
        }
        for (name, key) in VARIABLES {
            if let Some(value) = variable(name) {
                add(key, value);
            }
        }
        settings.remove("service");
        settings.remove("servicefile");
        if let Some(user) = settings.get("user").cloned().or_else(|| system_user(&variable)) {
            settings.entry("user".to_owned()).or_insert_with(|| user.clone());
            settings.entry("dbname".to_owned()).or_insert(user);
        }
        if !settings.contains_key("host") && !settings.contains_key("hostaddr") {
            let port = settings.get("port").map_or("5432", String::as_str);
            let has_socket =
                |folder: &&str| Path::new(folder).join(format!(".s.PGSQL.{port}")).exists();
            let folder = SOCKET_DIRECTORIES.into_iter().find(has_socket);
            settings.insert("host".to_owned(), folder.unwrap_or("localhost").to_owned());
        }
        let mut has_password_of_file = false;
        if !settings.contains_key("password") {
            let file = settings.get("passfile").map(PathBuf::from);
            let file = file.or_else(|| Some(home.as_ref()?.join(".pgpass")));
            if let Some(password) = file.and_then(|file| read_password(&file, &settings)) {
                settings.insert("password".to_owned(), password);
                has_password_of_file = true;
            }
        }
        settings.remove("passfile");
        Ok(Self { settings, home, has_password_of_file })
    }

    /// Returns the value of a parameter.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    /// Returns whether the password is from a password file.
    pub(crate) const fn has_password_of_file(&self) -> bool {
        self.has_password_of_file
    }

    /// Home directory of the user.
    pub(super) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// Returns the parameters as a connection string of libpq, without secrets. `defaults` apply to
    /// parameters that are not set; `options` are appended to those that are set.
    #[must_use]
    pub fn connection_string(&self, defaults: &[(&str, &str)], options: &str) -> String {
        let mut settings = self.settings.clone();
        settings.retain(|key, _| !SECRETS.contains(&key.as_str()));
        for (key, value) in defaults {
            settings.entry((*key).to_owned()).or_insert_with(|| (*value).to_owned());
        }
        let given = settings.remove("options").unwrap_or_default();
        let options = [given.as_str(), options].join(" ").trim().to_owned();
        if !options.is_empty() {
            settings.insert("options".to_owned(), options);
        }
        let pair = |(key, value): (&String, &String)| {
            format!("{key}='{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
        };
        settings.iter().map(pair).collect::<Vec<_>>().join(" ")
    }
}

/// Reads the parameters of a service: a line `[name]`, then `key=value` lines.
fn read_service(
    service: &str,
    file: Option<String>,
    home: Option<&Path>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, PostgresSettingsError> {
    let own = file.or_else(|| variable("PGSERVICEFILE")).map(PathBuf::from);
    let own = own.or_else(|| Some(home?.join(".pg_service.conf")));
    let system = variable("PGSYSCONFDIR").map(|folder| Path::new(&folder).join("pg_service.conf"));
    let found = own.into_iter().chain(system).find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        section(&text, service)
    });
    let lines = found.ok_or_else(|| {
        PostgresSettingsError::new(format!(
            "no service file (PGSERVICEFILE, ~/.pg_service.conf) has this service: `service` \
             (PGSERVICE): value=`{service}`"
        ))
    })?;
    let mut settings = Settings::new();
    for line in lines {
        let (key, value) = line.split_once('=').unwrap_or((&line, ""));
        settings.insert(parse::known(key.trim())?.to_owned(), value.trim().to_owned());
    }
    Ok(settings)
}

/// Returns the lines of a section; None if no section has the name.
fn section(text: &str, name: &str) -> Option<Vec<String>> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != format!("[{name}]"));
    lines.next()?;
    let is_setting = |line: &&str| !line.is_empty() && !line.starts_with('#');
    Some(
        lines
            .take_while(|line| !line.starts_with('['))
            .filter(is_setting)
            .map(Into::into)
            .collect(),
    )
}

/// Returns the password of the first matching line, as libpq does. A file that other users can access is
/// ignored.
fn read_password(file: &Path, settings: &Settings) -> Option<String> {
    let metadata = fs::metadata(file).ok()?;
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            path = %file.display(),
            "password file ignored: other users can access it; run chmod 600 on it"
        );
        return None;
    }
    let first = |key: &str| settings.get(key).and_then(|value| value.split(',').next());
    let host = first("host").or_else(|| first("hostaddr")).unwrap_or("localhost");
    let host = if host.starts_with('/') { "localhost" } else { host };
    let wanted = [
        host,
        first("port").filter(|port| !port.is_empty()).unwrap_or("5432"),
        settings.get("dbname").map_or("", String::as_str),
        settings.get("user").map_or("", String::as_str),
    ];
    fs::read_to_string(file).ok()?.lines().find_map(|line| password_of_line(line, &wanted))
}

fn password_of_line(line: &str, wanted: &[&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let (mut fields, mut field) = (Vec::new(), String::new());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => field.extend(characters.next()),
            // The password is the last field.
            ':' if fields.len() < 4 => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    let fits = |(field, wanted): (&String, &&str)| field == "*" || field == wanted;
    (fields.len() == 5 && fields.iter().zip(wanted).all(fits)).then(|| fields.remove(4))
}

/// Returns the name of the user that runs the process.
fn system_user(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let uid = fs::metadata("/proc/self").map(|metadata| metadata.uid().to_string());
    let named = uid.ok().and_then(|uid| {
        let users = fs::read_to_string("/etc/passwd").ok()?;
        let has_uid = |line: &&str| line.split(':').nth(2) == Some(uid.as_str());
        users.lines().find(has_uid)?.split(':').next().map(str::to_owned)
    });
    named.or_else(|| variable("USER")).or_else(|| variable("LOGNAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(given: &str, environment: &[(&str, &str)]) -> Resolved {
        let given = parse::settings(given).expect("a setting");
        let variable = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Resolved::of(&given, &variable).expect("resolved")
    }

    #[test]
    fn given_parameters_take_precedence_over_the_environment() {
        let environment = [
            ("PGUSER", "other"),
            ("PGPASSWORD", "s3cret"),
            ("PGSSLMODE", "require"),
            ("PGPORT", "6432"),
            ("PGDATABASE", ""),
        ];
        let resolved = resolve("postgres://me@db", &environment);

        assert_eq!(resolved.get("user"), Some("me"));
        assert_eq!(resolved.get("password"), Some("s3cret"));
        assert_eq!(resolved.get("sslmode"), Some("require"));
        assert_eq!(resolved.get("port"), Some("6432"));
        assert_eq!(resolved.get("dbname"), Some("me"), "as libpq names the database");
        let text = resolved.connection_string(&[("connect_timeout", "5")], "-c a=b");
        assert_eq!(
            text,
            "connect_timeout='5' dbname='me' host='db' options='-c a=b' port='6432' \
             sslmode='require' user='me'"
        );
    }

    #[test]
    fn limits_are_appended_to_given_options() {
        let resolved = resolve("host=db options='-c role=it\\'s' connect_timeout=30", &[]);
        let text = resolved.connection_string(&[("connect_timeout", "5")], "-c lock_timeout=15s");

        assert!(text.contains(r"options='-c role=it\'s -c lock_timeout=15s'"), "{text}");
        assert!(text.contains("connect_timeout='30'"), "{text}");
    }

    #[test]
    fn a_password_file_is_read_as_libpq_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pgpass");
        let lines = "# db:5432:lake:me:comment\n\
                     other:*:*:*:wrong\n\
                     db:5432:lake:me:a\\:b\\\\c:d\n\
                     *:*:*:*:last\n";
        fs::write(&file, lines).expect("written");
        let allow = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode));
        let path = file.display().to_string();
        let password = |given: &str| {
            resolve(given, &[("PGPASSFILE", &path)]).get("password").map(str::to_owned)
        };

        allow(0o600).expect("mode");
        assert_eq!(password("postgres://me@db/lake").as_deref(), Some("a:b\\c:d"));
        assert_eq!(password("postgres://you@db/lake").as_deref(), Some("last"));
        assert_eq!(password("postgres://me:given@db/lake").as_deref(), Some("given"));
        let as_parameter = resolve(&format!("host=db dbname=lake user=me passfile={path}"), &[]);
        assert_eq!(as_parameter.get("password"), Some("a:b\\c:d"));
        allow(0o644).expect("mode");
        assert_eq!(password("postgres://me@db/lake"), None);
    }

    #[test]
    fn a_service_is_read_from_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("services");
        fs::write(&file, "[a]\nhost=x\n\n[lake]\n# ours\nhost=db\nport = 6432\n[b]\nhost=y\n")
            .expect("written");
        let path = file.display().to_string();

        let resolved = resolve("service=lake user=me port=1", &[("PGSERVICEFILE", &path)]);

        assert_eq!(resolved.get("host"), Some("db"));
        assert_eq!(resolved.get("port"), Some("1"));
        let given = parse::settings("service=none user=me").expect("a setting");
        let error = Resolved::of(&given, &|_| None).err().expect("no such service").to_string();
        assert!(error.contains("PGSERVICE") && error.contains("`none`"), "{error}");
    }
}
