//! Commit protocol as a model of stateright, and the text of counterexamples.

use std::fmt::{Debug, Write as _};
use std::hash::Hash;
use std::num::NonZero;
use std::thread;
use std::time::Instant;

use ducktide_protocol::invariants::RecordId;
use ducktide_protocol::position::Position;
use stateright::{Checker, Model, Path, Property};

use crate::action::Action;
use crate::design::{Bounds, Design};
use crate::system::System;

/// Design with bounds and properties.
#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    pub(crate) design: Design,
    pub(crate) bounds: Bounds,
    pub(crate) records: Vec<RecordId>,
    properties: fn() -> Vec<Property<Self>>,
}

impl Protocol {
    pub(crate) fn new(
        design: Design,
        bounds: Bounds,
        properties: fn() -> Vec<Property<Self>>,
    ) -> Self {
        Self { design, bounds, records: System::records(&bounds), properties }
    }
}

impl Model for Protocol {
    type State = System;
    type Action = Action;

    fn init_states(&self) -> Vec<System> {
        vec![System::new(&self.bounds)]
    }

    fn actions(&self, system: &System, actions: &mut Vec<Action>) {
        system.actions(self.design, &self.bounds, actions);
    }

    fn next_state(&self, system: &System, action: Action) -> Option<System> {
        let mut next = system.clone();
        next.take(self.design, &self.bounds, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        (self.properties)()
    }
}

/// Maximum length of a counterexample.
const MAX_DEPTH: usize = 30;

/// Bounds that stateright requires of a model.
pub(crate) trait Explorable: Model + Send + Sync + 'static {}

impl<M: Model + Send + Sync + 'static> Explorable for M {}

/// Explores every state, and fails unless every property holds in each and every situation occurs.
pub(crate) fn explore<M>(what: &str, model: M)
where
    M: Explorable,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let started = Instant::now();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let checker = model.checker().threads(threads).spawn_bfs().join();
    println!(
        "{what}: {} states, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

/// Returns a shortest path to a state in which the property fails.
///
/// Increases the depth by one each time: within one search stateright keeps the path that it found last,
/// which may not be the shortest.
pub(crate) fn shortest_path<M>(model: &M, property: &'static str) -> Path<M::State, M::Action>
where
    M: Explorable + Clone,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let found_within = |depth| {
        let checker = model.clone().checker().target_max_depth(depth).spawn_bfs().join();
        checker.discovery(property)
    };
    let path = (1..MAX_DEPTH).find_map(found_within);
    path.unwrap_or_else(|| panic!("no counterexample of {property}"))
}

/// Explores until the property fails, and returns the counterexample as text.
pub(crate) fn counterexample(model: &Protocol, property: &'static str) -> String {
    let mut text = format!("counterexample of {property}, with progress as epoch:next offset:\n");
    for pair in shortest_path(model, property).into_vec().windows(2) {
        let [(_, Some(action)), (after, _)] = pair else { continue };
        let at = |at: &Position| format!("{}:{}", at.epoch, at.next_offset);
        let progress: Vec<_> = after.catalog.progress.values().map(at).collect();
        let files: Vec<_> = after.catalog.live_files().map(|file| file.name.to_string()).collect();
        let (progress, files) = (progress.join(" "), files.join(" "));
        writeln!(text, "  {action} [progress {progress}, files {files}]")
            .expect("a string takes all text");
    }
    println!("{text}");
    text
}
