//! Hook for planted defects: `mutated!(Name)` is true while the simulation runs with the defect
//! `Mutation::Name`, and false in programs.

#[cfg(test)]
macro_rules! mutated {
    ($name:ident) => {
        $crate::simulation::mutation::is_planted($crate::simulation::mutation::Mutation::$name)
    };
}

#[cfg(not(test))]
macro_rules! mutated {
    ($name:ident) => {
        false
    };
}
