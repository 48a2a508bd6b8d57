//! Kubernetes manifests: each overlay is built and validated against the schemas of two versions.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{folder, schemas};
use crate::{layout, process, setup};

/// Oldest version that the manifests support, and the newest one with schemas.
pub(super) const VERSIONS: [&str; 2] = ["1.31.0", "1.37.0"];

/// Kinds of operators that are not part of Kubernetes.
const OTHER_KINDS: &str = "PodMonitor,ScaledObject";

/// Validates all overlays; returns the reason if the tools cannot be built.
pub(super) fn check() -> Result<Option<String>> {
    if !setup::for_deploy()? {
        let reason = "Go (to build kustomize and kubeconform) is not on PATH: Kubernetes manifests";
        return Ok(Some(reason.to_owned()));
    }
    let schemas = schemas::prepare()?;
    let manifests = overlays()?.iter().map(|overlay| build(overlay)).collect::<Result<Vec<_>>>()?;
    for version in VERSIONS {
        validate(&manifests, version, &schemas)
            .with_context(|| format!("validate the overlays for Kubernetes {version}"))?;
    }
    Ok(None)
}

fn output_folder() -> Result<PathBuf> {
    let folder = layout::root().join("target/kubernetes");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

/// Returns the overlays, and one for the component that no overlay contains.
fn overlays() -> Result<[PathBuf; 3]> {
    let overlays = folder().join("kubernetes/overlays");
    let keda = output_folder()?.join("keda");
    fs::create_dir_all(&keda).with_context(|| format!("create {}", keda.display()))?;
    let text = "resources: [../../../deploy/kubernetes/base]\n\
                components: [../../../deploy/kubernetes/components/keda]\n";
    fs::write(keda.join("kustomization.yaml"), text).context("write an overlay with KEDA")?;
    Ok([overlays.join("single-node"), overlays.join("production"), keda])
}

/// Builds an overlay into one file.
fn build(overlay: &Path) -> Result<PathBuf> {
    let built = process::output(Command::new(layout::tool("kustomize")).arg("build").arg(overlay))?;
    let name = overlay.file_name().context("find the name of an overlay")?;
    let path = output_folder()?.join(name).with_extension("yaml");
    fs::write(&path, built).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Unknown fields are errors.
fn validate(manifests: &[PathBuf], version: &str, schemas: &Path) -> Result<()> {
    let location = format!(
        "{}/{{{{.NormalizedKubernetesVersion}}}}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        schemas.display()
    );
    let mut kubeconform = Command::new(layout::tool("kubeconform"));
    kubeconform
        .args(["-strict", "-kubernetes-version", version, "-schema-location", &location])
        .args(["-skip", OTHER_KINDS])
        .args(manifests);
    process::output(&mut kubeconform).map(drop)
}
