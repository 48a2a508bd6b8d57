//! Ownership of a data path by one lake and one copy of its catalog.
//!
//! Two lakes on one data path, or a copy of a catalog alongside the original, would each treat the
//! other's live files as orphans and remove files that the other still needs. Therefore every program
//! that may write takes the claim when the lake is created, or at the first open of an older lake, and
//! compares it at each open, commit and maintenance operation:
//!
//! | recorded in `ducktide_meta` | in the claim file | meaning |
//! |---|---|---|
//! | this token, this database | this lake, this token | the owner |
//! | another database | - | a copy of the catalog, or a catalog that was restored elsewhere |
//! | another token, or none | this lake, a token | a copy; the original or another copy owns the files |
//! | - | another lake | two lakes on one data path |
//! | anything | no file, and live files are missing | the data path is not mounted |
//!
//! A copy is read-only. `ducktide init --adopt` makes it the owner, with a new token in both places.

use std::path::Path;

use ducktide_protocol::DataPathClaim;
use ducktide_protocol::error::{LakeError, Result};
use uuid::Uuid;

use super::claim::{Claim, NAME, Occupied, occupied};
use super::database::Database;
use super::{DataPath, live_files};
use crate::catalog::client::CatalogClient;
use crate::catalog::meta;
use crate::duckdb_error;

/// Keys of `ducktide_meta`.
const TOKEN: &str = "owner_token";
const DATABASE: &str = "owner_database";

/// Maximum number of live files to check before a data path without a claim counts as not mounted.
const LOOKED_FOR: usize = 20;

/// Owner as recorded in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    token: String,
    database: Database,
}

impl Recorded {
    /// Returns the rows of `ducktide_meta`.
    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![(TOKEN, self.token.clone()), (DATABASE, self.database.to_string())]
    }
}

/// State of the lake's files when the claim is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    /// The lake has no files.
    None,
    /// At least one file exists.
    Found,
    /// The lake has files, and none of the checked ones exists.
    Missing,
}

/// Role of the program that opens a lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerRole {
    /// Operator who creates the lake, or ensures that it exists.
    Init,
    /// Another program that may write.
    Program,
}

/// Decision about a data path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// This catalog owns the data path.
    Owned,
    /// The data path is unclaimed, and can be claimed.
    Take,
    /// An older program has claimed it for this lake; the claim lacks its token.
    Complete,
    /// Another lake, with this identity, owns the data path.
    AnotherLake(String),
    /// This catalog is a copy, and another copy owns the data path.
    Copy,
    /// The claim is missing, and no file shows that the directory is the claimed one.
    NotMounted,
}

/// Decides about a data path. `files` is called only if the claim is missing.
fn judge(
    lake: &str,
    here: &Database,
    recorded: Option<&Recorded>,
    claim: Option<&Claim>,
    opener: OwnerRole,
    files: impl FnOnce() -> Result<Files>,
) -> Result<Verdict> {
    if let Some(claim) = claim.filter(|claim| claim.lake != lake) {
        return Ok(Verdict::AnotherLake(claim.lake.clone()));
    }
    if recorded.is_some_and(|recorded| !recorded.database.is_same(here)) {
        return Ok(Verdict::Copy);
    }
    let token = recorded.map(|recorded| &recorded.token);
    match claim {
        Some(Claim { token: None, .. }) => Ok(Verdict::Complete),
        Some(claim) if claim.token.as_ref() == token => Ok(Verdict::Owned),
        Some(_) => Ok(Verdict::Copy),
        None => Ok(match (files()?, recorded, opener) {
            (Files::Found, ..) | (Files::None, None, _) | (Files::None, _, OwnerRole::Init) => {
                Verdict::Take
            }
            (Files::Missing, ..) | (Files::None, Some(_), OwnerRole::Program) => {
                Verdict::NotMounted
            }
        }),
    }
}

/// Data path that this process' catalog owns.
#[derive(Clone, Debug)]
pub struct Owner {
    data_path: DataPath,
    claim: Claim,
}

/// Data path that passed the check of a program that opens the lake to write.
pub struct DataPathCheck {
    data_path: DataPath,
    lake: String,
    here: Database,
    recorded: Option<Recorded>,
    /// Token of the existing claim.
    claimed: Option<String>,
    verdict: Verdict,
}

impl DataPathCheck {
    /// Checks the data path of a lake without our tables, where nothing is recorded. An existing claim
    /// of this lake is from an installation that did not finish.
    pub fn of_uninstalled(catalog: &impl CatalogClient) -> Result<Self> {
        let found = Self::with(catalog, OwnerRole::Init, None)?;
        match found.verdict {
            Verdict::Copy => Ok(Self { verdict: Verdict::Complete, ..found }),
            _ => found.unless_refused(),
        }
    }

    fn of(catalog: &impl CatalogClient, opener: OwnerRole) -> Result<Self> {
        Self::with(catalog, opener, recorded(catalog)?)?.unless_refused()
    }

    fn with(
        catalog: &impl CatalogClient,
        opener: OwnerRole,
        recorded: Option<Recorded>,
    ) -> Result<Self> {
        let data_path = DataPath::read(catalog)?;
        let (lake, here) = (identity(catalog)?, Database::of(catalog)?);
        let claim = read(&data_path)?;
        let files = || find_files(catalog, &data_path);
        let verdict = judge(&lake, &here, recorded.as_ref(), claim.as_ref(), opener, files)?;
        let claimed = claim.and_then(|claim| claim.token);
        Ok(Self { data_path, lake, here, recorded, claimed, verdict })
    }

    fn unless_refused(self) -> Result<Self> {
        match self.verdict {
            Verdict::Owned | Verdict::Take | Verdict::Complete => Ok(self),
            _ => Err(refusal(&self.verdict, &self.data_path)),
        }
    }

    /// Claims the data path for a lake without our tables. Returns the rows for `ducktide_meta`.
    pub fn install(self) -> Result<Vec<(&'static str, String)>> {
        let token = self.claimed.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let recorded = Recorded { token, database: self.here.clone() };
        let facts = recorded.facts();
        self.claim(Some(recorded))?;
        Ok(facts)
    }

    /// Writes the claim file if it is missing or incomplete.
    fn claim(self, recorded: Option<Recorded>) -> Result<Owner> {
        let Self { data_path, lake, verdict, .. } = self;
        let token = recorded.map(|recorded| recorded.token);
        let owner = Owner { data_path, claim: Claim { lake, token } };
        let (ours, root) = (&owner.claim, owner.data_path.root());
        let written = match verdict {
            Verdict::Take => ours.take(root),
            // A worker without rights on our tables has no token to write.
            Verdict::Complete if ours.token.is_some() => ours.replace(root).map(|()| true),
            _ => Ok(true),
        };
        if !written.map_err(|error| unreadable("claim the data path (--data-path)", root, error))? {
            // Another program was first: of this catalog, or of another.
            owner.check()?;
        }
        Ok(owner)
    }
}

impl Owner {
    /// Claims the data path for the lake, or checks the existing claim.
    pub fn establish(catalog: &impl CatalogClient, opener: OwnerRole) -> Result<Self> {
        let found = DataPathCheck::of(catalog, opener)?;
        let recorded = match &found.recorded {
            Some(recorded) => Some(recorded.clone()),
            None => record_first(catalog, found.here.clone())?,
        };
        found.claim(recorded)
    }

    /// Makes this catalog the owner, in place of any of its copies.
    pub fn adopt(catalog: &impl CatalogClient) -> Result<()> {
        let data_path = DataPath::read(catalog)?;
        let (lake, here) = (identity(catalog)?, Database::of(catalog)?);
        if let Some(claim) = read(&data_path)?.filter(|claim| claim.lake != lake) {
            return Err(refusal(&Verdict::AnotherLake(claim.lake), &data_path));
        }
        let recorded = Recorded { token: Uuid::new_v4().to_string(), database: here };
        // First the catalog: a crash in between leaves a data path without an owner.
        meta::set(catalog, TOKEN, &recorded.token)
            .and_then(|()| meta::set(catalog, DATABASE, &recorded.database.to_string()))
            .map_err(|error| LakeError::unavailable("record the owner").because(error))?;
        let claim = Claim { lake, token: Some(recorded.token) };
        let root = data_path.root();
        claim
            .replace(root)
            .map_err(|error| unreadable("claim the data path (--data-path)", root, error))
    }

    /// Checks that the claim exists and is this catalog's. Reads one small file.
    pub fn check(&self) -> Result<()> {
        match read(&self.data_path)? {
            Some(claim) if claim == self.claim => Ok(()),
            // Another program has added a token to the claim of an older program.
            Some(claim) if claim.lake == self.claim.lake && self.claim.token.is_none() => Ok(()),
            Some(claim) if claim.lake != self.claim.lake => {
                Err(refusal(&Verdict::AnotherLake(claim.lake), &self.data_path))
            }
            Some(_) => Err(refusal(&Verdict::Copy, &self.data_path)),
            None => Err(refusal(&Verdict::NotMounted, &self.data_path)),
        }
    }

    /// Owned data path.
    #[must_use]
    pub const fn data_path(&self) -> &DataPath {
        &self.data_path
    }

    /// Returns the claim for the writers of files, which check it.
    #[must_use]
    pub fn claim(&self) -> DataPathClaim {
        DataPathClaim::new(self.data_path.root().join(NAME))
    }
}

/// Refuses a data path that is unfit for a new lake.
pub fn check_free(root: &Path) -> Result<()> {
    if let Some(part) = root.iter().find(|part| part.to_string_lossy().contains('=')) {
        return Err(LakeError::invalid(format!(
            "DuckLake treats a directory named `key=value` as a partition and gives each row of \
             the table that value; choose another directory with --data-path (DUCKLAKE_DATA_PATH): \
             data_path=`{}` component=`{}`",
            root.display(),
            part.to_string_lossy()
        )));
    }
    let found = occupied(root).map_err(|error| {
        unreadable("check whether the data path (--data-path) is another lake's", root, error)
    })?;
    let (what, path) = match found {
        None => return Ok(()),
        Some(Occupied::Claimed(path)) => {
            let what = if path == root {
                "is another lake's"
            } else {
                "is above, below, or a link to another lake's"
            };
            (what, path)
        }
        Some(Occupied::Used(path)) => {
            ("holds files of a lake that its catalog may still need", path)
        }
    };
    Err(LakeError::invalid(format!(
        "the data path {what}: each lake would remove the other's files as orphans; give each lake \
         its own directory with --data-path (DUCKLAKE_DATA_PATH): data_path=`{}` found=`{}`",
        root.display(),
        path.display()
    )))
}

/// Refuses a data path that another lake has claimed.
pub fn check_lake(catalog: &impl CatalogClient, data_path: &DataPath) -> Result<()> {
    let lake = identity(catalog)?;
    match read(data_path)? {
        Some(claim) if claim.lake != lake => {
            Err(refusal(&Verdict::AnotherLake(claim.lake), data_path))
        }
        _ => Ok(()),
    }
}

fn refusal(verdict: &Verdict, data_path: &DataPath) -> LakeError {
    let path = data_path.root().join(NAME);
    let path = path.display();
    match verdict {
        Verdict::AnotherLake(lake) => LakeError::invalid(format!(
            "the data path belongs to another lake: each would remove the other's files as orphans; give \
             each lake its own data path, or remove the claim if the other lake no longer exists: \
             claim=`{path}` lake=`{lake}`"
        )),
        Verdict::Copy => LakeError::invalid(format!(
            "this catalog is a copy, or was restored or moved: the lake's files belong to another \
             copy, and two copies would remove each other's files. This catalog is read-only. To \
             make it the owner of the files, stop all programs that use the other copy and run \
             `ducktide init --adopt`: \
             claim=`{path}`"
        )),
        _ => LakeError::unavailable(format!(
            "the data path lacks the lake's claim, so its mount is away: mount it; waiting \
             programs continue automatically. If the files are lost, or were moved without the claim, \
             run `ducktide init --adopt`: \
             claim=`{path}`"
        )),
    }
}

fn read(data_path: &DataPath) -> Result<Option<Claim>> {
    let root = data_path.root();
    Claim::read(root).map_err(|error| unreadable("read the claim of the data path", root, error))
}

fn unreadable(what: &str, root: &Path, error: std::io::Error) -> LakeError {
    LakeError::unavailable(format!("{what}: data_path=`{}`", root.display())).because(error)
}

/// Returns the UUID of the lake's first schema, which `DuckLake` generates when it creates the lake.
/// Copies of a catalog share it.
pub fn identity(catalog: &impl CatalogClient) -> Result<String> {
    let sql = format!(
        "SELECT schema_uuid FROM {} ORDER BY schema_id, begin_snapshot LIMIT 1",
        catalog.native_table("ducklake_schema")
    );
    let identity: Option<String> = catalog.catalog_scalar(&sql)?;
    identity.ok_or_else(|| LakeError::invalid("the lake has no schema"))
}

fn recorded(catalog: &impl CatalogClient) -> Result<Option<Recorded>> {
    let token = meta::get(catalog, TOKEN)?;
    let database = meta::get(catalog, DATABASE)?;
    Ok(token
        .zip(database)
        .map(|(token, database)| Recorded { token, database: Database::parse(&database) }))
}

/// Records the first owner, unless another program has recorded one in the meantime. None if this
/// program lacks the permission.
fn record_first(catalog: &impl CatalogClient, here: Database) -> Result<Option<Recorded>> {
    let recording = Recorded { token: Uuid::new_v4().to_string(), database: here };
    let Err(error) = meta::insert(catalog, &recording.facts()) else { return Ok(Some(recording)) };
    if let Some(found) = recorded(catalog)? {
        return Ok(Some(found));
    }
    if duckdb_error::is_permission_denied(&error.to_string()) {
        tracing::debug!(%error, "data path owner not recorded; run `ducktide init`");
        return Ok(None);
    }
    Err(LakeError::unavailable("record the owner").because(error))
}

fn find_files(catalog: &impl CatalogClient, data_path: &DataPath) -> Result<Files> {
    let files = live_files(catalog, data_path, LOOKED_FOR)?;
    let storage = data_path.storage()?;
    Ok(match files.as_slice() {
        [] => Files::None,
        files if files.iter().any(|file| storage.exists(file).unwrap_or(false)) => Files::Found,
        _ => Files::Missing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(name: &str) -> Database {
        Database::parse(&format!("path={name}"))
    }

    fn recorded(token: &str, name: &str) -> Recorded {
        Recorded { token: token.to_owned(), database: database(name) }
    }

    fn claim(lake: &str, token: Option<&str>) -> Claim {
        Claim { lake: lake.to_owned(), token: token.map(str::to_owned) }
    }

    #[test]
    fn the_owner_of_a_data_path_is_distinguished_from_copies_and_other_lakes() {
        let another = Verdict::AnotherLake("b".to_owned());
        let owner = Some(recorded("1", "here"));
        for (recorded, claim, files, expected) in [
            (owner.clone(), Some(claim("a", Some("1"))), Files::Missing, Verdict::Owned),
            // Created, or opened for the first time.
            (None, None, Files::None, Verdict::Take),
            (None, None, Files::Found, Verdict::Take),
            (None, Some(claim("a", None)), Files::Found, Verdict::Complete),
            (owner.clone(), Some(claim("a", None)), Files::Found, Verdict::Complete),
            // The claim was lost, and the files were not.
            (owner.clone(), None, Files::Found, Verdict::Take),
            // The directory is not the one that was claimed.
            (owner.clone(), None, Files::Missing, Verdict::NotMounted),
            (owner.clone(), None, Files::None, Verdict::NotMounted),
            (None, None, Files::Missing, Verdict::NotMounted),
            // A copy; a catalog whose path a copy has adopted; a dump from before the claim.
            (Some(recorded("1", "x")), Some(claim("a", Some("1"))), Files::Found, Verdict::Copy),
            (Some(recorded("1", "x")), None, Files::Missing, Verdict::Copy),
            (owner.clone(), Some(claim("a", Some("2"))), Files::Found, Verdict::Copy),
            (None, Some(claim("a", Some("2"))), Files::Found, Verdict::Copy),
            // Two lakes.
            (owner, Some(claim("b", Some("1"))), Files::Found, another.clone()),
            (None, Some(claim("b", None)), Files::None, another),
        ] {
            let here = database("here");
            let verdict =
                judge("a", &here, recorded.as_ref(), claim.as_ref(), OwnerRole::Program, || {
                    Ok(files)
                });
            assert_eq!(verdict.unwrap(), expected, "{recorded:?} {claim:?} {files:?}");
        }
    }

    #[test]
    fn init_claims_the_path_of_a_lake_without_files_again() {
        let (here, owner) = (database("here"), recorded("1", "here"));
        let verdict = |files| judge("a", &here, Some(&owner), None, OwnerRole::Init, || Ok(files));

        assert_eq!(verdict(Files::None).unwrap(), Verdict::Take);
        assert_eq!(verdict(Files::Missing).unwrap(), Verdict::NotMounted);
    }

    #[test]
    fn a_data_path_with_the_name_of_a_partition_is_refused() {
        for path in ["/lake/event_date=2020-01-02", "/a=b/lake", "/lake/=", "/lake/x="] {
            let refused = check_free(Path::new(path)).unwrap_err().to_string();
            assert!(refused.contains("--data-path") && refused.contains("key=value"), "{refused}");
        }
    }
}
