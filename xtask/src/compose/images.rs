//! Images of the stack: our own, and the official images or local images with their names.

use anyhow::Result;

use super::{
    docker::Docker,
    local_image::{self, LocalImage},
    step_log::StepLog,
};
use crate::{layout, machine};

/// Origin of the programs in our image.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ProgramSource {
    /// The programs in `target/release`, which the other tests ran.
    Prebuilt,
    /// Compiled in the image.
    Compiled,
}

/// Our own image; removed when dropped, because otherwise the engine would keep one per run.
pub(super) struct OwnImage {
    docker: Docker,
    pub(super) name: String,
}

impl Drop for OwnImage {
    fn drop(&mut self) {
        // A failure wastes disk space and has no other effect.
        let _ = self.docker.run(["image", "rm", "--force", &self.name]);
    }
}

/// Returns the reason why the images are unavailable, if they are.
pub(super) fn unavailable_reason(docker: &Docker) -> Option<String> {
    let base = local_image::DEBIAN;
    let is_available = machine::is_root()
        || docker.has_official(base)
        || docker.has_local(base)
        || docker.pulls(base);
    let reason = "no image registry is reachable, and building a local Debian base image needs root: run \
               this as root once";
    (!is_available).then(|| reason.to_owned())
}

/// Provides all images to the engine and builds ours.
pub(super) fn provide_all(
    log: &mut StepLog,
    docker: &Docker,
    source: ProgramSource,
) -> Result<OwnImage> {
    let mut registry = ImageRegistry::default();
    for image in local_image::ALL {
        if image.name != local_image::RUST || source == ProgramSource::Compiled {
            log.run_step(&format!("image {}", image.name), || registry.provide(docker, image))?;
        }
    }
    if registry.is_unreachable {
        log.not_tested(
            "no image registry is reachable: local images were used instead of the official ones",
        );
    }
    if !docker.has_official(GRAFANA) && (registry.is_unreachable || !docker.pulls(GRAFANA)) {
        log.not_tested("Grafana: its image is unavailable, and there is no local image for it");
    }
    log.run_step_with("our own image", || {
        // Kept, so that the next run does not install Debian's packages again.
        docker.build(layout::root(), Some("runtime"), "ducktide-runtime:compose-test")?;
        let name = format!("ducktide:compose-test-{}", std::process::id());
        let stage = (source == ProgramSource::Prebuilt).then_some("prebuilt");
        docker.build(layout::root(), stage, &name)?;
        docker.prune_stages()?;
        let size = docker.size(&name)?;
        Ok((OwnImage { docker: docker.clone(), name }, size))
    })
}

/// Same name as in `docker-compose.yml`.
pub(super) const GRAFANA: &str = "grafana/grafana:12.0.2";

/// Access to the official images.
#[derive(Default)]
struct ImageRegistry {
    /// Set after the first failed pull: if one image is unavailable, the next one is too.
    is_unreachable: bool,
}

impl ImageRegistry {
    fn provide(&mut self, docker: &Docker, image: &LocalImage) -> Result<String> {
        if docker.has_official(image.name) {
            return Ok("present".to_owned());
        }
        if !self.is_unreachable && docker.pulls(image.name) {
            return Ok("pulled".to_owned());
        }
        self.is_unreachable = true;
        if docker.has_local(image.name) {
            return Ok("local image, present".to_owned());
        }
        image.build(docker)?;
        Ok(format!("LOCAL IMAGE, built: {}", docker.size(image.name)?))
    }
}
