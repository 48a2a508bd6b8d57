//! Pins: version and SHA-256 of every file that is downloaded.

use std::{fmt::Write as _, fs::File, io, path::Path, str::FromStr};

use anyhow::{Context as _, Result, anyhow, bail};
use sha2::{Digest as _, Sha256};

/// Package client that downloads a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Npm,
    PyPi,
    Maven,
    Go,
}

/// One line of `pins.txt`.
#[derive(Debug, Clone)]
pub(crate) struct PinnedFile {
    /// Artifact that the file belongs to, see [`crate::artifacts`].
    pub(crate) artifact: String,
    pub(crate) client: Client,
    /// Name and version in the syntax of the client.
    pub(crate) package: String,
    /// File name that the client uses.
    pub(crate) file: String,
    /// Lower-case hexadecimal.
    pub(crate) sha256: String,
}

/// Returns the pins of one artifact, in the order of the file.
pub(crate) fn of_artifact(artifact: &str) -> Vec<PinnedFile> {
    let pins = parse(include_str!("../pins.txt")).expect("pins.txt is checked by a test");
    pins.into_iter().filter(|pin| pin.artifact == artifact).collect()
}

fn parse(text: &str) -> Result<Vec<PinnedFile>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.parse().with_context(|| format!("parse pin `{line}`"))).collect()
}

impl FromStr for PinnedFile {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let [artifact, client, package, file, sha256] =
            line.split_whitespace().collect::<Vec<_>>()[..]
        else {
            bail!("expected artifact, client, package, file and sha256");
        };
        if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            bail!("not a lower-case SHA-256 sha256=`{sha256}`");
        }
        Ok(Self {
            artifact: artifact.to_owned(),
            client: client.parse()?,
            package: package.to_owned(),
            file: file.to_owned(),
            sha256: sha256.to_owned(),
        })
    }
}

impl FromStr for Client {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "npm" => Ok(Self::Npm),
            "pypi" => Ok(Self::PyPi),
            "maven" => Ok(Self::Maven),
            "go" => Ok(Self::Go),
            _ => Err(anyhow!("unknown package client client=`{name}`")),
        }
    }
}

impl PinnedFile {
    /// Verifies that the file is the pinned one.
    pub(crate) fn verify(&self, path: &Path) -> Result<()> {
        let found = sha256(path)?;
        if found == self.sha256 {
            return Ok(());
        }
        bail!(
            "checksum does not match the pin; compare the file with the registry's page, then update \
             xtask/pins.txt file=`{}` pinned=`{}` found=`{found}`",
            path.display(),
            self.sha256,
        )
    }
}

/// Returns the checksum of a file.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let context = || format!("read {}", path.display());
    let mut hasher = HashingWriter(Sha256::new());
    io::copy(&mut File::open(path).with_context(context)?, &mut hasher).with_context(context)?;
    Ok(hasher.0.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        hex
    }))
}

struct HashingWriter(Sha256);

impl io::Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::{self, ARTIFACTS};

    #[test]
    fn every_pin_belongs_to_a_part_and_every_part_has_pins() {
        let pins = parse(include_str!("../pins.txt")).unwrap();
        for pin in &pins {
            assert!(artifacts::find(&pin.artifact).is_some(), "unknown artifact: {}", pin.artifact);
        }
        for artifact in ARTIFACTS {
            assert!(
                pins.iter().any(|pin| pin.artifact == artifact.name),
                "no pins: {}",
                artifact.name
            );
        }
    }

    #[test]
    fn no_file_is_pinned_twice() {
        let mut files: Vec<_> = parse(include_str!("../pins.txt")).unwrap();
        files.sort_by(|a, b| a.file.cmp(&b.file));
        for pair in files.windows(2) {
            assert_ne!(pair[0].file, pair[1].file);
        }
    }

    #[test]
    fn a_changed_file_is_rejected() {
        let pin: PinnedFile = format!("p npm x@1 x.tgz {}", "0".repeat(64)).parse().unwrap();
        let error = pin.verify(Path::new(env!("CARGO_MANIFEST_DIR")).join("pins.txt").as_path());
        assert!(error.unwrap_err().to_string().starts_with("checksum does not match"));
    }

    #[test]
    fn a_line_without_a_checksum_is_rejected() {
        assert!("duckdb npm x@1 x.tgz".parse::<PinnedFile>().is_err());
        assert!("duckdb npm x@1 x.tgz 1234".parse::<PinnedFile>().is_err());
    }
}
