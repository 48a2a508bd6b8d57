//! Any bytes as a JSON object, for a table with a column of each type.

#![no_main]

use std::cell::RefCell;

use ducktide_fuzz::Target;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static TARGET: RefCell<Target> = RefCell::new(Target::json());
}

fuzz_target!(|value: &[u8]| {
    TARGET.with_borrow_mut(|target| target.meets(value));
});
