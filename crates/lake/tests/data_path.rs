//! Data paths that no lake may have.

use ducktide_lake::DuckLake;
use ducktide_lake::config::{CatalogLocation, LakeConfig};
use ducktide_protocol::ErrorKind;

#[test]
fn the_default_data_path_of_a_catalog_in_a_folder_with_brackets_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = folder.path().join("[a]/lake.sqlite");

    let error =
        DuckLake::init(&LakeConfig::at(CatalogLocation::Sqlite(catalog.clone()))).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Setting);
    assert!(error.to_string().contains("data path"), "{error}");
    assert!(!catalog.exists());
    let config = LakeConfig {
        data_path: Some(folder.path().join("data")),
        ..LakeConfig::at(CatalogLocation::Sqlite(catalog))
    };
    DuckLake::init(&config).unwrap();
}
