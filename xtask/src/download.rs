//! Downloads pinned files with the standard package clients and verifies each of them.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    artifacts::GoProgram,
    machine::{self, Requirement},
    pins::{Client, PinnedFile},
};

/// Downloads the files of `pins`, all from one client, into `folder` and returns their paths.
pub(crate) fn fetch(pins: &[PinnedFile], folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    match pins[0].client {
        Client::Npm => fetch_from_npm(pins, folder)?,
        Client::PyPi => fetch_from_pypi(pins, folder)?,
        Client::Maven => fetch_from_maven(pins, folder)?,
        Client::Go => bail!("a module is built, not only downloaded"),
    }
    refuse_unpinned(pins, folder)?;
    pins.iter()
        .map(|pin| {
            let path = folder.join(&pin.file);
            pin.verify(&path).map(|()| path)
        })
        .collect()
}

fn fetch_from_npm(pins: &[PinnedFile], folder: &Path) -> Result<()> {
    machine::require(&[Requirement::NPM])?;
    for pin in pins {
        let pack = ["pack", "--silent", "--pack-destination"];
        run(Command::new("npm").args(pack).arg(folder).arg(&pin.package))?;
    }
    Ok(())
}

/// pip verifies the checksums too: `--require-hashes` rejects a file before it is read.
fn fetch_from_pypi(pins: &[PinnedFile], folder: &Path) -> Result<()> {
    machine::require(&[Requirement::PIP])?;
    let requirements = folder.join("requirements.txt");
    let lines = pins.iter().fold(String::new(), |mut lines, pin| {
        writeln!(lines, "{} --hash=sha256:{}", pin.package, pin.sha256)
            .expect("writing to a String cannot fail");
        lines
    });
    fs::write(&requirements, lines).context("write requirements.txt")?;
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:", "--require-hashes", "--requirement"])
        .arg(&requirements)
        .arg("--dest")
        .arg(folder))?;
    fs::remove_file(&requirements).context("remove requirements.txt")
}

/// The version of the plugin that copies the files is pinned too.
const COPY_DEPENDENCIES: &str =
    "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

fn fetch_from_maven(pins: &[PinnedFile], folder: &Path) -> Result<()> {
    machine::require(&[Requirement::MAVEN])?;
    let project = folder.join("pom.xml");
    fs::write(&project, maven_project(pins)?).context("write pom.xml")?;
    let mut output = OsString::from("-DoutputDirectory=");
    output.push(folder);
    run(Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&project)
        .arg(COPY_DEPENDENCIES)
        .arg(output))?;
    fs::remove_file(&project).context("remove pom.xml")
}

/// Returns a project that depends on exactly the pinned artifacts: each excludes its transitive
/// dependencies.
fn maven_project(pins: &[PinnedFile]) -> Result<String> {
    let mut project = String::from(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>ducktide</groupId><artifactId>pins</artifactId><version>1</version>\
         <packaging>pom</packaging><dependencies>\n",
    );
    for pin in pins {
        project.push_str(&maven_dependency(&pin.package)?);
    }
    project.push_str("</dependencies></project>\n");
    Ok(project)
}

fn maven_dependency(package: &str) -> Result<String> {
    let kind = match package.split(':').collect::<Vec<_>>()[..] {
        [group, artifact, version] => [group, artifact, version, "jar", ""],
        [group, artifact, version, kind] => [group, artifact, version, kind, ""],
        [group, artifact, version, kind, classifier] => {
            [group, artifact, version, kind, classifier]
        }
        _ => bail!("expected group:artifact:version[:type[:classifier]] package=`{package}`"),
    };
    let [group, artifact, version, kind, classifier] = kind;
    Ok(format!(
        "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
         <version>{version}</version><type>{kind}</type><classifier>{classifier}</classifier>\
         <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion>\
         </exclusions></dependency>\n"
    ))
}

fn refuse_unpinned(pins: &[PinnedFile], folder: &Path) -> Result<()> {
    let pinned: BTreeSet<OsString> = pins.iter().map(|pin| pin.file.clone().into()).collect();
    for entry in fs::read_dir(folder).context("list downloads")? {
        let name = entry.context("list downloads")?.file_name();
        ensure!(
            pinned.contains(&name),
            "downloaded file is not pinned; add it to xtask/pins.txt file=`{}`",
            name.display()
        );
    }
    Ok(())
}

/// Builds a command of a pinned Go module and returns its path.
///
/// The build runs in the downloaded module, so that the module's own `go.sum` pins all its
/// dependencies.
pub(crate) fn go_build(pin: &PinnedFile, program: GoProgram, folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let described = run(Command::new("go")
        .args(["mod", "download", "-json", &pin.package])
        .current_dir(folder))?;
    let path = |field: &str| {
        let after = described.split_once(&format!("\"{field}\": \""));
        let path = after.and_then(|(_, rest)| rest.split_once('"')).map(|(path, _)| path);
        path.map(PathBuf::from).with_context(|| format!("find the module's {field}"))
    };
    pin.verify(&path("Zip")?)?;
    let GoProgram { name, command, linker_flags } = program;
    let built = folder.join(name);
    run(at_low_priority("go")
        .args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath"])
        .args(["-ldflags", linker_flags, "-o"])
        .arg(&built)
        .arg(format!("./{command}"))
        .current_dir(path("Dir")?))?;
    Ok(built)
}

/// Installs the packages of a pinned lock file into a folder, without their scripts.
///
/// The lock file has a checksum of each package, which npm verifies.
pub(crate) fn npm_install(pin: &PinnedFile, project: &Path, folder: &Path) -> Result<()> {
    machine::require(&[Requirement::NPM])?;
    pin.verify(&project.join(&pin.file))?;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    for file in ["package.json", &pin.file] {
        fs::copy(project.join(file), folder.join(file)).with_context(|| format!("copy {file}"))?;
    }
    let install = ["ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"];
    run(at_low_priority("npm").args(install).current_dir(folder)).map(drop)
}

/// Returns a command that leaves the processors to tests that run at the same time, if they need them.
fn at_low_priority(program: &str) -> Command {
    if !machine::on_path("nice") {
        return Command::new(program);
    }
    let mut nice = Command::new("nice");
    nice.args(["-n", "15", program]);
    nice
}

/// Runs a command quietly and returns its standard output; the error of a failed command contains
/// its output.
fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("start {program}"))?;
    ensure!(
        output.status.success(),
        "{program} failed status=`{}` command=`{command:?}`\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maven_dependency_has_no_transitive_dependencies() {
        let jar = maven_dependency("org.apache.kafka:kafka_2.13:4.3.1").unwrap();
        assert!(jar.contains("<type>jar</type><classifier></classifier><exclusions>"));
        let archive = maven_dependency("g:a:1:tar.gz:all").unwrap();
        assert!(archive.contains("<type>tar.gz</type><classifier>all</classifier>"));
    }

    #[test]
    fn a_maven_package_without_version_is_rejected() {
        assert!(maven_dependency("g:a").is_err());
    }
}
