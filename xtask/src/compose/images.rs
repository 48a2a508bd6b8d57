//! The images that the stack runs: ours, and the official ones or their stand-ins.

use anyhow::Result;

use super::{
    docker::Docker,
    stand_in::{self, StandIn},
    story::Story,
};
use crate::{layout, machine};

/// Where the programs in our image come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// `target/release`: the programs that the other tests ran.
    Prebuilt,
    /// The image's own build.
    Compiled,
}

/// Our own image; removed when dropped, or the engine would keep one of each run.
pub(super) struct OwnImage {
    docker: Docker,
    pub(super) name: String,
}

impl Drop for OwnImage {
    fn drop(&mut self) {
        // One that is left behind costs space and nothing else.
        let _ = self.docker.run(["image", "rm", "--force", &self.name]);
    }
}

/// Why the images cannot be had here, if they cannot.
pub(super) fn lack(docker: &Docker) -> Option<String> {
    let base = stand_in::DEBIAN;
    let can_be_had = machine::is_root()
        || docker.has_official(base)
        || docker.has_stand_in(base)
        || docker.pulls(base);
    let why = "no image registry can be reached, and only root can make what stands in for Debian's \
               image: run this as root once";
    (!can_be_had).then(|| why.to_owned())
}

/// Sees to it that the engine has all images, and builds ours.
pub(super) fn make_all(story: &mut Story, docker: &Docker, source: Source) -> Result<OwnImage> {
    let mut registry = Registry::default();
    for image in stand_in::ALL {
        if image.name != stand_in::RUST || source == Source::Compiled {
            story.tell(&format!("image {}", image.name), || registry.bring(docker, image))?;
        }
    }
    if registry.is_out_of_reach {
        story.untried("no image registry can be reached: stand-ins ran, not the official images");
    }
    if !docker.has_official(GRAFANA) && (registry.is_out_of_reach || !docker.pulls(GRAFANA)) {
        story.untried("Grafana: its image cannot be had, and has no stand-in");
    }
    story.tell_with("our own image", || {
        // Kept, so that the next run need not install Debian's packages again.
        docker.build(layout::root(), Some("runtime"), "ducktide-runtime:compose-test")?;
        let name = format!("ducktide:compose-test-{}", std::process::id());
        let stage = (source == Source::Prebuilt).then_some("prebuilt");
        docker.build(layout::root(), stage, &name)?;
        docker.prune_stages()?;
        let size = docker.size(&name)?;
        Ok((OwnImage { docker: docker.clone(), name }, size))
    })
}

/// As in `docker-compose.yml`.
pub(super) const GRAFANA: &str = "grafana/grafana:12.0.2";

/// Where official images come from.
#[derive(Default)]
struct Registry {
    /// Asked once: where one image cannot be had, the next cannot either.
    is_out_of_reach: bool,
}

impl Registry {
    fn bring(&mut self, docker: &Docker, image: &StandIn) -> Result<String> {
        if docker.has_official(image.name) {
            return Ok("there already".to_owned());
        }
        if !self.is_out_of_reach && docker.pulls(image.name) {
            return Ok("pulled".to_owned());
        }
        self.is_out_of_reach = true;
        if docker.has_stand_in(image.name) {
            return Ok("stand-in, there already".to_owned());
        }
        image.make(docker)?;
        Ok(format!("STAND-IN, made: {}", docker.size(image.name)?))
    }
}
